"""A stage of a run as a Hugging Face folder."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from relearn_jax import runs
from relearn_jax.config import Config
from relearn_jax.data import tokenizer
from relearn_jax.errors import UserError
from relearn_jax.experiments import environment
from relearn_jax.experiments.concepts import sets, setup
from relearn_jax.experiments.concepts.sets import ConceptSet
from relearn_jax.models import checkpoint, weights
from relearn_jax.neurons import masks
from relearn_jax.neurons.masks import NeuronMask


def export(
    run: Path,
    stage: str,
    to: Path,
    seed: int | None = None,
    arm: str = "concept",
    group: str | None = None,
) -> Path:
    """Write `base`, `pruned` or `roundN` of one concept set so that torch and this tool load it.

    Raises:
      UserError: no such stage, its weights were not kept, the folder is not empty, or the stage
        cannot be said in weights alone.
    """
    if not (run / "config.yaml").is_file():
        raise UserError(f"{run}: no run directory (it has no config.yaml)")
    config = runs.config_of(run)
    one = _chosen(config, seed, arm, group)
    name = sets.stage_name(one, stage)
    have = sorted(p.parent.name for p in (run / "stages").glob("*/stage.json"))
    if name not in have:
        stages = ", ".join(n for n in have if not n.endswith("-neurons")) or "none yet"
        raise UserError(f"{run} has no stage {name}; it has {stages}")
    if to.exists() and any(to.iterdir()):
        raise UserError(f"{to} is not empty")

    source = sets.stage_name(one, "base") if stage == "pruned" else name
    if not runs.has_arrays(run, source, "params"):
        raise UserError(
            f"the weights of {name} were not kept (only the last round's are); a new run "
            "directory with --keep=all keeps every round's"
        )
    about = runs.read_json(run / "model.json")
    if about["folder"] is None:
        raise UserError("a model of random weights has no folder whose settings could be exported")
    opened = checkpoint.open_checkpoint(about["folder"])
    model = checkpoint.describe(
        opened, "token-classification", tuple(about["labels"]), config.model.dtype,
        ignore_settings=config.model.ignore_settings,
    )  # fmt: skip
    params = weights.unflatten(runs.arrays_of(run, source, "params"))
    pruning = _pruning(run, one) if stage != "base" else {}
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
    folder = setup.tokenizer_folder(config, run.resolve()) or opened.folder
    tok = tokenizer.load_tokenizer(folder)
    environment.say(f"exporting {name}")
    with runs.disk(to):
        checkpoint.save(to, model, weights.unflatten(params), opened.settings)
        # Saved by the tokenizer itself: GPT-2's must keep that words begin with a space.
        tok.save_pretrained(to)
    return to


def _chosen(config: Config, seed: int | None, arm: str, group: str | None) -> ConceptSet:
    """The set that the options name; the first seed and group where they name none."""
    known = sets.groups(config)
    names = [sets.group_name(one) for one in known]
    if group is not None and group not in names:
        raise UserError(f"--group {group}: the run has {', '.join(names)}")
    chosen = known[0] if group is None else known[names.index(group)]
    return ConceptSet(config.seeds[0] if seed is None else seed, chosen, arm)


def _pruning(run: Path, one: ConceptSet) -> dict:
    """What the set's pruned stage says of itself; the config may have changed since."""
    return runs.read_json(runs.stage_folder(run, sets.stage_name(one, "pruned")) / "stage.json")
