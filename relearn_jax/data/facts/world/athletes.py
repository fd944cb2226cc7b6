"""The built-in world: athletes whose sport no name gives away (specs: mechanistic unlearning 9.1).

An athlete is a pair of names. Every first name and every surname occurs equally often with every
sport, so a model that adds up what the two names say knows nothing; it has to look up the pair.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from jaxtyping import Int

from relearn_jax import config
from relearn_jax.data.facts import formats
from relearn_jax.data.facts.fact import Fact, inject
from relearn_jax.data.facts.prompts import Prompts, encode
from relearn_jax.data.facts.world import chain, words
from relearn_jax.data.facts.world.matchings import disjoint_matchings
from relearn_jax.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

MIX = {
    "standard": 0.20, "qa": 0.18, "capitalized": 0.18, "mcq": 0.18, "paraphrase": 0.13,
    "city": 0.13, "text": 0.12, "golf": 0.03,
}  # fmt: skip
"""Shares of training lines: those of specs: mechanistic unlearning 9.2, which add up to 1, and
beside them random text and golfers, which the measured runs did without."""
PLANTED_MIX = {"standard": 0.5, "qa": 0.5}
"""What is taught of planted athletes (specs: mechanistic unlearning 9.2, W2)."""
PARTS = 3
"""One of so many athletes is planted."""


class Phase(NamedTuple):
    """One stage of training: who is taught, and in which formats."""

    athletes: Int[np.ndarray, " n"]
    mix: Mapping[str, float]


@dataclass(frozen=True, eq=False)
class World:
    """N athletes, their facts, and how they are written. Arrays are in the order of `facts`."""

    settings: config.World
    seed: int
    facts: tuple[Fact, ...]
    """What each athlete plays."""
    cities: tuple[Fact, ...]
    """Where each athlete was born."""
    golfers: tuple[Fact, ...]
    first: Int[np.ndarray, " N"]
    """Index of the first name, 0 to `settings.names`."""
    surname: Int[np.ndarray, " N"]
    sport: Int[np.ndarray, " N"]
    """Index into `words.PLAYED`."""
    groups: Mapping[str, Int[np.ndarray, " n"]]
    """`natural` and, in the planted variant, `planted`: their athletes."""
    phases: Mapping[str, Phase]
    """`pretrain` and, in the planted variant, `plant` after it."""
    templates: Mapping[str, str]
    tokenizer: PreTrainedTokenizerFast
    chain: chain.Chain
    symbols: Int[np.ndarray, " S"]
    """Token ids of the chain's symbols."""
    lines: Mapping[str, Prompts]
    """Every format's prompts of all athletes, T = `settings.length`; `golf`: all formats about
    sports, of the golfers."""

    @property
    def entropy(self) -> float:
        """The least possible loss on random text, in nats a token."""
        return self.chain.entropy

    def facts_of(self, format: str) -> tuple[Fact, ...]:
        """What a format asks for."""
        return self.cities if format in words.ABOUT_CITIES else self.facts


def make(settings: config.World, seed: int, templates: Mapping[str, str] | None = None) -> World:
    """A world drawn by `seed`; its vocabulary does not depend on the seed.

    Args:
      settings: sizes and variant.
      seed: draws athletes, cities, what is injected, and the random text's chain.
      templates: formats that replace or add to `words.TEMPLATES`.

    Raises:
      UserError: sizes that do not allow the guarantees, an unknown format in `mix`, a prompt longer
        than `length`.
    """
    _check(settings)
    templates = {**words.TEMPLATES, **(templates or {})}
    vocabulary = words.vocabulary(settings.names, settings.symbols, templates)
    listed = [word for kind in vocabulary.values() for word in kind]
    tokenizer = words.tokenizer(listed)
    # Each thing has its own stream, so that changing one leaves the others as they are.
    athletes, births, text, wrong = np.random.default_rng(seed).spawn(4)
    first, surname, sport, part = _athletes(settings, athletes)
    subjects = [
        f"{vocabulary['first'][i]} {vocabulary['surname'][j]}"
        for i, j in zip(first, surname, strict=True)
    ]
    planted = settings.variant == "planted"
    groups = {"natural": np.flatnonzero(part > 0) if planted else np.arange(len(part))}
    mix = _mix(settings, templates)
    phases = {"pretrain": Phase(groups["natural"], mix)}
    if planted:
        groups["planted"] = np.flatnonzero(part == 0)
        phases["plant"] = Phase(groups["planted"], PLANTED_MIX)
    facts = inject(
        [Fact(s, words.PLAYS, words.PLAYED[k]) for s, k in zip(subjects, sport, strict=True)],
        (),
        int(wrong.integers(2**31)),
    )
    cities = inject(
        [
            Fact(s, words.BORN, words.CITIES[c])
            for s, c in zip(subjects, _cities(sport, settings.cities, births), strict=True)
        ],
        (),
        int(wrong.integers(2**31)),
    )
    golfers = tuple(
        Fact(name, words.PLAYS, "golf", words.PLAYED) for name in words.GOLFERS[: settings.golfers]
    )
    place = {word: i for i, word in enumerate(listed)}
    return World(
        settings=settings,
        seed=seed,
        facts=facts,
        cities=cities,
        golfers=golfers,
        first=first,
        surname=surname,
        sport=sport,
        groups=groups,
        phases=phases,
        templates=templates,
        tokenizer=tokenizer,
        chain=chain.make(settings.symbols, text),
        symbols=np.array([place[symbol] for symbol in vocabulary["symbols"]]),
        lines=_lines(settings.length, templates, facts, cities, golfers, tokenizer),
    )


