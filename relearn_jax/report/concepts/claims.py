"""The published claims (protocol 8.9), each judged on this run by a rule that the page states."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy import stats

from relearn_jax.report.concepts.findings import Findings
from relearn_jax.report.concepts.reading import Run, last_stage, main_arm
from relearn_jax.report.concepts.verdict import SMALL, TIE
from relearn_jax.report.sentences import complete
from relearn_jax.report.tables import Sentence, Table, cite, value_of, values_by_seed

HOLDS, PART, FAILS, OPEN = "holds", "holds in part", "does not hold", "cannot be judged"
EXPLAINED = "explained by a control"
SHIFT = 0.1
"""Shifts of the mean layer up to this are called none."""
FLOOR = 0.05
"""Below this F1 a model has nothing left to lose, so arms are not compared."""
TOO_FEW = "Fewer than two seeds have all these numbers, so there is no spread to judge by. "
NO_SPREAD = " It cannot be judged from one seed."


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


def sure(table: Table, row: Sequence[Any], column: str, least: float) -> int:
    """Sign of a mean over seeds; 0 if it is within `least` or its 95 % interval holds 0."""
    return _sign(list(values_by_seed(table, row, column).values()), least)


def differ(
    table: Table, rows: tuple[Sequence[Any], Sequence[Any]], column: str, least: float
) -> int:
    """`sure` for the first row minus the second, seed by seed.

    Arms are paired because those of one seed start from the same base model.
    """
    return _sign(_paired(table, rows, column), least)


def _paired(table: Table, rows: Sequence[Sequence[Any]], column: str) -> list[float]:
    first, second = (values_by_seed(table, row, column) for row in rows)
    return [first[seed] - second[seed] for seed in first if seed in second]


def _sign(values: Sequence[float], least: float) -> int:
    if len(values) < 2:
        return 0
    mean, half = np.mean(values), stats.t.ppf(0.975, len(values) - 1) * stats.sem(values)
    return 0 if abs(mean) <= max(least, half) else int(np.sign(mean))


def _lone(table: Table, row: Sequence[Any], columns: Iterable[str]) -> bool:
    """Whether some of the numbers come from fewer than two seeds."""
    return any(len(values_by_seed(table, row, c)) < 2 for c in columns)


def _has_control(table: Table, arm: str, columns: Sequence[str], paired: str) -> bool:
    """Whether there is a random arm, and more than one seed to compare the arm with it by."""
    return (
        arm != "random"
        and complete(table, ("random",), columns)
        and len(_paired(table, ((arm,), ("random",)), paired)) > 1
    )


def _open(title: str, why: str, rule: str) -> Claim:
    return Claim(title, OPEN, (why,), rule)


def _regained(run: Run, found: Findings) -> Claim:
    title = "Performance is regained within about two epochs of retraining"
    rule = (
        "Holds if every seed has regained 90 % of its lost F1 (all types) within two retraining "
        "epochs; in part if every seed does so later. The text says so if there is one seed only."
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
    text: Sentence = ("There is only one seed. ",) if len(reached) < 2 else ()
    text += (
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
        "Holds if the mean layer of high-saliency neurons falls in the published way (base, all "
        "neurons, against last stage, lower half of the base ranking, null neurons dropped), if "
        "with the true mask it falls below what rank arithmetic alone gives, and if the scale-free "
        "measure falls, and further than in the random arm; in part if the second or "
        "third is there but not all, and at most in part without a random arm; explained by a "
        "control if only the published shift is there. A fall counts if it exceeds 0.1 layers and "
        "its 95 % interval over seeds excludes 0; arms are compared within each seed." + NO_SPREAD
    )
    table, arm = found.tables["centres"], main_arm(run)
    columns = ("shift_published", "shift_beyond", "shift_free")
    if not complete(table, (arm,), columns) or last_stage(run, arm, "concepts") == "pruned":
        return _open(title, "No retrained stage has its neurons and top tokens tracked.", rule)
    control = _has_control(table, arm, columns, "shift_free")
    text = _earlier_text(table, arm, control)
    if _lone(table, (arm,), columns):
        return Claim(title, OPEN, (TOO_FEW, *text), rule)
    falls = [sure(table, (arm,), c, SHIFT) < 0 for c in columns]
    if control:
        falls[2] &= differ(table, ((arm,), ("random",)), "shift_free", SHIFT) < 0
    status = HOLDS if all(falls) and control else PART if any(falls[1:]) else FAILS
    if not control:
        text += (" There is no random arm, with more than one seed, to compare this with.",)
    if falls == [True, False, False]:
        status = EXPLAINED
        text += (" The published shift is there, but none beyond the arithmetic of ranks.",)
    return Claim(title, status, text, rule)


def _earlier_text(table: Table, arm: str, control: bool) -> Sentence:
    row, other = (arm,), ("random",)
    text: Sentence = (
        *("Mean layer of the high-saliency neurons, in the published way: ",),
        *(cite(table, row, "published_base"), " to ", cite(table, row, "published_last"), " ("),
        *(cite(table, row, "shift_published"), "). With the true mask: "),
        *(cite(table, row, "high_base"), " to ", cite(table, row, "high_last")),
        *("; rank arithmetic alone gives ", cite(table, row, "high_arithmetic"), ", so "),
        *(cite(table, row, "shift_beyond"), " beyond it. Free of scale: "),
        *(cite(table, row, "free_base"), " to ", cite(table, row, "free_last"), " ("),
        *(cite(table, row, "shift_free"), ")."),
    )
    if control:
        text += (" The random arm moves by ", cite(table, other, "shift_published"))
        text += (" in the published way and by ", cite(table, other, "shift_free"))
        text += (" free of scale.",)
    return text


def _primed(run: Run, found: Findings) -> Claim:
    title = "Neurons that relearn the concept were primed: they held similar concepts before"
    rule = (
        "Holds if, in the base model, the neurons that took over rank higher for some other entity "
        "type than other unpruned neurons of the same layers and the same lower half of the "
        "target's ranking (the difference is above 0.01 and its 95 % interval over seeds excludes "
        "0); explained by a control if they do, but by the same rule, seed by seed, no more so "
        "than in the random arm." + NO_SPREAD
    )
    table, arm = found.tables["takers"], main_arm(run)
    columns = ("primed", "primed_pool", "primed_more")
    if not complete(table, (arm,), columns):
        return _open(title, "There is no other concept, or no neuron took over.", rule)
    text: Sentence = (
        *("Highest base saliency for another concept: ", cite(table, (arm,), "primed")),
        *(" in neurons that took over, ", cite(table, (arm,), "primed_pool")),
        *(" in others like them (", cite(table, (arm,), "primed_more"), ")."),
    )
    status = HOLDS if sure(table, (arm,), "primed_more", TIE) > 0 else FAILS
    lone = _lone(table, (arm,), columns)
    if arm != "random" and complete(table, ("random",), columns):
        text += (" In the random arm the difference is ", cite(table, ("random",), columns[2]), ".")
        lone |= not _has_control(table, arm, columns, "primed_more")
        if status == HOLDS and differ(table, ((arm,), ("random",)), "primed_more", TIE) <= 0:
            status = EXPLAINED
    if lone:
        return Claim(title, OPEN, (TOO_FEW, *text), rule)
    return Claim(title, status, text, rule)


def _blended(run: Run, found: Findings) -> Claim:
    title = "Relearning neurons are polysemantic: they blend old and new tokens"
    rule = (
        "Holds if more than half of the neurons that took over have both old and new words among "
        "their top tokens, and more of them than of other unpruned neurons of the same layers; in "
        "part if only the second is so. More means by over 0.01, with a 95 % interval over seeds "
        "that excludes 0." + NO_SPREAD
    )
    table, arm = found.tables["takers"], main_arm(run)
    if not complete(table, (arm,), ("blend", "blend_pool", "blend_more")):
        return _open(title, "No neuron took the concept over, or tokens are not tracked.", rule)
    more = sure(table, (arm,), "blend_more", TIE) > 0
    half = value_of(table, (arm,), "blend") > 0.5
    status = HOLDS if more and half else PART if more else FAILS
    text = (
        *(cite(table, (arm,), "blend"), " of the neurons that took over keep an old top token "),
        *("beside new ones, against ", cite(table, (arm,), "blend_pool"), " of others."),
    )
    if _lone(table, (arm,), ("blend_more",)):
        return Claim(title, OPEN, (TOO_FEW, *text), rule)
    return Claim(title, status, text, rule)


def _random(run: Run, found: Findings) -> Claim:
    title = "Pruning random neurons hurts more and recovers more slowly"
    rule = (
        "Holds if the random arm is lower both when pruned (F1, all types) and in the share "
        "regained after round 1; in part if one of the two. Differences, taken within each seed, "
        "count if they exceed 0.01 and their 95 % interval over seeds excludes 0; of two values "
        "of F1 below 0.05 neither counts as lower." + NO_SPREAD
    )
    arm, task, share = main_arm(run), found.tables["task"], found.tables["recovery"]
    rows = (("all", "random"), ("all", arm))
    if arm == "random" or any(
        not complete(task, r, ("pruned",)) or not complete(share, r, ("round1",)) for r in rows
    ):
        return _open(title, "The run has no random arm with a finished round.", rule)
    cells = ((task, "pruned"), (share, "round1"))
    lower = [differ(table, rows, column, TIE) < 0 for table, column in cells]
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
    if any(len(_paired(table, rows, column)) < 2 for table, column in cells):
        return Claim(title, OPEN, (TOO_FEW, *text), rule)
    return Claim(title, status, text, rule)
