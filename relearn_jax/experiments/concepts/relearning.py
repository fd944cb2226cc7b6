"""Lo, Barez, Cohen 2024: remove a concept's neurons, retrain, watch the concept return.

The protocol from top to bottom (specs: relearning 0.1), for many concept sets side by side: a chunk
of C sets is pruned, retrained, scored and tracked in one program. Each stage of a set is saved
whole before the next begins and reused when the same command is given again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from relearn_jax import hosts, loading, runs
from relearn_jax.config import Training
from relearn_jax.experiments.concepts import chunks, measurements, rounds, sets
from relearn_jax.experiments.concepts.rounds import Context, Plan, Watcher
from relearn_jax.experiments.concepts.sets import ConceptSet
from relearn_jax.experiments.concepts.setup import Prepared, Text
from relearn_jax.models import checkpoint, weights
from relearn_jax.models.sites import Site, Sites
from relearn_jax.neurons import masks
from relearn_jax.neurons.masks import NeuronMask
from relearn_jax.parallel import mesh as meshes
from relearn_jax.parallel import sharding, stacking

PyTree = Any


class Models(NamedTuple):
    """C models side by side at one stage."""

    sets: tuple[ConceptSet, ...]
    stage: str
    keys: tuple[str, ...]
    mesh: Mesh
    params: Callable[[], PyTree]
    """Gives their parameters, [C, ...]; what it gave may have been donated since."""
    keep: np.ndarray | None = None
    """[C, S, D]: the neurons that stay."""


def run(prepared: Prepared, out: Path, watch: Watcher) -> None:
    """Run every concept set of a config into a run directory."""
    config = prepared.config
    size = chunks.size(prepared, out)
    folder = prepared.checkpoint.folder
    about = {
        "folder": folder and str(folder.resolve()),
        "labels": prepared.model.labels,
        "chunk": size,
    }
    hosts.once(lambda: runs.write_json(out / "model.json", about), "model.json")
    context = Context(prepared, out, watch, {})
    members = sets.product(config)

    scores: dict[int, np.ndarray] = {}
    base_keys: dict[int, str] = {}
    firsts = [next(one for one in members if one.seed == seed) for seed in config.seeds]
    for some in sets.chunks(firsts, size, lambda one: 0):
        base = _base(context, some)
        base_keys |= {one.seed: key for one, key in zip(some, base.keys, strict=True)}
        statistics = _track(context, base, None)
        scores |= {one.seed: s["score"] for one, s in zip(some, statistics, strict=True)}

    def text(one: ConceptSet) -> str:
        return prepared.retrain[one.group.target].corpus.digest

    for some in sets.chunks(members, size, text):
        keep = np.stack([choose(prepared, one, scores[one.seed]).keep for one in some])
        _relearn(context, some, keep, base_keys)


def choose(prepared: Prepared, one: ConceptSet, scores: np.ndarray) -> NeuronMask:
    """The neurons that a set prunes, from the base model's scores [Y, S, D]."""
    config = prepared.config
    target = scores[prepared.concepts.names.index(one.group.target)]
    settings = sets.prune_settings(config, one.group)
    concept = masks.select(target, settings, config.concepts.site).mask
    entropy = np.random.SeedSequence((one.seed, sets.number(one)))
    stream = int(entropy.generate_state(1)[0])
    match one.arm:
        case "concept":
            return concept
        case "random":
            return masks.random(concept, stream)
        case "layer_matched":
            return masks.layer_matched(concept, stream)
        case "bottom":
            return masks.bottom(concept, target, settings.scope)


def sites(prepared: Prepared, models: Models) -> Sites:
    """What the forward passes of C sets are run with."""
    if models.keep is None or prepared.config.prune.target != "state_mask":
        return Sites()
    return Sites(states=Site(mask=_kept(models)))


def pruned(prepared: Prepared, models: Models, params: PyTree) -> PyTree:
    """Parameters of C sets without those of their neurons; they are donated."""
    leaves = _leaves(prepared)
    if not leaves:
        return params
    site = prepared.config.concepts.site
    return _without(models.mesh, site, leaves, params, _kept(models))


