"""Groups of concept sets side by side: the page of a run that has several."""

from relearn_jax.report.comparison.page import page
from relearn_jax.report.comparison.reading import read_sets
from relearn_jax.report.comparison.tables import tables

__all__ = ["page", "read_sets", "tables"]
