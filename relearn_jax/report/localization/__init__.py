"""Where a decoder looks its facts up: the page of a run of localization."""

from relearn_jax.report.localization.page import page
from relearn_jax.report.localization.reading import COLUMNS, Localized, read
from relearn_jax.report.localization.tables import tables

__all__ = ["COLUMNS", "Localized", "page", "read", "tables"]
