"""Everything that models are asked before and after an edit: each fact once in each format."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from jax.sharding import Mesh
from jaxtyping import Bool, Int

from relearn_jax.data.facts import reading
from relearn_jax.data.facts.formats import OTHER_SUBJECTS
from relearn_jax.data.facts.prompts import Prompts, take
from relearn_jax.data.facts.reading import FactData
from relearn_jax.data.questions import Questions
from relearn_jax.evaluation import facts
from relearn_jax.evaluation.facts import Answers, Change
from relearn_jax.experiments.facts.edits.texts import retained
from relearn_jax.models.transformer import Model

PyTree = Any
FORGET, HELD_OUT, VALIDATION, RETAIN_TEST = "forget", "held_out", "validation", "retain_test"
"""Facts to forget that an edit sees, and others; retained facts that choose its settings, and those
that it is judged by. No loss holds any of the retained."""
BUCKET = 16
"""Prompts are padded to a multiple of this many tokens, so that formats share programs."""

FEW = 16
"""Long prompts at one time."""


class Asked(NamedTuple):
    """Q prompts, in groups of equal length."""

    prompts: tuple[Prompts, ...]
    """The prompts of each length."""
    format: np.ndarray
    """Name of each prompt's format, [Q]."""
    group: np.ndarray
    """Part of the split that each prompt's fact is in, [Q]."""
    fact: Int[np.ndarray, " Q"]
    """Index of each prompt's fact."""

    @property
    def target(self) -> Int[np.ndarray, " Q"]:
        """Token id of each right answer."""
        return np.concatenate([part.target for part in self.prompts])

    @property
    def injected(self) -> Int[np.ndarray, " Q"]:
        """Token id of each first alternative; -1 without one."""
        return np.concatenate([_first(part.others) for part in self.prompts])

    def of(self, format: str, *groups: str) -> np.ndarray:
        """Which prompts have a format and are in one of the groups: bool [Q]."""
        return (self.format == format) & np.isin(self.group, groups)


def ask(data: FactData, formats: Sequence[str], groups: Sequence[str], only: str = "") -> Asked:
    """The prompts of all facts of some groups in some formats.

    Args:
      data: facts and their split.
      formats: names of formats.
      groups: parts of the split.
      only: the format in which the facts that choose settings are asked.
    """
    by_length: dict[int, list[tuple[Prompts, str, str, np.ndarray]]] = {}
    for name, group in _pairs(formats, groups, only):
        rows = retained(data.split)[1] if group == VALIDATION else getattr(data.split, group)
        if not len(rows):
            continue
        prompts, fact = reading.ask(data, rows, name)
        length = -(-prompts.ids.shape[1] // BUCKET) * BUCKET
        prompts, fact = reading.ask(data, rows, name, length)
        by_length.setdefault(length, []).append((prompts, name, group, fact))
    parts = [item for _, items in sorted(by_length.items()) for item in items]
    return Asked(
        tuple(_joined([item[0] for item in items]) for _, items in sorted(by_length.items())),
        np.repeat([item[1] for item in parts], [len(item[3]) for item in parts]),
        np.repeat([item[2] for item in parts], [len(item[3]) for item in parts]),
        np.concatenate([item[3] for item in parts]),
    )


def _pairs(formats: Sequence[str], groups: Sequence[str], only: str) -> Iterator[tuple[str, str]]:
    for name in formats:
        for group in groups:
            if group == VALIDATION and name != only:
                continue
            # Texts about other subjects say whether an edit spreads, which retained facts cannot.
            if name in OTHER_SUBJECTS and group in (VALIDATION, RETAIN_TEST):
                continue
            yield name, group


def _joined(parts: Sequence[Prompts]) -> Prompts:
    widest = max(part.others.shape[1] for part in parts)
    wide = [
        part._replace(
            others=np.pad(
                part.others, ((0, 0), (0, widest - part.others.shape[1])), constant_values=-1
            )
        )
        for part in parts
    ]
    return Prompts(*map(np.concatenate, zip(*wide, strict=True)))


def _first(others: Int[np.ndarray, "B A"]) -> Int[np.ndarray, " B"]:
    return others[:, 0] if others.shape[1] else np.full(len(others), -1, np.int32)


def answered(model: Model, params: PyTree, asked: Asked) -> Answers:
    """The answers of one model, [Q]."""
    return _all(asked, partial(facts.answers, model, params))


def answered_side_by_side(
    model: Model, change: Change, mesh: Mesh, base: PyTree, own: PyTree, asked: Asked
) -> Answers:
    """The answers of C models that share a base, [C, Q] (`facts.answers_side_by_side`)."""
    return _all(asked, partial(facts.answers_side_by_side, model, change, mesh, base, own))


def right_choices(model: Model, params: PyTree, questions: Questions) -> Bool[np.ndarray, " Q"]:
    """For each question, whether the right choice is the most likely of its choices."""
    parts = (facts.answers(model, params, part, FEW) for part in questions.prompts)
    return np.concatenate([part.first for part in parts])


def _all(asked: Asked, of: Callable[[Prompts], Answers]) -> Answers:
    parts = [of(prompts) for prompts in asked.prompts]
    return Answers(*(np.concatenate(each, axis=-1) for each in zip(*parts, strict=True)))


def subset(asked: Asked, wanted: np.ndarray) -> Asked:
    """Some of the prompts."""
    prompts, begin = [], 0
    for part in asked.prompts:
        rows = np.flatnonzero(wanted[begin : begin + len(part.ids)])
        begin += len(part.ids)
        if len(rows):
            prompts.append(take(part, rows))
    return Asked(tuple(prompts), asked.format[wanted], asked.group[wanted], asked.fact[wanted])
