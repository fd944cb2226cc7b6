"""Sources and results of a relearning run, for its manifest and its last line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import pandas as pd

from relearn_jax import runs
from relearn_jax.config import Relearning, Source
from relearn_jax.data.corpus import Corpus
from relearn_jax.evaluation import selectivity
from relearn_jax.experiments.concepts import chunks, pruning, sets, snapshots
from relearn_jax.experiments.concepts.sets import ConceptSet, Group
from relearn_jax.experiments.concepts.setup import Setup
from relearn_jax.experiments.concepts.texts import key_of, retraining


def sources(setup: Setup) -> dict[str, str]:
    """SHA-256 of everything that was read."""
    texts = setup.texts
    digests = {
        "the text train": texts.train.corpus.digest,
        "the text evaluation": texts.evaluation.corpus.digest,
        "the text concepts": setup.probed.corpus.digest,
        "the pretrained weights or the tokenizer": setup.pretrained.sha256,
        "the file of tracking.vectors": setup.probed.vectors_sha256,
    }
    return digests | {
        f"the retraining text of {_drawn_for(setup.config, concept_set)}": retraining(
            setup.config, texts, concept_set
        ).corpus.digest
        for concept_set in sets.product(setup.config)
        if concept_set.arm == "concept"
    }


def _drawn_for(config: Relearning, concept_set: ConceptSet) -> str:
    """The set whose seed draws its retraining text, else the group that it is for."""
    drawn = key_of(config, concept_set)[2] is not None
    return sets.set_name(concept_set) if drawn else sets.group_name(concept_set.group)


def meshes(setup: Setup, out: Path) -> dict[str, dict[str, int]]:
    """Sizes of the mesh axes, by the number of sets side by side."""
    grids = chunks.grids(setup.config, setup.texts, chunks.recorded(out))
    return {str(number): dict(grid.shape) for number, grid in grids.items()}


def manifest(setup: Setup, out: Path) -> dict[str, Any]:
    """Entries of the manifest that only a relearning run has."""
    config, texts, data = setup.config, setup.texts, setup.probed.concepts
    rows, channels = setup.shape
    groups = [_group(setup, out, group) for group in sets.groups(config)]
    retrain = retraining(config, texts, sets.product(config)[0]).corpus
    concept_text = _text(config.concepts.data, setup.probed.corpus) | {
        "sentences": len(data.words),
        "words": int(sum(map(len, data.kind))),
        "types": len(data.types),
    }
    return {
        "arms": list(sets.arms(config)),
        "target": groups[0]["target"],
        "concepts": list(data.names[:-1]),
        "neurons": {"rows": rows, "channels": channels, "site": config.concepts.site},
        "model": setup.pretrained.summary()
        | {"tokenizer": config.model.tokenizer or setup.pretrained.checkpoint.origin},
        "data": {
            "train": _text(config.data.train, texts.train.corpus),
            "evaluation": _text(config.data.evaluation, texts.evaluation.corpus),
            "retrain": _text(config.retrain.source, retrain),
            "concepts": concept_text,
        },
        "prune": groups[0]["prune"],
        "groups": groups,
        "sets": {
            "count": len(sets.unique(config)),
            "chunk": chunks.recorded(out),
            "devices": jax.device_count(),
        },
        "rounds": config.retrain.rounds,
        "epochs_per_round": config.retraining.epochs,
    }


def _text(source: Source, corpus: Corpus) -> dict[str, Any]:
    return {
        "source": corpus.source, "sentences": len(corpus.words), "sha256": corpus.digest,
        "generated": corpus.generated, "note": source.note,
    }  # fmt: skip


def _group(setup: Setup, out: Path, group: Group) -> dict[str, Any]:
    """Entry of a group, with the exact number of parameters once its first set has been pruned."""
    config = setup.config
    rows, channels = setup.shape
    concept_set = next(s for s in sets.product(config) if s.group == group and s.arm == "concept")
    name = sets.stage_name(concept_set, "pruned")
    pruned = parameters = None
    if runs.has_arrays(out, name, "mask"):
        neurons = ~runs.arrays_of(out, name, "mask")["keep"]
        pruned = int(neurons.sum())
        parameters = pruning.parameter_count(
            setup.pretrained.model, config.prune.target, config.concepts.site, neurons
        )
    return {
        "name": sets.group_name(group),
        **group._asdict(),
        "ranking": sets.prune_settings(config, group).ranking,
        "retrain": retraining(config, setup.texts, concept_set).corpus.digest,
        "text": key_of(config, concept_set)[1],
        "prune": {
            "requested": sets.requested(config, group, setup.shape), "pruned": pruned,
            "of": rows * channels, "parameters": parameters, "target": config.prune.target,
            "regrowth": group.regrowth,
        },
    }  # fmt: skip


def headline(setup: Setup, out: Path) -> str:
    """For each group whether the damage is specific, and the mean F1 of every stage."""
    config = setup.config
    damage = pd.read_parquet(out / "tables" / "damage.parquet")
    damage = damage[damage["seed"].isna() & (damage["arm"] == "concept")].set_index("group")
    scores = pd.read_parquet(out / "tables" / "scores.parquet")
    parts = []
    for group in sets.groups(config):
        rows = scores[(scores.variant == "word") & (scores["group"] == sets.group_name(group))]
        kind = group.target if (rows.type == group.target).any() else "all"
        rows = rows[(rows.type == kind) & rows.arm.isin(["base", "concept"])]
        mean = rows.groupby("stage").f1.mean()
        f1 = ", ".join(f"{s} {mean[s]:.3f}" for s in snapshots.stages(config) if s in mean)
        parts.append(f"{_damage(damage, group, kind)}{kind} F1: {f1}")
    seeds = scores.seed.nunique()
    return f"{'; '.join(parts)} ({'one seed' if seeds == 1 else f'mean of {seeds} seeds'})"


def _damage(damage: pd.DataFrame, group: Group, kind: str) -> str:
    """What pruning did to a group's models, in a sentence; empty before any is pruned."""
    name = sets.group_name(group)
    if name not in damage.index:
        return ""
    row = damage.loc[name]
    verdict = selectivity.sentence(row["kind"], kind)
    control = f", {kind} in the control {row.control_pruned:.3f}"
    return (
        f"{verdict} ({row.others}: {row.others_base:.3f}, pruned {row.others_pruned:.3f}"
        f"{control if row.control_pruned == row.control_pruned else ''}; accuracy over words "
        f"{row.base_accuracy:.3f}, pruned {row.accuracy:.3f}). "
    )
