"""One training round: epochs of steps, logged every few steps without waiting for the devices.

C concept sets are trained side by side; State, Sums and places have one entry for each set.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Int

from relearn_jax.errors import UserError
from relearn_jax.training.step import Batches, Round, State, Step, Sums

LOG_EVERY = 25
IN_FLIGHT = 3
"""Steps that the host may run ahead of the devices: enough to keep the devices busy, few enough
that measured speeds are true and a stop is quick."""


class Position(NamedTuple):
    """Progress of a round: complete epochs done, and batches done of the next epoch."""

    epoch: int = 0
    batch: int = 0


class Callbacks(NamedTuple):
    """Callbacks of a round.

    log: takes lists of {"step", "epoch", "loss", "sentences_per_s"}, one entry for each set; the
    speed counts one set's sentences, and of them this process's share.
    due: called after every step; true where `reached` should be called.
    reached: takes the position and the state, after `log` has taken all earlier lines.
    after_epoch: takes the same at the end of an epoch, whose batches are all done.
    """

    log: Callable[[list[dict[str, Any]]], None]
    due: Callable[[Position], bool]
    reached: Callable[[Position, State], None]
    after_epoch: Callable[[Position, State], None]


def fit(
    step: Step,
    state: State,
    round_: Round,
    epochs: int,
    batches: Callable[[int, int], Iterator[Batches]],
    callbacks: Callbacks,
    places: Sequence[str],
    begin: Position = Position(),  # noqa: B008 (immutable)
) -> State:
    """Train for one round, or for what is left of it.

    Args:
      step: from `parallel.drivers.make`.
      state: where to start; it is donated.
      round_: schedule, dropout keys, sites and frozen entries.
      epochs: number of epochs of the round.
      batches: takes an epoch, counted from 0, and how many batches to skip; gives the others.
      callbacks: callbacks.
      places: names of the sets in errors ("seed 0, concept, round 2").
      begin: epochs and batches that `state` has behind it.

    Returns:
      The last state.

    Raises:
      UserError: a loss is not finite. Nothing is written then; finished stages are kept.
    """
    for epoch in range(begin.epoch, epochs):
        done = begin.batch if epoch == begin.epoch else 0
        began, rows = time.perf_counter(), 0
        # Numbers are logged one interval later, so that the host need not wait for the devices.
        lines: deque[tuple[Sums, float]] = deque()
        sums: Sums | None = None
        in_flight: deque[Sums] = deque()
        position: Position | None = None
        for number, batch in enumerate(batches(epoch, done), start=done + 1):
            state, sums = step(state, batch, round_)
            rows += _sentences(batch)
            in_flight.append(sums)
            if len(in_flight) > IN_FLIGHT:
                jax.block_until_ready(in_flight.popleft())
            if number % LOG_EVERY == 0:
                _report(lines, epoch, callbacks, places)
                lines.append((sums, rows / (time.perf_counter() - began)))
            position = Position(epoch, number)
            if callbacks.due(position):
                _report(lines, epoch, callbacks, places)
                callbacks.reached(position, state)
        _report(lines, epoch, callbacks, places)
        if sums is not None:
            check_finite(sums.bad_step, places)
        callbacks.after_epoch(position or Position(epoch, done), state)
    return state


def _sentences(batches: Batches) -> int:
    """Real rows of one set in a step, over all its texts."""
    return sum(
        int((text.row.reshape(-1, text.row.shape[-1])[0] >= 0).sum()) for text in batches.values()
    )


def _report(
    lines: deque[tuple[Sums, float]], epoch: int, callbacks: Callbacks, places: Sequence[str]
) -> None:
    while lines:
        sums, speed = lines.popleft()
        check_finite(sums.bad_step, places)
        columns = {"step": np.asarray(sums.step), "loss": np.asarray(sums.loss)}
        if len(sums.terms) > 1:
            columns |= {name: np.asarray(term.mean) for name, term in sums.terms.items()}
        shared = {"epoch": epoch, "sentences_per_s": round(speed, 1)}
        callbacks.log(
            [
                {name: values[c].item() for name, values in columns.items()} | shared
                for c in range(len(columns["step"]))
            ]
        )


def check_finite(bad_step: Int[Array, " C"], places: Sequence[str]) -> None:
    """Raise UserError if a set had a loss that was not finite (`State.bad_step`)."""
    for step, place in zip(np.asarray(bad_step), places, strict=False):
        if step >= 0:
            raise UserError(
                f"the loss is not finite at step {step} of {place}. Finished stages are kept. "
                "Lower the learning rate, or compute in float32 (model.dtype)."
            )
