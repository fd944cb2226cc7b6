"""A round of training of C models side by side, continued from its checkpoint.

All experiments train here. They pass what differs between them as functions: the loss, the batches
and the evaluation.
"""

from __future__ import annotations

import dataclasses
import shutil
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh

from relearn_jax import config, hosts, loading, runs
from relearn_jax.errors import Stopped
from relearn_jax.experiments.watcher import Watcher
from relearn_jax.models import paths, weights
from relearn_jax.models.masks import Mask
from relearn_jax.models.sites import Sites
from relearn_jax.parallel import drivers, sharding, stacking
from relearn_jax.training import checkpoints, loop, optimizer
from relearn_jax.training.loop import Callbacks, Position
from relearn_jax.training.losses import Loss
from relearn_jax.training.optimizer import Schedule
from relearn_jax.training.step import Batches, Projection, Round, State, Step, start

PyTree = Any
Evaluation = list[Any]
"""Plain data, an entry for each of the C models."""


class Trainer(NamedTuple):
    """Values shared by all rounds of a run."""

    out: Path
    """The run directory."""
    config: config.Config
    watch: Watcher
    steppers: dict[tuple, tuple[Step, Callable[[PyTree], State]]]
    """Compiled steps, by their static settings."""


class Plan(NamedTuple):
    """A training round of C models."""

    names: Sequence[str]
    """Names of their stages, such as `seed0-base`."""
    keys: Sequence[str]
    """Keys of the stages: hashes of everything that they are made from."""
    shapes: Mapping[str, tuple[int, ...]]
    """Shape of every parameter of one model, by path."""
    mesh: Mesh
    loss: Loss
    """The same object for all rounds that share a compiled step."""
    settings: config.Training
    steps: int
    """Steps of one epoch."""
    batches: Callable[[int, int], Iterator[Batches]]
    """Takes an epoch, counted from 0, and how many batches to skip; gives the others."""
    seeds: Sequence[int]
    streams: Sequence[int]
    """Numbers that make dropout differ between models with the same seed."""
    number: int
    """Number of the round, counted from 0; it makes dropout differ between rounds."""
    sites: Sites = Sites()
    learning_rates: Sequence[float] | None = None
    """Peak learning rate of each model; None: that of the settings."""
    cosine: bool = False
    """Whether the learning rate falls as half a cosine; else it falls linearly."""
    weights: Mapping[str, Sequence[float]] | None = None
    """Weight of each term of the loss, by its name, for each model; None: all 1."""
    reference: PyTree = None
    """Parameters that the loss compares with: of each model, [C, ...], or shared by all."""
    shared_reference: bool = False
    """Whether all models share the reference."""
    held: Mask | None = None
    """Entries that do not change, [C, ...]."""
    trainable: Callable[[str], bool] = lambda path: True
    """Which leaves are trained, by path; only these have gradients and moments."""
    project: Projection | None = None
    """Is applied to the trained parameters after every step."""
    may_diverge: bool = False
    """Whether a loss that is not finite spoils its own model only; else it ends the run."""
    evaluate: Callable[[PyTree, int], tuple[Evaluation, str]] | None = None
    """Takes the parameters [C, ...] and the number of steps of the round behind them. Returns an
    entry for each model, and a few words for the progress bar. May raise Stopped."""
    evaluated: Collection[int] = ()
    """Numbers of steps after which `evaluate` is called."""


class Trained(NamedTuple):
    """The result of a round."""

    params: PyTree
    """[C, ...], all leaves."""
    evaluations: list[Evaluation]
    """For each of the C models, an entry for each evaluation."""
    times: dict[str, float]
    """`wall_s` and `evaluation_s` of one model."""


