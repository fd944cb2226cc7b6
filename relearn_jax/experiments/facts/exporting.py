"""Export of a taught decoder as a Hugging Face folder."""

from __future__ import annotations

from pathlib import Path

from relearn_jax import runs
from relearn_jax.config import Localization
from relearn_jax.data.facts import reading
from relearn_jax.errors import UserError
from relearn_jax.experiments.experiment import Exported, StageName
from relearn_jax.experiments.facts.setup import open_decoder, world_of
from relearn_jax.experiments.facts.stages import MODEL, stage, stages
from relearn_jax.models import paths


def exported(config: Localization, run: Path, name: StageName) -> Exported:
    """The decoder of one seed.

    Raises:
      UserError: the run taught no decoder, has no such stage, or the stage has no parameters.
    """
    for option in ("arm", "group"):
        if getattr(name, option) is not None:
            raise UserError(f"{run}: a localization has no {option}s; leave out --{option}")
    if not config.taught:
        raise UserError(
            f"{run}: a localization changes no parameters, so there is nothing to export; its "
            f"model is {config.model.source}"
        )
    seeds = {stage(seed, MODEL): seed for seed in config.seeds}
    folder = name.stage
    if folder == MODEL:
        folder = stage(config.seeds[0] if name.seed is None else name.seed, MODEL)
    if folder not in seeds or not runs.has_arrays(run, folder, "params"):
        kept = ", ".join(s for s in stages(config) if runs.has_arrays(run, s, "params"))
        raise UserError(f"{run} has no parameters of a stage {folder}; it has {kept or 'none yet'}")
    data = reading.read(world_of(config, seeds[folder]), run)
    decoder = open_decoder(config, data)
    params = paths.unflatten(runs.arrays_of(run, folder, "params"))
    return Exported(decoder.model, params, decoder.checkpoint.settings, data.tokenizer)
