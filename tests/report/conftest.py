"""Whether the reports of a test are drawn; and tests in folders below may import `pages`."""

from __future__ import annotations

from contextlib import nullcontext

import pytest
from undrawn import undrawn


@pytest.fixture(scope="module", params=["text", pytest.param("drawn", marks=pytest.mark.slow)])
def drawing(request):
    """A context to build reports in: without drawings or, among the slow tests, with them."""
    return undrawn if request.param == "text" else nullcontext
