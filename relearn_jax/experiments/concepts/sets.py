"""Concept sets: the product of a config's lists, of concepts and base models among others.

A *group* is what a run removes (concept, share, regrowth); a *set* is a group with seed and arm.
"""

from __future__ import annotations

import dataclasses
import hashlib
import unicodedata
from collections.abc import Callable, Hashable, Sequence
from itertools import groupby, pairwise
from typing import NamedTuple

import numpy as np

from relearn_jax import config
from relearn_jax.config import Arm, Prune, Relearning
from relearn_jax.errors import UserError
from relearn_jax.neurons import choice


class Group(NamedTuple):
    """A concept to remove, with the number of neurons, their ranking and the kind of regrowth."""

    target: str
    fraction: float | config.Auto | None
    """Share of all neurons; None if `count` gives their number."""
    count: int | None
    regrowth: config.Regrowth
    ranking: config.Ranking | None = None
    """None: `prune.ranking`, the only one of the run."""
    text: config.Retrained | int | None = None
    """None: `retrain.data`, the only one of the run."""


class ConceptSet(NamedTuple):
    """A group with a seed and an arm: the base model, and the neurons to prune."""

    seed: int
    group: Group
    arm: Arm


def groups(settings: Relearning) -> tuple[Group, ...]:
    """The groups of a config, in its order."""
    sets, prune = settings.sets, settings.prune
    by_count = prune.count is not None and not sets.fractions
    amounts = [(None, prune.count)] if by_count else [
        (fraction, None) for fraction in sets.fractions or (prune.fraction,)
    ]  # fmt: skip
    return tuple(
        Group(target, fraction, count, regrowth, ranking, text)
        for target in sets.concepts or (settings.concepts.target,)
        for fraction, count in amounts
        for regrowth in sets.regrowth or (prune.regrowth,)
        for ranking in sets.rankings or (None,)
        for text in sets.texts or (None,)
    )


def product(settings: Relearning) -> tuple[ConceptSet, ...]:
    """All sets of a config: seeds, then groups, then arms."""
    return tuple(
        ConceptSet(seed, group, arm)
        for seed in settings.seeds
        for group in groups(settings)
        for arm in arms(settings)
    )


def arms(settings: Relearning) -> tuple[Arm, ...]:
    """The arms of a config; without retraining, an oracle says nothing."""
    return tuple(arm for arm in settings.arms if settings.retrain.rounds or arm != "oracle")


def unique(settings: Relearning) -> tuple[ConceptSet, ...]:
    """The sets that are computed: groups of one target and text share their oracle."""
    return tuple({set_name(concept_set): concept_set for concept_set in product(settings)}.values())


def group_name(group: Group) -> str:
    """A name for folders and tables: LOC-0.5-free, LOC-n24-free, LOC-auto-free-probeless-full.

    Letters and digits of any script, "." and "_" are kept; other characters become "_".
    """
    amount = f"n{group.count}" if group.fraction is None else _short(group.fraction)
    parts = (_label(group.target), amount, group.regrowth, group.ranking, group.text)
    return "-".join(str(part) for part in parts if part is not None)


def _label(target: str) -> str:
    text = unicodedata.normalize("NFC", target)
    return "".join(c if c in "._" or _of_a_word(c) else "_" for c in text)


def _of_a_word(character: str) -> bool:
    """Whether a character is a letter, a digit, or a mark (such as vowels of Indic scripts)."""
    return unicodedata.category(character)[0] in "LMN"


def _short(fraction: float | config.Auto) -> str:
    """A fraction in six digits, or in as many as it needs."""
    if fraction == "auto":
        return fraction
    short = f"{fraction:g}"
    return short if float(short) == fraction else repr(fraction)


