"""Probes of the answer on the stream at the subject, and the layers that make it readable."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from relearn_jax import config
from relearn_jax.data.facts.prompts import Prompts, last_of_subject, take
from relearn_jax.evaluation import probes
from relearn_jax.localize.localizer import Localizer, Reader
from relearn_jax.localize.questions import at_last
from relearn_jax.localize.scores import LayerScores, Score
from relearn_jax.localize.selection import Units
from relearn_jax.models import transformer
from relearn_jax.models.inputs import Inputs
from relearn_jax.models.sites import Tap, Taps
from relearn_jax.models.transformer import Model

PyTree = Any
FOLDS = 5
"""Each fact is tested by a probe that was fitted to the other folds."""


class Readable(NamedTuple):
    """Accuracy of probes on facts they were not fitted to."""

    states: Float[np.ndarray, " L1"]
    """On the states between blocks, from the embeddings on."""
    middle: Float[np.ndarray, " L"]
    """On the stream between attention and feed-forward layer of each block."""
    shuffled: Float[np.ndarray, " L1"]
    """On the states, by probes that were fitted to shuffled answers."""
    middle_shuffled: Float[np.ndarray, " L"]
    """Between attention and feed-forward layer, by probes that were fitted to shuffled answers."""
    facts: int
    chance: float
    """Accuracy of always giving the most common answer."""


POSITIONS = ("subject", "last")
"""The subject's last token, and the prompt's last token."""
Readings = Mapping[str, Readable]
"""By position."""


def readings(model: Model, params: PyTree, prompts: Prompts, seed: int) -> Readings:
    """Accuracies of probes at the subject's last token and at the prompt's."""
    ends = (last_of_subject(prompts), prompts.last)
    return {
        position: readable(model, params, prompts, at, seed)
        for position, at in zip(POSITIONS, ends, strict=True)
    }


def to_arrays(readings: Readings) -> dict[str, np.ndarray]:
    """Arrays under the names of a file: `subject/states`, `last/chance`, ..."""
    return {
        f"{position}/{name}": np.asarray(value, np.float32 if np.ndim(value) else np.float64)
        for position, readable in readings.items()
        for name, value in readable._asdict().items()
    }


def from_arrays(arrays: Mapping[str, np.ndarray]) -> Readings:
    """The inverse of `to_arrays`."""
    return {
        position: _readable(arrays, position)
        for position in POSITIONS
        if f"{position}/states" in arrays
    }


def _readable(arrays: Mapping[str, np.ndarray], position: str) -> Readable:
    *accuracies, facts, chance = (arrays[f"{position}/{name}"] for name in Readable._fields)
    return Readable(*accuracies, int(facts.item()), chance.item())


def readable(
    model: Model,
    params: PyTree,
    prompts: Prompts,
    at: Int[np.ndarray, " B"],
    seed: int,
    batch: int = 128,
) -> Readable:
    """Probes of the answer on all states at one position of each prompt.

    Raises ValueError for fewer than ten prompts.
    """
    if len(at) < 2 * FOLDS:
        raise ValueError("too few facts for probes")
    states, middle = stream(model, params, prompts, at, batch)
    answers, y = np.unique(prompts.target, return_inverse=True)
    rng = np.random.default_rng(seed)
    # Folds of equal size, so that one program fits all; the remainder is used in fits only.
    size = len(y) // FOLDS
    order = rng.permutation(len(y))
    shuffled_y = rng.permutation(y)
    x = jnp.concatenate([states, middle])
    # For probes of the answers, and of shuffled answers.
    accuracies: tuple[list, list] = ([], [])
    for fold in range(FOLDS):
        test = order[fold * size : (fold + 1) * size]
        train = np.setdiff1d(order, test)
        for labels, parts in zip((y, shuffled_y), accuracies, strict=True):
            probe = probes.fit(x[:, train], labels[train], len(answers))
            parts.append(probes.accuracy(probe, x[:, test], labels[test]))
    correct, shuffled = (np.mean(parts, axis=0) for parts in accuracies)
    rows = len(states)
    chance = np.bincount(y).max() / len(y)
    return Readable(
        correct[:rows],
        correct[rows:],
        shuffled[:rows],
        shuffled[rows:],
        FOLDS * size,
        float(chance),
    )


def stream(
    model: Model, params: PyTree, prompts: Prompts, at: Int[np.ndarray, " B"], batch: int
) -> tuple[Float[np.ndarray, "L1 B D"], Float[np.ndarray, "L B D"]]:
    """The states between blocks, and those between attention and feed-forward layer, at one
    position of each prompt."""
    states, middle = [], []
    for begin in range(0, len(at), batch):
        rows = np.arange(begin, min(begin + batch, len(at)))
        part = take(prompts, rows)
        readings = _at(model, params, Inputs(part.ids, part.mask), at[rows])
        states.append(np.asarray(readings.states))
        middle.append(states[-1][:-1] + np.asarray(readings.attention))
    return np.concatenate(states, axis=1), np.concatenate(middle, axis=1)


@partial(jax.jit, static_argnums=0)
def _at(model: Model, params: PyTree, inputs: Inputs, at: Int[np.ndarray, " B"]) -> Taps:
    tap = Tap(lambda x, _: at_last(x, at).astype(jnp.float32))
    return transformer.hidden(model, params, inputs, taps=Taps(states=tap, attention=tap))[1]


def scores(readings: Readings) -> dict[str, LayerScores]:
    """Gain in accuracy by each part of a layer at the subject's last token, beside the noise."""
    subject = readings["subject"]
    gained, noise = gains(subject), noise_of(subject)
    missing = np.full(len(subject.middle), np.nan)
    return {
        part: LayerScores(gained[part], missing, missing, noise[part], missing, missing)
        for part in gained
    }


