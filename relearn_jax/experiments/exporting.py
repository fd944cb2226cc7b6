"""A stage of a run as a Hugging Face folder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import yaml

from relearn_jax import loading, runs
from relearn_jax.config import Config
from relearn_jax.data import tokenizer
from relearn_jax.errors import UserError
from relearn_jax.experiments.relearning import stage_name
from relearn_jax.models import checkpoint, weights
from relearn_jax.neurons import masks
from relearn_jax.neurons.masks import NeuronMask


def export(run: Path, stage: str, to: Path, seed: int | None = None, arm: str = "concept") -> Path:
    """Write `base`, `pruned` or `roundN` of one seed and arm so that torch and this tool load it.

    Raises:
      UserError: no such stage, its weights were not kept, the folder is not empty, or the stage
        cannot be said in weights alone.
    """
    if not (run / "config.yaml").is_file():
        raise UserError(f"{run}: no run directory (it has no config.yaml)")
    config = loading.build(
        Config, yaml.safe_load((run / "config.yaml").read_text()), str(run / "config.yaml"), ""
    )
    seed = config.seeds[0] if seed is None else seed
    name = stage_name(seed, arm, stage)
    have = sorted(p.parent.name for p in (run / "stages").glob("*/stage.json"))
    if name not in have:
        stages = ", ".join(n for n in have if not n.endswith("-neurons"))
        raise UserError(f"{run} has no stage {name}; it has {stages}")
    if to.exists() and any(to.iterdir()):
        raise UserError(f"{to} is not empty")

    source = stage_name(seed, arm, "base") if stage == "pruned" else name
    if not runs.has_arrays(run, source, "params"):
        raise UserError(
            f"the weights of {name} were not kept (only the last round's are); a new run "
            "directory with --keep=all keeps every round's"
        )
    about = runs.read_json(run / "model.json")
    opened = checkpoint.open_checkpoint(about["folder"])
    model = checkpoint.describe(
        opened, "token-classification", tuple(about["labels"]), config.model.dtype,
        ignore_settings=config.model.ignore_settings,
    )  # fmt: skip
    params = weights.unflatten(runs.arrays_of(run, source, "params"))
    pruning = _pruning(run, seed, arm) if stage != "base" else {}
    if pruning.get("target") == "state_mask":
        raise UserError(
            "prune.target state_mask acts on the forward pass and cannot be said in weights; "
            "ln_gain_bias gives the same hidden states in BERT and DistilBERT and can"
        )
    if stage == "pruned":
        keep = runs.arrays_of(run, name, "mask")["keep"]
        leaves = model.family.neurons[pruning["target"]]
        mask = NeuronMask(keep, pruning["site"])
        params = masks.apply(params, masks.expand(mask, params, leaves))
    params = {k: np.asarray(v) for k, v in weights.flatten(params).items()}
    with runs.disk(to):
        checkpoint.save(to, model, weights.unflatten(params), opened.settings)
        # Saved by the tokenizer itself: GPT-2's must keep that words begin with a space.
        tokenizer.load_tokenizer(opened.folder).save_pretrained(to)
    return to


def _pruning(run: Path, seed: int, arm: str) -> dict:
    """What the arm's pruned stage says of itself; the config may have changed since."""
    return runs.read_json(runs.stage_folder(run, stage_name(seed, arm, "pruned")) / "stage.json")
