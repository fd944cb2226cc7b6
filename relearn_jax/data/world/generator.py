"""The built-in text: English sentences with PER, LOC, ORG and MISC entities, from a grammar.

A name may be a person in one sentence and a city or a club in the next, so words alone do not tell
its type. Names are divided among the splits, except ambiguous names, which occur in all splits. The
names are in `lexicon`, the sentences in `templates` and `words`.
"""

from __future__ import annotations

import random
import re
import zlib
from collections.abc import Iterator
from functools import cache
from typing import NamedTuple

from relearn_jax.data.world import lexicon, templates, words
from relearn_jax.errors import UserError

SPLITS = ("train", "dev", "test")

SHARES = {"train": 0.55, "dev": 0.13, "test": 0.32}
"""Share of each pool of names, by split."""
OWNERS = {4: "test", 7: "dev", 9: "test"}
"""Last digit of a template's position in its theme -> the only split that uses it."""
OWN_TEMPLATES_SHARE = 0.35
"""Share of dev and test sentences from templates that no other split uses."""
PLAIN_SHARE = 0.16
"""Share of sentences without an entity."""
AMBIGUOUS_SHARE = 0.5
"""Share of ambiguous names in draws from a pool that has any."""
LOWER_SHARE = 0.15
"""Share of lower-case sentences in the informal themes."""
JOINED_SHARE = 0.15
"""Share of sentences that join two statements, in themes that allow it."""
JOINTS = ((",", "while"), (",", "and"), (";",))
LONGEST = 32
"""Largest number of words of two joined statements."""
ATTEMPTS = 50
"""Number of draws before a repeated sentence is accepted."""


class Choice(NamedTuple):
    """A choice among sequences with equal probability; repeated sequences are more likely."""

    options: tuple[tuple, ...]


class Entity(NamedTuple):
    """A named entity: a choice among name patterns, with its type."""

    type: str
    pattern: Choice


class Pool(NamedTuple):
    """A placeholder for a name, or part of a name, from the split's pool."""

    name: str


class Template(NamedTuple):
    """A compiled sentence; its parts are words (`str`), Choice, Entity or Pool."""

    sentence: Choice
    theme: str
    statement: bool
    """Whether it ends with a full stop and may be joined to another statement."""


class Names(NamedTuple):
    """The names of one split, by pool: its own names and the ambiguous names."""

    own: dict[str, tuple[tuple[str, ...], ...]]
    ambiguous: dict[str, tuple[tuple[str, ...], ...]]


def generate(
    sentences: int, split: str, seed: int
) -> tuple[tuple[tuple[str, ...], ...], tuple[tuple[str, ...], ...]]:
    """Words and IOB2 tags of generated sentences.

    The first n sentences do not depend on the number of sentences. Within a split no sentence
    occurs twice unless the grammar is exhausted. Raises UserError for an unknown split or a
    negative number.
    """
    if split not in SPLITS:
        raise UserError(f"The built-in text has no split `{split}`; choose {', '.join(SPLITS)}.")
    if sentences < 0:
        raise UserError(f"`sentences: {sentences}`: give a number of sentences, 0 or more.")
    # Only `random()` is used, the only method whose stream Python promises to keep.
    rng = random.Random(f"{split} {seed}")
    names = _names(split)
    seen: set[tuple[str, ...]] = set()
    pairs = []
    for _ in range(sentences):
        plain = rng.random() < PLAIN_SHARE
        for _ in range(ATTEMPTS):
            words, tags = _sentence(_draw_template(split, plain, rng), names, rng)
            if words not in seen:
                break
        seen.add(words)
        pairs.append((words, tags))
    return tuple(words for words, _ in pairs), tuple(tags for _, tags in pairs)


def _pick(options: tuple, rng: random.Random):
    return options[int(rng.random() * len(options))]


def _draw_template(split: str, plain: bool, rng: random.Random) -> Template:
    shared, own = _templates(split, plain)
    return _pick(own if own and rng.random() < OWN_TEMPLATES_SHARE else shared, rng)