def train(trainer: Trainer, plan: Plan, params: Callable[[], PyTree]) -> Trained:
    """Train for one round, or for what is left of it.

    Args:
      trainer: values of the run.
      plan: the round.
      params: gives the initial parameters, [C, ...], whose trainable leaves are donated. It is not
        called if a checkpoint is continued and no leaf is frozen.

    Raises:
      Stopped: the process is asked to end; a checkpoint has been written.
      UserError: a loss is not finite.
    """
    watch, interval = trainer.watch, trainer.config.checkpoint.every
    models, folder = len(plan.names), _folder(trainer, plan)
    step, begin_state = _stepper(trainer, plan)
    keys = _keys(plan)
    shapes = {path: shape for path, shape in plan.shapes.items() if plan.trainable(path)}
    restored = checkpoints.restore(
        folder, partial(_abstract, begin_state, shapes, plan.mesh), watch.say
    )
    trainable, frozen = None, {}
    if restored is None or len(shapes) < len(plan.shapes):
        trainable, frozen = paths.partition(params(), plan.trainable)
    if restored is None:
        state, begin = begin_state(trainable), Position()
        progress = _progress(trainer, plan, keys)
    else:
        state, progress = stacking.fitted(plan.mesh, restored[0], models), restored[1]
        begin = Position(progress["epoch"], progress["batch"])
    del trainable
    steps_done = begin.epoch * plan.steps + begin.batch
    _forget_lines(trainer.out, plan, steps_done, progress["evaluated"])
    watch.tick(steps_done * models, place(plan))
    began, earlier_s = time.perf_counter(), progress["wall_s"]
    latest, stop = "", False
    must_be_finite = [] if plan.may_diverge else places(plan)

    def full_params(state: State) -> PyTree:
        trained = hosts.as_global(plan.mesh, state.params)
        return paths.merge(trained, frozen) if frozen else trained

    def batches(epoch: int, skip: int) -> Iterator[Batches]:
        for batch in plan.batches(epoch, skip):
            yield batch
            watch.tick(models, place(plan) + latest)

    def log(lines: list[dict[str, Any]]) -> None:
        for name, line in zip(plan.names, lines, strict=False):
            watch.log({"stage": name, **line})

    with checkpoints.opened(folder, trainer.config.checkpoint.keep) as checkpointer:

        def save(at: Position, state: State, wait: bool) -> None:
            state = hosts.as_global(plan.mesh, state)
            loop.check_finite(hosts.fetch(state.bad_step), must_be_finite)
            progress_now = progress | {
                "epoch": at.epoch,
                "batch": at.batch,
                "rows": len(state.step),
            }
            progress_now["wall_s"] = earlier_s + time.perf_counter() - began
            checkpoints.save(
                checkpointer, at.epoch * plan.steps + at.batch, state, progress_now, wait
            )

        def evaluate(at: Position, state: State) -> None:
            nonlocal latest
            number = at.epoch * plan.steps + at.batch
            if number not in plan.evaluated or number <= progress["evaluated"]:
                return
            began_evaluation = time.perf_counter()
            try:
                entries, latest = plan.evaluate(full_params(state), number)
            except Stopped:
                save(at, state, wait=True)
                raise
            progress["evaluation_s"] += time.perf_counter() - began_evaluation
            progress["evaluated"] = number
            for evaluations, entry in zip(progress["records"], entries, strict=True):
                evaluations.append(entry)

        def due(at: Position) -> bool:
            nonlocal stop
            stop = watch.stop()
            number = at.epoch * plan.steps + at.batch
            inside = at.batch < plan.steps
            return stop or (inside and (number % interval == 0 or number in plan.evaluated))

        def reached(at: Position, state: State) -> None:
            number = at.epoch * plan.steps + at.batch
            if stop:
                save(at, state, wait=True)
                raise Stopped(f"stopped in {place(plan)}, after step {number} of the round")
            evaluate(at, state)
            if number % interval == 0:
                save(at, state, wait=False)

        if restored is not None and begin.batch < plan.steps:
            evaluate(begin, state)
        state = loop.fit(
            step,
            state,
            _round(plan, keys, frozen),
            plan.settings.epochs,
            batches,
            Callbacks(log, due, reached, evaluate),
            must_be_finite,
            begin,
        )
    times = {
        "wall_s": round((earlier_s + time.perf_counter() - began) / models, 2),
        "evaluation_s": round(progress["evaluation_s"] / models, 2),
    }
    return Trained(full_params(state), progress["records"], times)


def forget_checkpoints(trainer: Trainer, plan: Plan) -> None:
    """Remove the checkpoints of a round whose stages are saved."""
    folder = _folder(trainer, plan)
    hosts.once(lambda: shutil.rmtree(folder, ignore_errors=True), "checkpoints removed")


def save_stages(
    trainer: Trainer, plan: Plan, params: PyTree, records: Sequence[Mapping[str, Any]]
) -> None:
    """Save each of the C models as a stage: its parameters and its record."""
    for c, (name, key, record) in enumerate(zip(plan.names, plan.keys, records, strict=True)):
        model = paths.flatten(stacking.one_model(plan.mesh, params, c))
        host = {}
        for path, leaf in model.items():
            fetched = hosts.fetch(leaf)
            if hosts.is_writer():
                host[path] = fetched
        save_stage(trainer.out, name, key, record, {"params": host})
    forget_checkpoints(trainer, plan)


def save_stage(
    out: Path,
    name: str,
    key: str,
    record: Mapping[str, Any],
    arrays: Mapping[str, Mapping[str, np.ndarray]],
) -> None:
    """Write a stage, by process 0."""
    hosts.once(lambda: runs.save_stage(out, name, key, record, arrays), name)


def all_finished(out: Path, names: Sequence[str], keys: Sequence[str]) -> bool:
    """Whether the stages of all models are finished.

    If one is missing, all are computed again, side by side as before. So a run that was killed
    between two of them ends with the same bits.
    """
    finished = all(runs.finished(out, n, k) is not None for n, k in zip(names, keys, strict=True))
    return bool(hosts.first(finished))


