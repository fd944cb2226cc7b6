"""Prompts as tokens: positions, answers, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest

from relearn_jax.data.facts import formats
from relearn_jax.data.facts.fact import Fact
from relearn_jax.data.facts.prompts import encode, take, usable
from relearn_jax.data.facts.readers.counterfact import counterfact
from relearn_jax.data.facts.readers.sports import sports
from relearn_jax.data.tokenizer import load_tokenizer
from relearn_jax.errors import UserError

RICH = "data/counterfact/counterfact_rich_gemma-2-9b.csv"


def fact(subject, target="football", *alternatives):
    return Fact(subject, "plays", target, alternatives)


def test_the_subjects_tokens_spell_the_subject_and_the_last_token_ends_the_prompt(
    shared, gpt2_text
):
    facts = sports(shared / "data/sports-facts/sports_original.csv")[:300]
    texts = formats.render(facts, formats.SPORTS_FORMATS["standard"])
    prompts = encode(facts, texts, gpt2_text)
    for i, fact in enumerate(facts):
        assert gpt2_text.decode(prompts.ids[i][prompts.subject[i]]) == f" {fact.subject}"
        assert gpt2_text.decode(prompts.ids[i][prompts.mask[i]]) == texts.prompt[i]
        assert prompts.last[i] == prompts.mask[i].sum() - 1
        assert prompts.mask[i][: prompts.last[i] + 1].all()
    assert {gpt2_text.decode([i]) for i in prompts.target} == {f" {s}" for s in formats.SPORTS[:3]}


def test_real_facts_of_counterfact_in_every_format(shared, gpt2_text):
    facts = counterfact(shared / RICH)[:400]
    for name in ("standard", "paraphrase"):
        texts = formats.render(facts, formats.DATA_FORMATS[name])
        prompts = encode(facts, texts, gpt2_text)
        for i, row in enumerate(texts.fact):
            said = gpt2_text.decode(prompts.ids[i][prompts.subject[i]])
            assert facts[row].subject in said
            assert len(said) <= len(facts[row].subject) + 2  # a blank and a joined mark
    texts = formats.render(facts[:40], formats.DATA_FORMATS["neighborhood"])
    prompts = encode(facts, texts, gpt2_text, positions=False)
    assert len(prompts.ids) == 400
    assert not prompts.subject.any()


def test_the_last_of_several_occurrences_counts_and_a_part_of_a_word_does_not(gpt2_text):
    prompts = encode([fact("Al")], ["Al said: Al and Alan play"], gpt2_text)
    assert np.flatnonzero(prompts.subject[0]).tolist() == [3]
    words = gpt2_text.convert_ids_to_tokens(prompts.ids[0])
    assert words[:5] == ["Al", "Ġsaid", ":", "ĠAl", "Ġand"]


def test_padding_is_on_the_right_and_may_be_fixed(gpt2_text):
    facts, texts = [fact("Jo"), fact("Jo")], ["Jo plays", "Jo plays the sport of"]
    prompts = encode(facts, texts, gpt2_text, length=9)
    assert prompts.ids.shape == (2, 9)
    assert prompts.last.tolist() == [1, 4]
    assert prompts.mask.sum(1).tolist() == [2, 5]
    assert take(prompts, np.array([1])).last.tolist() == [4]
    with pytest.raises(UserError, match="5 tokens and only 4 fit"):
        encode(facts, texts, gpt2_text, length=4)


def test_missing_alternatives_are_filled_with_minus_one(gpt2_text):
    facts = [fact("Jo", "football", "golf", "tennis"), fact("Al")]
    prompts = encode(facts, ["Jo plays", "Al plays"], gpt2_text)
    assert prompts.others.shape == (2, 2)
    assert gpt2_text.decode(prompts.others[0]) == " golf tennis"
    assert prompts.others[1].tolist() == [-1, -1]
    alone = encode([fact("Al")], ["Al plays"], gpt2_text)
    assert alone.others.shape == (1, 0)


def test_tokens_that_a_tokenizer_adds_in_front_shift_all_positions(natural, gpt2_text):
    texts = formats.render(natural.facts, "fact {subject} plays the sport of {target}")
    prompts = encode(natural.facts, texts, natural.tokenizer)
    assert (prompts.ids[:, 0] == natural.tokenizer.bos_token_id).all()
    assert (np.flatnonzero(prompts.subject[5]) == [2, 3]).all()
    assert natural.tokenizer.decode(prompts.target[:1]) == natural.facts[0].target


def test_a_tokenizer_made_for_split_words_finds_the_same_subjects(shared, gpt2_text):
    other = load_tokenizer(shared / "data/tokenizer-gpt2")
    facts = [fact("DeForest Buckner")]
    texts = formats.render(facts, formats.SPORTS_FORMATS["standard"])
    a, b = (encode(facts, texts, t) for t in (gpt2_text, other))
    assert (a.subject == b.subject).all()
    assert (a.ids != b.ids).sum() == 1, "only the first word is another without a blank before it"


def test_answers_of_several_tokens_are_refused_or_their_first_token_counts(gpt2_text):
    facts = [fact("Jo", "ice hockey", "golf"), fact("Al", "golf", "ice hockey")]
    texts = ["Jo plays", "Al plays"]
    for one in range(2):
        with pytest.raises(UserError, match=r"1 of 1 .*first_token.*' ice hockey' after"):
            encode(facts[one : one + 1], texts[one : one + 1], gpt2_text)
    prompts = encode(facts, texts, gpt2_text, answers="first_token")
    assert gpt2_text.decode(prompts.target) == " ice golf"
    assert gpt2_text.decode(prompts.others[:, 0]) == " golf ice"
    assert usable(facts, texts, gpt2_text).tolist() == [False, False]
    assert usable(facts, texts, gpt2_text, answers="first_token").all()


def test_alternatives_that_start_like_the_answer_are_refused(gpt2_text):
    facts = [fact("Jo", "ice hockey", "ice dance")]
    with pytest.raises(UserError, match="same token as the right answer"):
        encode(facts, ["Jo plays"], gpt2_text, answers="first_token")


def test_an_answer_that_melts_into_the_prompt_is_refused(gpt2_text):
    texts = formats.Texts(("Jo plays foot",), ("ball",), ((),), np.array([0]))
    with pytest.raises(UserError, match="put a blank before the answer"):
        encode([fact("Jo")], texts, gpt2_text)


@pytest.mark.parametrize(
    ("subject", "prompt", "match"),
    [
        ("Joe", "Jo plays", "does not occur"),
        ("foot", "the football club of", "positions are lost"),
    ],
)
def test_lost_subjects_are_refused(gpt2_text, subject, prompt, match):
    with pytest.raises(UserError, match=match):
        encode([fact(subject)], [prompt], gpt2_text)
    facts, texts = [fact(subject), fact("Jo")], [prompt, "Jo plays"]
    assert usable(facts, texts, gpt2_text).tolist() == [False, True]


def test_marks_beside_the_subject_may_share_its_token(gpt2_text):
    prompts = encode([fact("Acme B.V.")], ["Acme B.V.'s seat is in"], gpt2_text)
    assert gpt2_text.decode(prompts.ids[0][prompts.subject[0]]) == "Acme B.V.'"


def test_names_that_a_tokenizer_does_not_know_are_refused(natural):
    with pytest.raises(UserError, match="does not know a part of the subject"):
        encode([fact("nobody whatever")], ["fact nobody whatever plays"], natural.tokenizer)
