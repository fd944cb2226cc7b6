"""Lo, Barez, Cohen 2024: remove a concept's neurons, retrain, watch the concept return.

The protocol from top to bottom (specs: relearning 0.1), for many concept sets side by side: a chunk
of C sets is pruned, retrained, scored and tracked in one program. Each stage of a set is saved
whole before the next begins and reused when the same command is given again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Bool

from relearn_jax import hosts, loading, runs
from relearn_jax.config import Training
from relearn_jax.data import batching
from relearn_jax.data.batching import TokenBatch
from relearn_jax.experiments import rounds
from relearn_jax.experiments.concepts import (
    chunks,
    exporting,
    measurements,
    plan,
    pruning,
    results,
    sets,
    setup,
    snapshots,
    tables,
)
from relearn_jax.experiments.concepts.sets import ConceptSet
from relearn_jax.experiments.concepts.setup import Setup
from relearn_jax.experiments.concepts.texts import Text, steps_per_epoch
from relearn_jax.experiments.experiment import Experiment
from relearn_jax.experiments.rounds import Plan, Trainer
from relearn_jax.experiments.watcher import Watcher
from relearn_jax.models import checkpoint, weights
from relearn_jax.models.sites import Sites
from relearn_jax.parallel import mesh as meshes
from relearn_jax.parallel import sharding, stacking
from relearn_jax.training import losses
from relearn_jax.training.losses import TASK, Loss
from relearn_jax.training.step import Batches

PyTree = Any
Keys = dict[int, str]
"""The key of each seed's base model."""


class Run(NamedTuple):
    """A run under way."""

    setup: Setup
    out: Path
    watch: Watcher
    trainer: Trainer
    losses: dict[Mesh, Loss]
    """One for each mesh, so that all rounds on it share a compiled step."""

    def loss(self, mesh: Mesh) -> Loss:
        """The loss of the task, of a model that is spread over a mesh."""
        if mesh not in self.losses:
            model = sharding.spread(self.setup.pretrained.model, mesh)
            self.losses[mesh] = partial(losses.token_classification, model)
        return self.losses[mesh]


class Models(NamedTuple):
    """C models side by side at one stage."""

    sets: tuple[ConceptSet, ...]
    stage: str
    keys: tuple[str, ...]
    mesh: Mesh
    params: Callable[[], PyTree]
    """Gives their parameters, [C, ...]; what it gave may have been donated since."""
    pruned: Bool[np.ndarray, "C S D"] | None = None
    """The neurons that were removed."""

    @property
    def names(self) -> list[str]:
        """Folders of their stages."""
        return [sets.stage_name(concept_set, self.stage) for concept_set in self.sets]


def run(setup: Setup, out: Path, watch: Watcher) -> None:
    """Run every concept set of a config into a run directory."""
    config = setup.config
    size = chunks.size(setup, out)
    folder = setup.pretrained.checkpoint.folder
    about = {
        "folder": folder and str(folder.resolve()),
        "labels": setup.pretrained.model.labels,
        "chunk": size,
    }
    hosts.once(lambda: runs.write_json(out / "model.json", about), "model.json")
    here = Run(setup, out, watch, Trainer(out, config, watch, {}), {})

    scores: dict[int, np.ndarray] = {}
    base_keys: Keys = {}
    for chunk in chunks.bases(config, size):
        base = _base(here, chunk)
        base_keys |= {
            concept_set.seed: key for concept_set, key in zip(chunk, base.keys, strict=True)
        }
        statistics = _track(here, base, None)
        scores |= {
            concept_set.seed: s["score"] for concept_set, s in zip(chunk, statistics, strict=True)
        }

    names = setup.probed.concepts.names
    for chunk in chunks.members(config, setup.texts.retrain, size):
        pruned = [
            pruning.choose(
                config, concept_set, scores[concept_set.seed], names.index(concept_set.group.target)
            )
            for concept_set in chunk
        ]
        _relearn(here, chunk, np.stack(pruned), base_keys)


def _sites(run: Run, models: Models) -> Sites:
    """What the forward passes of C sets are run with."""
    return pruning.sites(models.mesh, run.setup.config.prune.target, models.pruned)


