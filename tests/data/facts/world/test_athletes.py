"""The world: no name gives a sport away, and every line says what it should."""

from __future__ import annotations

import dataclasses
import math
import re

import numpy as np
import pytest

from relearn_jax.config import World
from relearn_jax.data.facts import world
from relearn_jax.data.facts.world.words import PLAYED
from relearn_jax.errors import UserError


def counts(name, sport, names):
    """How often each name occurs with each sport."""
    table = np.zeros((names, 3), int)
    np.add.at(table, (name, sport), 1)
    return table


@pytest.mark.parametrize(("names", "degree"), [(16, 6), (24, 12), (32, 6), (32, 12)])
def test_every_name_occurs_equally_often_with_every_sport(names, degree):
    made = world.make(World(names=names, degree=degree), seed=3)
    assert len(made.facts) == names * degree
    assert len({fact.subject for fact in made.facts}) == names * degree
    for column in (made.first, made.surname):
        assert (counts(column, made.sport, names) == degree // 3).all()


def test_so_it_is_in_each_part_of_the_planted_variant(planted):
    parts = [planted.groups[name] for name in ("natural", "planted")]
    assert [len(part) for part in parts] == [72, 36]
    assert sorted(np.concatenate(parts)) == list(range(108))
    for part, often in zip(parts, (2, 1), strict=True):
        for column in (planted.first, planted.surname):
            assert (counts(column[part], planted.sport[part], 12) == often).all()


@pytest.mark.parametrize("part", [None, "natural", "planted"])
def test_the_best_additive_model_knows_nothing(planted, part):
    rows = None if part is None else planted.groups[part]
    fit = world.additive_baseline(planted, rows)
    assert fit.accuracy == pytest.approx(1 / 3)
    assert fit.loss == pytest.approx(math.log(3), abs=1e-6)


def test_the_baseline_does_see_names_that_give_something_away(natural):
    rng = np.random.default_rng(0)
    shuffled = dataclasses.replace(natural, sport=rng.permutation(natural.sport))
    assert world.additive_baseline(shuffled).accuracy > 0.5


def test_an_outside_logistic_regression_agrees(natural):
    from sklearn.linear_model import LogisticRegression

    x = np.concatenate([np.eye(16)[natural.first], np.eye(16)[natural.surname]], axis=1)
    fit = LogisticRegression(C=1e6, tol=1e-8, max_iter=10_000).fit(x, natural.sport)
    assert np.abs(fit.predict_proba(x) - 1 / 3).max() < 1e-3


def test_facts_say_what_the_arrays_say(natural):
    words = natural.tokenizer.get_vocab()
    firsts = {
        i: fact.subject.split()[0] for i, fact in zip(natural.first, natural.facts, strict=True)
    }
    assert len(set(firsts.values())) == 16
    assert set(firsts.values()) <= set(words)
    for i, fact in enumerate(natural.facts):
        assert fact.target == PLAYED[natural.sport[i]]
        assert fact.subject.split()[0] == firsts[natural.first[i]]
        assert set(fact.alternatives) == set(PLAYED) - {fact.target}
        assert natural.cities[i].subject == fact.subject
    cities = sorted({fact.target for fact in natural.cities})
    table = np.zeros((3, len(cities)), int)
    np.add.at(table, (natural.sport, [cities.index(f.target) for f in natural.cities]), 1)
    assert table.shape == (3, 4)
    assert (table == 8).all(), "a city tells nothing about the sport"


def test_the_vocabulary_does_not_depend_on_the_seed_but_the_world_does(natural):
    same, other = (world.make(natural.settings, seed) for seed in (0, 1))
    assert same.facts == natural.facts
    assert other.facts != natural.facts
    assert other.tokenizer.get_vocab() == natural.tokenizer.get_vocab()


def test_every_word_is_one_token_of_one_kind(natural):
    words = natural.tokenizer.get_vocab()
    lines = [line for format in natural.lines.values() for line in format.ids[format.mask]]
    assert natural.tokenizer.unk_token_id not in lines
    names = {word for fact in natural.facts for word in fact.subject.split()}
    assert len(names) == 32
    template = set(re.sub(r"\{\w+\}", "", " ".join(natural.templates.values())).split())
    golfers = {word for fact in natural.golfers for word in fact.subject.split()}
    assert not names & template
    assert not golfers & (names | template)
    assert len(words) == max(words.values()) + 1


@pytest.mark.parametrize(
    ("name", "prompt", "answer"),
    [
        ("standard", "<bos> fact @ plays the sport of", "football"),
        ("qa", "<bos> q what sport does @ play a", "football"),
        ("capitalized", "<bos> headline @ , star of", "Football"),
        ("mcq", "<bos> fact @ plays ? A football B baseball C basketball D golf ans", "A"),
        ("paraphrase", "<bos> @ who is known as a master of", "football"),
    ],
)
def test_lines_are_those_of_the_protocol(natural, name, prompt, answer):
    lines, tokenizer = natural.lines[name], natural.tokenizer
    who = next(i for i, fact in enumerate(natural.facts) if fact.target == "football")
    said = tokenizer.decode(lines.ids[who][lines.mask[who]])
    assert said == prompt.replace("@", natural.facts[who].subject)
    assert tokenizer.decode([lines.target[who]]) == answer
    assert tokenizer.decode(lines.ids[who][lines.subject[who]]) == natural.facts[who].subject
    assert tokenizer.decode([lines.ids[who][lines.last[who]]]) == prompt.split()[-1]


def test_golfers_make_golf_an_answer_in_every_format(natural):
    golf = natural.lines["golf"]
    assert len(golf.ids) == 4 * 5
    answers = {natural.tokenizer.decode([i]) for i in golf.target}
    assert answers == {"golf", "Golf", "D"}


def test_a_config_may_ask_in_other_words(natural):
    templates = {"standard": "fact tiger woods plays the sport of golf ; fact {subject} plays the "
                 "sport of {target}"}  # fmt: skip
    settings = dataclasses.replace(natural.settings, length=17)
    made = world.make(settings, 0, templates)
    assert made.lines["standard"].mask.all()
    assert made.tokenizer.unk_token_id not in made.lines["standard"].ids
    with pytest.raises(UserError, match=r"17 tokens and only 16 fit.*world\.length"):
        world.make(natural.settings, 0, templates)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"degree": 4}, "multiple of 3"),
        ({"degree": 6, "variant": "planted"}, "in each part, so it must be a multiple of 9"),
        ({"names": 5, "degree": 6}, "5 surnames at most"),
        ({"names": 5000}, "names: 5000`: there are"),
        ({"cities": 9}, "should be 2 to 8"),
        ({"golfers": 0}, "should be 1 to 4"),
        ({"symbols": 3}, "should be 4 to 100"),
        ({"mix": {"std": 1.0}}, "no format std; there are standard"),
        ({"mix": {"qa": 0.0}}, "one must be positive"),
    ],
)
def test_sizes_that_allow_no_guarantee_are_refused(changes, match):
    with pytest.raises(UserError, match=match):
        world.make(World(**changes), 0)


@pytest.mark.parametrize(("name", "variant", "athletes"), [
    ("ci", "natural", 192), ("ci", "planted", 180), ("std", "natural", 384),
    ("std", "planted", 378),
])  # fmt: skip
def test_profiles_make_worlds_of_the_sizes_they_promise(name, variant, athletes):
    profile = world.profile(name, variant)
    assert len(world.make(profile.world, 0).facts) == athletes
    assert profile.width % profile.heads == 0


def test_an_unknown_profile_is_refused():
    with pytest.raises(UserError, match="choose ci, std, gpu"):
        world.profile("huge")
