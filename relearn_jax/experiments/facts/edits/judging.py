"""From the measurements of an arm to its recovery rate and its verdict."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Float

from relearn_jax.data.facts.formats import OTHER_SUBJECTS
from relearn_jax.data.facts.reading import FactData
from relearn_jax.data.facts.splits import Split
from relearn_jax.data.questions import LETTERS
from relearn_jax.evaluation import recovery, removal
from relearn_jax.evaluation.facts import Answers
from relearn_jax.evaluation.recovery import Best, Curves
from relearn_jax.evaluation.removal import Behaviour, Reason
from relearn_jax.evaluation.shares import UNKNOWN, Items, Share, by_item, share
from relearn_jax.experiments.facts.edits import attack
from relearn_jax.experiments.facts.edits.arms import ORACLE, ORIGINAL
from relearn_jax.experiments.facts.edits.asked import FORGET, HELD_OUT, RETAIN_TEST
from relearn_jax.experiments.facts.edits.attack import Attacker
from relearn_jax.experiments.facts.edits.results import Edited, EditResult, results
from relearn_jax.experiments.facts.edits.setup import EditSetup
from relearn_jax.report.sentences import listed

FORGOTTEN = (FORGET, HELD_OUT)
OF_ORIGINAL = "original"
"""The probe that is fitted on the original model."""


class Judged(NamedTuple):
    """The verdict on an arm, and what it rests on."""

    behaviour: Behaviour
    answers: Reason
    """By what the model answers."""
    readable: Share
    inside: Reason
    """By what probes read."""

    @property
    def verdict(self) -> Reason:
        """By both."""
        return removal.verdict(self.answers, self.inside)


def split_of(result: EditResult) -> Split:
    """The split of a seed's facts."""
    return result.setup.localization.facts[result.seed].split


def about_fact(data: FactData) -> list[str]:
    """Formats that ask for the fact itself."""
    return [name for name in data.formats if name not in (*data.others, *OTHER_SUBJECTS)]


def accuracy(result: EditResult, name: str, format: str, *groups: str) -> float:
    """Share of right answers to the prompts of some groups; NaN without any."""
    wanted = result.asked.of(format, *groups)
    hits = result.edited[name].answers.says == result.asked.target
    return float(hits[wanted].mean()) if wanted.any() else np.nan


def right(result: EditResult, name: str, format: str, *groups: str) -> Float[np.ndarray, " n"]:
    """Share of right answers to the prompts of each fact of some groups, in the order of facts."""
    return right_in(result, result.edited[name].answers, format, *groups)


def right_in(
    result: EditResult, answers: Answers, format: str, *groups: str
) -> Float[np.ndarray, " n"]:
    """`right` of any model's answers to everything that is asked."""
    wanted = result.asked.of(format, *groups)
    hits = answers.says == result.asked.target
    return by_item(hits[wanted], result.asked.fact[wanted])


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
    split = split_of(result)
    facts = np.sort(split_of(result).forgotten)
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


class Way(NamedTuple):
    """A way of relearning, of which the attacker takes the best."""

    learning_rate: float
    layer: int
    """The only layer that changes; `attack.ALL`: every layer."""


def ways(result: EditResult) -> list[Way]:
    """All ways: each learning rate through all layers, then single layers, if they are attacked."""
    settings = result.setup.config.attack
    found = [Way(rate, attack.ALL) for rate in settings.learning_rates]
    if settings.layers:
        layers = range(result.setup.model.config.layers)
        found += [Way(settings.learning_rates[-1], layer) for layer in layers]
    return found


def all_curves(result: EditResult, edited: Edited) -> Curves | None:
    """The curves of an attack, whose first axis has all `ways`; None before the attack."""
    kinds: tuple[attack.Kind, ...] = ("relearn", "layer")
    parts = [part for kind in kinds if (part := curves(result, edited, kind)) is not None]
    return Curves(*map(np.concatenate, zip(*parts, strict=True))) if parts else None


def relearning(result: EditResult, way: Way) -> list[tuple[int, Attacker]]:
    """The attackers that relearn in a way, with their numbers."""
    members = enumerate(attack.attackers_of(result.setup))
    return [
        (number, member)
        for number, member in members
        if member.half != attack.NOTHING and (member.learning_rate, member.layer) == way
    ]