def _base(run: Run, chunk: tuple[ConceptSet, ...]) -> Models:
    """Fine-tune the pretrained model for the task, once for each seed."""
    config, pretrained, texts = run.setup.config, run.setup.pretrained, run.setup.texts
    model, mesh = pretrained.model, meshes.make(config.parallel, len(chunk))
    keys = tuple(
        runs.key_of(
            "base", concept_set.seed, pretrained.sha256, config.model.tokenizer, model.labels,
            model.dtype, config.model.max_length, config.data.continuation,
            config.data.buckets, loading.plain(config.training), texts.train.corpus.digest,
            texts.evaluation.corpus.digest, config.tracking.batch_size,
        )
        for concept_set in chunk
    )  # fmt: skip

    def start() -> PyTree:
        seeds = np.uint32([concept_set.seed for concept_set in stacking.filled(mesh, chunk)])
        heads = jax.vmap(lambda seed: jax.random.fold_in(jax.random.key(seed), 0))(seeds)
        place, stacked = sharding.placer(mesh), sharding.placer(mesh, sets_axis=True)
        return checkpoint.load_stacked(pretrained.checkpoint, model, heads, place, stacked)

    models = Models(chunk, "base", keys, mesh, start)
    return _trained(run, models, texts.train, config.training, 0)


def _relearn(run: Run, chunk: tuple[ConceptSet, ...], pruned: np.ndarray, base_keys: Keys) -> None:
    """Prune, then retrain in rounds, each with a fresh optimizer (specs: relearning 5)."""
    config, model = run.setup.config, run.setup.pretrained.model
    mesh = meshes.make(config.parallel, len(chunk))
    bases = [sets.stage_name(concept_set, "base") for concept_set in chunk]
    keys = tuple(
        runs.key_of(
            base_keys[concept_set.seed],
            loading.plain(sets.prune_settings(config, concept_set.group)),
            config.concepts.site, sets.number(concept_set), np.packbits(~gone).tolist(),
        )
        for concept_set, gone in zip(chunk, pruned, strict=True)
    )  # fmt: skip

    def params() -> PyTree:
        base = rounds.from_disk(run.out, mesh, bases)
        if config.prune.target == "state_mask":
            return base
        gone = stacking.per_set(mesh, list(pruned))
        return pruning.remove(model, mesh, config.prune.target, config.concepts.site, base, gone)

    models = Models(chunk, "pruned", keys, mesh, params, pruned)
    _score_pruned(run, models)
    _track(run, models, base_keys)

    settings = config.retraining
    text = run.setup.texts.retrain[chunk[0].group.target]
    for number in range(1, config.retrain.rounds + 1):
        keys = tuple(
            runs.key_of(
                key, number, loading.plain(settings), text.corpus.digest, concept_set.group.regrowth
            )
            for concept_set, key in zip(chunk, models.keys, strict=True)
        )
        models = models._replace(stage=f"round{number}", keys=keys)
        models = _trained(run, models, text, settings, number)
        _track(run, models, base_keys)
        if config.keep == "last" and number > 1:
            _drop_weights(run.out, chunk, f"round{number - 1}")


def _drop_weights(out: Path, chunk: Sequence[ConceptSet], stage: str) -> None:
    names = [sets.stage_name(concept_set, stage) for concept_set in chunk]
    hosts.once(lambda: runs.drop_arrays(out, names, "params"), "dropped")


def _scores(
    run: Run, mesh: Mesh, params: PyTree, sites: Sites, models: int
) -> list[measurements.Records]:
    """Entity scores of the first `models` of C models on the evaluation text."""
    config, text = run.setup.config, run.setup.texts.evaluation
    size, buckets = config.tracking.batch_size, config.data.buckets

    def batches() -> Iterator[TokenBatch]:
        rows = meshes.rows_of(mesh, size)
        return batching.epoch(text.encoded, text.labels, size, buckets, None, 0, rows)

    return measurements.task_scores(
        run.setup.pretrained.model, mesh, params, sites, text, batches, models, run.watch.stop
    )


def _score_pruned(run: Run, models: Models) -> None:
    """Score the pruned models before any retraining."""
    config = run.setup.config
    if rounds.all_finished(run.out, models.names, models.keys):
        return
    params = models.params()
    began, count = time.perf_counter(), len(models.sets)
    scores = _scores(run, models.mesh, params, _sites(run, models), count)
    wall = round((time.perf_counter() - began) / count, 2)
    for name, key, records, gone in zip(
        models.names, models.keys, scores, models.pruned, strict=True
    ):
        record = {
            "scores": [{"epoch": 0, "records": records}], "wall_s": wall, "evaluation_s": wall,
            "target": config.prune.target, "site": config.concepts.site,
        }  # fmt: skip
        rounds.save_stage(run.out, name, key, record, {"mask": {"keep": ~gone}})


