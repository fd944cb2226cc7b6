"""The verdict: damage is said first, then a failed edit, then what is hidden; removal must show."""

from __future__ import annotations

import numpy as np
import pytest

from relearn_jax.evaluation import removal
from relearn_jax.evaluation.removal import Behaviour
from relearn_jax.evaluation.shares import UNKNOWN, Share


def at(value, width=0.05):
    return Share(value, value - width, value + width)


GONE = Behaviour(
    kept=at(1.0), kept_elsewhere=at(1.0), text=0.0, questions=UNKNOWN, still=at(0.0),
    leak=at(0.0), recovery=at(0.0), unrelated=at(0.0), rounded=at(0.0),
)  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "verdict"),
    [
        ({}, "removed"),
        ({"kept": at(0.5)}, "damaged"),
        ({"kept": at(0.5), "still": at(1.0)}, "damaged"),
        ({"kept_elsewhere": at(0.7)}, "damaged"),
        ({"text": 0.2}, "damaged"),
        ({"questions": at(0.7)}, "damaged"),
        ({"still": at(0.6)}, "not edited"),
        ({"still": at(0.6), "recovery": at(1.0)}, "not edited"),
        ({"leak": at(0.3)}, "hidden"),
        ({"recovery": at(0.6)}, "hidden"),
        ({"rounded": at(0.6)}, "hidden"),
        ({"rounded": UNKNOWN}, "removed"),
        ({"unrelated": at(0.6)}, "hidden"),
        ({"leak": at(-0.2), "recovery": at(-0.1)}, "removed"),
        # What an interval does not show is not said.
        ({"kept": at(0.85, 0.1)}, "removed"),
        ({"kept": at(0.85, 0.2)}, "unclear"),
        ({"recovery": at(0.25, 0.2)}, "removed"),
        ({"recovery": at(0.3, 0.3)}, "unclear"),
        ({"still": at(0.4, 0.3)}, "unclear"),
    ],
)
def test_verdicts(changes, verdict):
    assert removal.behaviour(GONE._replace(**changes)).verdict == verdict


def test_a_void_attack_says_nothing_about_removal():
    reason = removal.behaviour(GONE._replace(recovery=UNKNOWN))
    assert reason.verdict == "unclear"
    assert "attack" in reason.reason


@pytest.mark.parametrize(
    ("readable", "verdict"),
    [(at(0.9), "hidden"), (at(0.0), "removed"), (at(0.3, 0.3), "unclear"), (UNKNOWN, "unclear")],
)
def test_inside(readable, verdict):
    assert removal.inside(readable).verdict == verdict


@pytest.mark.parametrize(
    ("answers", "inside", "verdict"),
    [
        ("removed", "removed", "removed"),
        ("removed", "hidden", "hidden"),
        ("removed", "unclear", "unclear"),
        ("hidden", "removed", "hidden"),
        ("damaged", "hidden", "damaged"),
        ("not edited", "hidden", "not edited"),
        ("unclear", "hidden", "hidden"),
        ("unclear", "removed", "unclear"),
    ],
)
def test_a_fact_is_removed_if_both_readings_say_so(answers, inside, verdict):
    readings = (removal.Reason(word, word) for word in (answers, inside))
    assert removal.verdict(*readings).verdict == verdict


def test_the_printed_rule_names_every_limit():
    rule = " ".join(removal.rule())
    for limit in (removal.KEPT, removal.KEPT_ELSEWHERE, removal.BACK, removal.READABLE):
        assert f"{limit.shown:.0%}" in rule
        assert f"{limit.excluded:.0%}" in rule
    assert np.isclose(removal.TEXT, 0.1)