def check_names(settings: Relearning) -> None:
    """Raise UserError if two groups would write to the same folder.

    Names that differ only in case count as the same, as in some file systems.
    """
    taken: dict[str, Group] = {}
    for group in groups(settings):
        other = taken.setdefault(group_name(group).casefold(), group)
        if other != group:
            raise UserError(
                f"sets.concepts: {other.target} and {group.target} would share the folder "
                f"{group_name(group)}. Rename one with concepts.data.tag_map, or give each a run "
                "directory of its own."
            )


def set_name(concept_set: ConceptSet) -> str:
    """A set's name: seed0-LOC-0.5-free-concept, seed0-LOC-oracle."""
    group = concept_set.group
    if concept_set.arm != "oracle":
        return f"seed{concept_set.seed}-{group_name(group)}-{concept_set.arm}"
    text = "" if group.text is None else f"-{group.text}"
    return f"seed{concept_set.seed}-{_label(group.target)}-oracle{text}"


def stage_name(concept_set: ConceptSet, stage: str) -> str:
    """Folder of a stage: seed0-base, seed0-LOC-0.5-free-concept-round1."""
    if stage == "base":
        return f"seed{concept_set.seed}-base"
    return start_name(concept_set) if stage == "untaught" else f"{set_name(concept_set)}-{stage}"


def start_name(concept_set: ConceptSet) -> str:
    """Folder of the model in which a set prunes: seed0-base or, for an oracle, its own."""
    if concept_set.arm != "oracle":
        return stage_name(concept_set, "base")
    return f"seed{concept_set.seed}-{_label(concept_set.group.target)}-untaught"


def number(concept_set: ConceptSet) -> int:
    """A hash of 31 bits that makes the random streams of the sets of a seed differ.

    Sets that differ in their ranking or text only have the same streams, and so the same random
    neurons.
    """
    target, fraction, count, regrowth, *_ = concept_set.group
    if concept_set.arm == "oracle":
        fraction = count = regrowth = None
    text = "|".join(map(str, (target, fraction, count, regrowth, concept_set.arm)))
    digest = hashlib.sha256(text.encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1


def prune_settings(settings: Relearning, group: Group) -> Prune:
    """The settings `prune` with the values of a group."""
    changes = {"regrowth": group.regrowth, "count": group.count}
    if group.fraction is not None:
        changes["fraction"] = group.fraction
    if group.ranking is not None:
        changes["ranking"] = group.ranking
    return dataclasses.replace(settings.prune, **changes)


def targets(settings: Relearning) -> tuple[str, ...]:
    """The concepts that are removed."""
    return tuple(dict.fromkeys(group.target for group in groups(settings)))


def requested(settings: Relearning, group: Group, shape: tuple[int, int]) -> int | None:
    """Number of neurons that a group asks to prune; None for `auto`, UserError if impossible."""
    if group.fraction == "auto":
        return None
    site = settings.concepts.site
    return choice.select(np.zeros(shape), prune_settings(settings, group), site).requested


def resolved(concept_set: ConceptSet, fraction: float) -> ConceptSet:
    """The set with the fraction that `auto` stands for."""
    return concept_set._replace(group=concept_set.group._replace(fraction=fraction))


def chunks(
    sets: Sequence[ConceptSet], largest: int, text: Callable[[ConceptSet], Hashable]
) -> tuple[tuple[ConceptSet, ...], ...]:
    """Sets to train side by side. A chunk has one `text`; the sizes of a text's chunks differ by at
    most one, as each size is compiled.

    The chunks depend on the config only, so that a continued run has the same chunks.
    """
    chunks: list[tuple[ConceptSet, ...]] = []
    for _, of_text in groupby(
        sorted(sets, key=lambda concept_set: str(text(concept_set))), key=text
    ):
        # Sorting is stable, so the order within a text is the product's.
        members = tuple(of_text)
        count = -(-len(members) // largest)
        cuts = [-(-i * len(members) // count) for i in range(count + 1)]
        chunks += [members[a:b] for a, b in pairwise(cuts)]
    return tuple(chunks)
