"""What every localizer is: a value that says how it measures, scores, chooses and plans."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from relearn_jax import config
from relearn_jax.localize.batch import Batch, Measured
from relearn_jax.localize.effects import Effects
from relearn_jax.localize.questions import Cache, Question
from relearn_jax.localize.scores import LayerScores, Score
from relearn_jax.localize.selection import Units
from relearn_jax.models.inputs import Inputs
from relearn_jax.models.transformer import Model

PyTree = Any


class Program(NamedTuple):
    """One compiled program of a localizer."""

    name: str
    lowered: jax.stages.Lowered
    blocks: float
    """Passes of a whole prompt through one block that a call makes for each pair. A backward pass
    counts as two, or as three if the block is computed again."""
    calls: int
    """For each batch of pairs."""


class Shapes(NamedTuple):
    """A batch of pairs without its values, to lower programs from."""

    model: Model
    params: PyTree
    settings: config.Localize
    inputs: Inputs
    question: Question
    cache: Cache
    first: int

    @property
    def length(self) -> int:
        """Tokens of a prompt."""
        return self.inputs.ids.shape[1]

    @property
    def suffixes(self) -> float:
        """Blocks of one patch on every layer, each computed from its layer to the last."""
        layers = self.model.config.layers
        return (layers + 1) / 2 * layers

    @property
    def runs(self) -> tuple[Any, ...]:
        """The first arguments of every patching program."""
        return self.model, self.params, self.inputs, self.cache, self.cache, self.question


def bools(*shape: int) -> jax.ShapeDtypeStruct:
    """The shape of a boolean array."""
    return jax.ShapeDtypeStruct(shape, jnp.bool_)


Rule = Callable[[Mapping[str, LayerScores], config.Localize], Units]
"""Chooses units by the scores of a layer's parts."""


class Localizer(NamedTuple):
    """A localizer. To add one, write a file with a `LOCALIZER` and name it in `methods.py`."""

    name: config.Method
    scores: Mapping[str, Score]
    """By the names that tables use."""
    effects: Callable[[Batch], Measured] | None = None
    """Measures a batch; None: the localizer does not work on pairs of prompts."""
    second: Callable[[Effects, Iterable[tuple[Batch, int]]], tuple[Measured, Any]] | None = None
    """A second pass over all batches (each with its number of pairs that count) that depends on the
    effects of the first. Also gives what a record should hold of it."""
    programs: Callable[[Shapes], Iterator[Program]] = lambda shapes: iter(())
    rule: Rule | None = None
    """None: the units with the largest scores are chosen until a budget is spent."""


def concatenated(parts: list[Float[np.ndarray, "... b"]]) -> Float[np.ndarray, "... B"]:
    """Batches put together along the axis of pairs."""
    return np.concatenate(parts, axis=-1)
