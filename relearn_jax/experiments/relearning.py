"""Lo, Barez, Cohen 2024: remove a concept's neurons, retrain, watch the concept return.

The protocol from top to bottom (specs: relearning 0.1). Each stage is saved whole before the next
begins and reused when the same command is given again.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from relearn_jax import loading, runs
from relearn_jax.config import Arm, Training
from relearn_jax.experiments import measure
from relearn_jax.experiments.preparation import Prepared, Text, steps, train_batches
from relearn_jax.models import checkpoint, weights
from relearn_jax.models.sites import Site, Sites
from relearn_jax.neurons import masks
from relearn_jax.neurons.masks import NeuronMask
from relearn_jax.training import loop, optimizer
from relearn_jax.training.step import Round

PyTree = Any
ARM_STREAM = {"concept": 0, "random": 1, "layer_matched": 2, "bottom": 3}
"""Fixed numbers, so that an arm draws the same whichever others run."""


class Watcher(NamedTuple):
    """Where progress goes: `tick(done, text)` after every step, `log(line)` for metrics.jsonl."""

    tick: Callable[[int, str], None]
    log: Callable[[dict[str, Any]], None]


class Context(NamedTuple):
    """What all stages share."""

    prepared: Prepared
    out: Path
    watch: Watcher
    steppers: dict[tuple, tuple]


def run(prepared: Prepared, out: Path, watch: Watcher) -> None:
    """Run every seed and arm of a config into a run directory."""
    about = {"folder": str(prepared.checkpoint.folder.resolve()), "labels": prepared.model.labels}
    runs.write_json(out / "model.json", about)
    context = Context(prepared, out, watch, {})
    for seed in prepared.config.seeds:
        base = _base(context, seed)
        statistics = _track(context, base, None)
        for arm in prepared.config.arms:
            mask = choose(prepared, arm, statistics["score"], seed)
            _relearn(context, base, mask, arm)


class Stage(NamedTuple):
    """A finished stage and how to get its parameters."""

    seed: int
    arm: str
    name: str
    key: str
    params: Callable[[], PyTree]
    mask: NeuronMask | None = None


def stage_name(seed: int, arm: str, stage: str) -> str:
    """Folder of a stage: seed0-base, seed0-concept-pruned, seed0-concept-round1."""
    return f"seed{seed}-base" if stage == "base" else f"seed{seed}-{arm}-{stage}"


def choose(prepared: Prepared, arm: Arm, scores: np.ndarray, seed: int) -> NeuronMask:
    """The neurons that an arm prunes, from the base model's scores [Y, S, D]."""
    config = prepared.config
    target = scores[prepared.target]
    concept = masks.select(target, config.prune, config.concepts.site).mask
    stream = int(np.random.SeedSequence((seed, ARM_STREAM[arm])).generate_state(1)[0])
    match arm:
        case "concept":
            return concept
        case "random":
            return masks.random(concept, stream)
        case "layer_matched":
            return masks.layer_matched(concept, stream)
        case "bottom":
            return masks.bottom(concept, target, config.prune.scope)


def prune(prepared: Prepared, params: PyTree, mask: NeuronMask) -> tuple[PyTree, Sites, dict]:
    """Pruned parameters, the sites to run them with, and what holds them at 0 when frozen."""
    target, regrowth = prepared.config.prune.target, prepared.config.prune.regrowth
    if target == "state_mask":
        return params, Sites(states=Site(mask=np.asarray(mask.keep, np.float32))), {}
    leaves = prepared.model.family.neurons[target]
    multipliers = masks.expand(mask, params, leaves)
    keep = {p: m for p, m in weights.flatten(multipliers).items() if p in leaves}
    return masks.apply(params, multipliers), Sites(), keep if regrowth == "frozen" else {}


def _base(context: Context, seed: int) -> Stage:
    """Fine-tune the pretrained model for the task."""
    p = context.prepared
    name = stage_name(seed, "base", "base")
    key = runs.key_of(
        "base", seed, p.weights_sha256, p.model.labels, p.model.dtype, p.config.model.max_length,
        p.config.data.continuation, p.config.data.buckets, loading.plain(p.config.training),
        p.train.corpus.digest, p.evaluation.corpus.digest, p.config.tracking.batch_size,
    )  # fmt: skip

    def train() -> PyTree:
        start, _ = checkpoint.load(p.checkpoint, p.model, _key(seed, 0))
        return _train(context, name, key, start, p.train, p.config.training, seed, 0, Sites(), {})

    epoch_steps = steps(p.train, p.config.training.batch_size)
    params = _saved_or(context, name, key, train, epoch_steps * p.config.training.epochs)
    return Stage(seed, "base", name, key, params)


def _relearn(context: Context, base: Stage, mask: NeuronMask, arm: str) -> None:
    """Prune, then retrain in rounds, each with a fresh optimizer (specs: relearning 5)."""
    p, out = context.prepared, context.out
    config, keep_array = p.config, np.asarray(mask.keep)
    name = stage_name(base.seed, arm, "pruned")
    key = runs.key_of(
        base.key, loading.plain(config.prune), config.concepts.site,
        np.packbits(keep_array).tolist(),
    )  # fmt: skip

    def pruned() -> PyTree:
        return prune(p, base.params(), mask)[0]

    if runs.finished(out, name, key) is None:
        params, sites, _ = prune(p, base.params(), mask)
        began = time.perf_counter()
        scores = measure.task_scores(p, params, sites)
        wall = round(time.perf_counter() - began, 2)
        record = {
            "scores": [{"epoch": 0, "records": scores}], "wall_s": wall, "evaluation_s": wall,
            "target": config.prune.target, "site": config.concepts.site,
        }  # fmt: skip
        runs.save_stage(out, name, key, record, {"mask": {"keep": keep_array}})
    stage = Stage(base.seed, arm, name, key, pruned, mask)
    _track(context, stage, base)

    settings = loading.retraining(config)
    for number in range(1, config.retrain.rounds + 1):
        stage = _round(context, stage, settings, number)
        _track(context, stage, base)
        if config.keep == "last":
            runs.drop_arrays(out, stage_name(base.seed, arm, f"round{number - 1}"), "params")


