"""Reading of a config's `Facts` from any source, as facts with their formats."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Int

from relearn_jax import config
from relearn_jax.data.corpus import digest
from relearn_jax.data.facts import formats
from relearn_jax.data.facts.fact import Fact, inject
from relearn_jax.data.facts.prompts import Prompts, encode, usable
from relearn_jax.data.facts.readers.counterfact import counterfact
from relearn_jax.data.facts.readers.sports import sports
from relearn_jax.data.facts.readers.table import table
from relearn_jax.data.facts.splits import Split, split
from relearn_jax.data.facts.world import World, make
from relearn_jax.data.readers.files import locate
from relearn_jax.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast


@dataclass(frozen=True, eq=False)
class FactData:
    """Facts, their prompt formats, and their split into facts to forget and to retain."""

    settings: config.Facts
    facts: tuple[Fact, ...]
    formats: Mapping[str, str]
    """Format name -> template."""
    split: Split
    tokenizer: PreTrainedTokenizerFast
    source: str
    """A description in one line."""
    digest: str
    """SHA-256 (hex) of facts and formats."""
    options: tuple[str, ...] = ()
    """The choices of multiple-choice prompts; empty: each fact's own answers."""
    others: Mapping[str, tuple[Fact, ...]] = field(default_factory=dict)
    """Other facts of the same subjects, by format (the world's `city`)."""
    world: World | None = None


def read(
    settings: config.Facts, base: Path, tokenizer: PreTrainedTokenizerFast | None = None
) -> FactData:
    """The facts that `settings` describe; relative paths start at `base`.

    Every fact has an alternative: the data's own, or one drawn by `settings.seed`.

    Args:
      settings: see the schema.
      base: the config's folder.
      tokenizer: the model's tokenizer (`load_tokenizer` with `words=False`); None for the built-in
        world, which has its own.

    Raises:
      UserError: invalid files, formats and splits; unusable facts, unless they are dropped.
    """
    if settings.kind == "world":
        return _world(settings)
    if tokenizer is None:
        raise ValueError(f"facts of kind {settings.kind} need the model's tokenizer")
    path = locate(settings.path, base, "path")
    options, defaults = settings.options, formats.DATA_FORMATS
    if settings.kind == "sports":
        facts, defaults = sports(path), formats.SPORTS_FORMATS
        options = options or formats.SPORTS
    elif settings.kind == "counterfact":
        questions = locate(settings.questions, base, "questions") if settings.questions else None
        facts = counterfact(path, settings.min_probability, questions)
    else:
        facts = table(path)
    templates = formats.formats(settings, defaults, facts)
    if not templates:
        raise UserError(
            f"{path}: no text and no template asks for these facts. Give the table a column "
            "`prompt`, or set `facts.formats`, for example {standard: 'The capital of {subject} is "
            "{target}'}."
        )
    source = f"{path}: {len(facts)} facts"
    drop = settings.unusable == "drop"
    if drop:
        # Before wrong answers are drawn, so that no fact gets an answer that the tokenizer cannot
        # spell.
        spelled_out = {n: t for n, t in templates.items() if not t.endswith("{letter}")}
        facts = _usable(facts, spelled_out, options, tokenizer, settings.answers)
    facts = inject(facts, settings.inject, settings.seed)
    if drop:
        facts = _usable(facts, templates, options, tokenizer, settings.answers)
        source += f", of which the tokenizer can ask for {len(facts)}"
    return FactData(
        settings=settings,
        facts=facts,
        formats=templates,
        split=split(facts, settings.split, settings.seed),
        tokenizer=tokenizer,
        source=source,
        digest=_digest(facts, templates),
        options=options,
    )


def ask(
    data: FactData, rows: Int[np.ndarray, " n"], name: str, length: int | None = None
) -> tuple[Prompts, Int[np.ndarray, " B"]]:
    """Prompts of the facts `rows` in one format, and the fact of each (index into all facts).

    Raises UserError for an unknown format, and as `formats.render` and `prompts.encode` do.
    """
    if name not in data.formats:
        raise UserError(
            f"there is no format `{name}`; there are {', '.join(data.formats)}. Add it to "
            "`facts.formats`."
        )
    facts = [data.others.get(name, data.facts)[i] for i in rows]
    texts = formats.render(
        facts, data.formats[name], data.options, _examples(data), data.settings.seed, name
    )
    prompts = encode(
        facts,
        texts,
        data.tokenizer,
        answers=data.settings.answers,
        positions=name not in formats.OTHER_SUBJECTS,
        length=length,
    )
    return prompts, np.asarray(rows)[texts.fact]


def _examples(data: FactData) -> list[Fact]:
    """The solved examples: the same for every prompt, so that all are equally hard."""
    rng = np.random.default_rng(data.settings.seed)
    count = min(data.settings.shots, len(data.split.examples))
    return [data.facts[i] for i in rng.choice(data.split.examples, count, replace=False)]


def _usable(
    facts: Sequence[Fact],
    templates: Mapping[str, str],
    options: Sequence[str],
    tokenizer: PreTrainedTokenizerFast,
    answers: str,
) -> tuple[Fact, ...]:
    """The facts with usable prompts in every format."""
    usable_facts = np.ones(len(facts), bool)
    for name, template in templates.items():
        # Examples do not change answers or positions, and are chosen later.
        texts = formats.render(facts, template.replace("{shots}", ""), options, name=name)
        positions = name not in formats.OTHER_SUBJECTS
        usable_prompts = usable(facts, texts, tokenizer, answers=answers, positions=positions)
        np.logical_and.at(usable_facts, texts.fact, usable_prompts)
    if not usable_facts.any():
        raise UserError(
            f"`facts.unusable: drop` leaves none of {len(facts)} facts; set `refuse` to see why."
        )
    return tuple(fact for fact, keep in zip(facts, usable_facts, strict=True) if keep)


def _world(settings: config.Facts) -> FactData:
    if settings.path:
        raise UserError(
            "`facts.path`: kind world has no file; choose another `facts.kind`, or leave it out."
        )
    world = make(settings.world, settings.seed, settings.formats)
    facts_of = {name: world.facts_of(name) for name in world.templates}
    return FactData(
        settings=settings,
        facts=world.facts,
        formats=world.templates,
        split=split(world.facts, settings.split, settings.seed, world.groups),
        tokenizer=world.tokenizer,
        source=f"built-in world, {settings.world.variant}, seed {settings.seed}: "
        f"{len(world.facts)} athletes",
        digest=_digest((*world.facts, *world.cities), world.templates),
        options=settings.options or formats.SPORTS,
        others={name: facts for name, facts in facts_of.items() if facts is not world.facts},
        world=world,
    )


def _digest(facts: Sequence[Fact], templates: Mapping[str, str]) -> str:
    return digest(
        [
            [f.subject, f.relation, f.target, f.alternatives, *sorted(f.prompts.items())]
            for f in facts
        ],
        sorted(templates.items()),
    )
