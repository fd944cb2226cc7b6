"""Batches of prompt pairs on the devices, with the model's runs on them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Float

from relearn_jax import config
from relearn_jax.data.facts.prompts import Prompts, take
from relearn_jax.localize import questions
from relearn_jax.localize.effects import Effect, Metric
from relearn_jax.localize.questions import Cache, Question
from relearn_jax.models.inputs import Inputs
from relearn_jax.models.transformer import Model
from relearn_jax.parallel import mesh as meshes

PyTree = Any
DONOR = 2
"""With donors the metric compares the first two words: the right answer and the donor's answer."""


@dataclass(frozen=True, eq=False)
class Pairs:
    """Prompts of the facts to localize, with partners of equal length."""

    facts: np.ndarray
    """Index of each pair's fact."""
    clean: Prompts
    corrupt: Prompts
    """Another subject with another answer, or random tokens in place of the subject."""
    null: Prompts
    """Partners of the corrupt prompts that also lack the fact: a third subject with the corrupt
    subject's answer, or other random tokens."""


class Patching(NamedTuple):
    """Activations of the run `source` replace those of the run `base`."""

    inputs: Inputs
    """The prompts of `base`."""
    base: Cache
    source: Cache


class Batch(NamedTuple):
    """A batch of pairs, with everything that a localizer may need."""

    model: Model
    params: PyTree
    settings: config.Localize
    question: Question
    noising: Patching
    """Corrupt activations go into the clean run."""
    denoising: Patching
    """Clean activations go into the corrupt run."""
    null: Patching
    """Activations of another run without the fact go into the corrupt run."""
    first: int
    """The first position at which any prompt differs from its partners."""
    prepared: Mapping[str, Any]
    """By localizer, what its `prepare` made for this batch."""

    def difference(self, answers: Float[Array, "... B W"]) -> Float[Array, "... B"]:
        """Logit of the right answer minus the donor's, or minus the mean of the alternatives."""
        donor = self.settings.corrupt == "swapped"
        return questions.difference(answers[..., :DONOR] if donor else answers)

    def change(self, answers: Float[Array, "... B W"], base: Cache) -> Float[Array, "... B"]:
        """Change of `difference` by a patch, in nats."""
        return self.difference(answers) - self.difference(base.answers)


class Measured(NamedTuple):
    """A localizer's measurements on a batch."""

    values: Mapping[Effect, Float[Array, "L ... B"]]
    totals: Mapping[Metric, Float[Array, " B"]] = {}
    """Totals that only this localizer computes."""


def question(clean: Prompts, corrupt: Prompts, donor: bool) -> Question:
    """The question of the clean prompts: where they are answered, and with which words.

    The first word is the answer. With `donor` the second word is the corrupt prompt's answer, and
    the other alternatives follow; else all alternatives follow.
    """
    others = clean.others
    if donor:
        rest = np.where(others == corrupt.target[:, None], -1, others)
        others = np.concatenate([corrupt.target[:, None], rest], axis=1)
    words = np.concatenate([clean.target[:, None], others], axis=1)
    return Question(clean.last, words, clean.subject)


def make(
    model: Model,
    params: PyTree,
    settings: config.Localize,
    pairs: Pairs,
    put: Callable[[PyTree], PyTree],
    *,
    first: int,
    prepared: Mapping[str, Any],
) -> Batch:
    """Run the model on the three prompts of each pair.

    Args:
      model, params: a causal language model.
      settings: which localizers, and how.
      pairs: the pairs of the batch.
      put: puts pairs on the devices.
      first, prepared: see `Batch`.
    """
    words = put(question(pairs.clean, pairs.corrupt, settings.corrupt == "swapped"))
    inputs = [put(Inputs(p.ids, p.mask)) for p in (pairs.clean, pairs.corrupt, pairs.null)]
    clean, corrupt, null = (questions.run(model, params, prompts, words) for prompts in inputs)
    return Batch(
        model, params, settings, words,
        noising=Patching(inputs[0], clean, corrupt),
        denoising=Patching(inputs[1], corrupt, clean),
        null=Patching(inputs[1], corrupt, null),
        first=first, prepared=prepared,
    )  # fmt: skip


def batches(pairs: Pairs, size: int) -> Iterator[tuple[Pairs, np.ndarray, int]]:
    """Batches of one size, as (pairs, their rows, number of pairs that count).

    The last batch is filled up with the first pairs.
    """
    total = len(pairs.facts)
    size = min(size, total)
    for begin in range(0, total, size):
        rows = np.arange(begin, begin + size) % total
        prompts = (take(part, rows) for part in (pairs.clean, pairs.corrupt, pairs.null))
        yield Pairs(pairs.facts[rows], *prompts), rows, min(size, total - begin)


def first_position(pairs: Pairs) -> int:
    """The first position at which any prompt differs from its partners."""
    partners = (pairs.corrupt, pairs.null)
    return int(np.any([p.ids != pairs.clean.ids for p in partners], axis=(0, 1)).argmax())


def placer(mesh: Mesh | None) -> Callable[[PyTree], PyTree]:
    """A function that splits arrays with a leading axis of pairs over the devices of a mesh."""

    def put(tree: PyTree) -> PyTree:
        if mesh is None:
            return tree
        rows = len(jax.tree.leaves(tree)[0])
        return jax.device_put(tree, meshes.pairs(mesh, rows))

    return put