def _round(context: Context, before: Stage, settings: Training, number: int) -> Stage:
    p = context.prepared
    name = stage_name(before.seed, before.arm, f"round{number}")
    key = runs.key_of(
        before.key, number, loading.plain(settings), p.retrain.corpus.digest,
        p.config.prune.regrowth,
    )  # fmt: skip

    def train() -> PyTree:
        start = before.params()
        _, sites, keep = prune(p, start, before.mask)
        return _train(
            context, name, key, start, p.retrain, settings, before.seed, number, sites, keep
        )

    total = steps(p.retrain, settings.batch_size) * settings.epochs
    params = _saved_or(context, name, key, train, total)
    return Stage(before.seed, before.arm, name, key, params, before.mask)


def _train(
    context: Context,
    name: str,
    key: str,
    start: PyTree,
    text: Text,
    settings: Training,
    seed: int,
    number: int,
    sites: Sites,
    keep: dict,
) -> PyTree:
    """One round of training with evaluation after every epoch; saves the stage."""
    p, watch = context.prepared, context.watch
    direction, step = _stepper(context, settings)
    records: list[dict[str, Any]] = []
    per_epoch = steps(text, settings.batch_size)
    done_before = (number - 1) * settings.epochs if number else 0
    place = name.replace("-", ", ")
    latest, evaluating = "", 0.0

    def batches(epoch: int) -> Any:
        for batch in train_batches(text, p.config, settings, seed, epoch):
            yield batch
            watch.tick(1, place + latest)

    def after_epoch(epoch: int, params: PyTree) -> None:
        nonlocal latest, evaluating
        asked = time.perf_counter()
        scores = measure.task_scores(p, params, sites)
        evaluating += time.perf_counter() - asked
        records.append({"epoch": done_before + epoch, "records": scores})
        latest = f", F1 {scores[0]['f1']:.3f}"
        watch.log({"stage": name, "event": "evaluation", "epoch": epoch, "f1": scores[0]["f1"]})

    began = time.perf_counter()
    params = loop.fit(
        step,
        direction,
        weights.to_device(start),
        Round(
            optimizer.schedule(settings, per_epoch * settings.epochs),
            _key(seed, 1 + number),
            sites,
            keep or None,
        ),
        settings.epochs,
        batches,
        lambda line: watch.log({"stage": name, **line}),
        after_epoch,
        place,
    )
    wall = time.perf_counter() - began
    host = {path: np.asarray(leaf) for path, leaf in weights.flatten(params).items()}
    times = {"wall_s": round(wall, 2), "evaluation_s": round(evaluating, 2)}
    runs.save_stage(context.out, name, key, {"scores": records, **times}, {"params": host})
    return params


def _stepper(context: Context, settings: Training) -> tuple:
    """The jitted step, made once for all rounds that share its static settings."""
    static = (settings.clip_norm, settings.weight_decay)
    if static not in context.steppers:
        direction = optimizer.direction(settings)
        context.steppers[static] = direction, loop.jitted(context.prepared.model, direction)
    return context.steppers[static]


def _saved_or(
    context: Context, name: str, key: str, train: Callable[[], PyTree], total: int
) -> Callable[[], PyTree]:
    """Train unless the stage is there; in either case a way to its parameters.

    A stage whose weights were dropped to save disk, and are wanted after all, is trained again.
    """
    if runs.finished(context.out, name, key) is None:
        train()
    else:
        context.watch.tick(total, name.replace("-", ", "))

    def params() -> PyTree:
        if not runs.has_arrays(context.out, name, "params"):
            return train()
        return weights.to_device(weights.unflatten(runs.arrays_of(context.out, name, "params")))

    return params


def _track(context: Context, stage: Stage, base: Stage | None) -> dict[str, np.ndarray]:
    """Statistics of every neuron at a stage, saved as a stage of its own."""
    p, out = context.prepared, context.out
    name = f"{stage.name}-neurons"
    key = runs.key_of(
        stage.key, base and base.key, p.concepts.digest, loading.plain(p.config.concepts.site),
        p.config.concepts.drop_unmappable, p.config.prune.ranking, p.config.prune.contrast,
        loading.plain(p.config.tracking), p.vectors_sha256, p.config.data.buckets,
    )  # fmt: skip
    if runs.finished(out, name, key) is not None:
        return runs.arrays_of(out, name, "neurons")
    context.watch.tick(0, stage.name.replace("-", ", ") + ", neurons")
    began = time.perf_counter()
    params = stage.params()
    sites = Sites() if stage.mask is None else prune(p, params, stage.mask)[1]
    arrays = measure.neuron_statistics(p, params, sites)
    if base is None:
        arrays["vectors"] = measure.word_vectors(p, params)
    else:
        reference = runs.arrays_of(out, f"{base.name}-neurons", "neurons")
        arrays |= measure.similarity_to_base(
            reference["top_ids"], arrays["top_ids"], reference["vectors"],
            ~np.asarray(stage.mask.keep), stage.seed,
        )  # fmt: skip
    wall = round(time.perf_counter() - began, 2)
    runs.save_stage(out, name, key, {"wall_s": wall}, {"neurons": arrays})
    return arrays


def _key(seed: int, stream: int) -> jax.Array:
    return jax.random.fold_in(jax.random.key(seed), stream)
