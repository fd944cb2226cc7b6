"""Reading all groups of a run, and what tells them apart."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from relearn_jax.neurons.ranking import RANKINGS
from relearn_jax.report.concepts.protocol import gaps
from relearn_jax.report.concepts.reading import (
    NEURON_TABLES,
    Group,
    Run,
    last_stage,
    main_arm,
    read_head,
    read_run,
)
from relearn_jax.report.reading import read_table, table_path

CHANCE = ("expected", "low", "high")
SET_COLUMNS: dict[str, tuple[str, ...]] = {
    "takeover": (
        *("group", "seed", "arm", "stage", "concept", "was", "neurons", "top"),
        *CHANCE,
    ),
    "overlap": (
        *("seed", "stage", "concept_a", "concept_b", "top", "shared"),
        *CHANCE,
        *(f"{name}_layers" for name in CHANCE),
    ),
}
"""Tables that compare concepts; like `reading.COLUMNS`."""


@dataclass(frozen=True)
class Sets:
    """The groups of a run.

    `run` is the run as a whole: its config, its manifest without what concerns one group, and no
    table. `runs` are the groups that have been evaluated, by name, without the tables of single
    neurons. `labels` name the groups in words and are the keys of their rows in page tables; a
    label says only what differs between groups. `last` is the latest stage of the main arm in any
    group.
    """

    run: Run
    groups: tuple[Group, ...]
    runs: Mapping[str, Run]
    overlap: pd.DataFrame
    takeover: pd.DataFrame
    labels: Mapping[str, str]
    last: str
    gaps: tuple[str, ...]


def read_sets(folder: Path) -> Sets:
    """Read a run of several groups, finished or not.

    Raises:
        UserError: see `reading.read_run`.
    """
    _, manifest, groups = read_head(folder)
    evaluated = set(read_table(folder, "scores", ("group",), whole=False)["group"])
    # Where there is none, reading the first says so.
    names = [g.name for g in groups if g.name in evaluated] or [groups[0].name]
    runs = {name: read_run(folder, name, leave=NEURON_TABLES) for name in names}
    first = runs[names[0]]
    run = replace(
        first,
        home=folder,
        manifest={k: v for k, v in manifest.items() if k not in ("target", "prune", "groups")},
        tables={},
    )
    last = max((last_stage(r, main_arm(r)) for r in runs.values()), key=first.stages.index)
    labels = _labels(groups)
    return Sets(
        *(run, groups, runs),
        **{name: read_table(folder, name, columns) for name, columns in SET_COLUMNS.items()},
        **{"labels": labels, "last": last},
        gaps=tuple(_gaps(run, groups, runs, labels)),
    )


def _labels(groups: tuple[Group, ...]) -> dict[str, str]:
    """`LOC 50 % frozen, linear probe, full text`, without what all groups share."""
    what = (lambda g: g.target, size, lambda g: g.regrowth)
    how = (
        lambda g: RANKINGS[g.ranking].short if g.ranking else "",
        lambda g: TEXTS.get(g.text, f"{g.text} sentences with it"),
    )
    differ = {part: len({part(g) for g in groups}) > 1 for part in (*what, *how)}
    differ[what[0]] = True

    def label(group: Group) -> str:
        first = " ".join(part(group) for part in what if differ[part])
        return ", ".join([first, *(part(group) for part in how if differ[part])])

    return {group.name: label(group) for group in groups}


TEXTS = {
    None: "",
    "full": "full text",
    "without_concept": "without it",
    "other": "other text",
}


def size(group: Group) -> str:
    """How much a group prunes, as it was asked for."""
    if group.count is not None:
        return f"{group.count:,} neurons"
    return "automatic dose" if group.fraction == "auto" else f"{100 * group.fraction:g} %"


def _gaps(
    run: Run, groups: tuple[Group, ...], runs: Mapping[str, Run], labels: Mapping[str, str]
) -> Iterator[str]:
    """What is missing, one line for each group and kind."""
    for group in groups:
        name = labels[group.name]
        if group.name not in runs:
            yield f"{name}: all sets"
        else:
            yield from (f"{name}: {gap}" for gap in gaps(runs[group.name]))
    alone = len(run.manifest.get("concepts") or ()) < 2
    needed = run.absent + tuple(n for n in SET_COLUMNS if n != "overlap" or not alone)
    for name in needed:
        if not table_path(run.folder, name).exists():
            yield f"tables/{name}.parquet"
