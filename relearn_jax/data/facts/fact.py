"""Facts and their wrong answers."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from relearn_jax.errors import UserError

FEW = 8
"""Largest number of answers of a closed relation, whose answers are all alternatives."""


@dataclass(frozen=True)
class Fact:
    """A fact: a subject, a relation and the right answer."""

    subject: str
    """Such as `DeForest Buckner`."""
    relation: str
    """Such as `plays the sport of`, or CounterFact's id of the relation."""
    target: str
    """The right answer without surrounding blanks, such as `football`."""
    alternatives: tuple[str, ...] = ()
    """Wrong answers; the first is the one to inject."""
    prompts: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Texts from the data, by format (`standard`, `paraphrase`, `neighborhood`, `mcq`); empty if
    prompts are made by templates."""


def inject(facts: Sequence[Fact], pool: Sequence[str], seed: int) -> tuple[Fact, ...]:
    """Add alternatives to facts without any: a random wrong answer first.

    It is drawn uniformly from `pool` or, if `pool` is empty, from the right answers of all facts
    with the same relation, and is never the fact's own. In a closed relation (at most `FEW`
    answers) the other answers follow.

    Raises UserError if no other answer exists.
    """
    rng = np.random.default_rng(seed)
    answers: dict[str, dict[str, None]] = {}
    for fact in facts:
        answers.setdefault(fact.relation, {})[fact.target] = None
    out = []
    for fact, draw in zip(facts, rng.random(len(facts)), strict=True):
        if fact.alternatives:
            out.append(fact)
            continue
        known = sorted(answers[fact.relation])
        wrong = [answer for answer in pool or known if answer != fact.target]
        if not wrong:
            raise UserError(
                f"the fact of {fact.subject!r} has no wrong answer to inject: all facts with the "
                f"relation {fact.relation!r} have the answer {fact.target!r}. Name others in "
                "`facts.inject`, or give each fact `alternatives`."
            )
        first = wrong[int(draw * len(wrong))]
        rest = [answer for answer in known if answer not in (first, fact.target)]
        rest = rest if len(known) <= FEW else []
        out.append(dataclasses.replace(fact, alternatives=(first, *rest)))
    return tuple(out)
