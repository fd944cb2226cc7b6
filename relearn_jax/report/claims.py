"""The published claims (protocol 8.9), each judged on this run by a rule that the page states."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from relearn_jax.report.findings import Findings
from relearn_jax.report.reading import Run, finite, last_stage, main_arm
from relearn_jax.report.tables import Sentence, Table, cite, value_of
from relearn_jax.report.verdict import SMALL, TIE, complete

HOLDS, PART, FAILS, OPEN = "holds", "holds in part", "does not hold", "cannot be judged"
EXPLAINED = "explained by a control"
SHIFT = 0.1
"""Shifts of the mean layer up to this are called none."""
FLOOR = 0.05
"""Below this F1 a model has nothing left to lose, so arms are not compared."""


class Claim(NamedTuple):
    """A claim of the paper, the status it has here, the numbers, and the rule behind the status."""

    title: str
    status: str
    text: Sentence
    rule: str


def claims(run: Run, found: Findings) -> tuple[Claim, ...]:
    """Every claim, in the order of the protocol."""
    makers = (_regained, _earlier, _primed, _blended, _random)
    return tuple(maker(run, found) for maker in makers)


def sure(table: Table, row: Sequence[Any], column: str, seeds: int, least: float) -> int:
    """Sign of a difference, 0 if it is within `least` or two standard errors over seeds."""
    mean, sd = value_of(table, row, column), value_of(table, row, f"{column}_sd")
    noise = 2 * sd / np.sqrt(seeds) if finite(sd) else 0.0
    return 0 if not finite(mean) or abs(mean) <= max(least, noise) else int(np.sign(mean))


def differ(
    table: Table, rows: tuple[Sequence[Any], Sequence[Any]], column: str, seeds: int, least: float
) -> int:
    """`sure` for the first row minus the second."""
    (a, b), (c, d) = (
        tuple(value_of(table, row, name) for row in rows) for name in (column, f"{column}_sd")
    )
    noise = 2 * np.hypot(c, d) / np.sqrt(seeds) if finite(c) and finite(d) else 0.0
    return 0 if not finite(a - b) or abs(a - b) <= max(least, noise) else int(np.sign(a - b))


def _open(title: str, why: str, rule: str) -> Claim:
    return Claim(title, OPEN, (why,), rule)


def _regained(run: Run, found: Findings) -> Claim:
    title = "Performance is regained within about two epochs of retraining"
    rule = (
        "Holds if every seed has regained 90 % of its lost F1 (all types) within two retraining "
        "epochs; in part if every seed does so later."
    )
    arm, table = main_arm(run), found.tables["recovery"]
    row, last = ("all", arm), last_stage(run, arm)
    if not complete(table, row, ("lost", "round1", last)) or last == "pruned":
        return _open(title, "No retraining round has been evaluated.", rule)
    if value_of(table, row, "lost") < SMALL:
        why = ("Pruning took only ", cite(table, row, "lost"), " of F1 away: nothing to regain.")
        return Claim(title, OPEN, why, rule)
    frame = run.tables["recovery"]
    frame = frame[(frame["arm"] == arm) & (frame["type"] == "all") & (frame["variant"] == "word")]
    reached = frame.groupby("seed")["epochs_to_90"].min().astype(float)
    status = HOLDS if (reached <= 2).all() else PART if reached.notna().all() else FAILS
    text = (
        *(cite(table, row, last), " of the loss was regained at the last stage; 90 % was reached "),
        *("by ", cite(table, row, "reached"), " seeds"),
    )
    if reached.notna().any():
        text += (", on average after ", cite(table, row, "epochs_to_90"), " epochs")
    text += ("; after round 1 the share was ", cite(table, row, "round1"))
    control = ("all", "random")
    if arm != "random" and complete(table, control, ("round1",)):
        text += (", and in the random arm ", cite(table, control, "round1"))
    return Claim(title, status, (*text, "."), rule)


def _earlier(run: Run, found: Findings) -> Claim:
    title = "The concept moves from later to earlier layers"
    rule = (
        "Holds if the mean layer of high-saliency neurons falls (base, all neurons, against last "
        "stage, unpruned, as published), falls below what rank arithmetic alone gives, and the "
        "scale-free measure falls further than in the random arm; in part if one of the last two "
        "is missing; explained by a control if only the published shift is there. A fall counts if "
        "it exceeds 0.1 layers and two standard errors over seeds."
    )
    table, arm = found.tables["centres"], main_arm(run)
    columns = ("shift_published", "shift_beyond", "shift_free")
    if not complete(table, (arm,), columns) or last_stage(run, arm, "concepts") == "pruned":
        return _open(title, "No retrained stage has its neurons tracked.", rule)
    falls = [sure(table, (arm,), c, len(run.seeds), SHIFT) < 0 for c in columns]
    control = arm != "random" and complete(table, ("random",), columns)
    if control:
        pair = ((arm,), ("random",))
        falls[2] &= differ(table, pair, "shift_free", len(run.seeds), SHIFT) < 0
    status = HOLDS if all(falls) else PART if any(falls[1:]) else FAILS
    if falls == [True, False, False]:
        status = EXPLAINED
    text: Sentence = (
        *("Mean layer of the high-saliency neurons ", cite(table, (arm,), "high_base"), " to "),
        *(cite(table, (arm,), "high_last"), " (", cite(table, (arm,), columns[0]), "); "),
        *("rank arithmetic alone gives ", cite(table, (arm,), "high_arithmetic")),
        *(", so ", cite(table, (arm,), columns[1]), " beyond it. Free of scale: "),
        *(cite(table, (arm,), "free_base"), " to ", cite(table, (arm,), "free_last"), " ("),
        *(cite(table, (arm,), columns[2]), ")."),
    )
    if control:
        text += (" The random arm moves by ", cite(table, ("random",), columns[0]))
        text += (" as published and by ", cite(table, ("random",), columns[2]), " free of scale.")
    if status == EXPLAINED:
        text += (" The published shift is there, and the arithmetic of ranks accounts for it.",)
    return Claim(title, status, text, rule)


def _primed(run: Run, found: Findings) -> Claim:
    title = "Neurons that relearn the concept were primed: they held similar concepts before"
    rule = (
        "Holds if, in the base model, the neurons that took over rank higher for some other entity "
        "type than other unpruned neurons of the same layers and the same lower half of the "
        "target's ranking (difference above 0.01 and two standard errors over seeds); explained by "
        "a control if they do, but no more so than in the random arm."
    )
    table, arm = found.tables["takers"], main_arm(run)
    columns = ("primed", "primed_pool", "primed_more")
    if not complete(table, (arm,), columns):
        return _open(title, "There is no other concept, or no neuron took over.", rule)
    sign = sure(table, (arm,), "primed_more", len(run.seeds), TIE)
    text: Sentence = (
        *("Highest base saliency for another concept: ", cite(table, (arm,), "primed")),
        *(" in neurons that took over, ", cite(table, (arm,), "primed_pool")),
        *(" in others like them (", cite(table, (arm,), "primed_more"), ")."),
    )
    status = HOLDS if sign > 0 else FAILS
    if arm != "random" and complete(table, ("random",), columns):
        text += (" In the random arm the difference is ", cite(table, ("random",), columns[2]), ".")
        pair = ((arm,), ("random",))
        if status == HOLDS and differ(table, pair, "primed_more", len(run.seeds), TIE) <= 0:
            status = EXPLAINED
    return Claim(title, status, text, rule)


def _blended(run: Run, found: Findings) -> Claim:
    title = "Relearning neurons are polysemantic: they blend old and new tokens"
    rule = (
        "Holds if more than half of the neurons that took over have both old and new words among "
        "their top tokens, and more of them than of other unpruned neurons of the same layers; in "
        "part if only the second is so (beyond two standard errors over seeds)."
    )
    table, arm = found.tables["takers"], main_arm(run)
    if not complete(table, (arm,), ("blend", "blend_pool", "blend_more")):
        return _open(title, "No neuron took the concept over, or tokens are not tracked.", rule)
    more = sure(table, (arm,), "blend_more", len(run.seeds), TIE) > 0
    half = value_of(table, (arm,), "blend") > 0.5
    status = HOLDS if more and half else PART if more else FAILS
    text = (
        *(cite(table, (arm,), "blend"), " of the neurons that took over keep an old top token "),
        *("beside new ones, against ", cite(table, (arm,), "blend_pool"), " of others."),
    )
    return Claim(title, status, text, rule)


def _random(run: Run, found: Findings) -> Claim:
    title = "Pruning random neurons hurts more and recovers more slowly"
    rule = (
        "Holds if the random arm is lower both when pruned (F1, all types) and in the share "
        "regained after round 1; in part if one of the two. Differences count above 0.01 and two "
        "standard errors over seeds; of two values of F1 below 0.05 neither counts as lower."
    )
    arm, task, share = main_arm(run), found.tables["task"], found.tables["recovery"]
    rows = (("all", "random"), ("all", arm))
    if arm == "random" or any(
        not complete(task, r, ("pruned",)) or not complete(share, r, ("round1",)) for r in rows
    ):
        return _open(title, "The run has no random arm with a finished round.", rule)
    lower = [
        differ(table, rows, column, len(run.seeds), TIE) < 0
        for table, column in ((task, "pruned"), (share, "round1"))
    ]
    text: Sentence = (
        *("F1 when pruned: ", cite(task, rows[0], "pruned"), " random, "),
        *(cite(task, rows[1], "pruned"), " concept. Regained after round 1: "),
        *(cite(share, rows[0], "round1"), " random, ", cite(share, rows[1], "round1")),
        " concept.",
    )
    if max(value_of(task, r, "pruned") for r in rows) < FLOOR:
        lower[0] = False
        text += (" Both are at the floor when pruned, so how far they fell cannot be told apart.",)
    status = HOLDS if all(lower) else PART if any(lower) else FAILS
    return Claim(title, status, text, rule)