def from_disk(out: Path, mesh: Mesh, names: Sequence[str]) -> PyTree:
    """Parameters of saved stages, stacked [C, ...]."""
    files = [runs.array_file(out, name, "params") for name in names]
    place = sharding.placer(mesh, sets_axis=True)
    return weights.read_stacked(stacking.filled(mesh, files), place)


def total_steps(plan: Plan) -> int:
    """Number of steps of a round, over all its models."""
    return plan.steps * plan.settings.epochs * len(plan.names)


def place(plan: Plan) -> str:
    """Name of a round for the progress bar."""
    first = places(plan)[0]
    return first if len(plan.names) == 1 else f"{first} and {len(plan.names) - 1} more"


def places(plan: Plan) -> list[str]:
    """Names of the models of a round for errors."""
    return [name.replace("-", ", ") for name in plan.names]


def _folder(trainer: Trainer, plan: Plan) -> Path:
    return trainer.out / "checkpoints" / runs.key_of(*plan.keys)[:16]


def _progress(trainer: Trainer, plan: Plan, keys: jax.Array) -> dict[str, Any]:
    """Progress of a new round, which its checkpoints hold beside the arrays."""
    return {
        "records": [[] for _ in plan.names], "evaluated": 0, "wall_s": 0, "evaluation_s": 0,
        "round": plan.number, "stages": dict(zip(plan.names, plan.keys, strict=True)),
        "dropout_keys": hosts.fetch(jax.random.key_data(keys)).tolist(),
        "config": loading.plain(trainer.config),
    }  # fmt: skip


def _round(plan: Plan, keys: jax.Array, frozen: PyTree) -> Round:
    steps = plan.steps * plan.settings.epochs
    rates = plan.learning_rates or [plan.settings.learning_rate] * len(plan.names)
    schedules = [
        optimizer.schedule(
            dataclasses.replace(plan.settings, learning_rate=rate), steps, plan.cosine
        )
        for rate in rates
    ]
    per_set = partial(stacking.per_set, plan.mesh)
    return Round(
        Schedule(*map(per_set, zip(*schedules, strict=True))),
        keys,
        weights=plan.weights and {n: per_set(np.float32(w)) for n, w in plan.weights.items()},
        sites=plan.sites,
        frozen=frozen or None,
        reference=plan.reference,
        held=plan.held,
    )


def _stepper(trainer: Trainer, plan: Plan) -> tuple[Step, Callable[[PyTree], State]]:
    """The step and the function that makes its first state, once for the same static settings."""
    s = plan.settings
    shared = ("reference",) if plan.shared_reference else ()
    static = (
        *(plan.loss, s.clip_norm, s.weight_decay, s.accumulate),
        *(plan.project, plan.mesh, shared),
    )
    if static not in trainer.steppers:
        direction = optimizer.direction(s)
        body = drivers.body(plan.loss, direction, s.accumulate, shared, plan.project)
        trainer.steppers[static] = (
            drivers.make(trainer.config.parallel.driver, plan.mesh, body),
            jax.jit(partial(_started, plan.mesh, direction), donate_argnums=0),
        )
    return trainer.steppers[static]


def _started(mesh: Mesh, direction: optax.GradientTransformation, params: PyTree) -> State:
    state = jax.vmap(lambda of_model: start(of_model, direction))(params)
    return sharding.constrain(state, mesh, sets_axis=True)


def _abstract(
    begin: Callable[[PyTree], State],
    shapes: Mapping[str, tuple[int, ...]],
    mesh: Mesh,
    progress: Mapping[str, Any],
) -> State:
    """Shapes and shardings of the state in a checkpoint.

    Its number of models includes the copies that filled up the mesh it was written on.
    """
    params = paths.unflatten(
        {
            path: jax.ShapeDtypeStruct((progress["rows"], *shape), jnp.float32)
            for path, shape in shapes.items()
        }
    )
    state = jax.eval_shape(begin, params)
    return jax.tree.map(
        lambda x, to: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=to),
        state,
        sharding.shardings(state, mesh, sets_axis=True),
    )


def _keys(plan: Plan) -> jax.Array:
    """Dropout keys [C]. A model's key does not depend on the models beside it."""
    seeds, streams = (
        stacking.per_set(plan.mesh, [np.uint32(x) for x in numbers])
        for numbers in (plan.seeds, plan.streams)
    )

    return _dropout_keys(seeds, streams, 1 + plan.number)


@jax.jit
@partial(jax.vmap, in_axes=(0, 0, None))
def _dropout_keys(seed: jax.Array, stream: jax.Array, number: int) -> jax.Array:
    return jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), stream), number)


def _forget_lines(out: Path, plan: Plan, steps: int, evaluated: int) -> None:
    """Remove the log lines that a killed process wrote after its last checkpoint."""
    names = set(plan.names)

    def keep(line: Mapping[str, Any]) -> bool:
        if line.get("stage") not in names:
            return True
        return line["step"] <= (evaluated if "event" in line else steps)

    hosts.once(lambda: runs.filter_lines(out / "metrics.jsonl", keep), "log lines")
