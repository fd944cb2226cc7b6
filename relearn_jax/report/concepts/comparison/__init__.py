"""Groups of concept sets side by side: the page of a run that has several."""

from relearn_jax.report.concepts.comparison.page import page, tables
from relearn_jax.report.concepts.comparison.reading import SET_COLUMNS, read_sets

__all__ = ["SET_COLUMNS", "page", "read_sets", "tables"]
