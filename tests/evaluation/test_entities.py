"""Entity scores against seqeval itself, on random tags and on the odd cases."""

from __future__ import annotations

import numpy as np
import pytest
from seqeval.metrics import accuracy_score, classification_report

from relearn_jax.evaluation import entities

TAGS = ("O", "B-LOC", "I-LOC", "B-ORG", "I-ORG", "B-PER", "I-PER")


def compare(gold, found):
    names = [[[TAGS[i] for i in s] for s in side] for side in (gold, found)]
    theirs = classification_report(*names, output_dict=True, zero_division=0)
    ours = {r["type"]: r for r in entities.score(gold, found, TAGS)}
    for kind, name in (("all", "micro avg"), *((t, t) for t in entities.tag_types(TAGS))):
        for key, ourkey in (("precision", "precision"), ("recall", "recall"), ("f1-score", "f1")):
            if name in theirs:
                assert ours[kind][ourkey] == pytest.approx(theirs[name][key]), (kind, key)
        if name in theirs:
            assert ours[kind]["support"] == theirs[name]["support"]
    assert ours["all"]["accuracy"] == pytest.approx(accuracy_score(*names))


@pytest.mark.parametrize("seed", range(8))
def test_random_tags_score_as_in_seqeval(seed):
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, 12, 30)
    gold = [rng.integers(0, len(TAGS), n) for n in lengths]
    found = [
        np.where(rng.random(len(g)) < 0.6, g, rng.integers(0, len(TAGS), len(g))) for g in gold
    ]
    compare(gold, found)


@pytest.mark.parametrize(
    ("gold", "found"),
    [
        ([[1, 2]], [[2, 2]]),  # I- after nothing starts an entity
        ([[1, 1]], [[1, 2]]),  # B- after B- of the same type is a new one
        ([[1, 4]], [[1, 3]]),  # a change of type ends one and starts another
        ([[1], [2]], [[1], [2]]),  # entities do not reach over sentences
        ([[0, 0]], [[0, 0]]),
        ([[1, 2, 2]], [[1, 2, 0]]),
    ],
)
def test_odd_cases_score_as_in_seqeval(gold, found):
    if any(any(s) for s in gold):
        compare([np.array(s) for s in gold], [np.array(s) for s in found])
    else:
        record = entities.score([np.array(s) for s in gold], [np.array(s) for s in found], TAGS)[0]
        assert (record["f1"], record["support"], record["accuracy"]) == (0.0, 0, 1.0)
