"""What the comparison says in words; every number is a cell of its tables (`tables.cite`)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from relearn_jax.report.concepts.arms import ARM_NAMES
from relearn_jax.report.concepts.claims import SHIFT, differ, sure
from relearn_jax.report.concepts.comparison.reading import Sets
from relearn_jax.report.concepts.comparison.tables import ABOVE, AT, BELOW, MIXED
from relearn_jax.report.concepts.reading import main_arm, stage_name
from relearn_jax.report.concepts.verdict import SMALL, TIE, returned
from relearn_jax.report.sentences import complete, listed
from relearn_jax.report.tables import Piece, Sentence, Table, cite, raw, value_of, values_by_seed

Tables = Mapping[str, Table]
LISTED = 4
"""Longer lists name so many and say that there are others."""
PAIRS = 6


def headline(sets: Sets, tables: Tables) -> Sentence:
    """What became of the concepts, beside random neurons, and where the pruned neurons went."""
    table, arm = tables["sets"], main_arm(sets.whole)
    if sets.last in ("base", "pruned"):
        return ("No retraining round has finished, so nothing can have come back yet.",)
    shares = _shares(sets, table, arm)
    if not shares:
        return ("Pruning took hardly any F1 on the removed concepts away: nothing to regain.",)
    least, most = min(shares, key=shares.get), max(shares, key=shares.get)
    text: list[Piece] = [f"After {stage_name(sets.last)}, "]
    for place, name in enumerate(dict.fromkeys((least, most))):
        text += [" to " if place else "", cite(table, (sets.labels[name], arm), "regained")]
        text.append(f" ({sets.labels[name]})")
    low, high = (returned(shares[name]) for name in (least, most))
    ends = f"in every group {low}" if low == high else f"in some groups {low}, in others {high}"
    if len(shares) < len(sets.groups):
        ends = f"of the groups that can be judged, {ends}"
    text.append(f" of the F1 lost on the removed concept had been regained: {ends}.")
    others = [a for a in ("random", *sets.whole.arms) if a in sets.whole.arms and a != arm]
    control = beside(sets, table, others[0]) if others else ()
    return (*text, " ", *control, " ", *own(sets, tables["takeover"]))


def _shares(sets: Sets, table: Table, arm: str) -> dict[str, float]:
    """Share regained by group, where enough was lost for a share to mean anything."""
    shares = {}
    for name in sets.runs:
        cells = ("base", "pruned", "regained")
        base, pruned, share = (value_of(table, (sets.labels[name], arm), c) for c in cells)
        # False too where a cell is empty.
        if base - pruned >= SMALL and share == share:
            shares[name] = share
    return shares


def sorted_out(
    sets: Sets, names: Iterable[str], kind: Callable[[str], object], words: Mapping[object, str]
) -> str:
    """Groups by what they are: `WORD for A and B; OTHER WORD for C`, in the order of the words."""
    found: dict[object, list[str]] = {}
    for name in names:
        found.setdefault(kind(name), []).append(sets.labels[name])
    if len(found) == 1 and len(*found.values()) == len(sets.groups) > 1:
        return f"{words[next(iter(found))]} for every group"
    return "; ".join(f"{words[k]} for {listed(found[k], LISTED)}" for k in words if k in found)


def beside(sets: Sets, table: Table, control: str) -> Sentence:
    """How far the main arm's models come back beside those of a control, seed by seed."""
    arm = main_arm(sets.whole)
    both = [n for n in _shares(sets, table, arm) if n in _shares(sets, table, control)]
    pairs = {n: tuple((sets.labels[n], a) for a in (arm, control)) for n in both}

    def seeds(name: str) -> set[int]:
        first, second = (set(values_by_seed(table, row, "regained")) for row in pairs[name])
        return first & second

    judged = [n for n in both if len(seeds(n)) > 1]
    name = ARM_NAMES[control]
    if not judged:
        return (f"One seed does not tell whether {name} neurons differ.",) if both else ()
    words = {-1: "less far", 1: "further", 0: "no differently (within the spread over seeds)"}
    ends = sorted_out(sets, judged, lambda n: differ(table, pairs[n], "regained", TIE), words)
    return (f"Compared with pruning as many {name} neurons, it came back {ends}.",)


