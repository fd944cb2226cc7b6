"""Writing the pages of a run directory: an HTML file each, with tables and figures beside it."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import pandas as pd

from relearn_jax import runs
from relearn_jax.report import html
from relearn_jax.report.draw import Plot, save
from relearn_jax.report.reading import Directory, table_path
from relearn_jax.report.tables import Table, csv_name


class Page(NamedTuple):
    """A page that is ready to be drawn and written."""

    run: Directory
    text: str
    """HTML without drawings."""
    plots: tuple[Plot, ...]
    tables: tuple[Table, ...]
    """Tables of the page; each is written as CSV."""
    names: tuple[str, ...]
    """Tables of the run that are written as CSV too."""
    rows: list[tuple[str, str, str]] | None = None
    """A filter on the rows of the tables of the run, as Parquet has them; None: all rows."""


def write(page: Page) -> Path:
    """Write `report.html`, `tables/*.csv` and `figures/*` of a page; the path of the first."""
    home = page.run.home
    with runs.disk(home):
        for part in ("tables", "figures"):
            (home / part).mkdir(parents=True, exist_ok=True)
        for name in page.names:
            if table_path(page.run.folder, name).exists():
                frame = pd.read_parquet(table_path(page.run.folder, name), filters=page.rows)
                _csv(frame, home / "tables" / f"{name}.csv")
        for table in page.tables:
            _csv(table.frame, home / csv_name(table))
        for plot in page.plots:
            if plot.saved:
                save(plot, home / "figures")
        runs.write_text(home / "report.html", html.drawn(page.text, page.plots))
    return home / "report.html"


def _csv(frame: pd.DataFrame, path: Path) -> None:
    flat = frame.copy()
    for name in flat.columns:
        first = flat[name].iloc[0] if len(flat) else ""
        if hasattr(first, "__len__") and not isinstance(first, str):
            flat[name] = [" ".join(map(str, cell)) for cell in flat[name]]
    runs.write_text(path, flat.to_csv(index=False, lineterminator="\n"))
