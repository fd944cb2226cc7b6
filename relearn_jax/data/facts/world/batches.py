"""Random training batches of the built-in world."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int

from relearn_jax.data.alignment import IGNORED
from relearn_jax.data.facts.world import chain
from relearn_jax.data.facts.world.athletes import World


class Batch(NamedTuple):
    """B lines of T tokens for a causal language model (`training.losses`)."""

    ids: Int[np.ndarray, "B T"]
    mask: Bool[np.ndarray, "B T"]
    labels: Int[np.ndarray, "B T"]
    """The next token where it has a loss: the answer after a prompt, and every symbol of random
    text except the first; IGNORED elsewhere."""


def training_batch(
    world: World,
    rng: np.random.Generator,
    batch_size: int,
    phase: str = "pretrain",
    leave_out: Int[np.ndarray, " n"] = (),
) -> Batch:
    """Lines of one phase, as int32: formats are drawn by the phase's mix, athletes uniformly.

    `leave_out`: athletes that are not taught, for a model that never knew them.
    """
    stage = world.phases[phase]
    athletes = np.setdiff1d(stage.athletes, leave_out)
    share = np.array(list(stage.mix.values()))
    kinds = rng.choice(len(share), batch_size, p=share / share.sum())
    length = world.settings.length
    ids = np.full((batch_size, length), world.tokenizer.pad_token_id, np.int32)
    mask = np.zeros(ids.shape, bool)
    labels = np.full(ids.shape, IGNORED, np.int32)
    for kind, name in enumerate(stage.mix):
        rows = np.flatnonzero(kinds == kind)
        if name == "text":
            ids[rows], mask[rows], labels[rows] = text_batch(world, rng, len(rows))
            continue
        lines = world.lines[name]
        candidates = np.arange(len(lines.ids)) if name == "golf" else athletes
        line = rng.choice(candidates, len(rows))
        ids[rows], mask[rows] = lines.ids[line], lines.mask[line]
        labels[rows, lines.last[line]] = lines.target[line]
    return Batch(ids, mask, labels)


def text_batch(world: World, rng: np.random.Generator, rows: int) -> Batch:
    """Lines of random text of full length.

    The first symbol cannot be predicted and has no label, so the least possible mean loss is
    `world.entropy`.
    """
    length = world.settings.length
    symbols = world.symbols[chain.draw(world.chain, rows, length - 1, rng)].astype(np.int32)
    ids = np.full((rows, length), world.tokenizer.bos_token_id, np.int32)
    ids[:, 1:] = symbols
    labels = np.full(ids.shape, IGNORED, np.int32)
    labels[:, 1:-1] = symbols[:, 1:]
    return Batch(ids, np.ones(ids.shape, bool), labels)
