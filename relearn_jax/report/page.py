"""From a run directory to its pages: an HTML file each, with tables and figures as files beside it.

A run of one group has one page. A run of several has one for each, and one that compares them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from relearn_jax import runs
from relearn_jax.report import comparison, html, localization, neuron_list, sections, settings
from relearn_jax.report.draw import Plot, save
from relearn_jax.report.findings import Findings, findings
from relearn_jax.report.reading import (
    COLUMNS,
    NEURON_TABLES,
    Directory,
    Run,
    read_files,
    read_head,
    read_run,
    table_path,
)
from relearn_jax.report.tables import Table, csv_name
from relearn_jax.report.verdict import headline

SECTIONS = (
    ("verdict", "Verdict", sections.answer),
    ("done", "What was done", lambda run, found: settings.what(run)),
    ("task", "Task performance", sections.performance),
    ("recovery", "Recovery", sections.recovery),
    ("maps", "Where the concept sits, neuron by neuron", sections.heat),
    ("layers", "Redistribution by layer", sections.redistribution),
    ("similarity", "Are they still the same neurons?", sections.similarity),
    ("neurons", "Neurons that took the concept over", neuron_list.taken_over),
    ("relation", "Saliency and similarity", sections.relation),
    ("claims", "The paper's claims", sections.judged),
    ("settings", "Settings and provenance", lambda run, found: settings.settings(run)),
)


def build(run_dir: Path) -> Path:
    """Write `report.html`, `tables/*.csv` and `figures/*` of a run, from its files alone.

    A run of several groups has such a page for each, under `groups/NAME`, and its own `report.html`
    compares them. The same run gives the same bytes. An unfinished run gives a report of what is
    there.

    Returns:
        The path of `report.html`.

    Raises:
        UserError: see `reading.read_run`; also for a disk that cannot be written to.
    """
    folder = Path(run_dir)
    if read_files(folder)[1].get("experiment") == "localization":
        return _build_localization(localization.read(folder))
    if len(read_head(folder)[2]) == 1:
        return _build_group(read_run(folder))
    sets = comparison.read_sets(folder)
    tables = comparison.tables(sets)
    for name in sets.runs:
        _build_group(read_run(folder, name))
    text, plots = comparison.page(sets, tables)
    names = [*_small(COLUMNS), *comparison.SET_COLUMNS]
    return _write(sets.whole, text, tables.values(), plots, names)


def _build_localization(run: localization.Localized) -> Path:
    tables = localization.tables(run)
    text, plots = localization.page(run, tables)
    return _write(run, text, tables.values(), plots, list(localization.COLUMNS))


def _build_group(run: Run) -> Path:
    found = findings(run)
    text, plots = page(run, found)
    if run.home == run.folder:
        names, rows = [*_small(COLUMNS), *comparison.SET_COLUMNS], None
    else:
        names, rows = _small(COLUMNS), [("group", "==", run.group.name)]
    return _write(run, text, found.tables.values(), plots, names, rows)


def _small(names: Iterable[str]) -> list[str]:
    return [name for name in names if name not in NEURON_TABLES]


def page(run: Run, found: Findings) -> tuple[str, tuple[Plot, ...]]:
    """The report's HTML and its plots, for one group."""
    lede = html.prose(headline(run, found))
    text, plots = html.document(
        title=f"{run.manifest.get('name', run.folder.name)}: {settings.title(run)}",
        header=settings.header(run, settings.title(run), lede),
        sections=[(name, title, make(run, found)) for name, title, make in SECTIONS],
        footer=settings.footer(run.manifest),
    )
    if run.home != run.folder:
        # What belongs to the whole run lies two folders up.
        shared = r'href="(config\.yaml|manifest\.json|tables/\w+\.parquet)"'
        text = re.sub(shared, r'href="../../\1"', text)
    return text, plots


def _write(
    run: Directory,
    text: str,
    tables: Iterable[Table],
    plots: Iterable[Plot],
    names: Iterable[str],
    rows: list[tuple[str, str, str]] | None = None,
) -> Path:
    """The page, CSV of these tables of the run (of `rows`) and of every page table, and figures."""
    home = run.home
    with runs.disk(home):
        for part in ("tables", "figures"):
            (home / part).mkdir(parents=True, exist_ok=True)
        for name in names:
            if table_path(run.folder, name).exists():
                frame = pd.read_parquet(table_path(run.folder, name), filters=rows)
                _csv(frame, home / "tables" / f"{name}.csv")
        for table in tables:
            _csv(table.frame, home / csv_name(table))
        for plot in plots:
            save(plot, home / "figures")
        runs.write_text(home / "report.html", text)
    return home / "report.html"


def _csv(frame: pd.DataFrame, path: Path) -> None:
    flat = frame.copy()
    for name in flat.columns:
        if (
            len(flat)
            and not isinstance(flat[name].iloc[0], str)
            and hasattr(flat[name].iloc[0], "__len__")
        ):
            flat[name] = [" ".join(map(str, cell)) for cell in flat[name]]
    runs.write_text(path, flat.to_csv(index=False, lineterminator="\n"))
