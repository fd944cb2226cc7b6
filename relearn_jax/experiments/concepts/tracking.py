"""Tracking: statistics of every neuron of C models at a stage, saved as separate stages."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
from jax.sharding import Mesh

from relearn_jax import loading, runs
from relearn_jax.config import Relearning
from relearn_jax.data import batching
from relearn_jax.data.batching import WordBatch
from relearn_jax.experiments import rounds
from relearn_jax.experiments.concepts import measurements, sets
from relearn_jax.experiments.concepts.probed import ProbedText
from relearn_jax.experiments.concepts.side_by_side import Keys, Models, Run, sites
from relearn_jax.parallel import mesh as meshes
from relearn_jax.stopping import until


def track(run: Run, models: Models, base_keys: Keys | None) -> list[dict[str, np.ndarray]]:
    """Statistics of every neuron at a stage, computed and saved unless they are finished."""
    config, probed, out = run.setup.config, run.setup.probed, run.trainer.out
    names = [f"{name}-neurons" for name in models.names]
    bases = [sets.stage_name(concept_set, "base") for concept_set in models.sets]
    keys = [
        runs.key_of(
            key, base_keys and base_keys[base], probed.concepts.digest,
            loading.plain(config.concepts.site), config.concepts.drop_unmappable,
            config.prune.ranking, config.prune.contrast, loading.plain(config.tracking),
            probed.vectors_sha256, config.data.buckets,
        )
        for base, key in zip(bases, models.keys, strict=True)
    ]  # fmt: skip
    if rounds.all_finished(out, names, keys):
        return [runs.arrays_of(out, name, "neurons") for name in names]
    run.trainer.watch.tick(0, f"{models.stage}, neurons")
    began, count = time.perf_counter(), len(models.sets)
    params, interventions = models.params(), sites(models, config.prune.target)
    stop = run.trainer.watch.stop
    statistics = measurements.neuron_statistics(
        run.setup.pretrained.model, models.mesh, params, interventions, config.concepts.site,
        probed.concepts, partial(word_batches, probed, config, models.mesh, stop), config.prune,
        config.tracking, count, stop,
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


def word_batches(
    probed: ProbedText, config: Relearning, mesh: Mesh, stop: Callable[[], bool]
) -> Iterator[WordBatch]:
    """The batches of the probed words, on the devices."""
    size = config.tracking.batch_size
    words = batching.word_batches(
        probed.encoded, probed.concepts, size, config.data.buckets,
        config.concepts.drop_unmappable, meshes.rows_of(mesh, size),
    )  # fmt: skip
    for batch in until(stop, words, "the tracking of neurons"):
        yield meshes.put_rows(mesh, batch, False)
