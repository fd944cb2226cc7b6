"""A checkpoint opened for a task: settings, architecture and digest, without tensors."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from relearn_jax import config
from relearn_jax.models import checkpoint, weights
from relearn_jax.models.checkpoint import Checkpoint
from relearn_jax.models.family import Task
from relearn_jax.models.transformer import Model


@dataclass(frozen=True)
class Pretrained:
    """A checkpoint and the model that it describes."""

    checkpoint: Checkpoint
    model: Model
    sha256: str
    """SHA-256 of settings, weights and tokenizer."""
    parameters: int

    def summary(self) -> dict[str, str | int]:
        """Entries of a manifest on the model."""
        size = self.model.config
        return {
            "source": self.checkpoint.origin, "family": self.model.family.name,
            "layers": size.layers, "width": size.width, "heads": size.heads,
            "parameters": self.parameters, "sha256": self.sha256,
        }  # fmt: skip


def open_pretrained(
    settings: config.Model,
    task: Task,
    labels: tuple[str, ...] = (),
    dropout: float | None = None,
    tokenizer: Path | None = None,
    defaults: Mapping[str, int] | None = None,
) -> Pretrained:
    """Open the checkpoint that a config names, and compare its tensors with the architecture.

    Args:
      settings: `source`, `revision`, `settings` and how to compute.
      task, labels: the task and the labels of the head.
      dropout: rate of all dropouts; None: the rates of the checkpoint.
      tokenizer: folder of a tokenizer that replaces the checkpoint's; it is part of the digest.
      defaults: settings for random weights that the config may leave out.

    Raises:
      UserError: see `checkpoint.open_checkpoint`, `describe` and `check`.
    """
    shape = {**(defaults or {}), **settings.settings}
    opened = checkpoint.open_checkpoint(settings.source, settings.revision, shape)
    model = checkpoint.describe(
        opened, task, labels, settings.dtype, dropout, settings.ignore_settings, settings.remat
    )
    checkpoint.check(opened, model)
    parameters = sum(math.prod(shape) for shape in weights.shapes(model).values())
    return Pretrained(opened, model, checkpoint.digest(opened, tokenizer), parameters)
