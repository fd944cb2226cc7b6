"""Checkpoints within a training round, written in the background; each is complete or absent.

A checkpoint is an Orbax folder named by its step. It holds the arrays, and Orbax's metadata hold
the progress and the fingerprint of every array. Several processes call these functions together, on
one folder that all of them see.

Orbax's own sequence of checkpoints (`ocp.training.Checkpointer`) is not used: it cannot be opened
while the metadata of any checkpoint are damaged.
"""

from __future__ import annotations

import contextlib
import gc
import hashlib
import json
import logging
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
from orbax.checkpoint import v1 as ocp

from relearn_jax import hosts
from relearn_jax.errors import UserError
from relearn_jax.training.fingerprint import fingerprint

PyTree = Any
LEFTOVERS = "*.orbax-checkpoint-tmp"
ELSEWHERE = "another process cannot read it"
ORBAX = ocp.Context()
# If Orbax fails to create a folder in the background, its threads hang.
ORBAX.asynchronous.create_directories_asynchronously = False
# Compression takes several times the CPU time of writing, and saves a tenth of the space.
ORBAX.array.saving.use_compression = False


class Checkpointer(NamedTuple):
    """A folder of checkpoints, how many of them are kept, and the save in progress, if any."""

    folder: Path
    keep: int
    pending: list[ocp.AsyncResponse]


@contextlib.contextmanager
def opened(folder: Path, keep: int) -> Iterator[Checkpointer]:
    """Open a folder of checkpoints and keep the newest `keep`; the folder is made where missing.

    Leftovers of an interrupted save are removed at the start; a running save is finished at the
    end.

    Raises:
      UserError: the folder could not be written, or, at the end, the last checkpoint.
    """
    folder = folder.resolve()
    if jax.process_index() == 0:
        with _reported(folder):
            folder.mkdir(parents=True, exist_ok=True)
            for leftover in folder.glob(LEFTOVERS):
                shutil.rmtree(leftover)
    checkpointer = Checkpointer(folder, keep, [])
    with _quiet("absl"):
        try:
            yield checkpointer
        finally:
            _finish(checkpointer)


def save(
    checkpointer: Checkpointer, step: int, state: PyTree, progress: dict, wait: bool = False
) -> None:
    """Start to write a checkpoint, once the previous save has finished.

    The arrays may be donated, and the progress changed, as soon as this returns.

    Args:
      checkpointer: from `opened`.
      step: names the checkpoint. Checkpoints of later steps, left by a training that was since
        continued from an earlier step, are removed when this one is complete.
      state: a tree of jax.Arrays, with any sharding. No array may be empty.
      progress: plain JSON data.
      wait: return only when the checkpoint is complete.

    Raises:
      UserError: the previous save failed, or, with `wait`, this one did.
    """
    _finish(checkpointer)
    record = {"step": step, "progress": progress, "fingerprint": fingerprint(state)}
    record = json.loads(json.dumps(record))
    # Orbax reads the arrays before it returns. On CPU it keeps views of them; JAX does not reuse
    # the memory of an array while a view of it exists.
    with _reported(checkpointer.folder), ORBAX:
        response = ocp.save_checkpointables_async(
            checkpointer.folder / str(step),
            {"state": state},
            overwrite=True,
            custom_metadata={"record": record, "sha256": _digest(record)},
        )
    if jax.process_index() == 0:
        response.on_complete(lambda _: _tidy(checkpointer, step))
    checkpointer.pending.append(response)
    if wait:
        _finish(checkpointer)


def restore(
    folder: Path, abstract: Callable[[dict[str, Any]], PyTree], say: Callable[[str], None]
) -> tuple[PyTree, dict[str, Any]] | None:
    """The state and the progress of the newest usable checkpoint, or None.

    Args:
      folder: the folder of `opened`. It need not exist.
      abstract: makes from the progress a tree of jax.ShapeDtypeStruct with shardings: the expected
        arrays and where to put them. The shardings may differ from those of the saved arrays.
      say: takes a line about every newer checkpoint that cannot be used.
    """
    steps = _steps(folder.resolve())
    while (step := hosts.first(max(steps, default=-1))) >= 0:
        place = folder.resolve() / str(step)
        with _quiet("absl", "asyncio"):
            result = _read(place, step, abstract)
            gc.collect()  # asyncio reports the tasks that failed when they are collected
        if not isinstance(result, str):
            return result
        steps = [older for older in steps if older < step]
        instead = f"taking the one before it, {max(steps)}" if steps else "and there is none before"
        say(f"checkpoint {place} cannot be used: {result}; {instead}")
    return None


