"""Templates: what is asked, and what may answer."""

from __future__ import annotations

import dataclasses

import pytest

from relearn_jax import config
from relearn_jax.data.facts import formats
from relearn_jax.data.facts.fact import Fact
from relearn_jax.errors import UserError

BUCKNER = Fact("DeForest Buckner", "plays", "football", ("basketball", "baseball"))
FRENCH = Fact(
    "Danielle Darrieux",
    "P103",
    "French",
    ("English", "Dutch", "Thai"),
    {"standard": ("The mother tongue of Danielle Darrieux is",), "mcq": ("What is it?",),
     "paraphrase": ("Well. Danielle Darrieux, a native", "Danielle Darrieux spoke")},
)  # fmt: skip


def sports(name):
    return formats.render([BUCKNER], formats.SPORTS_FORMATS[name], formats.SPORTS)


def test_the_published_sports_prompts_to_the_letter():
    assert sports("standard").prompt == (
        "Fact: Tiger Woods plays the sport of golf\nFact: DeForest Buckner plays the sport of",
    )
    assert sports("qa").prompt == (
        "You are a helpful chatbot that answers questions about athletes. Please be maximally "
        "helpful and factually correct. Question: What sport does Tiger Woods play? Answer: golf\n"
        "Question: What sport does DeForest Buckner play? Answer:",
    )
    assert sports("mcq").prompt == (
        "You are a helpful chatbot that answers questions about athletes. Please be maximally "
        "helpful and factually correct.\nQuestion: What sport does Tiger Woods play?\nA: Football\n"
        "B: Baseball\nC: Basketball\nD: Golf\n\nAnswer: D\n\nQuestion: What sport does DeForest "
        "Buckner play?\nA: Football\nB: Baseball\nC: Basketball\nD: Golf\n\nAnswer:",
    )


def test_the_published_training_prompt_is_that_of_the_data(shared):
    import csv

    path = shared / "data/sports-facts/sports_original.csv"
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    facts = [Fact(row["athlete"], "plays", row["sport"]) for row in rows]
    texts = formats.render(facts, formats.SPORTS_FORMATS["standard"])
    assert list(texts.prompt) == [row["prompt"] for row in rows]


@pytest.mark.parametrize(
    ("name", "answer", "others"),
    [
        ("standard", " football", (" basketball", " baseball")),
        ("capitalized", " Football", (" Basketball", " Baseball")),
        ("mcq", " A", (" C", " B")),
        ("mcq_plain", " A", (" C", " B")),
    ],
)
def test_answers_are_spelled_as_the_format_asks_the_injected_one_first(name, answer, others):
    texts = sports(name)
    assert (texts.answer, texts.others) == ((answer,), (others,))


def test_data_texts_make_one_prompt_each_and_facts_without_make_none():
    texts = formats.render([BUCKNER, FRENCH], formats.DATA_FORMATS["paraphrase"])
    assert texts.prompt == FRENCH.prompts["paraphrase"]
    assert texts.fact.tolist() == [1, 1]
    assert texts.answer == (" French", " French")


def test_own_choices_are_shuffled_alike_whatever_facts_are_beside():
    template = formats.DATA_FORMATS["mcq"].replace("{shots}", "")
    many = [Fact(f"s{i}", "r", "a", ("b", "c", "d", "unused"), {"mcq": ("?",)}) for i in range(400)]
    texts = formats.render(many, template, seed=1)
    again = [dataclasses.replace(fact) for fact in many[7:9]]
    assert formats.render(again, template, seed=1).prompt == texts.prompt[7:9]
    assert formats.render(many, template, seed=2).prompt != texts.prompt
    counts = [texts.answer.count(f" {letter}") for letter in "ABCD"]
    assert sum(counts) == 400
    assert min(counts) > 60
    for prompt, answer in zip(texts.prompt, texts.answer, strict=True):
        assert f"\n{answer.strip()}. a\n" in prompt
        assert "unused" not in prompt


def test_shots_are_solved_in_the_same_format():
    example = Fact("X", "P1", "w", ("x", "y", "z"), {"mcq": ("Why {so}?",)})
    texts = formats.render([FRENCH], formats.DATA_FORMATS["mcq"], examples=[example])
    shot, asked = texts.prompt[0].split("\n\nHelp me", 1)
    assert shot.startswith("Help me answer the following multiple choice question:\n\nWhy {so}?")
    solved = next(line[0] for line in shot.split("\n") if line.endswith(". w"))
    assert shot.endswith(f"Answer: {solved}")
    assert asked.endswith("A, B, C, or D. Answer:")


def test_choices_and_literal_braces():
    texts = formats.render([BUCKNER], "{{{subject}}}\n{choices}\nAnswer: {letter}", formats.SPORTS)
    assert texts.prompt == (
        "{DeForest Buckner}\nA: Football\nB: Baseball\nC: Basketball\nD: Golf\nAnswer:",
    )


@pytest.mark.parametrize(
    ("template", "match"),
    [
        ("{subject} plays", "ends with its answer"),
        ("{target} of {subject} is {target}", r"\{target\} may stand at the end only"),
        ("{subjct} plays {target}", r"did you mean \{subject\}"),
        ("{subject plays {target}", "literal braces"),
        ("{standard} {paraphrase} {target}", "one text"),
        ("{shots}{subject} {target}", r"facts\.split\.examples"),
        ("{A} {B} {C} {D} {E} {subject} {letter}", "one answer for each letter"),
    ],
)
def test_bad_templates_say_what_is_wrong(template, match):
    with pytest.raises(UserError, match=match):
        formats.render([FRENCH], template, name="mine")


def test_options_that_lack_the_answer_and_texts_that_no_fact_has_are_refused():
    with pytest.raises(UserError, match="must hold its answer 'football'"):
        formats.render([BUCKNER], "{subject} {letter}", ("golf", "tennis"))
    with pytest.raises(UserError, match="no fact has a text"):
        formats.render([], "{subject} {target}")


def test_formats_are_the_kinds_for_which_there_is_text_and_the_configs():
    settings = config.Facts(formats={"mine": "{subject} {target}", "paraphrase": ""})
    found = formats.formats(settings, formats.DATA_FORMATS, [BUCKNER, FRENCH])
    assert set(found) == {"standard", "mcq", "mine"}