def gains(readable: Readable) -> dict[str, Float[np.ndarray, " L"]]:
    """Gain in accuracy above chance by each attention block and each feed-forward layer.

    Accuracies below chance, that of the most common answer, count as chance: a design in which
    every name has every answer equally often drives them there (specs: mechanistic unlearning 9.1).
    """
    states, middle = readable.states, readable.middle
    return _added(np.maximum(states, readable.chance), np.maximum(middle, readable.chance))


def noise_of(readable: Readable) -> dict[str, Float[np.ndarray, " L"]]:
    """The same gains for probes of shuffled answers, which are noise."""
    return _added(readable.shuffled, readable.middle_shuffled)


def _added(states: np.ndarray, middle: np.ndarray) -> dict[str, np.ndarray]:
    return {"attention": middle - states[:-1], "mlp": states[1:] - middle}


def window(
    gains: Float[np.ndarray, " L"], share: float = 0.95, noise: float = 0.0
) -> tuple[int, int]:
    """The shortest run of layers whose gains add up to a share of the total gain.

    The published layers were chosen by eye; this rule is ours. Among runs of equal length, the one
    with the largest gain is taken.

    Args:
      gains: what each layer adds to the accuracy.
      share: share of the total gain that the run must hold.
      noise: gains up to this value count as 0.

    Returns:
      (first layer, last layer), both included; (0, -1) where no layer gains anything.
    """
    gains = np.nan_to_num(np.asarray(gains, float))
    gains = np.where(gains > max(noise, 0.0), gains, 0.0)
    if not gains.any():
        return 0, -1
    needed = share * gains.sum() - 1e-12
    sums = np.concatenate([[0.0], np.cumsum(gains)])
    for length in range(1, len(gains) + 1):
        gained = sums[length:] - sums[:-length]
        if gained.max() >= needed:
            first = int(gained.argmax())
            return first, first + length - 1
    raise AssertionError("all layers together hold all gain")


def rule(scores: Mapping[str, LayerScores], settings: config.Localize) -> Units:
    """The shortest run of feed-forward layers with the share `settings.window` of the gain."""
    mlp = scores["mlp"]
    first, last = window(mlp.score, settings.window, mlp.null.max())
    layers = np.arange(len(mlp.score))
    return {"mlp": (layers >= first) & (layers <= last)}


def program(model: Model, facts: int) -> tuple[jax.stages.Lowered, int]:
    """A fit of all probes to four fifths of the facts, with three answers, from shapes.

    Returns:
      (the fit, further bytes: the states of all facts, and a copy)
    """
    rows, width = 2 * model.config.layers + 1, model.config.width
    x = jax.ShapeDtypeStruct((rows, facts - facts // FOLDS, width), jnp.float32)
    y = jax.ShapeDtypeStruct(x.shape[1:2], jnp.int32)
    return probes.fit.lower(x, y, 3), 2 * 4 * rows * facts * width


LOCALIZER = Localizer(
    name="probes",
    scores={
        "probes": Score(
            1,
            "probes",
            "probes",
            "logistic regression reads the answer from the stream at the subject's end; a layer's "
            "score is what it adds to the accuracy above that of the most common answer, and the "
            "shortest run of layers that holds most of the gain beyond that of shuffled answers is "
            "chosen",
            "Alain, Bengio 2017; Nanda et al. 2023; Guo et al. 2025 (by eye; the rule is ours)",
            unit="gain in accuracy",
            # Accuracy may fall in a layer, which is no sign of fact lookup.
            signed=True,
        )
    },
    reader=Reader(
        measure=lambda *arguments: to_arrays(readings(*arguments)),
        scores=lambda arrays: {"probes": scores(from_arrays(arrays))},
        program=program,
    ),
    rule=rule,
    choosing=("window",),
    sets_budget=True,
)
