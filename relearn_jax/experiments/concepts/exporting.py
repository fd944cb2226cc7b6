"""Export of a stage of a concept set as a Hugging Face folder."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from relearn_jax import runs
from relearn_jax.config import Relearning
from relearn_jax.data import tokenizer
from relearn_jax.errors import UserError
from relearn_jax.experiments.concepts import pruning, sets, snapshots
from relearn_jax.experiments.concepts.sets import ConceptSet
from relearn_jax.experiments.concepts.setup import tokenizer_folder
from relearn_jax.experiments.experiment import Exported, StageName
from relearn_jax.models import checkpoint, masks, paths


def exported(config: Relearning, run: Path, name: StageName) -> Exported:
    """The model of stage `base`, `pruned` or `roundN` of a concept set.

    Raises:
      UserError: no such stage, its weights were not kept, or weights alone do not describe it.
    """
    concept_set, stage = _named(config, name)
    folder = sets.stage_name(concept_set, stage)
    finished = sorted(path.parent.name for path in (run / "stages").glob("*/stage.json"))
    if folder not in finished:
        stages = ", ".join(n for n in finished if not n.endswith("-neurons")) or "none yet"
        raise UserError(f"{run} has no stage {folder}; it has {stages}")
    source = sets.stage_name(concept_set, "base") if stage == "pruned" else folder
    if not runs.has_arrays(run, source, "params"):
        raise UserError(
            f"the weights of {folder} were not kept (only the last round's are); a new run "
            "directory with --keep=all keeps every round's"
        )
    record = runs.read_json(run / "model.json")
    if record["folder"] is None:
        raise UserError("a model of random weights has no folder whose settings could be exported")
    opened = checkpoint.open_checkpoint(record["folder"])
    model = checkpoint.describe(
        opened, "token-classification", tuple(record["labels"]), config.model.dtype,
        ignore_settings=config.model.ignore_settings,
    )  # fmt: skip
    # Read from the record of the pruned stage, as the config may have changed since.
    pruned = sets.stage_name(concept_set, "pruned")
    pruned_record = {} if stage == "base" else runs.read_json(runs.record_file(run, pruned))
    if pruned_record.get("target") == "state_mask":
        raise UserError(
            "prune.target state_mask acts on the forward pass, so weights cannot describe it; "
            "where a block ends in a LayerNorm, ln_gain_bias gives the same hidden states and can "
            "be exported"
        )
    params = paths.unflatten(runs.arrays_of(run, source, "params"))
    if stage == "pruned":
        pruned_neurons = ~runs.arrays_of(run, pruned, "mask")["keep"]
        mask = pruning.mask_of(
            model, pruned_record["target"], pruned_record["site"], pruned_neurons
        )
        params = masks.remove(params, mask)
    params = {path: np.asarray(leaf) for path, leaf in paths.flatten(params).items()}
    tokenizer_path = tokenizer_folder(config) or opened.folder
    return Exported(
        model, paths.unflatten(params), opened.settings, tokenizer.load_tokenizer(tokenizer_path)
    )


def _named(config: Relearning, name: StageName) -> tuple[ConceptSet, str]:
    """The set and stage of the options; seed and group default to the first.

    The full name of a folder (`seed0-LOC-0.5-free-concept-round1`) replaces all options.
    """
    for concept_set in sets.product(config):
        for stage in snapshots.stages(config):
            if sets.stage_name(concept_set, stage) == name.stage:
                return concept_set, stage
    groups = sets.groups(config)
    names = [sets.group_name(group) for group in groups]
    if name.group is not None and name.group not in names:
        raise UserError(f"--group {name.group}: the run has {', '.join(names)}")
    group = groups[0] if name.group is None else groups[names.index(name.group)]
    seed = config.seeds[0] if name.seed is None else name.seed
    return ConceptSet(seed, group, name.arm or "concept"), name.stage
