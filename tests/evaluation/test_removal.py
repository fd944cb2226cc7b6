"""The verdict: damage is said first, then a failed edit, then what is hidden."""

from __future__ import annotations

import numpy as np
import pytest

from relearn_jax.evaluation import removal
from relearn_jax.evaluation.removal import Behaviour

GONE = Behaviour(
    kept=1.0, kept_elsewhere=1.0, text=0.0, still=0.0, leak=0.0, recovery=0.0, unrelated=0.0,
    rounded=0.0, questions=1.0,
)  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "verdict"),
    [
        ({}, "removed"),
        ({"kept": 0.5}, "damaged"),
        ({"kept": 0.5, "still": 1.0}, "damaged"),
        ({"kept_elsewhere": 0.7}, "damaged"),
        ({"text": 0.2}, "damaged"),
        ({"questions": 0.7}, "damaged"),
        ({"questions": np.nan}, "removed"),
        ({"still": 0.6}, "not edited"),
        ({"still": 0.6, "recovery": 1.0}, "not edited"),
        ({"leak": 0.3}, "hidden"),
        ({"recovery": 0.6}, "hidden"),
        ({"rounded": 0.6}, "hidden"),
        ({"rounded": np.nan}, "removed"),
        ({"unrelated": 0.6}, "hidden"),
        ({"leak": -0.2, "recovery": -0.1}, "removed"),
    ],
)
def test_verdicts(changes, verdict):
    assert removal.behaviour(GONE._replace(**changes)).verdict == verdict


def test_a_void_attack_says_nothing_about_removal():
    reason = removal.behaviour(GONE._replace(recovery=np.nan))
    assert reason.verdict != "removed"
    assert "attack" in reason.reason


def test_inside():
    assert removal.inside(0.9).verdict == "hidden"
    assert removal.inside(0.0).verdict == "removed"
