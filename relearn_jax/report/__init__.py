"""Results on disk to tables, figures and one HTML page."""

from relearn_jax.report.page import build

__all__ = ["build"]
