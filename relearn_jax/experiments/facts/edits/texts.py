"""Batches of an edit and of an attack: prompts with answers, and running text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

import numpy as np
from jaxtyping import Int

from relearn_jax.data.alignment import IGNORED
from relearn_jax.data.batching import TokenBatch
from relearn_jax.data.facts import reading
from relearn_jax.data.facts.prompts import Prompts
from relearn_jax.data.facts.reading import FactData
from relearn_jax.data.facts.splits import Split
from relearn_jax.data.running_text import RunningText
from relearn_jax.editing.objectives import FORGET, INJECTED, PLAIN, RETAIN
from relearn_jax.models.inputs import Inputs
from relearn_jax.training.losses import Text, Texts
from relearn_jax.training.step import Batches

VALIDATION = 5


def retained(split: Split) -> tuple[Int[np.ndarray, " r"], Int[np.ndarray, " v"]]:
    """The retained facts that a loss holds, and those that only choose its settings: every fifth.

    With fewer than five facts, all serve for both.
    """
    validation = np.arange(len(split.retain)) % VALIDATION == VALIDATION - 1
    if not validation.any():
        return split.retain, split.retain
    return split.retain[~validation], split.retain[validation]


def with_answers(prompts: Prompts, answers: Int[np.ndarray, " B"]) -> TokenBatch:
    """Prompts as a text whose only labels are the answers, at each prompt's last token."""
    count = len(prompts.ids)
    labels = np.full(prompts.ids.shape, IGNORED, np.int32)
    labels[np.arange(count), prompts.last] = answers
    return TokenBatch(Inputs(prompts.ids, prompts.mask), labels, np.arange(count, dtype=np.int32))


def answered_once(texts: Texts) -> dict[str, Text]:
    """Texts of a step whose prompts, but not the running text, have one labelled token each."""
    return {
        name: text if name == PLAIN else text._replace(labelled=1) for name, text in texts.items()
    }


def rows_of(text: TokenBatch, rows: Int[np.ndarray, " b"]) -> TokenBatch:
    """Some sentences of a text."""
    ids, mask = text.inputs
    return TokenBatch(Inputs(ids[rows], mask[rows]), text.labels[rows], text.row[rows])


def filled(batches: Batches, rows: int) -> Batches:
    """Batches with rows of padding, without labels, up to `rows` rows."""

    def fill(x: np.ndarray, value: float) -> np.ndarray:
        missing = [(0, rows - len(x)), *[(0, 0)] * (x.ndim - 1)]
        return np.pad(x, missing, constant_values=value)

    return {
        name: TokenBatch(
            Inputs(fill(batch.inputs.ids, 0), fill(batch.inputs.mask, False)),
            fill(batch.labels, IGNORED),
            fill(batch.row, -1),
        )
        for name, batch in batches.items()
    }


def passes(rng: np.random.Generator, count: int, size: int) -> Iterator[Int[np.ndarray, " b"]]:
    """Batches of row numbers without end; every row occurs once in each pass, in random order.

    With fewer rows than `size`, a batch holds several passes.
    """
    waiting = np.empty(0, int)
    while True:
        while len(waiting) < size:
            waiting = np.concatenate([waiting, rng.permutation(count)])
        yield waiting[:size]
        waiting = waiting[size:]


def parts_of(split: Split, parts: int) -> list[Int[np.ndarray, " f"]]:
    """The facts to forget in parts, whose sizes differ by at most one."""
    return np.array_split(split.forget, parts)


def edit_batches(
    data: FactData,
    format: str,
    rows: Int[np.ndarray, " f"],
    seed: int,
    size: int,
    steps: int,
    running: RunningText | None,
    refusal: int | None = None,
) -> Iterator[Batches]:
    """The texts of each step of an edit of the facts `rows`.

    Forgotten and injected answers go row by row. `running` is None for an edit without text;
    `refusal` is a token id that is put in for all facts in place of their wrong answers.
    """
    forget, _ = reading.ask(data, rows, format)
    keep, _ = reading.ask(data, retained(data.split)[0], format)
    texts = {
        FORGET: with_answers(forget, forget.target),
        INJECTED: with_answers(
            forget,
            forget.others[:, 0] if refusal is None else np.full(len(forget.ids), refusal),
        ),
        RETAIN: with_answers(keep, keep.target),
    }
    draws, text_rng = np.random.default_rng((seed, 1)).spawn(2)
    of_forget, of_retain = draws.spawn(2)
    forgotten = passes(of_forget, len(forget.ids), size)
    kept = passes(of_retain, len(keep.ids), size)
    for _ in range(steps):
        drawn = next(forgotten)
        batches = {name: rows_of(texts[name], drawn) for name in (FORGET, INJECTED)}
        batches[RETAIN] = rows_of(texts[RETAIN], next(kept))
        if running is not None:
            batches[PLAIN] = running.draw(text_rng, size)
        yield batches


def attack_batches(
    data: FactData,
    format: str,
    halves: Sequence[Int[np.ndarray, " h"]],
    seeds: Sequence[int],
    size: int,
    steps: int,
    running: RunningText | None,
    labels: Literal["right", "injected"] = "right",
) -> Iterator[list[Batches]]:
    """The texts of each step of an attack, for each of C attackers.

    Args:
      data: facts and their split.
      format: the format of the prompts.
      halves: the facts that each attacker relearns, as indices of all facts.
      seeds: the attackers' seeds; attackers with the same seed see the same retained facts.
      size: rows of each text.
      steps: number of steps.
      running: running text; None without it.
      labels: the answers that are taught.
    """

    def answers(prompts: Prompts) -> np.ndarray:
        return prompts.target if labels == "right" else prompts.others[:, 0]

    keep, _ = reading.ask(data, retained(data.split)[0], format)
    kept = with_answers(keep, answers(keep))
    # All halves are asked together, so that the batches of all attackers have one length.
    prompts, facts = reading.ask(data, np.unique(np.concatenate(halves)), format)
    answered = with_answers(prompts, answers(prompts))
    relearned = [rows_of(answered, np.flatnonzero(np.isin(facts, half))) for half in halves]
    streams = [np.random.default_rng((seed, 2)).spawn(3) for seed in seeds]
    own = [
        passes(stream[0], len(text.labels), size)
        for stream, text in zip(streams, relearned, strict=True)
    ]
    others = [passes(stream[1], len(keep.ids), size) for stream in streams]
    for _ in range(steps):
        step = []
        for c, text in enumerate(relearned):
            batches = {
                FORGET: rows_of(text, next(own[c])),
                RETAIN: rows_of(kept, next(others[c])),
            }
            if running is not None:
                batches[PLAIN] = running.draw(streams[c][2], size)
            step.append(batches)
        yield step
