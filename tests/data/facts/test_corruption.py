"""Partners: equal in length and frame, different in what they tell."""

from __future__ import annotations

import numpy as np
import pytest

from relearn_jax.data.facts import formats
from relearn_jax.data.facts.corruption import check_pair, partnered, randomized, swapped
from relearn_jax.data.facts.fact import Fact, inject
from relearn_jax.data.facts.prompts import encode, take
from relearn_jax.data.facts.readers.sports import sports
from relearn_jax.errors import UserError


@pytest.fixture(scope="module")
def facts(shared):
    return inject(sports(shared / "data/sports-facts/sports_original.csv")[:600], (), 0)


@pytest.fixture(scope="module")
def prompts(facts, gpt2_text):
    return encode(facts, formats.render(facts, formats.SPORTS_FORMATS["qa"]), gpt2_text)


def around(prompts):
    return np.where(prompts.subject, -1, prompts.ids)


def test_a_partner_is_another_fact_with_another_answer_in_the_same_frame(facts, prompts):
    clean = take(prompts, partnered(prompts))
    corrupt = swapped(clean, seed=0)
    check_pair(clean, corrupt)
    assert (corrupt.target != clean.target).all()
    assert (corrupt.subject == clean.subject).all()
    assert (around(corrupt) == around(clean)).all()
    rows = {ids.tobytes(): target for ids, target in zip(prompts.ids, prompts.target, strict=True)}
    assert [rows[ids.tobytes()] for ids in corrupt.ids] == corrupt.target.tolist()
    assert (swapped(clean, seed=0).ids == corrupt.ids).all()
    assert (swapped(clean, seed=1).ids != corrupt.ids).any()


def test_partners_are_drawn_uniformly_from_those_that_fit(natural):
    prompts = natural.lines["standard"]
    drawn = np.stack([swapped(prompts, seed).ids[0] for seed in range(600)])
    kinds, counts = np.unique(drawn, axis=0, return_counts=True)
    fitting = (prompts.target != prompts.target[0]).sum()
    assert len(kinds) == fitting == 64
    assert counts.max() < 3 * 600 / fitting


def test_a_larger_pool_serves_prompts_that_have_no_partner_among_themselves(prompts):
    few = take(prompts, np.arange(12))
    assert not partnered(few).all()
    with pytest.raises(UserError, match=r"have no partner.*pool.*partnered"):
        swapped(few, seed=0)
    able = partnered(few, prompts)
    corrupt = swapped(take(few, able), seed=0, pool=prompts)
    check_pair(take(few, able), corrupt)


def test_a_pool_may_be_padded_to_another_length(prompts, facts, gpt2_text):
    texts = formats.render(facts, formats.SPORTS_FORMATS["qa"])
    wider = encode(facts, texts, gpt2_text, length=prompts.ids.shape[1] + 5)
    clean = take(prompts, partnered(prompts))
    for pool in (prompts, wider):
        corrupt = swapped(clean, 3, pool)
        assert corrupt.ids.shape == clean.ids.shape
        assert (around(corrupt)[clean.mask] == around(clean)[clean.mask]).all()


def test_facts_that_are_asked_in_other_words_are_no_partners(gpt2_text):
    facts = [Fact("Jo", "r", "golf"), Fact("Al", "r", "tennis")]
    prompts = encode(facts, ["Jo plays the", "Al plays a"], gpt2_text)
    assert not partnered(prompts).any()


@pytest.mark.parametrize("source", ["gpt2", "world"])
def test_random_subjects_encode_to_what_they_are_and_to_the_same_length(
    source, prompts, natural, gpt2_text
):
    clean, tokenizer = (
        (take(prompts, np.arange(60)), gpt2_text)
        if source == "gpt2"
        else (natural.lines["mcq"], natural.tokenizer)
    )
    corrupt = randomized(clean, tokenizer, seed=0)
    check_pair(clean, corrupt)
    assert (around(corrupt) == around(clean)).all()
    assert (corrupt.target == clean.target).all()
    assert ((corrupt.ids != clean.ids) & clean.subject).any(1).all()
    for ids, mask in zip(corrupt.ids, corrupt.mask, strict=True):
        text = tokenizer.decode(ids[mask], skip_special_tokens=True)
        assert text.isascii()
        assert tokenizer(text)["input_ids"] == ids[mask].tolist()
    assert (randomized(clean, tokenizer, seed=0).ids == corrupt.ids).all()


def test_no_draws_no_random_subject(prompts, gpt2_text):
    with pytest.raises(UserError, match="no random subject of as many tokens was found in 0 draws"):
        randomized(take(prompts, np.arange(3)), gpt2_text, 0, attempts=0)
    blind = prompts._replace(subject=np.zeros_like(prompts.subject))
    with pytest.raises(UserError, match="positions=True"):
        randomized(blind, gpt2_text, 0)


def test_clean_and_corrupt_of_different_length_are_refused(prompts):
    lengths = prompts.mask.sum(1)
    other = take(prompts, np.argsort(lengths))
    with pytest.raises(UserError, match=r"differ in length \(row \d+: \d+ and \d+ tokens"):
        check_pair(prompts, other)
    with pytest.raises(UserError, match="3 corrupt ones"):
        check_pair(prompts, take(prompts, np.arange(3)))
