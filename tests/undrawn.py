"""Reports without drawings: of a small run they take longer than all else together.

tests/report looks at drawings, each kind once.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from relearn_jax.report.draw import Plot


@contextlib.contextmanager
def undrawn() -> Iterator[None]:
    """Within this, a report has its page and its tables, but its figures are empty."""

    def touch(plot: Plot, folder: Path) -> None:
        for kind in ("svg", "png"):
            (folder / f"{plot.name}.{kind}").touch()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("relearn_jax.report.html.panel_svgs", lambda plot: [""] * len(plot.panels))
        patch.setattr("relearn_jax.report.page.save", touch)
        yield
