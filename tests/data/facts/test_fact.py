"""Wrong answers: the data's own, or drawn."""

from __future__ import annotations

from collections import Counter

import pytest

from relearn_jax.data.facts.fact import FEW, Fact, inject
from relearn_jax.errors import UserError

SPORTS = ("football", "baseball", "basketball")


def athletes(count):
    return [Fact(f"a{i}", "plays", SPORTS[i % 3]) for i in range(count)]


def test_a_drawn_answer_is_wrong_comes_first_and_is_every_wrong_one_equally_often():
    facts = inject(athletes(3000), (), seed=0)
    for fact in facts:
        assert sorted((fact.target, *fact.alternatives)) == sorted(SPORTS)
    pairs = Counter((fact.target, fact.alternatives[0]) for fact in facts)
    assert len(pairs) == 6
    assert all(420 < count < 580 for count in pairs.values()), pairs


def test_the_seed_decides_and_a_longer_list_begins_alike():
    facts = athletes(40)
    assert inject(facts, (), 1) == inject(facts, (), 1) != inject(facts, (), 2)
    assert inject(athletes(60), (), 1)[:40] == inject(facts, (), 1)


def test_a_pool_replaces_the_answers_of_others():
    assert {fact.alternatives[0] for fact in inject(athletes(9), ("golf",), 0)} == {"golf"}


def test_own_alternatives_stay():
    fact = Fact("x", "r", "a", ("b", "c"))
    assert inject([fact], ("z",), 0) == (fact,)


def test_open_relations_have_the_injected_answer_alone():
    facts = [Fact(f"a{i}", "born in", f"city {i}") for i in range(FEW + 1)]
    assert {len(fact.alternatives) for fact in inject(facts, (), 0)} == {1}


def test_relations_do_not_mix_and_a_lone_answer_is_refused():
    facts = [*athletes(3), Fact("x", "speaks", "French")]
    with pytest.raises(UserError, match=r"'x' has no wrong answer.*speaks.*facts\.inject"):
        inject(facts, (), 0)
