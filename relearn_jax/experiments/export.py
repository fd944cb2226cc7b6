"""Export of a stage as a Hugging Face folder."""

from __future__ import annotations

from pathlib import Path

from relearn_jax import runs
from relearn_jax.errors import UserError
from relearn_jax.experiments import environment
from relearn_jax.experiments.experiment import StageName
from relearn_jax.experiments.registry import experiment_of
from relearn_jax.models import checkpoint


def export(run: Path, name: StageName, to: Path) -> Path:
    """Write a stage of a run as a folder that torch and this tool can load.

    Raises:
      UserError: no run, no such stage, its weights were not kept, the folder is not empty, or
        weights alone do not describe the stage.
    """
    config = runs.config_of(run)
    if to.exists() and any(to.iterdir()):
        raise UserError(f"{to} is not empty")
    exported = experiment_of(config).exported(config, run, name)
    environment.say(f"exporting {name.stage}")
    with runs.disk(to):
        checkpoint.save(to, exported.model, exported.params, exported.settings)
        # The tokenizer saves itself, as GPT-2's must keep that words begin with a space.
        exported.tokenizer.save_pretrained(to)
    return to
