"""Splits: sizes as published, and nothing in two parts."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from relearn_jax.config import FactSplit
from relearn_jax.data.facts.fact import Fact
from relearn_jax.data.facts.readers.counterfact import counterfact
from relearn_jax.data.facts.readers.sports import sports
from relearn_jax.data.facts.splits import key, split
from relearn_jax.errors import UserError

SPORTS = ("football", "baseball", "basketball")
FACTS = [Fact(f"subject {i}", "plays", SPORTS[i % 3]) for i in range(30)]


def sizes(parts):
    return [len(part) for part in parts]


@pytest.fixture(scope="module")
def athletes(shared):
    return sports(shared / "data/sports-facts/sports_original.csv")


def test_the_published_sizes_of_sports_facts(athletes):
    parts = split(athletes, FactSplit(forget="first_64"), 0)
    assert sizes(parts) == [64, 0, 1196, 299, 0]
    assert athletes[parts.forget[0]].subject == "DeForest Buckner"
    assert parts.measured is parts.forget
    parts = split(athletes, FactSplit(forget="basketball", mode="split"), 0)
    assert sizes(parts) == [245, 245, 855, 214, 0]
    assert {athletes[i].target for i in (*parts.forget, *parts.held_out)} == {"basketball"}
    assert parts.measured is parts.held_out


@pytest.mark.parametrize("order", ["file", "random"])
@pytest.mark.parametrize("mode", ["unsplit", "split"])
@pytest.mark.parametrize("forget", ["first_9", "7", "football", "chosen"])
def test_parts_are_disjoint_and_hold_everything(order, mode, forget):
    settings = FactSplit(forget=forget, mode=mode, order=order, examples=2)
    parts = split(FACTS, settings, 0, {"chosen": np.array([3, 4, 5, 20])})
    assert sorted(np.concatenate(parts)) == list(range(30))
    assert (len(parts.held_out) > 0) == (mode == "split")


def test_file_order_keeps_order_and_random_order_follows_the_seed():
    parts = split(FACTS, FactSplit(forget="first_6", mode="split", retain=10), 0)
    assert parts.forget.tolist() == [0, 1, 2]
    assert parts.held_out.tolist() == [3, 4, 5]
    assert parts.retain.tolist() == list(range(6, 16))
    shuffled = FactSplit(forget="first_6", order="random")
    draws = [split(FACTS, shuffled, seed).forget.tolist() for seed in (1, 1, 2)]
    assert draws[0] == draws[1] != draws[2]


def test_relations_can_be_forgotten():
    facts = [dataclasses.replace(f, relation=f"P{i % 2}") for i, f in enumerate(FACTS)]
    assert (split(facts, FactSplit(forget="P1"), 0).forget % 2 == 1).all()


@pytest.mark.parametrize(
    "subject", ["Subject  0", "SUBJECT 0", "súbject 0", "subject 0.", "subject\u00a00"]
)
def test_a_subject_in_two_parts_is_leakage_however_it_is_written(subject):
    facts = [*FACTS[:-1], dataclasses.replace(FACTS[-1], subject=subject)]
    settings = FactSplit(forget="first_4")
    with pytest.raises(UserError, match=r"leakage: 1 facts .* \(retain_test, fact 30, and forget"):
        split(facts, settings, 0)
    parts = split(facts, dataclasses.replace(settings, overlap="drop"), 0)
    assert 29 not in np.concatenate(parts)
    assert 0 in parts.forget


@pytest.mark.parametrize("name", ["standard", "paraphrase"])
def test_a_prompt_in_two_parts_is_leakage(name):
    facts = list(FACTS)
    for i in (0, 1, 25):
        facts[i] = dataclasses.replace(facts[i], prompts={name: ("the same text",)})
    with pytest.raises(UserError, match="leakage: 1 facts"):
        split(facts, FactSplit(forget="first_4"), 0)
    with pytest.raises(UserError, match=r"held_out, fact 2, and forget, fact 1"):
        split(facts, FactSplit(forget="first_2", mode="split"), 0)
    facts = [dataclasses.replace(f, prompts={"neighborhood": ("the same",)}) for f in FACTS]
    assert sizes(split(facts, FactSplit(forget="first_4"), 0)) == [4, 0, 20, 6, 0]


def test_counterfact_repeats_subjects_and_loses_them_if_asked_to(shared):
    facts = counterfact(shared / "data/counterfact/counterfact_rich_gemma-2-9b.csv")
    settings = FactSplit(forget="first_64", examples=64)
    with pytest.raises(UserError, match=r"New Nintendo 3DS.*overlap: drop"):
        split(facts, settings, 0)
    parts = split(facts, dataclasses.replace(settings, overlap="drop"), 0)
    subjects = [{key(facts[i].subject) for i in part} for part in parts if len(part)]
    assert sum(map(len, subjects)) == len(set.union(*subjects))


def test_subjects_of_marks_alone_keep_them():
    assert key("!!!") != key("???")


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        (FactSplit(forget="first_30"), "some must be retained"),
        (FactSplit(forget="first_0"), "some must be retained"),
        (FactSplit(forget="tennis"), "no fact has this answer.*football"),
        (FactSplit(forget="first_29"), r"retain is empty"),
        (FactSplit(forget="first_4", retain=0), "retain is empty"),
        (FactSplit(forget="first_4", retain=26), "retain_test is empty"),
        (FactSplit(forget="first_1", mode="split"), "held_out is empty"),
        (FactSplit(forget="plays"), "retain is empty"),
        (FactSplit(examples=30), r"split\.examples: 30"),
    ],
)
def test_empty_and_unknown_parts_say_what_to_do(settings, match):
    with pytest.raises(UserError, match=match):
        split(FACTS, settings, 0)
