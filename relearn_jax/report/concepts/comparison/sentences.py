"""What the comparison says in words; every number is a cell of its tables."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from relearn_jax.evaluation.entities import SMALLEST_LOSS
from relearn_jax.evaluation.selectivity import SAID
from relearn_jax.report.concepts.arms import ARM_NAMES
from relearn_jax.report.concepts.claims import SHIFT, differ, paired, sure
from relearn_jax.report.concepts.comparison.reading import Sets
from relearn_jax.report.concepts.comparison.tables import ABOVE, AT, BELOW, MIXED
from relearn_jax.report.concepts.reading import main_arm, stage_name, tracked_arms
from relearn_jax.report.concepts.verdict import TIE, returned
from relearn_jax.report.sentences import joined, listed, say
from relearn_jax.report.tables import Row, Sentence, Table

Tables = Mapping[str, Table]
LISTED = 4
"""Longer lists name so many and say that there are others."""
PAIRS = 6


def headline(sets: Sets, tables: Tables) -> Sentence:
    """Whether the damage is specific, what became of the concepts, beside random neurons, and where
    the pruned neurons went."""
    first = damage(sets)
    return (*first, " ", *_course(sets, tables)) if first else _course(sets, tables)


def damage(sets: Sets) -> Sentence:
    """The verdict on the damage in every group; empty in older runs."""
    verdicts = {}
    for name, run in sets.runs.items():
        rows = run.tables["damage"]
        rows = rows[(rows["arm"] == main_arm(run)) & rows["seed"].isna()]
        if len(rows):
            verdicts[sets.labels[name]] = rows["kind"].iloc[0]
    words = {kind: text.format(target="the concept") for kind, text in SAID.items()}
    said = by_kind(sets, verdicts, dict(reversed(words.items())))
    return (f"{said[0].upper()}{said[1:]}.",) if said else ()


def _course(sets: Sets, tables: Tables) -> Sentence:
    table, arm = tables["sets"], main_arm(sets.run)
    if sets.last in ("base", "pruned"):
        return ("No retraining round has finished, so nothing can have come back yet.",)
    rows = _judged(sets, table, arm)
    if not rows:
        return ("Pruning took hardly any F1 on the target concepts away: nothing to regain.",)
    shares = {label: row.value("regained") for label, row in rows.items()}
    least, most = min(shares, key=shares.get), max(shares, key=shares.get)
    ends = [say("{regained} ({label})", rows[n], label=n) for n in dict.fromkeys((least, most))]
    low, high = (returned(shares[label]) for label in (least, most))
    end = f"in every group {low}" if low == high else f"in some groups {low}, in others {high}"
    if len(shares) < len(sets.groups):
        end = f"of the groups that can be judged, {end}"
    arms = tracked_arms(sets.run)
    others = [a for a in ("random", *arms) if a in arms and a != arm]
    return say(
        "After {stage}, {shares} of the F1 lost on the target concept had been regained: {end}. "
        "{beside} {own}",
        stage=stage_name(sets.last), shares=joined(ends, " to "), end=end,
        beside=beside(sets, table, others[0]) if others else (),
        own=own(sets, tables["takeover"]),
    )  # fmt: skip


def _judged(sets: Sets, table: Table, arm: str) -> dict[str, Row]:
    """Rows of an arm, by group. Groups that lost too little to regain a share are left out."""
    rows = {sets.labels[name]: table.row(sets.labels[name], arm) for name in sets.runs}
    return {
        label: row
        for label, row in rows.items()
        if row.value("base") - row.value("pruned") >= SMALLEST_LOSS and row.has("regained")
    }


def by_kind(sets: Sets, kinds: Mapping[str, object], words: Mapping[object, str]) -> str:
    """Groups listed by kind, in the order of the words: `WORD for A and B; OTHER WORD for C`."""
    labels = {kind: [n for n in kinds if kinds[n] == kind] for kind in words}
    for kind, names in labels.items():
        if len(names) == len(kinds) == len(sets.groups) > 1:
            return f"{words[kind]} for every group"
    return "; ".join(f"{words[k]} for {listed(n, LISTED)}" for k, n in labels.items() if n)


def beside(sets: Sets, table: Table, control: str) -> Sentence:
    """How far the main arm's models come back beside those of a control, seed by seed."""
    rows, others = (_judged(sets, table, a) for a in (main_arm(sets.run), control))
    pairs = {label: (rows[label], others[label]) for label in rows if label in others}
    judged = {label: pair for label, pair in pairs.items() if len(paired(*pair, "regained")) > 1}
    name = ARM_NAMES[control]
    if not judged:
        return (f"One seed does not tell whether {name} neurons differ.",) if pairs else ()
    words = {-1: "less far", 1: "further", 0: "no differently (within the spread over seeds)"}
    signs = {label: differ(*pair, "regained", TIE) for label, pair in judged.items()}
    end = by_kind(sets, signs, words)
    return (f"Compared with pruning as many {name} neurons, it came back {end}.",)


