"""A training round of C concept sets: batches, entity scores and stages."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from relearn_jax import hosts, runs
from relearn_jax.config import Relearning, Training
from relearn_jax.data import batching
from relearn_jax.data.batching import TokenBatch
from relearn_jax.experiments import rounds
from relearn_jax.experiments.concepts import measurements, pruning, sets
from relearn_jax.experiments.concepts.side_by_side import Models, Run, sites
from relearn_jax.experiments.concepts.texts import Text, steps_per_epoch
from relearn_jax.experiments.rounds import Plan
from relearn_jax.models import weights
from relearn_jax.models.sites import Sites
from relearn_jax.parallel import mesh as meshes
from relearn_jax.parallel import stacking
from relearn_jax.training.losses import TASK
from relearn_jax.training.step import Batches

PyTree = Any


def trained(run: Run, models: Models, text: Text, settings: Training, number: int) -> Models:
    """Models after a round of training that starts at `models.params`.

    If weights are needed that were dropped to save disk space, the models are trained again.
    """
    plan = _plan(run, models, text, settings, number)
    out, live = run.trainer.out, []

    def train() -> PyTree:
        result = rounds.train(run.trainer, plan, models.params)
        records = [{"scores": evaluations, **result.times} for evaluations in result.evaluations]
        rounds.save_stages(run.trainer, plan, result.params, records)
        return result.params

    def params() -> PyTree:
        if live and not jax.tree.leaves(live[0])[0].is_deleted():
            return live[0]
        present = all(runs.has_arrays(out, name, "params") for name in plan.names)
        if not hosts.first(present):
            return train()
        return rounds.from_disk(out, plan.mesh, plan.names)

    if rounds.all_finished(out, plan.names, plan.keys):
        run.trainer.watch.tick(rounds.total_steps(plan), rounds.place(plan))
    else:
        live.append(train())
    return models._replace(params=params)


def _plan(run: Run, models: Models, text: Text, settings: Training, number: int) -> Plan:
    """The plan of the training round that makes the stage of these models."""
    config, model = run.setup.config, run.setup.pretrained.model
    interventions = sites(models, run.setup.config.prune.target)

    steps = steps_per_epoch(text, settings.batch_size, config.data.buckets)
    earlier = max(number - 1, 0) * settings.epochs

    def evaluate(params: PyTree, done: int) -> tuple[list[dict[str, Any]], str]:
        by_set = scores(run, models.mesh, params, interventions, len(models.sets))
        epoch = done // steps if done % steps == 0 else round(done / steps, 4)
        for name, records in zip(models.names, by_set, strict=True):
            line = {"stage": name, "event": "evaluation", "epoch": epoch, "step": done}
            run.trainer.watch.log(line | {"f1": records[0]["f1"]})
        place = {"epoch": earlier + epoch, "step": earlier * steps + done}
        entries = [place | {"records": records} for records in by_set]
        return entries, f", F1 {np.mean([records[0]['f1'] for records in by_set]):.3f}"

    seeds = [concept_set.seed for concept_set in models.sets]
    return Plan(
        names=models.names,
        keys=models.keys,
        shapes=weights.shapes(model),
        mesh=models.mesh,
        loss=run.loss(models.mesh),
        settings=settings,
        steps=steps,
        batches=partial(_batches, text, config.data.buckets, settings, models.mesh, seeds),
        seeds=seeds,
        streams=[0 if number == 0 else sets.number(concept_set) for concept_set in models.sets],
        number=number,
        sites=interventions,
        held=pruning.held(
            model,
            models.mesh,
            config.prune.target,
            config.concepts.site,
            models.sets,
            models.pruned,
        ),
        evaluate=evaluate,
        evaluated=evaluated(config, steps, settings.epochs, number),
    )


def evaluated(config: Relearning, steps: int, epochs: int, number: int) -> frozenset[int]:
    """Numbers of steps of a round after which the task is scored; round 0 trains the base model."""
    total = steps * epochs
    ends = {total} if number and config.retrain.steps else {*range(steps, total + 1, steps)}
    if number == 1:
        ends |= {step for step in config.retrain.scored_steps if step < total}
    return frozenset(ends)


def _batches(
    text: Text,
    buckets: tuple[int, ...],
    settings: Training,
    mesh: Mesh,
    seeds: Sequence[int],
    epoch: int,
    skip: int,
) -> Iterator[Batches]:
    """An epoch without its first `skip` batches, in an order drawn from (seed, epoch).

    If all seeds are equal, all sets share a batch [B, ...]; otherwise a batch is [C, B, ...].
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


def scores(
    run: Run, mesh: Mesh, params: PyTree, sites: Sites, models: int
) -> list[measurements.Records]:
    """Entity scores of the first `models` of C models on the evaluation text."""
    config, text = run.setup.config, run.setup.texts.evaluation
    size, buckets = config.tracking.batch_size, config.data.buckets

    def batches() -> Iterator[TokenBatch]:
        rows = meshes.rows_of(mesh, size)
        return batching.epoch(text.encoded, text.labels, size, buckets, None, 0, rows)

    return measurements.task_scores(
        run.setup.pretrained.model,
        mesh,
        params,
        sites,
        text,
        batches,
        models,
        run.trainer.watch.stop,
    )
