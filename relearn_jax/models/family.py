"""The description of a model family; all other code about models is generic."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import flax.linen as nn
import jax.numpy as jnp
import numpy as np

from relearn_jax.models.settings import Settings

Task = Literal["token-classification", "language-model", "backbone"]


@dataclass(frozen=True)
class Row:
    """A row of a weight table: a Hugging Face name, our path, and the change between them.

    `{l}` in the name is the layer; our leaf stacks all layers on axis 0. `transpose` swaps the two
    axes of a matrix. `prefixed` names have the family's prefix in checkpoints with a head.
    """

    theirs: str
    ours: str
    change: Literal["same", "transpose"] = "same"
    prefixed: bool = True


def linear(theirs: str, ours: str, prefixed: bool = True) -> tuple[Row, Row]:
    """Rows of an affine map that torch stores as [out, in]."""
    return (
        Row(f"{theirs}.weight", f"{ours}/kernel", "transpose", prefixed),
        Row(f"{theirs}.bias", f"{ours}/bias", "same", prefixed),
    )


def matrix(theirs: str, ours: str) -> Row:
    """The row of a linear map without bias that torch stores as [out, in]."""
    return Row(f"{theirs}.weight", f"{ours}/kernel", "transpose")


def conv1d(theirs: str, ours: str) -> tuple[Row, Row]:
    """Rows of an affine map that GPT-2 stores as [in, out]."""
    return Row(f"{theirs}.weight", f"{ours}/kernel"), Row(f"{theirs}.bias", f"{ours}/bias")


def norm(theirs: str, ours: str, prefixed: bool = True) -> tuple[Row, Row]:
    """Rows of a layer norm."""
    return (
        Row(f"{theirs}.weight", f"{ours}/scale", "same", prefixed),
        Row(f"{theirs}.bias", f"{ours}/bias", "same", prefixed),
    )


@dataclass(frozen=True)
class Family:
    """Modules, weight names and neurons of one architecture.

    `embed(config, dtype)(inputs, keys)` gives hidden state 0. `block(config, dtype)(h, inputs, row,
    keys)` gives the next state and the activations `Inside` the block; `row` is the interventions
    on it. `final`, if any, makes the last state from the last block's output.
    `neurons[target][path]` is the axis of the neuron in that stacked leaf, for each pruning target.
    If layers see different spans, `windows(config)` [L] is the number of positions that each sees,
    a token's own included, and blocks take a `window`. Blocks of a `causal` family take a `past`. A
    language head that is not `tied(config)` to the word embedding has its own vectors,
    "head/word/embedding". `heads(config)[path]` is the axis of a stacked matrix that is divided
    among heads, and the entries that each head owns.
    """

    name: str
    parse: Callable[[Settings], Any]
    embed: Callable[[Any, jnp.dtype], nn.Module]
    block: Callable[[Any, jnp.dtype], nn.Module]
    final: Callable[[Any, jnp.dtype], nn.Module] | None
    classifier: Callable[[Any, int], nn.Module]
    language_head: Callable[[Any, jnp.dtype], nn.Module]
    table: tuple[Row, ...]
    prefix: str
    ignored: tuple[str, ...]
    neurons: Mapping[str, Mapping[str, int]]
    architectures: Mapping[Task, str]
    causal: bool = False
    windows: Callable[[Any], np.ndarray] | None = None
    tied: Callable[[Any], bool] = lambda config: True
    heads: Callable[[Any], Mapping[str, tuple[int, np.ndarray]]] | None = None


def owned(heads: int, width: int, kv_heads: int | None = None, copies: int = 1) -> np.ndarray:
    """Which entries of an axis belong to each head: bool [heads, copies * kv_heads * width].

    Heads stand side by side, `width` entries each, repeated `copies` times: 3 for a matrix of
    queries, keys and values. With fewer `kv_heads` than heads, neighbours own the same entries.
    """
    kv_heads = kv_heads or heads
    entries = np.kron(np.eye(kv_heads, dtype=bool), np.ones((heads // kv_heads, width), bool))
    return np.tile(entries, (1, copies))
