"""From the measurements of an arm to its recovery rate and its verdict."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np

from relearn_jax.data.facts.formats import OTHER_SUBJECTS
from relearn_jax.data.facts.reading import FactData
from relearn_jax.data.questions import LETTERS
from relearn_jax.evaluation import recovery, removal
from relearn_jax.evaluation.recovery import Best, Curves, Rate
from relearn_jax.evaluation.removal import Behaviour, Reason
from relearn_jax.experiments.facts.edits import attack, oracle
from relearn_jax.experiments.facts.edits.arms import ORACLE, ORIGINAL
from relearn_jax.experiments.facts.edits.asked import FORGET, HELD_OUT, RETAIN_TEST
from relearn_jax.experiments.facts.edits.results import Edited, EditResult, results
from relearn_jax.experiments.facts.edits.setup import EditSetup
from relearn_jax.report.sentences import listed

FORGOTTEN = (FORGET, HELD_OUT)
OF_ORIGINAL = "original"
"""The probe that is fitted on the original model."""


class Judged(NamedTuple):
    """The verdict on an arm, and what it rests on."""

    behaviour: Behaviour
    verdict: Reason
    """By what the model answers."""
    readable: float
    inside: Reason
    """By what probes read."""
    curves: Curves | None
    best: Best | None
    rate: Rate | None


def about_fact(data: FactData) -> list[str]:
    """Formats that ask for the fact itself."""
    return [name for name in data.formats if name not in (*data.others, *OTHER_SUBJECTS)]


def accuracy(result: EditResult, name: str, format: str, *groups: str) -> float:
    """Share of right answers to the prompts of some groups; NaN without any."""
    wanted = result.asked.of(format, *groups)
    right = result.edited[name].answers.says == result.asked.target
    return float(right[wanted].mean()) if wanted.any() else np.nan


def curves(result: EditResult, edited: Edited, kind: attack.Kind = "relearn") -> Curves | None:
    """The curves of an attack, in the format that it is scored by.

    None before the attack, and without attackers of the kind. The first axis has learning rates or,
    for attackers of single layers, the layers.
    """
    members = attack.attackers_of(result.setup)
    chosen = np.array([member.kind == kind for member in members])
    if edited.attacked is None or not chosen.any():
        return None
    settings, asked = result.setup.config.attack, result.setup.attacked[result.seed]
    split = result.setup.localization.facts[result.seed].split
    facts = oracle.forgotten_by(result.setup, result.seed)
    own = asked.format == settings.formats[0]
    own_half = [attack.half_of(split, a) for a in members if a.kind == kind]
    shown = np.array([own & np.isin(asked.fact, half) for half in own_half])
    layers = result.setup.model.config.layers
    of_fact = own[:, None] & (asked.fact[:, None] == facts)
    return recovery.assembled(
        edited.attacked["right"][chosen],
        shown,
        of_fact,
        asked.of(settings.formats[0], RETAIN_TEST),
        layers if kind == "layer" else len(settings.learning_rates),
    )


def floor_of(result: EditResult, name: str) -> np.ndarray:
    """What a model that was never taught the facts answers right under attack, by fact.

    That is the oracle's best; without an oracle, and for the oracle itself, it is chance.
    """
    facts = oracle.forgotten_by(result.setup, result.seed)
    reference = result.edited.get(ORACLE)
    if name != ORACLE and reference is not None and reference.attacked is not None:
        found = best_of(result, reference)
        if found is not None and not found.void:
            return found.facts
    return np.full(len(facts), chance(result))


def chance(result: EditResult) -> float:
    """Accuracy of a guess among a fact's answers; 0 for facts with open answers."""
    data = result.setup.localization.facts[result.seed]
    facts = [data.facts[i] for i in oracle.forgotten_by(result.setup, result.seed)]
    if len({fact.target for fact in facts} | {a for f in facts for a in f.alternatives}) > 8:
        return 0.0
    return float(np.mean([1 / (1 + len(fact.alternatives)) for fact in facts]))


def best_of(result: EditResult, edited: Edited) -> Best | None:
    """The attacker's best against an arm; None before the attack."""
    found = curves(result, edited)
    if found is None:
        return None
    settings = result.setup.config.attack
    kept = accuracy(result, edited.arm.name, settings.formats[0], RETAIN_TEST)
    return recovery.best(found, settings.fitted, settings.kept * kept)


