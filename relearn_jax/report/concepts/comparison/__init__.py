"""Groups of concept sets side by side: the page of a run that has several."""

from relearn_jax.report.concepts.comparison.page import page
from relearn_jax.report.concepts.comparison.reading import SET_COLUMNS, read_sets
from relearn_jax.report.concepts.comparison.tables import tables

__all__ = ["SET_COLUMNS", "page", "read_sets", "tables"]