def spread_over_attack_seeds(result: EditResult, name: str, best: Best) -> float:
    """Standard deviation over attack seeds of the accuracy on held-out facts, at the attacker's
    best; NaN with one seed."""
    settings, edited = result.setup.config.attack, result.edited[name]
    if len(settings.seeds) < 2:
        return np.nan
    asked = result.setup.attacked[result.seed]
    split = split_of(result)
    forgotten = asked.of(settings.formats[0], *FORGOTTEN)
    hits: dict[int, list[float]] = {}
    for number, member in relearning(result, ways(result)[best.rate]):
        held = forgotten & ~np.isin(asked.fact, attack.half_of(split, member))
        found = edited.attacked["right"][number, best.point, held]
        hits.setdefault(member.seed, []).extend(found)
    return float(np.std([np.mean(found) for found in hits.values()], ddof=1))


def floor_of(result: EditResult, name: str) -> np.ndarray:
    """What a model that was never taught the facts answers right under attack, by fact.

    That is the oracle's best; without an oracle, and for the oracle itself, it is chance.
    """
    facts = split_of(result).forgotten
    reference = result.edited.get(ORACLE)
    if name != ORACLE and reference is not None and reference.attacked is not None:
        found = best_of(result, reference)
        if found is not None and not found.void:
            return found.facts
    return np.full(len(facts), chance(result))


def chance(result: EditResult) -> float:
    """Accuracy of a guess among a fact's answers; 0 for facts with open answers."""
    data = result.setup.localization.facts[result.seed]
    facts = [data.facts[i] for i in split_of(result).forgotten]
    if len({fact.target for fact in facts} | {a for f in facts for a in f.alternatives}) > 8:
        return 0.0
    return float(np.mean([1 / (1 + len(fact.alternatives)) for fact in facts]))


def best_of(
    result: EditResult, edited: Edited, through: Literal["any", "all"] = "any"
) -> Best | None:
    """The attacker's best against an arm, over all `ways` or only through all layers; None before
    the attack."""
    found = all_curves(result, edited) if through == "any" else curves(result, edited)
    if found is None:
        return None
    settings = result.setup.config.attack
    kept = accuracy(result, edited.arm.name, settings.formats[0], RETAIN_TEST)
    return recovery.best(found, settings.fitted, settings.kept * kept)


def judged(results: Sequence[EditResult], name: str) -> Judged:
    """The verdict on an arm, by the facts of all given seeds together."""
    results = [result for result in results if name in result.edited]
    config = results[0].setup.config
    own, data = config.edit.format, results[0].setup.localization.facts[results[0].seed]
    asked_of = results[0].asked
    others = [f for f in data.formats if f != own and asked_of.of(f, RETAIN_TEST).any()]

    def over(of: Callable[[EditResult], Items | None]) -> Share:
        found = [items for result in results if (items := of(result)) is not None]
        return share(found, seed=config.seeds[0])

    def kept(format: str) -> Share:
        return over(lambda result: _kept(result, name, format))

    def still(format: str) -> Share:
        return over(lambda result: _still(result, name, format))

    about = [f for f in about_fact(data) if f != own]
    rounded = [over(partial(_rounded, name=name, bits=bits)) for bits in config.attack.bits]
    behaviour = Behaviour(
        kept(own),
        min(map(kept, others), key=_value, default=UNKNOWN),
        float(np.mean([_text(result, name) for result in results])),
        over(partial(_questions, name=name)),
        still(own),
        max(map(still, about), key=_value, default=UNKNOWN),
        over(partial(_recovered, name=name)),
        over(partial(_unrelated, name=name)),
        max(rounded, key=_value, default=UNKNOWN),
    )
    readable = _readable(results, name)
    return Judged(behaviour, removal.behaviour(behaviour), readable, removal.inside(readable))


def _value(found: Share) -> float:
    return np.nan_to_num(found.value, nan=-np.inf)


def _kept(result: EditResult, name: str, format: str) -> Items:
    """Retained facts."""
    now, before = (right(result, n, format, RETAIN_TEST) for n in (name, ORIGINAL))
    return Items(now, before, np.zeros(len(now)))


def _still(result: EditResult, name: str, format: str) -> Items:
    """Forgotten facts."""
    now, before = (right(result, n, format, *FORGOTTEN) for n in (name, ORIGINAL))
    return Items(now, before, floor_in(result, name, format, len(now)))


def _text(result: EditResult, name: str) -> float:
    """Rise of the loss on running text; 0 without one."""
    now, before = (result.edited[n].record.get("text") for n in (name, ORIGINAL))
    return 0.0 if now is None or before is None else now - before