def judged(result: EditResult, name: str) -> Judged:
    """The verdict on an arm."""
    config, edited = result.setup.config, result.edited[name]
    data = result.setup.localization.facts[result.seed]
    original, own = result.edited[ORIGINAL], config.edit.format
    others = [f for f in data.formats if f != own and result.asked.of(f, RETAIN_TEST).any()]
    best = best_of(result, edited)
    of_original = best_of(result, original)
    rate = None
    if best is not None and of_original is not None and not best.void:
        rate = recovery.rate(
            best.facts, of_original.facts, floor_of(result, name), seed=result.seed
        )
    text = [record.get("text") for record in (edited.record, original.record)]
    behaviour = Behaviour(
        _ratio(result, name, own),
        min((_ratio(result, name, f) for f in others), default=1.0),
        0.0 if None in text else text[0] - text[1],
        _questions(result, name),
        _beyond(result, name, own),
        max((_beyond(result, name, f) for f in about_fact(data) if f != own), default=0.0),
        np.nan if rate is None else rate.value,
        _unrelated(result, name),
        max((_after_rounding(result, name, bits) for bits in config.attack.bits), default=0.0)
        if edited.rounded
        else 0.0,
    )
    readable = _readable(result, name)
    return Judged(
        behaviour,
        removal.behaviour(behaviour),
        readable,
        removal.inside(readable),
        curves(result, edited),
        best,
        rate,
    )


def _questions(result: EditResult, name: str) -> float:
    """Right choices over the original's, both beyond chance; NaN where the original guesses.

    The original guesses if its right choices are less than two standard errors beyond chance.
    """
    now, before = (result.edited[n].questions for n in (name, ORIGINAL))
    if now is None or before is None:
        return np.nan
    guess = 1 / len(LETTERS)
    error = np.sqrt(guess * (1 - guess) / len(before))
    if before.mean() < guess + 2 * error:
        return np.nan
    return float((now.mean() - guess) / (before.mean() - guess))


def _ratio(result: EditResult, name: str, format: str) -> float:
    """Accuracy on retained facts over the original's."""
    before = accuracy(result, ORIGINAL, format, RETAIN_TEST)
    return accuracy(result, name, format, RETAIN_TEST) / before if before else np.nan


def _beyond(result: EditResult, name: str, format: str) -> float:
    """Right answers to forgotten facts over the original's, both beyond the floor."""
    floor = _floor(result, name, format)
    now, before = (accuracy(result, n, format, *FORGOTTEN) for n in (name, ORIGINAL))
    return (now - floor) / (before - floor) if before > floor else np.nan


def _unrelated(result: EditResult, name: str) -> float:
    """Right answers under training on other text, over the original's, both beyond the floor.

    The highest over learning rates and numbers of steps at which retained facts are kept; 0 without
    such attackers.
    """
    found = curves(result, result.edited[name], "unrelated")
    if found is None:
        return 0.0
    settings, own = result.setup.config.attack, result.setup.config.edit.format
    kept = accuracy(result, name, settings.formats[0], RETAIN_TEST)
    counts = found.retained >= settings.kept * kept
    right = found.held_out.mean(-1)[counts].max(initial=0.0)
    floor, before = _floor(result, name, own), accuracy(result, ORIGINAL, own, *FORGOTTEN)
    return float((right - floor) / (before - floor)) if before > floor else np.nan


def _after_rounding(result: EditResult, name: str, bits: int) -> float:
    """Right answers after rounding, over those of the original after the same rounding.

    Both are beyond the floor; NaN if rounding destroys the original.
    """
    asked, own = result.setup.attacked[result.seed], result.setup.config.attack.formats[0]
    wanted, floor = asked.of(own, *FORGOTTEN), _floor(result, name, own)
    now, before = (
        result.edited[n].rounded[f"{bits}/right"][wanted].mean()
        if result.edited[n].rounded
        else np.nan
        for n in (name, ORIGINAL)
    )
    return float((now - floor) / (before - floor)) if before - floor > 0.25 else np.nan


def _floor(result: EditResult, name: str, format: str) -> float:
    """What a model that was never taught the facts answers right; chance for the oracle itself."""
    if name != ORACLE and ORACLE in result.edited:
        return accuracy(result, ORACLE, format, *FORGOTTEN)
    return chance(result)


def _readable(result: EditResult, name: str) -> float:
    """Right answers that the original's probe reads, over those it reads off the original.

    Both are beyond the floor, that of the same probe on the oracle or else chance, and at their
    highest over positions and states; NaN if nothing can be read off the original.
    """
    floor = np.full(2, chance(result))[:, None]
    if name != ORACLE and ORACLE in result.edited:
        floor = result.edited[ORACLE].right[OF_ORIGINAL].mean(-1)
    now, before = (result.edited[n].right[OF_ORIGINAL].mean(-1) for n in (name, ORIGINAL))
    gap = before - floor
    # States from which the original's probe reads little say nothing.
    counts = gap > max(0.5 * gap.max(), 0)
    if not counts.any():
        return np.nan
    return float(((now - floor) / np.where(counts, gap, 1.0))[counts].max())


def headline(setup: EditSetup, out: Path) -> str:
    """One line: the verdict on every arm."""
    by_verdict: dict[str, list[str]] = {}
    finished = list(results(setup, out))
    for result in finished:
        for name in result.edited:
            if name == ORIGINAL:
                continue
            verdict = judged(result, name).verdict.verdict
            at = f" (seed {result.seed})" if len(finished) > 1 else ""
            by_verdict.setdefault(verdict, []).append(name + at)
    return "; ".join(f"{verdict}: {listed(found)}" for verdict, found in by_verdict.items())
