"""What is left inside an edited model: probes of the answer on its states.

Probes are fitted to retained facts, on the original model and on the edited one, and read the
forgotten facts off the states of both: a 2 x 2 (specs: mechanistic unlearning 5.3, which has only
the probe of the edited model).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Int

from relearn_jax.data.facts import reading
from relearn_jax.data.facts.prompts import Prompts, last_of_subject, take
from relearn_jax.evaluation import lens, probes
from relearn_jax.evaluation.probes import Probe
from relearn_jax.experiments.facts.edits.setup import EditSetup
from relearn_jax.localize import carriers
from relearn_jax.localize.carriers import Carriers
from relearn_jax.localize.probes import POSITIONS, stream

PyTree = Any
BATCH = 128
READINGS = ("own", "original", "back")
"""A probe that was fitted on this model or on the original, and reads this model; or a probe that
was fitted on this model and reads the original."""


class States(NamedTuple):
    """States of a model on retained and on forgotten facts, by position, and their answers."""

    kept: Mapping[str, Float[np.ndarray, "L1 N D"]]
    forgotten: Mapping[str, Float[np.ndarray, "L1 F D"]]


Fits = Mapping[str, Probe]
"""Probes by position."""


class Inside(NamedTuple):
    """What probes read off the states between blocks; [positions, L1, F], booleans."""

    right: dict[str, np.ndarray]
    """By `READINGS`: whether the probe reads the right answer."""
    injected: dict[str, np.ndarray]
    """Whether it reads the injected answer."""


def states(setup: EditSetup, seed: int, params: PyTree) -> States:
    """The states of a model at the subject's end and at the prompt's."""
    kept, forgotten = (_prompts(setup, seed, shown) for shown in (True, False))
    return States(_states(setup, params, kept), _states(setup, params, forgotten))


def _states(setup: EditSetup, params: PyTree, prompts: Prompts) -> dict[str, np.ndarray]:
    ends = (last_of_subject(prompts), prompts.last)
    return {
        position: stream(setup.model, params, prompts, at, BATCH)[0]
        for position, at in zip(POSITIONS, ends, strict=True)
    }


def fitted(setup: EditSetup, seed: int, of_model: States) -> Fits:
    """Probes of the answer on every state, fitted to the retained facts of a model."""
    prompts = _prompts(setup, seed, True)
    words, y = np.unique(prompts.target, return_inverse=True)
    return {
        position: probes.fit(jnp.asarray(x), y, len(words)) for position, x in of_model.kept.items()
    }


def read(setup: EditSetup, seed: int, cells: Mapping[str, tuple[Fits, States]]) -> Inside:
    """What probes read about the forgotten facts.

    Args:
      setup, seed: of the run.
      cells: by `READINGS`, probes by position and the states that they read.
    """
    words = np.unique(_prompts(setup, seed, True).target)
    forgotten = _prompts(setup, seed, False)
    right, injected = {}, {}
    for name, (fits, of_model) in cells.items():
        says = np.stack(
            [
                words[_classes(fits[position], of_model.forgotten[position])]
                for position in POSITIONS
            ]
        )
        right[name] = says == forgotten.target
        injected[name] = says == forgotten.others[:, 0]
    return Inside(right, injected)


def right_by(setup: EditSetup, seed: int, params: PyTree, fits: Fits) -> Bool[np.ndarray, "2 L1 F"]:
    """Whether probes by position read the right answer to each forgotten fact off a model."""
    words = np.unique(_prompts(setup, seed, True).target)
    forgotten = _prompts(setup, seed, False)
    of_model = _states(setup, params, forgotten)
    says = [words[_classes(fits[position], of_model[position])] for position in POSITIONS]
    return np.stack(says) == forgotten.target


def carried(
    setup: EditSetup, seed: int, params: PyTree, facts: Int[np.ndarray, " F"] | None = None
) -> Carriers:
    """The carriers of the forgotten facts, or of those numbered `facts` among them."""
    prompts = _prompts(setup, seed, False)
    if facts is not None:
        prompts = take(prompts, facts)
    return carriers.carriers(carriers.effects(setup.model, params, prompts))


def through_lens(
    setup: EditSetup, seed: int, params: PyTree, of_model: States
) -> dict[str, Float[np.ndarray, "L1 F"]]:
    """Probability of the right and of the injected answer to each forgotten fact, by the logit lens
    at the prompt's last token."""
    prompts = _prompts(setup, seed, False)
    words = np.stack([prompts.target, prompts.others[:, 0]], axis=1)
    found = lens.probabilities(setup.model, params, of_model.forgotten["last"], words)
    return {"target": found[..., 0], "injected": found[..., 1]}


def _classes(probe: Probe, x: np.ndarray) -> Int[np.ndarray, "L1 F"]:
    logits = np.einsum("SND,SDK->SNK", x, np.asarray(probe.weights))
    return (logits + np.asarray(probe.bias)[:, None]).argmax(-1)


def _prompts(setup: EditSetup, seed: int, kept: bool) -> Prompts:
    data = setup.localization.facts[seed]
    split = data.split
    rows = split.retain if kept else split.forgotten
    return reading.ask(data, rows, setup.config.edit.format)[0]


def packed(values: Bool[np.ndarray, ...]) -> str:
    """Booleans as text, for the entries of an evaluation."""
    return "".join("01"[int(value)] for value in values.ravel())


def unpacked(text: str) -> list[bool]:
    """The inverse of `packed`, without the shape."""
    return [character == "1" for character in text]