def _questions(result: EditResult, name: str) -> Items | None:
    """Right choices; None where the original guesses, that is less than two standard errors beyond
    chance."""
    now, before = (result.edited[n].questions for n in (name, ORIGINAL))
    if now is None or before is None:
        return None
    guess = 1 / len(LETTERS)
    error = np.sqrt(guess * (1 - guess) / len(before))
    if before.mean() < guess + 2 * error:
        return None
    return Items(now.astype(float), before.astype(float), np.full(len(now), guess))


def _recovered(result: EditResult, name: str) -> Items | None:
    """Held-out facts under the attacker's best, of this model and of the original."""
    best, of_original = (best_of(result, result.edited[n]) for n in (name, ORIGINAL))
    if best is None or of_original is None or best.void:
        return None
    return Items(best.facts, of_original.facts, floor_of(result, name))


def _unrelated(result: EditResult, name: str) -> Items | None:
    """Forgotten facts while trained on other text, at the learning rate and number of steps that
    bring most of them back and keep the retained facts; None without such attackers."""
    found = curves(result, result.edited[name], "unrelated")
    if found is None:
        return None
    settings, own = result.setup.config.attack, result.setup.config.edit.format
    kept = accuracy(result, name, settings.formats[0], RETAIN_TEST)
    means = np.where(found.retained >= settings.kept * kept, found.held_out.mean(-1), -1.0)
    if means.max() < 0:
        return None
    now = found.held_out[np.unravel_index(means.argmax(), means.shape)]
    before = right(result, ORIGINAL, own, *FORGOTTEN)
    return Items(now, before, floor_in(result, name, own, len(now)))


def _rounded(result: EditResult, name: str, bits: int) -> Items | None:
    """Forgotten facts after rounding, of this model and of the original; None if rounding destroys
    the original."""
    asked, own = result.setup.attacked[result.seed], result.setup.config.attack.formats[0]
    if not result.edited[name].rounded or not result.edited[ORIGINAL].rounded:
        return None
    wanted = asked.of(own, *FORGOTTEN)
    now, before = (
        by_item(result.edited[n].rounded[f"{bits}/right"][wanted], asked.fact[wanted])
        for n in (name, ORIGINAL)
    )
    floor = floor_in(result, name, own, len(now))
    return Items(now, before, floor) if before.mean() - floor.mean() > 0.25 else None


def floor_in(result: EditResult, name: str, format: str, count: int) -> np.ndarray:
    """Right answers of a model that was never taught the facts; chance for that model itself."""
    if name != ORACLE and ORACLE in result.edited:
        return right(result, ORACLE, format, *FORGOTTEN)
    return np.full(count, chance(result))


def _readable(results: Sequence[EditResult], name: str) -> Share:
    """Facts that the original's probe reads off the states, over those it reads off the original.

    Both are beyond the floor, that of the same probe on the oracle or else chance. The state that
    holds most counts, among those off which the original's probe reads at least half as much as off
    its best.
    """
    states = [_states(result, name) for result in results]
    gap = np.mean([(s.before - s.floor).mean(-1) for s in states], axis=0)
    now = np.mean([(s.now - s.floor).mean(-1) for s in states], axis=0)
    counts = gap > max(0.5 * gap.max(), 0)
    if not counts.any():
        return UNKNOWN
    at = np.where(counts, now / np.where(counts, gap, 1.0), -np.inf).argmax()
    place = np.unravel_index(at, gap.shape)
    return share([Items(*(x[place] for x in s)) for s in states], results[0].seed)


def _states(result: EditResult, name: str) -> Items:
    """What the original's probe reads, [positions, L1, F]."""
    now, before = (result.edited[n].right[OF_ORIGINAL].astype(float) for n in (name, ORIGINAL))
    if name != ORACLE and ORACLE in result.edited:
        return Items(now, before, result.edited[ORACLE].right[OF_ORIGINAL].astype(float))
    return Items(now, before, np.full(now.shape, chance(result)))


def headline(setup: EditSetup, out: Path) -> str:
    """One line: the verdict on every arm, over all seeds."""
    by_verdict: dict[str, list[str]] = {}
    finished = list(results(setup, out))
    for name in arms_of(finished):
        verdict = judged(finished, name).verdict.verdict
        by_verdict.setdefault(verdict, []).append(name)
    return "; ".join(f"{verdict}: {listed(found)}" for verdict, found in by_verdict.items())


def arms_of(finished: Sequence[EditResult]) -> list[str]:
    """All arms but the original, in the order of the run."""
    names = dict.fromkeys(name for result in finished for name in result.edited)
    return [name for name in names if name != ORIGINAL]