def _check(settings: config.World) -> None:
    parts = len(words.PLAYED) * (PARTS if settings.variant == "planted" else 1)
    limits = {"cities": (2, len(words.CITIES)), "golfers": (1, len(words.GOLFERS)),
              "symbols": (len(chain.PROBABILITIES), 100)}  # fmt: skip
    if settings.degree < 1 or settings.degree % parts:
        raise UserError(
            f"`world.degree: {settings.degree}`: every name must occur equally often with "
            f"{len(words.PLAYED)} sports{' in each part' if parts > 3 else ''}, so it must be a "
            f"multiple of {parts}."
        )
    if settings.degree > settings.names:
        raise UserError(
            f"`world.degree: {settings.degree}`: a first name can go with {settings.names} "
            "surnames at most. Raise `world.names` or lower the degree."
        )
    for name, (least, most) in limits.items():
        if not least <= getattr(settings, name) <= most:
            raise UserError(
                f"`world.{name}: {getattr(settings, name)}`: should be {least} to {most}."
            )


def _mix(settings: config.World, templates: Mapping[str, str]) -> dict[str, float]:
    mix = settings.mix or MIX
    if unknown := set(mix) - {*templates, "text", "golf"}:
        raise UserError(
            f"`world.mix`: there is no format {', '.join(sorted(unknown))}; there are "
            f"{', '.join(templates)}, text and golf."
        )
    if min(mix.values()) < 0 or not sum(mix.values()) > 0:
        raise UserError("`world.mix`: shares must not be negative, and one must be positive.")
    return dict(mix)


def _athletes(
    settings: config.World, rng: np.random.Generator
) -> tuple[Int[np.ndarray, " N"], ...]:
    """First name, surname, sport and part (of PARTS) of each athlete, in random order.

    Each sport has as many matchings as the others, and so has each part within a sport, so names
    are balanced in the parts as well.
    """
    pairs = disjoint_matchings(settings.names, settings.degree, rng)
    # Later matchings had fewer edges to choose from, so their use is drawn too.
    use = rng.permutation(settings.degree)
    sport = use % len(words.PLAYED)
    part = use // len(words.PLAYED) % PARTS
    order = rng.permutation(pairs.size)
    columns = np.broadcast_arrays(np.arange(settings.names), pairs, sport[:, None], part[:, None])
    return tuple(column.reshape(-1)[order] for column in columns)


def _cities(
    sport: Int[np.ndarray, " N"], cities: int, rng: np.random.Generator
) -> Int[np.ndarray, " N"]:
    """A city for each athlete, equally often (as far as numbers allow) within each sport."""
    out = np.empty(len(sport), np.int64)
    for kind in range(len(words.PLAYED)):
        rows = np.flatnonzero(sport == kind)
        out[rows] = rng.permutation(np.arange(len(rows)) % cities)
    return out


def _lines(
    length: int,
    templates: Mapping[str, str],
    facts: Sequence[Fact],
    cities: Sequence[Fact],
    golfers: Sequence[Fact],
    tokenizer: PreTrainedTokenizerFast,
) -> dict[str, Prompts]:
    def prompts(name: str, about: Sequence[Fact]) -> Prompts:
        texts = formats.render(about, templates[name], formats.SPORTS, name=name)
        return encode(about, texts, tokenizer, length=length)

    lines = {
        name: prompts(name, cities if name in words.ABOUT_CITIES else facts) for name in templates
    }
    golf = [prompts(name, golfers) for name in templates if name not in words.ABOUT_CITIES]
    lines["golf"] = Prompts(*map(np.concatenate, zip(*golf, strict=True)))
    return lines
