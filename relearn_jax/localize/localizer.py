"""The interface of localizers: how one measures, scores, chooses and plans."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from relearn_jax import config
from relearn_jax.data.facts.prompts import Prompts
from relearn_jax.localize.batch import Batch, Measured, Pairs
from relearn_jax.localize.effects import Effects
from relearn_jax.localize.questions import Cache, Question
from relearn_jax.localize.scores import LayerScores, Score
from relearn_jax.localize.selection import Units
from relearn_jax.models.inputs import Inputs
from relearn_jax.models.transformer import Model

PyTree = Any
Arrays = Mapping[str, np.ndarray]
"""Arrays under the names of a file."""


class Program(NamedTuple):
    """A program of a localizer, lowered for plans."""

    name: str
    lowered: jax.stages.Lowered
    blocks: float
    """Number of passes of a whole prompt through a block, for each pair and call. A backward pass
    counts as two, or as three if the block is computed again."""
    calls: int
    """Number of calls for each batch of pairs."""


class Shapes(NamedTuple):
    """Shapes of a batch of pairs, to lower programs from."""

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
        """Number of blocks computed when every layer is patched once, each from its layer on."""
        layers = self.model.config.layers
        return (layers + 1) / 2 * layers

    @property
    def runs(self) -> tuple[Any, ...]:
        """The first arguments of every patching program."""
        return self.model, self.params, self.inputs, self.cache, self.cache, self.question


def bools(*shape: int) -> jax.ShapeDtypeStruct:
    """The shape of a boolean array."""
    return jax.ShapeDtypeStruct(shape, jnp.bool_)


class Reader(NamedTuple):
    """Measurements on single prompts, which need no partners."""

    measure: Callable[[Model, PyTree, Prompts, int], Arrays]
    """Takes a seed last."""
    scores: Callable[[Arrays], Mapping[str, Mapping[str, LayerScores]]]
    """By name in the tables and part of a layer."""
    program: Callable[[Model, int], tuple[jax.stages.Lowered, int]]
    """The program with the largest memory for a number of prompts, and further bytes beside it."""


Prepare = Callable[
    [Model, PyTree, Pairs, config.Localize, int, Callable[[PyTree], PyTree]],
    Callable[[Int[np.ndarray, " B"]], Any],
]
"""(model, parameters, all pairs, settings, seed, the function that puts pairs on the devices) -> a
function from the rows of a batch to what `Batch.prepared` holds."""
Rule = Callable[[Mapping[str, LayerScores], config.Localize], Units]
"""Chooses units by the scores of each part of a layer."""


class Localizer(NamedTuple):
    """A localizer. To add one, write a file with a `LOCALIZER` and name it in `methods.py`."""

    name: config.Method
    scores: Mapping[str, Score]
    """By name in the tables."""
    prepare: Prepare | None = None
    """What a batch needs and only all pairs together give."""
    effects: Callable[[Batch], Measured] | None = None
    """Measures a batch; None: the localizer does not work on pairs of prompts."""
    second: Callable[[Effects, Iterable[tuple[Batch, int]]], tuple[Measured, Any]] | None = None
    """A second pass over all batches (each with its number of pairs that count), which needs the
    effects of the first pass. It also returns what the stage's record should hold."""
    programs: Callable[[Shapes], Iterator[Program]] = lambda shapes: iter(())
    reader: Reader | None = None
    """None: the localizer works on pairs of prompts only."""
    rule: Rule | None = None
    """None: the units with the largest scores are chosen, until the budget is spent."""
    choosing: tuple[str, ...] = ()
    """Settings of `config.Localize` that only the rule reads."""
    sets_budget: bool = False
    """Whether a budget of null means as much as the rule chooses. Its choice is also the first to
    stand in for the lookup layers where no facts were planted."""


def concatenated(parts: list[Float[np.ndarray, "... b"]]) -> Float[np.ndarray, "... B"]:
    """Concatenate batches along the axis of pairs."""
    return np.concatenate(parts, axis=-1)
