"""The published claims, each judged on this run by a rule that the page states.

Specs: relearning 8.9.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd

from relearn_jax.evaluation.entities import SMALLEST_LOSS
from relearn_jax.evaluation.seeds import half_width
from relearn_jax.report.concepts.findings import Findings
from relearn_jax.report.concepts.reading import Run, last_stage, main_arm
from relearn_jax.report.concepts.verdict import TIE
from relearn_jax.report.sentences import say
from relearn_jax.report.tables import Row, Sentence

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


def claims(run: Run, results: Findings) -> tuple[Claim, ...]:
    """Every claim, in the order of the protocol."""
    makers = (_regained, _earlier, _primed, _blended, _random)
    return tuple(maker(run, results) for maker in makers)


def sure(row: Row, column: str, least: float) -> int:
    """Sign of a mean over seeds; 0 if it is within `least` or its 95 % interval holds 0."""
    return _sign(row.by_seed(column), least)


def differ(first: Row, second: Row, column: str, least: float) -> int:
    """`sure` for the first row minus the second, seed by seed.

    Arms are paired because those of one seed start from the same base model.
    """
    return _sign(paired(first, second, column), least)


def paired(first: Row, second: Row, column: str) -> pd.Series:
    """The first row minus the second, by seed."""
    return (first.by_seed(column) - second.by_seed(column)).dropna()


def _sign(values: pd.Series, least: float) -> int:
    if len(values) < 2:
        return 0
    mean, half = np.mean(values), half_width(values)
    return 0 if abs(mean) <= max(least, half) else int(np.sign(mean))


def _lone(row: Row, *columns: str) -> bool:
    """Whether some of the numbers come from fewer than two seeds."""
    return any(len(row.by_seed(c)) < 2 for c in columns)


def _judged(title: str, rule: str, status: str, text: Sentence, lone: bool = False) -> Claim:
    """A claim, which stays open where too few seeds have its numbers."""
    return Claim(title, OPEN, (TOO_FEW, *text), rule) if lone else Claim(title, status, text, rule)


def _regained(run: Run, results: Findings) -> Claim:
    title = "Performance is regained within about two epochs of retraining"
    rule = (
        "Holds if every seed has regained 90 % of its lost F1 (all types) within two retraining "
        "epochs; in part if every seed does so later. The text says so if there is one seed only."
    )
    arm = main_arm(run)
    own, control = (results.tables["recovery"].row("all", a) for a in (arm, "random"))
    last = last_stage(run, arm)
    if not own.has("lost", "round1", last) or last == "pruned":
        return Claim(title, OPEN, ("No retraining round has been evaluated.",), rule)
    if own.value("lost") < SMALLEST_LOSS:
        why = say("Pruning took only {lost} of F1 away: nothing to regain.", own)
        return Claim(title, OPEN, why, rule)
    frame = run.tables["recovery"]
    frame = frame[(frame["arm"] == arm) & (frame["type"] == "all") & (frame["variant"] == "word")]
    epochs = frame.groupby("seed")["epochs_to_90"].min().astype(float)
    status = HOLDS if (epochs <= 2).all() else PART if epochs.notna().all() else FAILS
    text = "There is only one seed. " if len(epochs) < 2 else ""
    text += f"{{{last}}} of the loss was regained at the last stage; 90 % was reached by "
    text += "{reached} seeds"
    if epochs.notna().any():
        text += ", on average after {epochs_to_90} epochs"
    text += "; after round 1 the share was {round1}"
    if arm != "random" and control.has("round1"):
        text += ", and in the random arm {control.round1}"
    return Claim(title, status, say(f"{text}.", own, control=control), rule)


def _earlier(run: Run, results: Findings) -> Claim:
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
    arm, columns = main_arm(run), ("shift_published", "shift_beyond", "shift_free")
    own, random = (results.tables["centres"].row(a) for a in (arm, "random"))
    if not own.has(*columns) or last_stage(run, arm, "concepts") == "pruned":
        why = "No retrained stage has its neurons and top tokens tracked."
        return Claim(title, OPEN, (why,), rule)
    control = arm != "random" and random.has(*columns) and len(paired(own, random, columns[2])) > 1
    text = (
        "Mean layer of the high-saliency neurons, in the published way: {published_base} to "
        "{published_last} ({shift_published}). With the true mask: {high_base} to {high_last}; "
        "rank arithmetic alone gives {high_arithmetic}, so {shift_beyond} beyond it. Free of "
        "scale: {free_base} to {free_last} ({shift_free})."
    )
    if control:
        text += (
            " The random arm moves by {random.shift_published} in the published way and by "
            "{random.shift_free} free of scale."
        )
    if _lone(own, *columns):
        return _judged(title, rule, OPEN, say(text, own, random=random), lone=True)
    falls = [sure(own, c, SHIFT) < 0 for c in columns]
    if control:
        falls[2] &= differ(own, random, columns[2], SHIFT) < 0
    status = HOLDS if all(falls) and control else PART if any(falls[1:]) else FAILS
    if not control:
        text += " There is no random arm, with more than one seed, to compare this with."
    if falls == [True, False, False]:
        status = EXPLAINED
        text += " The published shift is there, but none beyond the arithmetic of ranks."
    return Claim(title, status, say(text, own, random=random), rule)


def _primed(run: Run, results: Findings) -> Claim:
    title = "Neurons that relearn the concept were primed: they held similar concepts before"
    rule = (
        "Holds if, in the base model, the neurons that took over rank higher for some other entity "
        "type than other unpruned neurons of the same layers and the same lower half of the "
        "target's ranking (the difference is above 0.01 and its 95 % interval over seeds excludes "
        "0); explained by a control if they do, but by the same rule, seed by seed, no more so "
        "than in the random arm." + NO_SPREAD
    )
    arm, columns = main_arm(run), ("primed", "primed_pool", "primed_more")
    own, random = (results.tables["takers"].row(a) for a in (arm, "random"))
    if not own.has(*columns):
        return Claim(title, OPEN, ("There is no other concept, or no neuron took over.",), rule)
    text = (
        "Highest base saliency for another concept: {primed} in neurons that took over, "
        "{primed_pool} in others like them ({primed_more})."
    )
    status = HOLDS if sure(own, "primed_more", TIE) > 0 else FAILS
    lone = _lone(own, *columns)
    if arm != "random" and random.has(*columns):
        text += " In the random arm the difference is {random.primed_more}."
        lone |= len(paired(own, random, "primed_more")) < 2
        if status == HOLDS and differ(own, random, "primed_more", TIE) <= 0:
            status = EXPLAINED
    return _judged(title, rule, status, say(text, own, random=random), lone)


def _blended(run: Run, results: Findings) -> Claim:
    title = "Relearning neurons are polysemantic: they blend old and new tokens"
    rule = (
        "Holds if more than half of the neurons that took over have both old and new words among "
        "their top tokens, and more of them than of other unpruned neurons of the same layers; in "
        "part if only the second is so. More means by over 0.01, with a 95 % interval over seeds "
        "that excludes 0." + NO_SPREAD
    )
    own = results.tables["takers"].row(main_arm(run))
    if not own.has("blend", "blend_pool", "blend_more"):
        why = "No neuron took the concept over, or tokens are not tracked."
        return Claim(title, OPEN, (why,), rule)
    more = sure(own, "blend_more", TIE) > 0
    status = (HOLDS if own.value("blend") > 0.5 else PART) if more else FAILS
    text = (
        "{blend} of the neurons that took over keep an old top token beside new ones, against "
        "{blend_pool} of others."
    )
    return _judged(title, rule, status, say(text, own), _lone(own, "blend_more"))


def _random(run: Run, results: Findings) -> Claim:
    title = "Pruning random neurons hurts more and recovers more slowly"
    rule = (
        "Holds if the random arm is lower both when pruned (F1, all types) and in the share "
        "regained after round 1; in part if one of the two. Differences, taken within each seed, "
        "count if they exceed 0.01 and their 95 % interval over seeds excludes 0; of two values "
        "of F1 below 0.05 neither counts as lower." + NO_SPREAD
    )
    arm = main_arm(run)
    pruned, regained = (
        tuple(results.tables[name].row("all", a) for a in ("random", arm))
        for name in ("task", "recovery")
    )
    there = all(r.has("pruned") for r in pruned) and all(r.has("round1") for r in regained)
    if arm == "random" or not there:
        why = "The run has no random arm with a finished round."
        return Claim(title, OPEN, (why,), rule)
    cells = ((pruned, "pruned"), (regained, "round1"))
    lower = [differ(*rows, column, TIE) < 0 for rows, column in cells]
    text = (
        "F1 when pruned: {random.pruned} random, {own.pruned} concept. Regained after round 1: "
        "{random_share.round1} random, {own_share.round1} concept."
    )
    if max(row.value("pruned") for row in pruned) < FLOOR:
        lower[0] = False
        text += " Both are at the floor when pruned, so how far they fell cannot be told apart."
    status = HOLDS if all(lower) else PART if any(lower) else FAILS
    names = ("random", "own", "random_share", "own_share")
    sentence = say(text, **dict(zip(names, (*pruned, *regained), strict=True)))
    lone = any(len(paired(*rows, column)) < 2 for rows, column in cells)
    return _judged(title, rule, status, sentence, lone)
