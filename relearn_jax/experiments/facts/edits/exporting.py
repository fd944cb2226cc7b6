"""Export of an edited decoder as a Hugging Face folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import numpy as np
from transformers import PreTrainedTokenizerFast

from relearn_jax import runs
from relearn_jax.config import Editing
from relearn_jax.data.facts import reading
from relearn_jax.errors import UserError
from relearn_jax.experiments.experiment import Exported, StageName
from relearn_jax.experiments.facts import stages as names
from relearn_jax.experiments.facts.edits.results import read_layers
from relearn_jax.experiments.facts.setup import open_decoder, tokenizer_of, world_of
from relearn_jax.models import checkpoint, overlay, paths, pretrained
from relearn_jax.models.pretrained import Pretrained

PyTree = Any


def exported(config: Editing, run: Path, name: StageName) -> Exported:
    """An edited decoder, a taught one, or an oracle.

    Raises:
      UserError: there is no such stage, or the stage has no parameters; or the pretrained weights
        are not those of the run.
    """
    if name.group is not None:
        raise UserError(f"{run}: an editing run has no groups; leave out --group")
    seed = config.seeds[0] if name.seed is None else name.seed
    kept = [
        folder.name
        for folder in sorted((run / "stages").glob("*"))
        if runs.has_arrays(run, folder.name, "params")
    ]
    folder = name.stage
    if folder not in kept:
        folder = names.edit_stage(seed, name.arm) if name.arm else names.stage(seed, name.stage)
    if folder not in kept:
        raise UserError(
            f"{run} has no parameters of a stage {folder}; it has {', '.join(kept) or 'none yet'}"
        )
    seed = int(folder.split("-")[0].removeprefix("seed"))
    decoder, tokenizer = _opened(config, run, seed)
    leaves = runs.arrays_of(run, folder, "params")
    params = paths.unflatten(leaves)
    if folder.startswith(names.edit_stage(seed, "")):
        before = _before(config, run, seed, decoder)
        params = jax.tree.map(np.asarray, overlay.filled(read_layers(run, folder), before, leaves))
    return Exported(decoder.model, params, decoder.checkpoint.settings, tokenizer)


def _opened(config: Editing, run: Path, seed: int) -> tuple[Pretrained, PreTrainedTokenizerFast]:
    if config.taught:
        data = reading.read(world_of(config.localization, seed), run)
        return open_decoder(config.localization, data), data.tokenizer
    decoder = pretrained.open_pretrained(config.model, "language-model")
    manifest = run / "manifest.json"
    if manifest.is_file():
        edited = runs.read_json(manifest)["model"]["sha256"]
        if edited != decoder.sha256:
            raise UserError(
                f"{decoder.checkpoint.origin}: these are not the weights that the run edited "
                f"(SHA-256 {decoder.sha256[:12]}, in the run {edited[:12]}); set model.source in "
                f"{run / 'config.yaml'} to where they are"
            )
    return decoder, tokenizer_of(config.localization)


def _before(config: Editing, run: Path, seed: int, decoder: Pretrained) -> PyTree:
    """The parameters before the edit."""
    if config.taught:
        return paths.unflatten(runs.arrays_of(run, names.stage(seed, names.MODEL), "params"))
    return checkpoint.load(decoder.checkpoint, decoder.model, jax.random.key(0))[0]
