"""A fact, and the wrong answers to it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from relearn_jax.errors import UserError

FEW = 8
"""A relation with at most so many answers is a closed question: all of them are alternatives."""


@dataclass(frozen=True)
class Fact:
    """One subject, one relation, one right answer."""

    subject: str
    """`DeForest Buckner`."""
    relation: str
    """`plays the sport of`, or CounterFact's id of the relation."""
    target: str
    """The right answer, without blanks around it: `football`."""
    alternatives: tuple[str, ...] = ()
    """Wrong answers; the first is the one to inject."""
    prompts: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Texts that the data themselves bring, by format (`standard`, `paraphrase`, `neighborhood`,
    `mcq`); empty where templates make them."""


def inject(facts: Sequence[Fact], pool: Sequence[str], seed: int) -> tuple[Fact, ...]:
    """Facts with alternatives: where there are none, one is drawn, and comes first.

    Drawn uniformly from `pool` or, if that is empty, from the right answers of all facts with the
    same relation, never the fact's own. The relation's other answers follow if they are few.

    Raises UserError if a fact's answer is the only one there is.
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
