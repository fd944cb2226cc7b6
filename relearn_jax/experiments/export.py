"""A stage of a run as a Hugging Face folder."""

from __future__ import annotations

from pathlib import Path

from relearn_jax import runs
from relearn_jax.errors import UserError
from relearn_jax.experiments import environment
from relearn_jax.experiments.experiment import StageName
from relearn_jax.experiments.registry import experiment_of
from relearn_jax.models import checkpoint


def export(run: Path, name: StageName, to: Path) -> Path:
    """Write a stage of a run so that torch and this tool load it.

    Raises:
      UserError: no run, no such stage, its weights were not kept, the folder is not empty, or the
        stage cannot be said in weights alone.
    """
    config = runs.config_of(run)
    if to.exists() and any(to.iterdir()):
        raise UserError(f"{to} is not empty")
    exported = experiment_of(config).exported(config, run, name)
    environment.say(f"exporting {name.stage}")
    with runs.disk(to):
        checkpoint.save(to, exported.model, exported.params, exported.settings)
        # Saved by the tokenizer itself: GPT-2's must keep that words begin with a space.
        exported.tokenizer.save_pretrained(to)
    return to
