"""Scores of the base models' neurons by every ranking that a run prunes by or draws curves for."""

from __future__ import annotations

import time
from functools import partial

import jax
import numpy as np

from relearn_jax import config, loading, runs
from relearn_jax.experiments import rounds
from relearn_jax.experiments.concepts import pruning, tracking
from relearn_jax.experiments.concepts.pruning import Scores
from relearn_jax.experiments.concepts.side_by_side import Models, Run
from relearn_jax.neurons import probe, ranking, statistics
from relearn_jax.parallel import sharding, stacking


def stage_name(seed: int) -> str:
    """Folder of the scores of a seed's base model."""
    return f"seed{seed}-rankings"


def scores(run: Run, base: Models) -> dict[int, Scores]:
    """The scores of each seed's base model, computed and saved unless they are finished."""
    settings, probed, out = run.setup.config, run.setup.probed, run.trainer.out
    wanted = pruning.rankings(settings)
    names = [stage_name(concept_set.seed) for concept_set in base.sets]
    keys = [
        runs.key_of(
            key, probed.concepts.digest, settings.concepts.drop_unmappable, settings.prune.contrast,
            loading.plain(wanted), settings.tracking.batch_size, settings.data.buckets,
        )
        for key in base.keys
    ]  # fmt: skip
    if not rounds.all_finished(out, names, keys):
        run.trainer.watch.tick(0, "base, rankings")
        began = time.perf_counter()
        arrays = _computed(run, base, wanted)
        wall = round((time.perf_counter() - began) / len(names), 2)
        for name, key, of_seed in zip(names, keys, arrays, strict=True):
            rounds.save_stage(out, name, key, {"wall_s": wall}, {"scores": of_seed})
    return {concept_set.seed: read(run.trainer.out, concept_set.seed) for concept_set in base.sets}


def read(out, seed: int) -> Scores:
    """The saved scores of a seed's base model."""
    arrays = runs.arrays_of(out, stage_name(seed), "scores")
    return {tuple(name.split("/")): array for name, array in arrays.items()}


def _computed(
    run: Run, base: Models, wanted: tuple[tuple[config.Site, config.Ranking], ...]
) -> list[dict[str, np.ndarray]]:
    """For each model the scores by `SITE/RANKING`."""
    settings, probed, stop = run.setup.config, run.setup.probed, run.trainer.watch.stop
    model, labels = run.setup.pretrained.model, len(probed.concepts.names)
    spread, params = sharding.spread(model, base.mesh), base.params()
    batches = partial(tracking.word_batches, probed, settings, base.mesh, stop)
    zeros = partial(stacking.zeros, base.mesh)
    arrays: list[dict[str, np.ndarray]] = [{} for _ in base.sets]
    for site in dict.fromkeys(site for site, _ in wanted):
        names = [name for place, name in wanted if place == site]
        moments = statistics.concept_moments(spread, params, batches(), labels, site, zeros=zeros)
        weights = None
        if any(ranking.RANKINGS[name].probed for name in names):
            weights = probe.train(spread, params, batches, labels, site, zeros=zeros)
        for c, of_model in enumerate(arrays):
            host = jax.tree.map(np.asarray, stacking.one_result(base.mesh, (moments, weights), c))
            of_model |= {
                f"{site}/{name}": np.float32(
                    ranking.scores_all(host[0], name, settings.prune.contrast, host[1])
                )
                for name in names
            }
    return arrays
