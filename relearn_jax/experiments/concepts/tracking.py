"""Tracking: statistics of every neuron of C models at a stage, saved as separate stages."""

from __future__ import annotations

import time

import numpy as np

from relearn_jax import loading, runs
from relearn_jax.experiments import rounds
from relearn_jax.experiments.concepts import measurements, sets
from relearn_jax.experiments.concepts.side_by_side import Keys, Models, Run, sites


def track(run: Run, models: Models, base_keys: Keys | None) -> list[dict[str, np.ndarray]]:
    """Statistics of every neuron at a stage, computed and saved unless they are finished."""
    config, probed, out = run.setup.config, run.setup.probed, run.trainer.out
    names = [f"{name}-neurons" for name in models.names]
    keys = [
        runs.key_of(
            key, base_keys and base_keys[concept_set.seed], probed.concepts.digest,
            loading.plain(config.concepts.site), config.concepts.drop_unmappable,
            config.prune.ranking, config.prune.contrast, loading.plain(config.tracking),
            probed.vectors_sha256, config.data.buckets,
        )
        for concept_set, key in zip(models.sets, models.keys, strict=True)
    ]  # fmt: skip
    if rounds.all_finished(out, names, keys):
        return [runs.arrays_of(out, name, "neurons") for name in names]
    run.trainer.watch.tick(0, f"{models.stage}, neurons")
    began, count = time.perf_counter(), len(models.sets)
    params, interventions = models.params(), sites(models, config.prune.target)
    statistics = measurements.neuron_statistics(
        run.setup.pretrained.model, models.mesh, params, interventions, probed, config, count,
        run.trainer.watch.stop,
    )  # fmt: skip
    for c, (concept_set, arrays) in enumerate(zip(models.sets, statistics, strict=True)):
        if base_keys is None:
            arrays["vectors"] = measurements.word_vectors(models.mesh, params, c, probed)
        else:
            base = runs.arrays_of(out, f"{sets.stage_name(concept_set, 'base')}-neurons", "neurons")
            arrays |= measurements.similarity_to_base(
                base["top_ids"],
                arrays["top_ids"],
                base["vectors"],
                models.pruned[c],
                concept_set.seed,
            )
    wall = round((time.perf_counter() - began) / count, 2)
    for name, key, arrays in zip(names, keys, statistics, strict=True):
        rounds.save_stage(out, name, key, {"wall_s": wall}, {"neurons": arrays})
    return statistics
