"""Concept sets: what a run removes, and from which base model; the product of a config's lists.

A *group* is what is removed (concept, share, regrowth); a *set* is a group with a seed and an arm.
"""

from __future__ import annotations

import dataclasses
import hashlib
import re
from collections.abc import Callable, Hashable, Sequence
from itertools import groupby
from typing import NamedTuple

from relearn_jax import config
from relearn_jax.config import Arm, Config, Prune


class Group(NamedTuple):
    """What is removed."""

    target: str
    fraction: float | None
    """Share of all neurons, or None where `count` says how many."""
    count: int | None
    regrowth: config.Regrowth


class ConceptSet(NamedTuple):
    """One mask with its seed."""

    seed: int
    group: Group
    arm: Arm


def groups(settings: Config) -> tuple[Group, ...]:
    """The groups of a config, in its order."""
    sets, prune = settings.sets, settings.prune
    by_count = prune.count is not None and not sets.fractions
    amounts = [(None, prune.count)] if by_count else [
        (fraction, None) for fraction in sets.fractions or (prune.fraction,)
    ]  # fmt: skip
    return tuple(
        Group(target, fraction, count, regrowth)
        for target in sets.concepts or (settings.concepts.target,)
        for fraction, count in amounts
        for regrowth in sets.regrowth or (prune.regrowth,)
    )


def product(settings: Config) -> tuple[ConceptSet, ...]:
    """All sets of a config: seeds, then groups, then arms."""
    return tuple(
        ConceptSet(seed, group, arm)
        for seed in settings.seeds
        for group in groups(settings)
        for arm in settings.arms
    )


def group_name(group: Group) -> str:
    """A name for folders and tables: LOC-0.5-free, LOC-n24-free."""
    amount = f"n{group.count}" if group.fraction is None else f"{group.fraction:g}"
    return f"{re.sub(r'[^A-Za-z0-9._]', '_', group.target)}-{amount}-{group.regrowth}"


def set_name(one: ConceptSet) -> str:
    """A set's name: seed0-LOC-0.5-free-concept."""
    return f"seed{one.seed}-{group_name(one.group)}-{one.arm}"


def stage_name(one: ConceptSet, stage: str) -> str:
    """Folder of a stage: seed0-base, seed0-LOC-0.5-free-concept-round1."""
    return f"seed{one.seed}-base" if stage == "base" else f"{set_name(one)}-{stage}"


def number(one: ConceptSet) -> int:
    """A number of 31 bits of the set without its seed, for random streams of its own."""
    text = f"{one.group.target}|{one.group.fraction}|{one.group.count}|{one.group.regrowth}"
    digest = hashlib.sha256(f"{text}|{one.arm}".encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1


def prune_settings(settings: Config, group: Group) -> Prune:
    """`prune` as it holds for a group."""
    changes = {"regrowth": group.regrowth, "count": group.count}
    if group.fraction is not None:
        changes["fraction"] = group.fraction
    return dataclasses.replace(settings.prune, **changes)


def chunks(
    sets: Sequence[ConceptSet], largest: int, text: Callable[[ConceptSet], Hashable]
) -> tuple[tuple[ConceptSet, ...], ...]:
    """Sets to be trained side by side: of one retraining text, as even in size as can be.

    A function of the config alone, so that a run that is continued has the same chunks.
    """
    found: list[tuple[ConceptSet, ...]] = []
    for _, part in groupby(sorted(sets, key=lambda one: str(text(one))), key=text):
        # Sorting is stable, so the order within a text is the product's.
        members = tuple(part)
        number_of = -(-len(members) // largest)
        size = -(-len(members) // number_of)
        found += [members[i : i + size] for i in range(0, len(members), size)]
    return tuple(found)