def _finish(checkpointer: Checkpointer) -> None:
    """Wait for the checkpoint that is being written."""
    for response in checkpointer.pending:
        try:
            with _reported(checkpointer.folder):
                response.result()
        except UserError:
            checkpointer.pending.clear()
            raise
    checkpointer.pending.clear()


@contextlib.contextmanager
def _reported(folder: Path) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        raise UserError(
            f"cannot write a checkpoint to {folder}: {_brief(error)}. Earlier checkpoints "
            "are kept: mend that, and the same command continues from the newest."
        ) from error


def _tidy(checkpointer: Checkpointer, step: int) -> None:
    """Remove superfluous checkpoints, now that the checkpoint of `step` is complete."""
    steps = sorted(_steps(checkpointer.folder))
    earlier = [s for s in steps if s <= step]
    for superfluous in set(steps) - set(earlier[-checkpointer.keep :]):
        shutil.rmtree(checkpointer.folder / str(superfluous))


def _steps(folder: Path) -> list[int]:
    if not folder.is_dir():
        return []
    return [int(p.name) for p in folder.iterdir() if p.is_dir() and p.name.isdecimal()]


def _read(
    place: Path, step: int, describe: Callable[[dict[str, Any]], PyTree]
) -> tuple[PyTree, dict[str, Any]] | str:
    """State and progress of a checkpoint, or why it cannot be used; all processes agree."""
    record = _record(place, step)
    if not hosts.all_of(not isinstance(record, str)):
        return record if isinstance(record, str) else ELSEWHERE
    abstract = describe(record["progress"])
    state = _state(place, abstract)
    # The fingerprint is computed by all processes together.
    if not hosts.all_of(not isinstance(state, str)):
        return state if isinstance(state, str) else ELSEWHERE
    before, now = record["fingerprint"], fingerprint(state)
    wrong = sorted(name for name in before.keys() | now if before.get(name) != now.get(name))
    if wrong:
        others = f" and {len(wrong) - 1} more" if wrong[1:] else ""
        return f"not the values that were saved in {wrong[0]}{others}"
    # Orbax gives a PRNG key on one device the sharding of its data, which has one more axis.
    state = jax.tree.map(lambda x, like: jax.device_put(x, like.sharding), state, abstract)
    return state, record["progress"]


def _record(place: Path, step: int) -> dict[str, Any] | str:
    try:
        stored = ocp.checkpointables_metadata(place).custom_metadata
        record = stored["record"]
        if _digest(record) != stored["sha256"] or record["step"] != step:
            return "its progress is damaged"
    except Exception as error:
        return f"its progress cannot be read ({_brief(error)})"
    return record


def _state(place: Path, abstract: PyTree) -> PyTree | str:
    try:
        state = ocp.load_checkpointables(place, {"state": abstract})["state"]
    except (MemoryError, jax.errors.JaxRuntimeError):
        raise  # says nothing about the checkpoint
    except Exception as error:
        return f"its arrays cannot be read ({_brief(error)})"
    return state if _kinds(state) == _kinds(abstract) else "its arrays are of other types"


def _kinds(state: PyTree) -> list[tuple]:
    return [(leaf.shape, leaf.dtype) for leaf in jax.tree.leaves(state)]


def _digest(record: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()


def _brief(error: Exception) -> str:
    """The first line of an error's root cause, cut to its end, where the reason is."""
    while error.__cause__ is not None:
        error = error.__cause__
    line, _, _ = str(error).strip().partition("\n")
    line, _, _ = line.partition(" [tensorstore")
    return f"{type(error).__name__}: {line if len(line) < 160 else '...' + line[-150:]}"


@contextlib.contextmanager
def _quiet(*names: str) -> Iterator[None]:
    """Silence these loggers about Orbax: they print pages for a failure that we put in a line."""

    def not_orbax(record: logging.LogRecord) -> bool:
        return record.name == "absl" and "orbax" not in record.pathname

    for name in names:
        logging.getLogger(name).addFilter(not_orbax)
    try:
        yield
    finally:
        for name in names:
            logging.getLogger(name).removeFilter(not_orbax)
