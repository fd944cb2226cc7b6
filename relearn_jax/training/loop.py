"""One training round: epochs of steps, a few numbers a second to the log, no sync in between."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import jax
import optax

from relearn_jax.data.batching import TokenBatch
from relearn_jax.errors import UserError
from relearn_jax.models.transformer import Model
from relearn_jax.training.step import Round, State, Sums, start, train_step

PyTree = Any
Step = Callable[[State, TokenBatch, Round], tuple[State, Sums]]
LOG_EVERY = 25


def jitted(model: Model, optimizer: optax.GradientTransformation) -> Step:
    """The step body under plain jit, its state donated."""
    return jax.jit(partial(train_step, model, optimizer), donate_argnums=0)


def fit(
    step: Step,
    optimizer: optax.GradientTransformation,
    params: PyTree,
    round_: Round,
    epochs: int,
    batches: Callable[[int], Iterator[TokenBatch]],
    log: Callable[[dict[str, Any]], None],
    after_epoch: Callable[[int, PyTree], None],
    place: str,
) -> PyTree:
    """Train for one round with a fresh optimizer.

    Args:
      step: from `jitted`.
      optimizer: the one the step was made with.
      params: where to start; they are copied, not donated.
      round_: schedule, dropout key, sites and frozen entries.
      epochs: how many.
      batches: the batches of an epoch, counted from 0.
      log: takes {"step", "epoch", "loss", "sentences_per_s"}.
      after_epoch: called with epochs done and the parameters (evaluation).
      place: named in errors ("seed 0, concept, round 2").

    Returns:
      The trained parameters.

    Raises:
      UserError: the loss is not finite. Nothing is written then; the stage before stays.
    """
    state = start(params, optimizer)
    for epoch in range(epochs):
        began, rows = time.perf_counter(), 0
        pending: tuple[Sums, float] | None = None
        for number, batch in enumerate(batches(epoch), start=1):
            state, sums = step(state, batch, round_)
            rows += int((batch.row >= 0).sum())
            if number % LOG_EVERY == 0:
                # Read the numbers of one interval ago: the device is never waited for.
                if pending is not None:
                    _report(*pending, epoch, log, place)
                pending = (sums, rows / (time.perf_counter() - began))
        if pending is not None:
            _report(*pending, epoch, log, place)
        _check(int(state.bad_step), place)
        after_epoch(epoch + 1, state.params)
    return state.params


def _report(
    sums: Sums,
    speed: float,
    epoch: int,
    log: Callable[[dict[str, Any]], None],
    place: str,
) -> None:
    _check(int(sums.bad_step), place)
    loss = float(sums.loss) / max(float(sums.tokens), 1.0)
    speed = round(speed, 1)
    log({"step": int(sums.step), "epoch": epoch, "loss": loss, "sentences_per_s": speed})


def _check(bad_step: int, place: str) -> None:
    if bad_step >= 0:
        raise UserError(
            f"the loss is not finite at step {bad_step} of {place}. The stages finished before it "
            "are kept. Lower training.learning_rate, or compute in float32."
        )