def own(sets: Sets, table: Table) -> Sentence:
    """Whether the pruned neurons still stand for what they were pruned for."""
    arm = main_arm(sets.run)
    labels = {sets.labels[name]: run.target for name, run in sets.runs.items()}
    verdicts = {label: table.row(label, arm, to).raw("verdict") for label, to in labels.items()}
    words = {
        ABOVE: "more often than by chance",
        AT: "as often as by chance",
        BELOW: "less often than by chance",
        MIXED: "differently from seed to seed",
    }
    end = by_kind(sets, {k: v for k, v in verdicts.items() if v is not None}, words)
    lead = "In the end, pruned neurons are among the first for the concept they were pruned for"
    return (f"{lead} {end}.",) if end else ()


def moved(sets: Sets, table: Table) -> Sentence:
    """Groups whose mean layer shifts, beside the shift in the random arm."""
    arm = main_arm(sets.run)
    rows = {sets.labels[name]: table.row(sets.labels[name], arm) for name in sets.runs}
    rows = {label: row for label, row in rows.items() if len(row.by_seed("shift")) > 1}
    if not rows:
        return ("One seed does not tell whether it moves between layers.",)
    signs = {label: sure(row, "shift", SHIFT) for label, row in rows.items()}
    shifted = sorted((n for n in rows if signs[n]), key=lambda n: -abs(rows[n].value("shift")))
    if not shifted:
        return ("For no group does its mean layer move beyond the spread over seeds.",)
    shifts = []
    for label in shifted[:LISTED]:
        random = table.row(label, "random")
        text = "earlier" if signs[label] < 0 else "later"
        text += " for {label}, by {shift} layers"
        if arm != "random" and random.has("shift"):
            text += " (random arm: {random.shift})"
        shifts.append(say(text, rows[label], label=label, random=random))
    end = "" if all(signs.values()) else "; for others not beyond the spread over seeds"
    end = "; others are in the table" if len(shifted) > LISTED else end
    return say("Its mean layer moved {shifts}{end}.", shifts=joined(shifts, "; ", "; "), end=end)


def taken(sets: Sets, table: Table) -> Sentence:
    """Concepts that the pruned neurons stand for more than chance, the strongest first."""
    frame = table.frame[table.frame["arm"] == main_arm(sets.run)]
    frame = frame[frame["verdict"] == ABOVE].sort_values("beyond", ascending=False, kind="stable")
    if frame.empty:
        return ("In the end, they stand for no concept more than chance in every seed.",)
    items = [
        say(
            "{neurons} of the first {top} for {concept} were pruned for {label} (chance {low} to "
            "{high}, before pruning {was})",
            table.row(*keys),
            label=keys[0],
            concept=keys[-1],
        )
        for keys in _first(table, frame, LISTED)
    ]
    return say("In the end, more than chance in every seed: {items}", items=_cut(items, frame))


def overlaps(table: Table) -> tuple[tuple[str, Sentence], ...]:
    """Pairs of concepts as (verdict, sentence), the pairs that share most first.

    If tops of several sizes were compared, the sentences are on the largest.
    """
    frame = table.frame[table.frame["top"] == table.frame["top"].max()]
    frame = frame.sort_values("share", ascending=False, kind="stable")
    sentences = []
    for verdict in (ABOVE, AT, BELOW, MIXED):
        pairs = frame[frame["verdict"] == verdict]
        items = [
            say(
                "{a} and {b} share {shared} (chance {low} to {high}; {within}, {low_layers} to "
                "{high_layers})",
                table.row(*keys),
                a=keys[0],
                b=keys[1],
                within=WITHIN[table.row(*keys).raw("verdict_layers")],
            )
            for keys in _first(table, pairs, PAIRS)
        ]
        if items:
            sentences.append((verdict, _cut(items, pairs)))
    return tuple(sentences)


def _first(table: Table, frame: pd.DataFrame, count: int) -> list[tuple]:
    """Keys of the first rows."""
    keys = frame[[key.key for key in table.keys]].head(count)
    return list(keys.itertuples(index=False, name=None))


def _cut(items: list[Sentence], frame: pd.DataFrame) -> Sentence:
    """A list of the first rows, which says if there are others."""
    end = "." if len(items) == len(frame) else "; others are in the table."
    return say("{items}{end}", items=joined(items, "; ", "; "), end=end)


WITHIN = {
    ABOVE: "above what their layers explain",
    AT: "as much as their layers explain",
    BELOW: "below what their layers explain",
    MIXED: "differs by seed from what their layers explain",
}
