"""The built-in world: athletes whose names do not predict their sport.

Specs: mechanistic unlearning 9.1. An athlete is a pair of names. Every first name and every surname
occurs equally often with every sport, so a model that adds evidence from the two names is at
chance; it must look up the pair.
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
"""Shares of training lines: the shares of specs: mechanistic unlearning 9.2, which add up to 1, and
random text and golfers, which the measured runs did not have."""
PLANTED_MIX = {"standard": 0.5, "qa": 0.5}
"""Shares of training lines about planted athletes (specs: mechanistic unlearning 9.2, W2)."""
PARTS = 3
"""One athlete in `PARTS` is planted."""


class Phase(NamedTuple):
    """A phase of training: the athletes to teach, and the shares of formats."""

    athletes: Int[np.ndarray, " n"]
    mix: Mapping[str, float]


@dataclass(frozen=True, eq=False)
class World:
    """N athletes, their facts, and their prompts. Arrays are in the order of `facts`."""

    settings: config.World
    seed: int
    facts: tuple[Fact, ...]
    """The sport of each athlete."""
    cities: tuple[Fact, ...]
    """The birthplace of each athlete."""
    golfers: tuple[Fact, ...]
    first: Int[np.ndarray, " N"]
    """Index of the first name, 0 to `settings.names`."""
    surname: Int[np.ndarray, " N"]
    sport: Int[np.ndarray, " N"]
    """Index into `words.PLAYED`."""
    groups: Mapping[str, Int[np.ndarray, " n"]]
    """Athletes by group: `natural` and, in the planted variant, `planted`."""
    phases: Mapping[str, Phase]
    """Phases by name: `pretrain` and, in the planted variant, `plant` after it."""
    templates: Mapping[str, str]
    tokenizer: PreTrainedTokenizerFast
    chain: chain.Chain
    symbols: Int[np.ndarray, " S"]
    """Token ids of the chain's symbols."""
    lines: Mapping[str, Prompts]
    """Prompts of all athletes by format, T = `settings.length`; `golf` has the golfers' prompts in
    all formats about sports."""

    @property
    def entropy(self) -> float:
        """The least possible loss on random text, in nats a token."""
        return self.chain.entropy

    def facts_of(self, format: str) -> tuple[Fact, ...]:
        """The facts that a format asks for."""
        return self.cities if format in words.ABOUT_CITIES else self.facts


def make(settings: config.World, seed: int, templates: Mapping[str, str] | None = None) -> World:
    """A world drawn by `seed`; its vocabulary does not depend on the seed.

    Args:
      settings: sizes and variant.
      seed: draws athletes, cities, injected answers, and the chain of the random text.
      templates: formats that replace or add to `words.TEMPLATES`.

    Raises:
      UserError: sizes that do not allow a balanced design, an unknown format in `mix`, a prompt
        longer than `length`.
    """
    _check(settings)
    templates = {**words.TEMPLATES, **(templates or {})}
    vocabulary = words.vocabulary(settings.names, settings.symbols, templates)
    listed = [word for kind in vocabulary.values() for word in kind]
    tokenizer = words.tokenizer(listed)
    # Separate random streams, so that a change of one draw leaves the others unchanged.
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

    All sports have equally many matchings, and so have all parts within a sport, so names are also
    balanced within the parts.
    """
    pairs = disjoint_matchings(settings.names, settings.degree, rng)
    # Later matchings had fewer edges to choose from, so matchings are assigned at random.
    use = rng.permutation(settings.degree)
    sport = use % len(words.PLAYED)
    part = use // len(words.PLAYED) % PARTS
    order = rng.permutation(pairs.size)
    columns = np.broadcast_arrays(np.arange(settings.names), pairs, sport[:, None], part[:, None])
    return tuple(column.reshape(-1)[order] for column in columns)


def _cities(
    sport: Int[np.ndarray, " N"], cities: int, rng: np.random.Generator
) -> Int[np.ndarray, " N"]:
    """A city for each athlete; within each sport, cities are as equally frequent as possible."""
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