def held(prepared: Prepared, models: Models) -> dict[str, jax.Array]:
    """Multipliers by path that hold the pruned entries of frozen sets at 0; none where no set is.

    A set that regrows freely shares the program of the frozen ones, with multipliers of 1.
    """
    frozen = np.array([one.group.regrowth == "frozen" for one in models.sets], np.float32)
    leaves = _leaves(prepared)
    if models.keep is None or not frozen.any() or not leaves:
        return {}
    shapes = {
        path: jax.ShapeDtypeStruct(weights.shapes(prepared.model)[path], jnp.float32)
        for path, _ in leaves
    }

    def one(keep: jax.Array, frozen: jax.Array) -> dict[str, jax.Array]:
        mask = NeuronMask(keep, prepared.config.concepts.site)
        times = weights.flatten(masks.expand(mask, weights.unflatten(shapes), dict(leaves)))
        return {path: 1.0 - frozen * (1.0 - m) for path, m in times.items()}

    return jax.jit(jax.vmap(one))(_kept(models), stacking.per_set(models.mesh, list(frozen)))


def _kept(models: Models) -> jax.Array:
    return stacking.per_set(models.mesh, [np.asarray(k, np.float32) for k in models.keep])


def _leaves(prepared: Prepared) -> tuple[tuple[str, int], ...]:
    """Where pruned neurons live in the parameters, and on which axis."""
    target = prepared.config.prune.target
    return () if target == "state_mask" else tuple(prepared.model.family.neurons[target].items())


@partial(jax.jit, static_argnums=(0, 1, 2), donate_argnums=3)
def _without(
    mesh: Mesh, site: str, leaves: tuple[tuple[str, int], ...], params: PyTree, keep: jax.Array
) -> PyTree:
    def one(params: PyTree, keep: jax.Array) -> PyTree:
        return masks.apply(params, masks.expand(NeuronMask(keep, site), params, dict(leaves)))

    return sharding.constrain(jax.vmap(one)(params, keep), mesh, sets_axis=True)


def _base(context: Context, some: tuple[ConceptSet, ...]) -> Models:
    """Fine-tune the pretrained model for the task, once for each seed."""
    p = context.prepared
    config = p.config
    mesh = meshes.make(config.parallel, len(some))
    keys = tuple(
        runs.key_of(
            "base", one.seed, p.weights_sha256, config.model.tokenizer, p.model.labels,
            p.model.dtype, config.model.max_length, config.data.continuation,
            config.data.buckets, loading.plain(config.training), p.train.corpus.digest,
            p.evaluation.corpus.digest, config.tracking.batch_size,
        )
        for one in some
    )  # fmt: skip

    def start() -> PyTree:
        seeds = [np.uint32(one.seed) for one in stacking.filled(mesh, some)]
        keys = jax.vmap(lambda seed: _key(seed, 0))(np.stack(seeds))
        place, stacked = sharding.placer(mesh), sharding.placer(mesh, sets_axis=True)
        return checkpoint.load_stacked(p.checkpoint, p.model, keys, place, stacked)

    models = Models(some, "base", keys, mesh, start)
    return _trained(context, models, p.train, config.training, 0)


def _relearn(
    context: Context, some: tuple[ConceptSet, ...], keep: np.ndarray, base_keys: dict[int, str]
) -> None:
    """Prune, then retrain in rounds, each with a fresh optimizer (specs: relearning 5)."""
    p, config = context.prepared, context.prepared.config
    mesh = meshes.make(config.parallel, len(some))
    bases = [sets.stage_name(one, "base") for one in some]
    keys = tuple(
        runs.key_of(
            base_keys[one.seed], loading.plain(sets.prune_settings(config, one.group)),
            config.concepts.site, sets.number(one), np.packbits(mask).tolist(),
        )
        for one, mask in zip(some, keep, strict=True)
    )  # fmt: skip
    models = Models(some, "pruned", keys, mesh, lambda: None, keep)

    def start() -> PyTree:
        return pruned(p, models, rounds.from_disk(context, mesh, bases))

    models = models._replace(params=start)
    _pruned_stage(context, models)
    _track(context, models, base_keys)

    settings = loading.retraining(config)
    text = p.retrain[some[0].group.target]
    for number in range(1, config.retrain.rounds + 1):
        keys = tuple(
            runs.key_of(
                key, number, loading.plain(settings), text.corpus.digest, one.group.regrowth
            )
            for one, key in zip(some, models.keys, strict=True)
        )
        models = models._replace(stage=f"round{number}", keys=keys)
        models = _trained(context, models, text, settings, number)
        _track(context, models, base_keys)
        if config.keep == "last" and number > 1:
            _drop_weights(context.out, some, f"round{number - 1}")