def _trained(run: Run, models: Models, text: Text, settings: Training, number: int) -> Models:
    """Models after a round of training that starts at `models.params`.

    Models whose weights were dropped to save disk, and are wanted after all, are trained again.
    """
    plan = _plan(run, models, text, settings, number)
    out, live = run.out, []

    def train() -> PyTree:
        trained = rounds.train(run.trainer, plan, models.params)
        records = [{"scores": scores, **trained.times} for scores in trained.evaluations]
        rounds.save_stages(run.trainer, plan, trained.params, records)
        return trained.params

    def params() -> PyTree:
        if live and not jax.tree.leaves(live[0])[0].is_deleted():
            return live[0]
        here = all(runs.has_arrays(out, name, "params") for name in plan.names)
        if not hosts.first(here):
            return train()
        return rounds.from_disk(out, plan.mesh, plan.names)

    if rounds.all_finished(out, plan.names, plan.keys):
        run.watch.tick(rounds.total_steps(plan), rounds.place(plan))
    else:
        live.append(train())
    return models._replace(params=params)


def _plan(run: Run, models: Models, text: Text, settings: Training, number: int) -> Plan:
    """The round of training that makes the stage of these models."""
    config, model = run.setup.config, run.setup.pretrained.model
    sites = _sites(run, models)

    def evaluate(params: PyTree, epoch: int) -> tuple[list[dict[str, Any]], str]:
        scores = _scores(run, models.mesh, params, sites, len(models.sets))
        earlier = max(number - 1, 0) * settings.epochs
        for name, records in zip(models.names, scores, strict=True):
            f1 = records[0]["f1"]
            run.watch.log({"stage": name, "event": "evaluation", "epoch": epoch, "f1": f1})
        entries = [{"epoch": earlier + epoch, "records": records} for records in scores]
        return entries, f", F1 {np.mean([records[0]['f1'] for records in scores]):.3f}"

    seeds = [concept_set.seed for concept_set in models.sets]
    return Plan(
        names=models.names,
        keys=models.keys,
        shapes=weights.shapes(model),
        mesh=models.mesh,
        loss=run.loss(models.mesh),
        settings=settings,
        steps=steps_per_epoch(text, settings.batch_size, config.data.buckets),
        batches=partial(_batches, text, config.data.buckets, settings, models.mesh, seeds),
        seeds=seeds,
        streams=[0 if number == 0 else sets.number(concept_set) for concept_set in models.sets],
        number=number,
        sites=sites,
        held=pruning.held(model, models.mesh, config, models.sets, models.pruned),
        evaluate=evaluate,
    )


def _batches(
    text: Text,
    buckets: tuple[int, ...],
    settings: Training,
    mesh: Mesh,
    seeds: Sequence[int],
    epoch: int,
    skip: int,
) -> Iterator[Batches]:
    """One epoch but its first `skip` batches, in an order drawn from (seed, epoch).

    Where all seeds are the same a batch [B, ...] serves all sets. Else there are C [C, B, ...].
    """
    rows = meshes.rows_of(mesh, settings.batch_size, settings.accumulate)

    def of_seed(seed: int) -> Iterator[TokenBatch]:
        return batching.epoch(
            text.encoded, text.labels, settings.batch_size, buckets, seed, epoch, rows, skip
        )

    if len(set(seeds)) == 1:
        batches = of_seed(seeds[0])
    else:
        together = zip(*map(of_seed, stacking.filled(mesh, seeds)), strict=True)
        batches = (jax.tree.map(lambda *leaves: np.stack(leaves), *parts) for parts in together)
    return ({TASK: batch} for batch in batches)


def _track(run: Run, models: Models, base_keys: Keys | None) -> list[dict[str, np.ndarray]]:
    """Statistics of every neuron at a stage, saved as stages of their own."""
    config, probed, out = run.setup.config, run.setup.probed, run.out
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
    run.watch.tick(0, f"{models.stage}, neurons")
    began, count = time.perf_counter(), len(models.sets)
    params = models.params()
    statistics = measurements.neuron_statistics(
        run.setup.pretrained.model, models.mesh, params, _sites(run, models), probed, config,
        count, run.watch.stop,
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


EXPERIMENT = Experiment(
    setup=setup.prepare,
    summary=plan.summary,
    plan=plan.memory_and_disk,
    steps=plan.steps,
    run=run,
    stages=lambda setup: snapshots.stage_names(setup.config),
    meshes=results.meshes,
    sources=results.sources,
    reportable=lambda setup, out: snapshots.begun(setup.config, out),
    tables=tables.write,
    manifest=results.manifest,
    headline=results.headline,
    exported=exporting.exported,
)
