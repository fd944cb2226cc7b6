"""A round of training of C sets: continued from its checkpoint, scored after every epoch, saved."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh

from relearn_jax import hosts, loading, runs
from relearn_jax.config import Config, Training
from relearn_jax.data.batching import TokenBatch
from relearn_jax.errors import Stopped
from relearn_jax.experiments.concepts import measurements
from relearn_jax.experiments.concepts.setup import Prepared, Text, steps, train_batches
from relearn_jax.models import paths, weights
from relearn_jax.models.sites import Sites
from relearn_jax.parallel import drivers, sharding, stacking
from relearn_jax.training import checkpoints, loop, optimizer
from relearn_jax.training.loop import Hooks, Position
from relearn_jax.training.step import Round, State, start

PyTree = Any


class Watcher(NamedTuple):
    """Where progress goes: `tick(done, text)` after every step, `log(line)` for metrics.jsonl,
    `say(text)` for what the user should read. `stop()`: whether the process is to end; all
    processes ask it equally often (`stopping.on_termination`)."""

    tick: Callable[[int, str], None]
    log: Callable[[dict[str, Any]], None]
    say: Callable[[str], None]
    stop: Callable[[], bool]


class Context(NamedTuple):
    """What all stages share."""

    prepared: Prepared
    out: Path
    watch: Watcher
    steppers: dict[tuple, tuple]


class Plan(NamedTuple):
    """One round of C sets."""

    names: Sequence[str]
    """Stage folders."""
    keys: Sequence[str]
    seeds: Sequence[int]
    """Of the order of the data."""
    streams: Sequence[int]
    """Numbers that make the dropout of each set its own."""
    number: int
    """0: the base model; 1, 2, ...: the rounds of retraining."""
    text: Text
    settings: Training
    mesh: Mesh


def train(
    context: Context,
    plan: Plan,
    params: Callable[[], PyTree],
    sites: Sites,
    held: Mapping[str, jax.Array],
) -> PyTree:
    """Train for one round, or for the rest of one; save its stages; give the parameters.

    Args:
      context: the run.
      plan: the round.
      params: gives where to start, [C, ...], to be donated; not asked where a checkpoint goes on.
      sites: what the forward pass is run with.
      held: multipliers of frozen entries by path, or none.
    """
    p, watch, config = context.prepared, context.watch, context.prepared.config
    step, begin_state = _stepper(context, plan)
    per_epoch, sets = steps(plan.text, plan.settings, config), len(plan.names)
    folder = context.out / "checkpoints" / runs.key_of(*plan.keys)[:16]
    keys = _keys(plan)
    found = checkpoints.restore(folder, partial(_abstract, context, plan, begin_state), watch.say)
    if found is None:
        state, begin = begin_state(params()), Position()
        progress = {
            "records": [[] for _ in plan.names], "wall_s": 0, "evaluation_s": 0,
            "round": plan.number, "stages": dict(zip(plan.names, plan.keys, strict=True)),
            "dropout_keys": hosts.fetch(jax.random.key_data(keys)).tolist(),
            "config": loading.plain(config),
        }  # fmt: skip
    else:
        state, progress = stacking.fitted(plan.mesh, found[0], sets), found[1]
        begin = Position(progress["epoch"], progress["batch"])
    behind = begin.epoch * per_epoch + begin.batch
    _forget_lines(context.out, plan, behind, begin.epoch)
    watch.tick(behind * sets, place(plan))
    began, before = time.perf_counter(), progress["wall_s"]
    latest, stop = "", False

    def batches(epoch: int, skip: int) -> Iterator[TokenBatch]:
        some = train_batches(plan.text, config, plan.settings, plan.mesh, plan.seeds, epoch, skip)
        for batch in some:
            yield batch
            watch.tick(sets, place(plan) + latest)

    def log(lines: list[dict[str, Any]]) -> None:
        for name, line in zip(plan.names, lines, strict=False):
            watch.log({"stage": name, **line})

    with checkpoints.opened(folder, config.checkpoint.keep) as checkpointer:

        def save(at: Position, state: State, wait: bool) -> None:
            state = hosts.as_global(plan.mesh, state)
            loop.check_finite(hosts.fetch(state.bad_step), _places(plan))
            now = progress | {"epoch": at.epoch, "batch": at.batch, "rows": len(state.step)}
            now["wall_s"] = before + time.perf_counter() - began
            checkpoints.save(checkpointer, at.epoch * per_epoch + at.batch, state, now, wait)

        def due(at: Position) -> bool:
            nonlocal stop
            stop = watch.stop()
            number = at.epoch * per_epoch + at.batch
            return stop or (number % config.checkpoint.every == 0 and at.batch < per_epoch)

        def save_there(at: Position, state: State) -> None:
            save(at, state, wait=stop)
            if stop:
                number = at.epoch * per_epoch + at.batch
                raise Stopped(f"stopped in {place(plan)}, after step {number} of the round")

        def after_epoch(epoch: int, state: State) -> None:
            nonlocal latest
            asked = time.perf_counter()
            params = hosts.as_global(plan.mesh, state.params)
            try:
                scores = measurements.task_scores(p, plan.mesh, params, sites, sets, watch.stop)
            except Stopped:
                save(Position(epoch - 1, per_epoch), state, wait=True)
                raise
            progress["evaluation_s"] += time.perf_counter() - asked
            done_before = (plan.number - 1) * plan.settings.epochs if plan.number else 0
            for name, records, past in zip(plan.names, scores, progress["records"], strict=True):
                past.append({"epoch": done_before + epoch, "records": records})
                f1 = records[0]["f1"]
                watch.log({"stage": name, "event": "evaluation", "epoch": epoch, "f1": f1})
            latest = f", F1 {np.mean([records[0]['f1'] for records in scores]):.3f}"

        state = loop.fit(
            step,
            state,
            Round(
                optimizer.schedule(plan.settings, per_epoch * plan.settings.epochs),
                keys,
                sites,
                held or None,
            ),
            plan.settings.epochs,
            batches,
            Hooks(log, due, save_there, after_epoch),
            _places(plan),
            begin,
        )
    params = hosts.as_global(plan.mesh, state.params)
    times = {
        "wall_s": round((before + time.perf_counter() - began) / sets, 2),
        "evaluation_s": round(progress["evaluation_s"] / sets, 2),
    }
    for c, (name, key) in enumerate(zip(plan.names, plan.keys, strict=True)):
        one = paths.flatten(stacking.one_model(plan.mesh, params, c))
        host = {}
        for path, leaf in one.items():
            fetched = hosts.fetch(leaf)
            if hosts.is_writer():
                host[path] = fetched
        record = {"scores": progress["records"][c], **times}
        save_stage(context.out, name, key, record, {"params": host})
    hosts.once(lambda: shutil.rmtree(folder, ignore_errors=True), "checkpoints removed")
    return params


def total_steps(config: Config, plan: Plan) -> int:
    """Steps of a round, of all its sets."""
    return steps(plan.text, plan.settings, config) * plan.settings.epochs * len(plan.names)


def place(plan: Plan) -> str:
    """A round as the progress bar names it."""
    first = _places(plan)[0]
    return first if len(plan.names) == 1 else f"{first} and {len(plan.names) - 1} more"


def _places(plan: Plan) -> list[str]:
    return [name.replace("-", ", ") for name in plan.names]


def all_finished(out: Path, names: Sequence[str], keys: Sequence[str]) -> bool:
    """Whether every set has that stage. If one has not, all are done again, side by side as before,
    so that a run that was killed between two of them ends with the same bits."""
    here = all(runs.finished(out, n, k) is not None for n, k in zip(names, keys, strict=True))
    return bool(hosts.first(here))


def save_stage(
    out: Path,
    name: str,
    key: str,
    record: Mapping[str, Any],
    arrays: Mapping[str, Mapping[str, np.ndarray]],
) -> None:
    """Let process 0 write a stage."""
    hosts.once(lambda: runs.save_stage(out, name, key, record, arrays), name)


def from_disk(context: Context, mesh: Mesh, names: Sequence[str]) -> PyTree:
    """Parameters of saved stages side by side, [C, ...]."""
    files = [runs.array_file(context.out, name, "params") for name in names]
    place = sharding.placer(mesh, sets_axis=True)
    return weights.read_stacked(stacking.filled(mesh, files), place)


def _stepper(context: Context, plan: Plan) -> tuple[loop.Step, Callable[[PyTree], State]]:
    """Step and start, made once for all rounds that share their static settings."""
    s, driver = plan.settings, context.prepared.config.parallel.driver
    static = (s.clip_norm, s.weight_decay, s.accumulate, plan.mesh)
    if static not in context.steppers:
        direction = optimizer.direction(s)
        model = context.prepared.model
        context.steppers[static] = (
            drivers.make(driver, plan.mesh, model, direction, s.accumulate),
            jax.jit(partial(_started, plan.mesh, direction), donate_argnums=0),
        )
    return context.steppers[static]


def _started(mesh: Mesh, direction: optax.GradientTransformation, params: PyTree) -> State:
    state = jax.vmap(lambda one: start(one, direction))(params)
    return sharding.constrain(state, mesh, sets_axis=True)


def _abstract(
    context: Context, plan: Plan, begin: Callable[[PyTree], State], progress: Mapping[str, Any]
) -> State:
    """Shapes and places of the state that a checkpoint holds; of as many sets as it was filled up
    to where it was written."""
    rows = progress["rows"]
    params = {
        path: jax.ShapeDtypeStruct((rows, *shape), jnp.float32)
        for path, shape in weights.shapes(context.prepared.model).items()
    }
    state = jax.eval_shape(begin, paths.unflatten(params))
    return jax.tree.map(
        lambda x, to: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=to),
        state,
        sharding.shardings(state, plan.mesh, sets_axis=True),
    )


def _keys(plan: Plan) -> jax.Array:
    """Dropout keys [C]; a set's own, whatever the sets beside it."""
    seeds, streams = (
        stacking.per_set(plan.mesh, [np.uint32(x) for x in numbers])
        for numbers in (plan.seeds, plan.streams)
    )

    def key(seed: jax.Array, stream: jax.Array) -> jax.Array:
        own = jax.random.fold_in(jax.random.key(seed), stream)
        return jax.random.fold_in(own, jnp.uint32(1 + plan.number))

    return jax.jit(jax.vmap(key))(seeds, streams)


def _forget_lines(out: Path, plan: Plan, steps: int, epochs: int) -> None:
    """Remove log lines of what a killed process did after its last checkpoint."""
    names = set(plan.names)

    def keep(line: Mapping[str, Any]) -> bool:
        if line.get("stage") not in names:
            return True
        return line["epoch"] <= epochs if "event" in line else line["step"] <= steps

    hosts.once(lambda: runs.filter_lines(out / "metrics.jsonl", keep), "log lines")
