"""From a run directory to its report: one HTML file, and tables and figures as files beside it."""

from __future__ import annotations

import html as escape
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from string import Template

import pandas as pd

from relearn_jax import runs
from relearn_jax.report import html, neuron_list, sections, settings
from relearn_jax.report.draw import Plot, save, theme_css
from relearn_jax.report.findings import Findings, findings
from relearn_jax.report.reading import NEURON_TABLES, Run, read_run
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

    The same run gives the same bytes. An unfinished run gives a report of what is there.

    Returns:
        The path of `report.html`.

    Raises:
        UserError: see `reading.read_run`; also for a disk that cannot be written to.
    """
    run = read_run(run_dir)
    found = findings(run)
    text, plots = page(run, found)
    out = run.folder / "report.html"
    with runs.disk(run.folder):
        write_tables(run, found.tables)
        (run.folder / "figures").mkdir(exist_ok=True)
        for plot in plots:
            save(plot, run.folder / "figures")
        runs.write_text(out, text)
    return out


def page(run: Run, found: Findings) -> tuple[str, tuple[Plot, ...]]:
    """The report's HTML and its plots."""
    drawn = [(name, title, make(run, found)) for name, title, make in SECTIONS]
    contents = "".join(f'<li><a href="#{name}">{title}</a></li>' for name, title, _ in drawn)
    body = "".join(
        f'<section id="{name}" aria-labelledby="h-{name}"><h2 id="h-{name}">{title}</h2>{inner}'
        "</section>"
        for name, title, (inner, _) in drawn
    )
    here = resources.files(__package__)
    style = theme_css() + (here / "style.css").read_text(encoding="utf-8")
    text = Template((here / "template.html").read_text(encoding="utf-8")).substitute(
        title=escape.escape(f"{run.manifest.get('name', run.folder.name)}: {settings.title(run)}"),
        style=style,
        header=settings.header(run, settings.title(run), html.prose(headline(run, found))),
        contents=contents,
        sections=body.replace(" %", "\u00a0%"),
        footer=_footer(run),
    )
    return text, tuple(plot for _, _, (_, plots) in drawn for plot in plots)


def _footer(run: Run) -> str:
    manifest = run.manifest
    ended = manifest.get("finished")
    when = f"Run started {manifest.get('started', 'at an unknown time')}" + (
        f", finished {ended}." if ended else ", not finished."
    )
    return (
        f"{html.text(when)} Made from the files of the run directory alone; "
        "<code>relearn report</code> makes it again. Protocol: Lo, Barez, Cohen, Large Language "
        "Models Relearn Removed Concepts (Findings of ACL 2024)."
    )


def write_tables(run: Run, tables: Mapping[str, Table]) -> None:
    """CSV of the run's small tables and of every page table."""
    for name in run.tables:
        source = run.folder / "tables" / f"{name}.parquet"
        if name not in NEURON_TABLES and source.exists():
            _csv(pd.read_parquet(source), source.with_suffix(".csv"))
    for table in tables.values():
        _csv(table.frame, run.folder / csv_name(table))


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
