"""Running text for language models: batches to train on, and a fixed batch to measure a loss on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from jaxtyping import Int

from relearn_jax.data.alignment import IGNORED
from relearn_jax.data.batching import TokenBatch
from relearn_jax.data.corpus import digest
from relearn_jax.data.facts import world as worlds
from relearn_jax.data.facts.world import World
from relearn_jax.data.readers.files import read_lines
from relearn_jax.errors import UserError
from relearn_jax.models.inputs import Inputs

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast


class RunningText(NamedTuple):
    """A source of running text."""

    draw: Callable[[np.random.Generator, int], TokenBatch]
    """Takes a generator and a number of rows; gives a batch to train on."""
    test: TokenBatch
    """Text that is only measured."""
    entropy: float
    """Least possible mean loss of the text in nats a token; 0 where it is not known."""
    digest: str
    """SHA-256 (hex) of all tokens; of a world, whose settings say it all, empty."""


def of_world(world: World, seed: int, lines: int = 256) -> RunningText:
    """The random text of the built-in world; `seed` draws the text that is measured."""

    def draw(rng: np.random.Generator, count: int) -> TokenBatch:
        ids, mask, labels = worlds.text_batch(world, rng, count)
        return TokenBatch(Inputs(ids, mask), labels, np.arange(count, dtype=np.int32))

    return RunningText(draw, draw(np.random.default_rng((seed, 7)), lines), world.entropy, "")


def of_files(
    train: Path,
    test: Path | None,
    tokenizer: PreTrainedTokenizerFast,
    length: int,
    windows: int,
    seed: int,
) -> RunningText:
    """Text of files, cut into windows of `length` tokens, each after the tokenizer's first token.

    Args:
      train: the file to train on.
      test: the file to measure; None: the last tenth of the windows of `train`, which are then
        left out of training.
      tokenizer: of the model, loaded with `words=False`.
      length: tokens of a window.
      windows: largest number of windows to measure.
      seed: draws them.

    Raises:
      UserError: a file cannot be read, or has fewer tokens than two windows.
    """
    shown = _windows(train, tokenizer, length)
    if test is None:
        count = max(len(shown) // 10, 1)
        shown, measured = shown[:-count], shown[-count:]
    else:
        measured = _windows(test, tokenizer, length)
    if not len(shown):
        raise UserError(f"{train}: fewer than two windows of {length} tokens; give more text")
    chosen = np.random.default_rng((seed, 7)).permutation(len(measured))[:windows]

    def draw(rng: np.random.Generator, count: int) -> TokenBatch:
        return _batch(shown[rng.integers(len(shown), size=count)])

    tokens = digest(shown.tolist(), measured.tolist())
    return RunningText(draw, _batch(measured[np.sort(chosen)]), 0.0, tokens)


def _windows(path: Path, tokenizer: PreTrainedTokenizerFast, length: int) -> Int[np.ndarray, "N T"]:
    lines = [line + "\n" for line in read_lines(path) if line.strip()]
    pieces = tokenizer(lines, add_special_tokens=False)["input_ids"]
    tokens = np.array([token for line in pieces for token in line], np.int32)
    first = tokenizer.bos_token_id
    room = length - (first is not None)
    count = len(tokens) // room
    if not count:
        raise UserError(f"{path}: {len(tokens)} tokens, fewer than a window of {length}")
    rows = tokens[: count * room].reshape(count, room)
    if first is None:
        return rows
    return np.concatenate([np.full((count, 1), first, np.int32), rows], axis=1)


def _batch(ids: Int[np.ndarray, "B T"]) -> TokenBatch:
    labels = np.full_like(ids, IGNORED)
    labels[:, :-1] = ids[:, 1:]
    rows = np.arange(len(ids), dtype=np.int32)
    return TokenBatch(Inputs(ids, np.ones(ids.shape, bool)), labels, rows)
