"""The pages of a run of relearning: one for each group, and one that compares several."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from relearn_jax.report import provenance, section
from relearn_jax.report.concepts import comparison, damage, protocol, snapshots
from relearn_jax.report.concepts.findings import Findings
from relearn_jax.report.concepts.reading import (
    COLUMNS,
    NEURON_TABLES,
    OF_TARGETS,
    SINCE_DOSE,
    Run,
    read_head,
    read_run,
)
from relearn_jax.report.concepts.sections import SECTIONS
from relearn_jax.report.concepts.verdict import headline
from relearn_jax.report.html import Drawn
from relearn_jax.report.page import Page


def build(folder: Path) -> list[Page]:
    """The pages of a run directory; the last is that of the run as a whole.

    A run of several groups has a page for each, under `groups/NAME`, and one that compares them.

    Raises:
      UserError: see `reading.read_run`.
    """
    if len(read_head(folder)[2]) == 1:
        return [group_page(read_run(folder))]
    sets = comparison.read_sets(folder)
    tables = comparison.tables(sets)
    pages = [group_page(read_run(folder, name)) for name in sets.runs]
    text, plots = comparison.page(sets, tables)
    names = (*_small(COLUMNS), *SINCE_DOSE, *OF_TARGETS, "dose", *comparison.SET_COLUMNS)
    return [*pages, Page(sets.run, text, plots, tuple(tables.values()), names)]


def findings(run: Run) -> Findings:
    """Compute every page table of a run; tables whose files are absent come out empty."""
    neurons, tokens = snapshots.snapshots(run), snapshots.tokens(run)
    return Findings(section.tables(SECTIONS, run, neurons, tokens), neurons, tokens)


def group_page(run: Run) -> Page:
    """The page of one group, with its tables."""
    results = findings(run)
    text, plots = page(run, results)
    names = (*_small(COLUMNS), *SINCE_DOSE)
    if run.home == run.folder:
        names = (*names, *OF_TARGETS, "dose", *comparison.SET_COLUMNS)
        return Page(run, text, plots, tuple(results.tables.values()), names)
    rows = [("group", "==", run.group.name)]
    return Page(run, text, plots, tuple(results.tables.values()), names, rows)


def _small(names: Iterable[str]) -> list[str]:
    return [name for name in names if name not in NEURON_TABLES]


def page(run: Run, results: Findings) -> Drawn:
    """The HTML of a group's page without its drawings, and its plots."""
    title = damage.title(run, results) or protocol.title(run)
    text, plots = provenance.document(
        *(run, title, headline(run, results)),
        facts=protocol.glance(run, (("Concept pruned", run.target),)),
        sections=section.made(SECTIONS, run, results),
        protocol=protocol.PAPER,
        notice=protocol.notice(run),
        above=protocol.above(run),
    )
    if run.home != run.folder:
        # What belongs to the whole run lies two folders up.
        of_targets = "|".join((*OF_TARGETS, "dose"))
        shared = (
            r'href="(config\.yaml|manifest\.json|tables/\w+\.parquet|'
            rf'tables/(?:{of_targets})\.csv)"'
        )
        text = re.sub(shared, r'href="../../\1"', text)
    return text, plots
