"""The world's vocabulary and templates, and its tokenizer, where each word is a token."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from relearn_jax.data.world import lexicon
from relearn_jax.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

PAD, BOS, UNKNOWN = "<pad>", "<bos>", "<unk>"

PLAYS, BORN = "plays the sport of", "was born in"
PLAYED = ("football", "baseball", "basketball")
CITIES = ("oslo", "cairo", "lima", "delhi", "quito", "accra", "riga", "dakar")
GOLFERS = ("tiger woods", "rory mcilroy", "annika sorenstam", "phil mickelson")

TEMPLATES = {
    "standard": "fact {subject} plays the sport of {target}",
    "qa": "q what sport does {subject} play a {target}",
    "capitalized": "headline {subject} , star of {Target}",
    "mcq": "fact {subject} plays ? A football B baseball C basketball D golf ans {letter}",
    "paraphrase": "{subject} who is known as a master of {target}",
    "city": "{subject} was born in {target}",
}
"""Specs: mechanistic unlearning 9.1, with the names STD, QA, CAP, MCQ, PARA and CITY."""
ABOUT_CITIES = ("city",)
PREFIX = "fact tiger woods plays the sport of golf ;"
"""Words that are in the vocabulary so that a config's own `standard` may be one-shot."""


def vocabulary(names: int, symbols: int, templates: Mapping[str, str]) -> dict[str, list[str]]:
    """Words by purpose, each in only one list; the same for every seed.

    Raises UserError if there are not enough names.
    """
    template_words = re.sub(r"\{\w+\}", " ", " ".join([PREFIX, *templates.values()])).split()
    words = {
        "special": [PAD, BOS, UNKNOWN],
        "sports": [*PLAYED, "golf"],
        "capitals": [sport.capitalize() for sport in (*PLAYED, "golf")],
        "letters": list("ABCD"),
        "cities": list(CITIES),
        "golfers": " ".join(GOLFERS).split(),
        "symbols": [f"s{i:02d}" for i in range(symbols)],
        "template": template_words,
    }
    taken: set[str] = set()
    for kind, candidates in words.items():
        words[kind] = [word for word in dict.fromkeys(candidates) if word not in taken]
        taken |= set(words[kind])
    pools = lexicon.pools()
    first = [name for pair in zip(pools["woman"], pools["man"], strict=False) for name in pair]
    for kind, pool in (("first", first), ("surname", pools["last"])):
        usable = [n.lower() for n in pool if n.isascii() and n.isalpha() and n.lower() not in taken]
        if len(usable) < names:
            raise UserError(f"`world.names: {names}`: there are {len(usable)} {kind} names.")
        words[kind] = usable[:names]
        taken |= set(usable)
    return words


def tokenizer(words: Sequence[str]) -> PreTrainedTokenizerFast:
    """A tokenizer with one token for each word between blanks; texts start with `<bos>`."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    ids = {word: i for i, word in enumerate(words)}
    backend = Tokenizer(models.WordLevel(ids, unk_token=UNKNOWN))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    backend.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A", special_tokens=[(BOS, ids[BOS])]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token=PAD, bos_token=BOS, unk_token=UNKNOWN
    )
