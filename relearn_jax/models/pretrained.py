"""A checkpoint opened for a task: its settings, its architecture, its digest, no tensor yet."""

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
    """Of settings, weights and tokenizer."""
    parameters: int

    def summary(self) -> dict[str, str | int]:
        """What a manifest says of the model."""
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
      task, labels: what the head is for.
      dropout: None: what the checkpoint says.
      tokenizer: the folder of a tokenizer other than the checkpoint's own; it enters the digest.
      defaults: settings of a model of random weights that the config may leave out.

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
