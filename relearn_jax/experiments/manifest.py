"""What was run, on what, with what: enough to run it again, and what the report shows of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from relearn_jax import loading, runs
from relearn_jax.experiments import tables
from relearn_jax.experiments.preparation import Prepared
from relearn_jax.experiments.relearning import stage_name
from relearn_jax.models import weights
from relearn_jax.neurons import masks


def build(prepared: Prepared, out: Path, facts: dict[str, Any]) -> dict[str, Any]:
    """What was run, on what, with what: enough to run it again."""
    config, model = prepared.config, prepared.model
    rows, channels = prepared.shape
    mask = runs.arrays_of(out, stage_name(config.seeds[0], "concept", "pruned"), "mask")["keep"]

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
    wall = {p.parent.name: runs.read_json(p).get("wall_s", 0.0) for p in _records(prepared, out)}
    return facts | {
        "name": config.name,
        "description": config.description,
        "seeds": list(config.seeds),
        "arms": list(config.arms),
        "target": config.concepts.target,
        "concepts": list(data.names[:-1]),
        "neurons": {"rows": rows, "channels": channels, "site": config.concepts.site},
        "model": {
            "source": prepared.checkpoint.origin, "family": model.family.name,
            "layers": model.config.layers, "width": model.config.width,
            "parameters": prepared.parameters, "sha256": prepared.weights_sha256,
        },
        "data": {
            "train": text(config.data.train, prepared.train.corpus),
            "evaluation": text(config.data.evaluation, prepared.evaluation.corpus),
            "retrain": text(config.retrain.source, prepared.retrain.corpus),
            "concepts": concept_text,
        },
        "prune": {
            "requested": prepared.requested, "pruned": int((~mask).sum()), "of": rows * channels,
            "parameters": _parameters(prepared, mask),
            "target": config.prune.target, "regrowth": config.prune.regrowth,
        },
        "rounds": config.retrain.rounds,
        "epochs_per_round": loading.retraining(config).epochs,
        "wall_s": wall,
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
        stage_name(seed, arm, stage) + part
        for seed in prepared.config.seeds
        for arm in prepared.config.arms
        for stage in tables.stages(prepared)
        for part in ("", "-neurons")
    ]
    paths = (runs.stage_folder(out, name) / "stage.json" for name in dict.fromkeys(names))
    return [path for path in paths if path.is_file()]
