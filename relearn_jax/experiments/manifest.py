"""What was run, on what, with what: enough to run it again, and what the report shows of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import numpy as np

from relearn_jax import loading, runs
from relearn_jax.experiments.concepts import chunks, sets, snapshots
from relearn_jax.experiments.concepts.sets import Group
from relearn_jax.experiments.concepts.setup import Prepared, requested
from relearn_jax.models import weights
from relearn_jax.neurons import masks


def build(prepared: Prepared, out: Path, facts: dict[str, Any]) -> dict[str, Any]:
    """What was run, on what, with what: enough to run it again."""
    config, model = prepared.config, prepared.model
    rows, channels = prepared.shape
    groups = [_group(prepared, out, group) for group in sets.groups(config)]

    def text(source: Any, corpus: Any) -> dict[str, Any]:
        return {
            "source": corpus.source, "sentences": len(corpus.words), "sha256": corpus.digest,
            "generated": corpus.generated, "note": source.note,
        }  # fmt: skip

    data = prepared.concepts
    concept_text = text(config.concepts.data, prepared.concept_corpus) | {
        "sentences": len(data.words),
        "words": int(sum(map(len, data.kind))),
        "types": len(data.types),
    }
    largest = runs.read_json(out / "model.json")["chunk"]
    records = {path.parent.name: runs.read_json(path) for path in _records(prepared, out)}
    return facts | {
        "name": config.name,
        "description": config.description,
        "seeds": list(config.seeds),
        "arms": list(config.arms),
        "target": groups[0]["target"],
        "concepts": list(data.names[:-1]),
        "neurons": {"rows": rows, "channels": channels, "site": config.concepts.site},
        "model": {
            "source": prepared.checkpoint.origin, "family": model.family.name,
            "layers": model.config.layers, "width": model.config.width,
            "parameters": prepared.parameters, "sha256": prepared.weights_sha256,
            "tokenizer": config.model.tokenizer or prepared.checkpoint.origin,
        },
        "data": {
            "train": text(config.data.train, prepared.train.corpus),
            "evaluation": text(config.data.evaluation, prepared.evaluation.corpus),
            "retrain": text(
                config.retrain.source, prepared.retrain[groups[0]["target"]].corpus
            ),
            "concepts": concept_text,
        },
        "prune": groups[0]["prune"],
        "groups": groups,
        "sets": {
            "count": len(sets.product(config)),
            "chunk": largest,
            "devices": jax.device_count(),
            "mesh": meshes(prepared, largest),
        },
        "rounds": config.retrain.rounds,
        "epochs_per_round": loading.retraining(config).epochs,
        "vectors_sha256": prepared.vectors_sha256,
        "stages": {name: runs.digest_of(record) for name, record in records.items()},
        "wall_s": {name: record.get("wall_s", 0.0) for name, record in records.items()},
    }  # fmt: skip


def meshes(prepared: Prepared, largest: int) -> dict[str, dict[str, int]]:
    """The sizes of the mesh axes, by the number of sets that are side by side on it."""
    grids = chunks.grids(prepared, largest)
    return {str(number): dict(grid.shape) for number, grid in grids.items()}


def _group(prepared: Prepared, out: Path, group: Group) -> dict[str, Any]:
    """What is removed in a group; how much exactly, once its first set has been pruned."""
    config = prepared.config
    rows, channels = prepared.shape
    one = next(s for s in sets.product(config) if s.group == group and s.arm == "concept")
    name = sets.stage_name(one, "pruned")
    pruned = parameters = None
    if runs.has_arrays(out, name, "mask"):
        keep = runs.arrays_of(out, name, "mask")["keep"]
        pruned, parameters = int((~keep).sum()), _parameters(prepared, keep)
    return {
        "name": sets.group_name(group),
        **group._asdict(),
        "retrain": prepared.retrain[group.target].corpus.digest,
        "prune": {
            "requested": requested(config, group, prepared.shape), "pruned": pruned,
            "of": rows * channels, "parameters": parameters, "target": config.prune.target,
            "regrowth": group.regrowth,
        },
    }  # fmt: skip


def _parameters(prepared: Prepared, keep: np.ndarray) -> int:
    """Exact number of parameters that the concept arm's mask sets to 0."""
    leaves = prepared.model.family.neurons.get(prepared.config.prune.target, {})
    shapes = weights.shapes(prepared.model)
    params = weights.unflatten({k: np.broadcast_to(np.float32(1), v) for k, v in shapes.items()})
    mask = masks.NeuronMask(keep, prepared.config.concepts.site)
    return masks.parameter_count(mask, params, leaves) if leaves else 0


def _records(prepared: Prepared, out: Path) -> list[Path]:
    """Records of the stages that belong to this config."""
    names = [
        sets.stage_name(one, stage) + part
        for one in sets.product(prepared.config)
        for stage in snapshots.stages(prepared)
        for part in ("", "-neurons")
    ]
    paths = (runs.stage_folder(out, name) / "stage.json" for name in dict.fromkeys(names))
    return [path for path in paths if path.is_file()]
