"""Retraining texts, oracles, and the steps at which the task is scored."""

from __future__ import annotations

import numpy as np
import pytest

from relearn_jax import loading
from relearn_jax.experiments.concepts import chunks, plan, sets, setup, texts, training
from relearn_jax.experiments.concepts.sets import ConceptSet, Group


@pytest.fixture(scope="module")
def prepared(write_config):
    config = write_config(
        seeds=[0, 1], arms=["concept", "oracle"], sets={"texts": ["full", "without_concept", 5]}
    )
    return setup.prepare(loading.load(config), config.parent)


def has_target(tags):
    return any(tag[2:] == "LOC" for tag in tags)


def of(prepared, text, seed=0, arm="concept"):
    concept_set = ConceptSet(seed, Group("LOC", 0.5, None, "free", None, text), arm)
    return texts.retraining(prepared.config, prepared.texts, concept_set).corpus


def test_few_sentences_all_hold_the_concept_and_differ_by_seed(prepared):
    few, again, other = of(prepared, 5), of(prepared, 5, arm="oracle"), of(prepared, 5, seed=1)
    train = prepared.texts.train.corpus
    assert len(few.words) == 5
    assert all(map(has_target, few.tags))
    assert set(few.words) <= set(train.words)
    assert few.digest == again.digest, "the arms of a seed see the same sentences"
    assert few.digest != other.digest


def test_texts_of_a_group_are_those_that_it_names(prepared):
    assert of(prepared, "full") is prepared.texts.train.corpus
    assert not any(map(has_target, of(prepared, "without_concept").tags))


def test_an_oracle_never_sees_a_label_of_the_target(prepared):
    train, tags = prepared.texts.train, prepared.pretrained.model.labels
    hidden = texts.untaught(train, "LOC", tags)
    target = [i for i, tag in enumerate(tags) if tag[2:] == "LOC"]
    before, after = (np.concatenate(t.labels) for t in (train, hidden))
    assert np.isin(before, target).any()
    assert not np.isin(after, target).any()
    kept = ~np.isin(before, target)
    np.testing.assert_array_equal(after[kept], before[kept])
    assert (after[~kept] == -100).all()
    np.testing.assert_array_equal(hidden.encoded.ids[0], train.encoded.ids[0])


def test_groups_of_one_text_share_their_oracle(write_config):
    path = write_config(
        arms=["concept", "oracle"],
        sets={"fractions": [0.25, 0.5], "texts": ["full", 5], "rankings": ["probeless"]},
    )
    config = loading.load(path)
    unique = [sets.set_name(concept_set) for concept_set in sets.unique(config)]
    assert len(sets.product(config)) == 8
    assert unique == [
        "seed0-LOC-0.25-free-probeless-full-concept", "seed0-LOC-oracle-full",
        "seed0-LOC-0.25-free-probeless-5-concept", "seed0-LOC-oracle-5",
        "seed0-LOC-0.5-free-probeless-full-concept", "seed0-LOC-0.5-free-probeless-5-concept",
    ]  # fmt: skip
    assert len(chunks.untaught(config, 4)) == 1
    assert {sets.start_name(s) for s in sets.unique(config)} == {"seed0-base", "seed0-LOC-untaught"}


def test_chunks_keep_texts_and_oracles_apart(prepared):
    config = prepared.config
    for chunk in chunks.members(config, prepared.texts, 16):
        digests = {
            texts.retraining(config, prepared.texts, concept_set).corpus.digest
            for concept_set in chunk
        }
        assert len(digests) == 1
        assert len({concept_set.arm == "oracle" for concept_set in chunk}) == 1
    total = sum(map(len, chunks.members(config, prepared.texts, 16)))
    assert total == len(sets.unique(config)) == 12


def test_without_retraining_there_is_no_oracle(write_config):
    config = loading.load(write_config(arms=["concept", "oracle"]), ["retrain.rounds=0"])
    assert sets.arms(config) == ("concept",)


def test_a_round_of_steps_is_as_long_for_every_text(prepared, write_config):
    path = write_config(retrain={"rounds": 1, "steps": 8})
    config = loading.load(path)
    for text in {id(t): t for t in prepared.texts.retrain.values()}.values():
        steps = plan.round_steps(config, text)
        each = steps // texts.retraining_settings(config, text).epochs
        assert abs(steps - 8) <= each / 2 or steps == each


@pytest.mark.parametrize(
    ("changes", "number", "expected"),
    [
        ({}, 0, {4, 8, 12}),
        ({"scored_steps": [1, 3, 50]}, 1, {1, 3, 4, 8, 12}),
        ({"scored_steps": [1, 3, 50]}, 2, {4, 8, 12}),
        ({"scored_steps": [5], "steps": 12}, 1, {5, 12}),
        ({"scored_steps": [5], "steps": 12}, 2, {12}),
    ],
)
def test_the_task_is_scored_at_early_steps_and_ends_of_epochs(
    write_config, changes, number, expected
):
    settings = {"rounds": 2, "scored_steps": []} | changes
    config = loading.load(write_config(retrain=settings))
    assert training.evaluated(config, 4, 3, number) == expected
