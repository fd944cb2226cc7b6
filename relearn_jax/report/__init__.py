"""Results on disk to tables, figures and HTML pages, for every experiment."""

from __future__ import annotations

from pathlib import Path

from relearn_jax.report.concepts import page as concepts
from relearn_jax.report.facts import page as facts
from relearn_jax.report.facts.edits import page as edits
from relearn_jax.report.page import write
from relearn_jax.report.reading import read_files

PAGES = {"relearning": concepts.build, "localization": facts.build, "editing": edits.build}
"""What makes the pages of an experiment from its run directory."""

__all__ = ["PAGES", "build"]


def build(run: Path) -> Path:
    """Write `report.html`, `tables/*.csv` and `figures/*` of a run, from its files alone.

    The same run gives the same bytes. An unfinished run gives a report of what is there.

    Returns:
      The path of `report.html`.

    Raises:
      UserError: the run directory cannot be read, was written by another version, holds no result
        yet, or cannot be written to.
    """
    folder = Path(run)
    config, manifest = read_files(folder)
    experiment = manifest.get("experiment") or config.get("experiment") or "relearning"
    return [write(page) for page in PAGES[experiment](folder)][-1]