def _drop_weights(out: Path, some: Sequence[ConceptSet], stage: str) -> None:
    names = [sets.stage_name(one, stage) for one in some]
    hosts.once(lambda: runs.drop_arrays(out, names, "params"), "dropped")


def _pruned_stage(context: Context, models: Models) -> None:
    """Score the pruned models before any retraining."""
    p, config = context.prepared, context.prepared.config
    if rounds.all_finished(context.out, _names(models), models.keys):
        return
    params = models.params()
    began = time.perf_counter()
    scores = measurements.task_scores(
        p, models.mesh, params, sites(p, models), _count(models), context.watch.stop
    )
    wall = round((time.perf_counter() - began) / _count(models), 2)
    for name, key, records, keep in zip(
        _names(models), models.keys, scores, models.keep, strict=True
    ):
        record = {
            "scores": [{"epoch": 0, "records": records}], "wall_s": wall, "evaluation_s": wall,
            "target": config.prune.target, "site": config.concepts.site,
        }  # fmt: skip
        rounds.save_stage(context.out, name, key, record, {"mask": {"keep": keep}})


def _trained(
    context: Context, models: Models, text: Text, settings: Training, number: int
) -> Models:
    """Models after a round of training that starts at `models.params`.

    Models whose weights were dropped to save disk, and are wanted after all, are trained again.
    """
    p = context.prepared
    streams = [0 if number == 0 else sets.number(one) for one in models.sets]
    plan = Plan(
        names=_names(models), keys=models.keys, seeds=[one.seed for one in models.sets],
        streams=streams, number=number, text=text, settings=settings, mesh=models.mesh,
    )  # fmt: skip
    live: list[PyTree] = []

    def train() -> PyTree:
        return rounds.train(context, plan, models.params, sites(p, models), held(p, models))

    def params() -> PyTree:
        if live and not jax.tree.leaves(live[0])[0].is_deleted():
            return live[0]
        here = all(runs.has_arrays(context.out, name, "params") for name in plan.names)
        if not hosts.first(here):
            return train()
        return rounds.from_disk(context, plan.mesh, plan.names)

    if rounds.all_finished(context.out, plan.names, plan.keys):
        context.watch.tick(rounds.total_steps(p.config, plan), rounds.place(plan))
    else:
        live.append(train())
    return models._replace(params=params)


def _track(
    context: Context, models: Models, base_keys: dict[int, str] | None
) -> list[dict[str, np.ndarray]]:
    """Statistics of every neuron at a stage, saved as stages of their own."""
    p, out, config = context.prepared, context.out, context.prepared.config
    names = [f"{name}-neurons" for name in _names(models)]
    keys = [
        runs.key_of(
            key, base_keys and base_keys[one.seed], p.concepts.digest,
            loading.plain(config.concepts.site), config.concepts.drop_unmappable,
            config.prune.ranking, config.prune.contrast, loading.plain(config.tracking),
            p.vectors_sha256, config.data.buckets,
        )
        for one, key in zip(models.sets, models.keys, strict=True)
    ]  # fmt: skip
    if rounds.all_finished(out, names, keys):
        return [runs.arrays_of(out, name, "neurons") for name in names]
    context.watch.tick(0, f"{models.stage}, neurons")
    began = time.perf_counter()
    params = models.params()
    found = measurements.neuron_statistics(
        p, models.mesh, params, sites(p, models), _count(models), context.watch.stop
    )
    for c, (one, arrays) in enumerate(zip(models.sets, found, strict=True)):
        if base_keys is None:
            arrays["vectors"] = measurements.word_vectors(p, models.mesh, params, c)
        else:
            reference = runs.arrays_of(out, f"{sets.stage_name(one, 'base')}-neurons", "neurons")
            arrays |= measurements.similarity_to_base(
                reference["top_ids"], arrays["top_ids"], reference["vectors"],
                ~models.keep[c], one.seed,
            )  # fmt: skip
    wall = round((time.perf_counter() - began) / _count(models), 2)
    for name, key, arrays in zip(names, keys, found, strict=True):
        rounds.save_stage(out, name, key, {"wall_s": wall}, {"neurons": arrays})
    return found


def _names(models: Models) -> list[str]:
    return [sets.stage_name(one, models.stage) for one in models.sets]


def _count(models: Models) -> int:
    return len(models.sets)


def _key(seed: int, stream: int) -> jax.Array:
    return jax.random.fold_in(jax.random.key(seed), stream)
