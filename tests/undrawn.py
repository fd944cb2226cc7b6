"""Reports without drawings: of a small run they take longer than all else together.

tests/report looks at drawings; of the runs in tests/experiments some have them, each kind once.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest


@contextlib.contextmanager
def undrawn() -> Iterator[None]:
    """Within this, a report has its page and its tables, but its figures are empty."""
    with pytest.MonkeyPatch.context() as patch:
        for module in ("html", "sections"):
            patch.setattr(
                f"relearn_jax.report.{module}.panel_svgs", lambda plot: [""] * len(plot.panels)
            )
        patch.setattr("relearn_jax.report.page.save", lambda plot, folder: None)
        yield