def own(sets: Sets, table: Table) -> Sentence:
    """Whether the pruned neurons still stand for what they were pruned for."""
    rows = {n: (sets.labels[n], main_arm(sets.whole), r.target) for n, r in sets.runs.items()}
    found = {n: raw(table, row, "verdict") for n, row in rows.items()}
    words = {
        ABOVE: "more often than by chance",
        AT: "as often as by chance",
        BELOW: "less often than by chance",
        MIXED: "differently from seed to seed",
    }
    ends = sorted_out(sets, [n for n in found if found[n] is not None], found.get, words)
    lead = "In the end, pruned neurons are among the first for the concept they were pruned for"
    return (f"{lead} {ends}.",) if ends else ()


def moved(sets: Sets, table: Table) -> Sentence:
    """Groups whose mean layer shifts, beside the shift in the random arm."""
    arm = main_arm(sets.whole)
    rows = {n: (sets.labels[n], arm) for n in sets.runs}
    rows = {n: row for n, row in rows.items() if len(values_by_seed(table, row, "shift")) > 1}
    if not rows:
        return ("One seed does not tell whether it moves between layers.",)
    text: list[Piece] = []
    signs = {name: sure(table, row, "shift", SHIFT) for name, row in rows.items()}
    found = sorted(
        (n for n in rows if signs[n]), key=lambda n: -abs(value_of(table, rows[n], "shift"))
    )
    for name in found[:LISTED]:
        text += ["; " if text else "", "earlier" if signs[name] < 0 else "later"]
        text += [f" for {sets.labels[name]}, by ", cite(table, rows[name], "shift"), " layers"]
        control = (sets.labels[name], "random")
        if arm != "random" and complete(table, control, ("shift",)):
            text += [" (random arm: ", cite(table, control, "shift"), ")"]
    if not text:
        return ("For no group does its mean layer move beyond the spread over seeds.",)
    if len(found) > LISTED:
        text.append("; others are in the table")
    elif not all(signs.values()):
        text.append("; for others not beyond the spread over seeds")
    return ("Its mean layer moved ", *text, ".")


def taken(sets: Sets, table: Table) -> Sentence:
    """Concepts that the pruned neurons stand for more than chance, the strongest first."""
    frame = table.frame[table.frame["arm"] == main_arm(sets.whole)]
    found = frame[frame["verdict"] == ABOVE].sort_values("beyond", ascending=False, kind="stable")
    if found.empty:
        return ("In the end, they stand for no concept more than chance in every seed.",)
    text: list[Piece] = ["In the end, more than chance in every seed: "]
    for place, record in enumerate(found.head(LISTED).to_dict("records")):
        row = tuple(record[k.key] for k in table.keys)
        text += ["; " if place else "", cite(table, row, "neurons"), " of the first "]
        text += [cite(table, row, "top"), f" for {row[-1]} were pruned for {row[0]} (chance "]
        text += [cite(table, row, "low"), " to ", cite(table, row, "high"), ", before pruning "]
        text += [cite(table, row, "was"), ")"]
    return (*text, "." if len(found) <= LISTED else "; others are in the table.")


def overlaps(table: Table) -> tuple[tuple[str, Sentence], ...]:
    """Pairs of concepts by what chance says of them: (verdict, sentence), most shared first.

    If there are several sizes of a top, the largest.
    """
    frame = table.frame
    frame = frame[frame["top"] == frame["top"].max()]
    frame = frame.sort_values("share", ascending=False, kind="stable")
    made = []
    for verdict in (ABOVE, AT, BELOW, MIXED):
        some, text = frame[frame["verdict"] == verdict], []
        for place, record in enumerate(some.head(PAIRS).to_dict("records")):
            row = tuple(record[k.key] for k in table.keys)
            text += ["; " if place else "", f"{row[0]} and {row[1]} share "]
            text += [cite(table, row, "shared"), " (chance ", cite(table, row, "low"), " to "]
            text += [cite(table, row, "high"), f"; {WITHIN[record['verdict_layers']]}, "]
            text += [cite(table, row, "low_layers"), " to ", cite(table, row, "high_layers"), ")"]
        if text:
            end = "." if len(some) <= PAIRS else "; others are in the table."
            made.append((verdict, (*text, end)))
    return tuple(made)


WITHIN = {
    ABOVE: "above what their layers explain",
    AT: "as much as their layers explain",
    BELOW: "below what their layers explain",
    MIXED: "differs by seed from what their layers explain",
}
