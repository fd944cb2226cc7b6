"""The built-in text: valid, repeatable, balanced, and not solvable without context."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from functools import cache

import pytest
from seqeval.metrics import f1_score

from relearn_jax.data.world.generator import SPLITS, _templates, generate
from relearn_jax.data.world.lexicon import ENTITIES, ambiguous, pools, roles
from relearn_jax.data.world.templates import THEMES
from relearn_jax.data.world.words import PLAIN, WORDS
from relearn_jax.errors import UserError

TYPES = {"PER", "LOC", "ORG", "MISC"}


@cache
def sample(split: str, sentences: int = 20_000):
    return generate(sentences, split, seed=0)


def entities(words, tags):
    """(type, surface) of each entity, read by the IOB2 rules."""
    for sentence, labels in zip(words, tags, strict=True):
        for start, label in enumerate(labels):
            if label[0] == "B":
                end = start + 1
                while end < len(labels) and labels[end][0] == "I":
                    end += 1
                yield label[2:], " ".join(sentence[start:end])


def surfaces(split: str) -> set[str]:
    return {name.lower() for _, name in entities(*sample(split))}


def test_words_and_tags_have_one_shape_and_the_tags_are_valid_iob2():
    for split in SPLITS:
        for words, tags in zip(*sample(split), strict=True):
            assert len(words) == len(tags)
            assert all(word and not set(word) & set(" \t\n{}[]|_") for word in words)
            for before, tag in zip(("O", *tags), tags, strict=False):
                assert tag == "O" or (tag[:2] in ("B-", "I-") and tag[2:] in TYPES)
                assert tag[0] != "I" or before[2:] == tag[2:]


def test_the_same_arguments_give_the_same_text_and_a_shorter_run_is_a_prefix():
    words, tags = generate(300, "train", seed=7)
    assert (words, tags) == generate(300, "train", seed=7)
    assert (words[:120], tags[:120]) == generate(120, "train", seed=7)
    assert generate(0, "train", seed=7) == ((), ())


def test_seed_and_split_change_the_text():
    texts = {generate(50, split, seed)[0] for split in SPLITS for seed in range(3)}
    assert len(texts) == 9


def test_no_sentence_occurs_twice():
    for split in SPLITS:
        words, _ = sample(split)
        assert len(set(words[:5000])) == 5000
        assert len(set(words)) > 0.99 * len(words)


def test_names_of_train_and_test_are_disjoint_but_for_the_ambiguous_ones():
    shared = surfaces("train") & surfaces("test")
    known = {name.lower() for name in ambiguous()}
    assert shared
    assert not [name for name in shared if not known & set(name.split())]


def test_surnames_of_train_and_test_are_disjoint_but_for_the_ambiguous_ones():
    def last_words(split):
        return {
            name.lower().split()[-1] for type_, name in entities(*sample(split)) if type_ == "PER"
        }

    known = {name.lower() for name in ambiguous()}
    assert last_words("train") & last_words("test") <= known


def test_dev_has_names_of_train_and_names_of_its_own():
    own = surfaces("dev") - surfaces("train") - surfaces("test")
    known = {name.lower() for name in ambiguous()}
    from_train = {
        name for name in surfaces("dev") & surfaces("train") if not known & set(name.split())
    }
    assert len(own) > 500
    assert len(from_train) > 200


def test_every_ambiguous_name_has_at_least_two_types_in_every_split():
    for split in SPLITS:
        types = defaultdict(set)
        for type_, name in entities(*sample(split)):
            types[name].add(type_)
        assert not [name for name in ambiguous() if len(types[name]) < 2]


def test_every_type_has_between_12_and_40_percent_of_the_entities():
    for split in SPLITS:
        counts = Counter(type_ for type_, _ in entities(*sample(split)))
        assert set(counts) == TYPES
        assert all(0.12 < count / counts.total() < 0.40 for count in counts.values()), counts


def test_sentences_vary_in_length_and_some_have_no_entity_or_no_capitals():
    for split in SPLITS:
        words, tags = sample(split)
        lengths = Counter(map(len, words))
        assert min(lengths) <= 4
        assert 28 <= max(lengths) <= 34
        empty = sum(set(labels) == {"O"} for labels in tags) / len(tags)
        assert 0.14 < empty < 0.21
        lower = sum(sentence == tuple(map(str.lower, sentence)) for sentence in words) / len(words)
        assert 0.02 < lower < 0.10


def test_a_share_of_the_templates_belongs_to_test_alone():
    for plain in (False, True):
        shared, own = _templates("test", plain)
        train, none = _templates("train", plain)
        assert shared == train
        assert none == ()
        assert 0.15 < len(own) / len(shared + own) < 0.30
    assert len(_templates("train", False)[0]) + len(_templates("test", False)[1]) > 180


def test_every_rule_entity_and_pool_of_the_grammar_is_defined_and_used():
    def slots(*texts):
        return set(re.findall(r"\{(\w+)\}", " ".join(texts)))

    defined = set(WORDS) | set(ENTITIES) | set(pools()) | set(roles())
    patterns = [text for _, text in ENTITIES.values()]
    used = slots(PLAIN, *THEMES.values(), *WORDS.values(), *patterns)
    assert used == defined
    assert len(WORDS) + len(ENTITIES) + len(set(pools()) | set(roles())) == len(defined)


@pytest.mark.parametrize(("split", "highest"), [("train", 0.65), ("test", 0.25)])
def test_a_word_alone_does_not_tell_its_tag(split, highest):
    """The most frequent tag of each word in train, as a tagger.

    Its entity F1 is .56 on train itself, where every word is known, and .18 on test, where most
    names are new.
    """
    counts = defaultdict(Counter)
    for words, tags in zip(*sample("train"), strict=True):
        for word, tag in zip(words, tags, strict=True):
            counts[word.lower()][tag] += 1
    best = {word: count.most_common(1)[0][0] for word, count in counts.items()}
    words, gold = (part[:5000] for part in sample(split))
    guesses = [[best.get(word.lower(), "O") for word in sentence] for sentence in words]
    f1 = f1_score([list(tags) for tags in gold], guesses)
    assert 0.1 < f1 < highest


def test_an_unknown_split_and_a_negative_number_are_refused():
    with pytest.raises(UserError, match="no split `valid`"):
        generate(10, "valid", seed=0)
    with pytest.raises(UserError, match="sentences: -1"):
        generate(-1, "train", seed=0)