def _sentence(
    template: Template, names: Names, rng: random.Random
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    words: list[str] = []
    tags: list[str] = []
    used: set[tuple[str, ...]] = set()
    _expand((template.sentence,), "", names, rng, words, tags, used)
    statements = _statements(template.theme) if template.statement else ()
    other = _pick(statements, rng) if statements and rng.random() < JOINED_SHARE else template
    if other != template:
        second = list(_pick(JOINTS, rng))
        second_tags = ["O"] * len(second)
        _expand((other.sentence,), "", names, rng, second, second_tags, used)
        if len(words) + len(second) <= LONGEST:
            words[-1:], tags[-1:] = second, second_tags
    for i in range(len(words) - 1):
        if words[i] == "a" and _takes_an(words[i + 1]):
            words[i] = "an"
    if template.theme in templates.INFORMAL and rng.random() < LOWER_SHARE:
        return tuple(word.lower() for word in words), tuple(tags)
    # Opening quotation marks and list numbers have no letter to capitalize.
    first = next(i for i, word in enumerate(words) if word[0].isalpha())
    words[first] = words[first][0].upper() + words[first][1:]
    return tuple(words), tuple(tags)


def _expand(
    parts: tuple,
    entity: str,
    names: Names,
    rng: random.Random,
    words: list[str],
    tags: list[str],
    used: set[tuple[str, ...]],
) -> None:
    """Append the words and tags of `parts`; `entity` is the type of the surrounding entity."""
    for part in parts:
        if isinstance(part, str):
            words.append(part)
            tags.append(f"I-{entity}" if entity else "O")
        elif isinstance(part, Choice):
            _expand(_pick(part.options, rng), entity, names, rng, words, tags, used)
        elif isinstance(part, Pool):
            name = _draw_name(part.name, names, rng, used)
            words.extend(name)
            tags.extend([f"I-{entity}"] * len(name))
        else:
            start = len(tags)
            _expand((part.pattern,), part.type, names, rng, words, tags, used)
            tags[start] = f"B-{part.type}"


def _draw_name(
    pool: str, names: Names, rng: random.Random, used: set[tuple[str, ...]]
) -> tuple[str, ...]:
    """A name that is not yet in the sentence, unless a few draws fail to find one."""
    for _ in range(10):
        shared = names.ambiguous.get(pool, ())
        own = names.own.get(pool, ())
        ambiguous = bool(shared) and (not own or rng.random() < AMBIGUOUS_SHARE)
        name = _pick(shared if ambiguous else own, rng)
        if name not in used:
            break
    used.add(name)
    return name


def _takes_an(word: str) -> bool:
    lower = word.lower()
    return lower[0] in "aeiou" and not lower.startswith(("uni", "eu", "one", "use", "uganda", "uk"))


def _parse(tokens: Iterator[str]) -> Choice:
    """Parse options up to the closing bracket (or the end); `3:` repeats an option three times."""
    options: list[list] = [[]]
    weights = [1]
    for token in tokens:
        if token == "]":
            break
        if token == "[":
            options[-1].append(_parse(tokens))
        elif token == "|":
            options.append([])
            weights.append(1)
        elif token[0] == "{":
            options[-1].append(_slot(token[1:-1]))
        elif re.fullmatch(r"\d:", token):
            weights[-1] = int(token[0])
        else:
            options[-1].append(token)
    return Choice(
        tuple(
            tuple(option)
            for option, weight in zip(options, weights, strict=True)
            for _ in range(weight)
        )
    )


def _compile(text: str) -> Choice:
    """Compile the notation of `templates`; a template is a choice with one option."""
    return _parse(iter(re.findall(r"\{\w+\}|[\[\]|]|\b\d:(?=\S)|[^\s\[\]|]+", text)))


@cache
def _slot(name: str) -> Choice | Entity | Pool:
    """The rule, entity or pool of `{name}`."""
    if name in lexicon.ENTITIES:
        type_, patterns = lexicon.ENTITIES[name]
        return Entity(type_, _compile(patterns))
    if name in words.WORDS:
        return _compile(words.WORDS[name])
    return Pool(name)


@cache
def _templates(split: str, plain: bool) -> tuple[tuple[Template, ...], tuple[Template, ...]]:
    """Templates that all splits use, and templates of this split only (none for train)."""
    themes = {"plain": words.PLAIN} if plain else templates.THEMES
    shared, exclusive = [], []
    for theme, text in themes.items():
        for place, line in enumerate(re.sub(r"\n\s+", " ", text.strip()).split("\n")):
            owner = OWNERS.get(place % 10, "")
            if owner in ("", split):
                statement = line.endswith(" .") and not re.search(r'^[\d"]| : ', line)
                template = Template(_compile(line), theme, statement)
                (exclusive if owner else shared).append(template)
    return tuple(shared), tuple(exclusive)


@cache
def _statements(theme: str) -> tuple[Template, ...]:
    """Statements of all splits that may follow another statement of this theme."""
    if theme not in templates.JOINED:
        return ()
    shared, _ = _templates("train", plain=False)
    return tuple(t for t in shared if t.theme == theme and t.statement)


@cache
def _division() -> dict[str, str]:
    """Split of each name. Pools are divided by SHARES; a name in two pools has one split."""
    home: dict[str, str] = {}
    for names in sorted(lexicon.pools().values(), key=len):
        count = dict.fromkeys(SPLITS, 0)
        for name in names:
            if name in home:
                count[home[name]] += 1
        for name in sorted(names, key=lambda name: zlib.crc32(name.encode())):
            if name not in home:
                home[name] = min(SPLITS, key=lambda split: (count[split] + 0.5) / SHARES[split])
                count[home[name]] += 1
    return home


@cache
def _names(split: str) -> Names:
    """The pools of a split. Half of dev's names are also in train, the others are only in dev."""
    home = _division()
    own = {}
    for pool, names in lexicon.pools().items():
        of_split = [name for name in names if home[name] == split]
        if split == "dev":
            of_split += [name for name in names if home[name] == "train"][: len(of_split)]
        own[pool] = tuple(tuple(name.split()) for name in of_split)
    ambiguous = {
        role: tuple(tuple(name.split()) for name in names)
        for role, names in lexicon.roles().items()
    }
    return Names(own, ambiguous)
