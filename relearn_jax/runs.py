"""Run directories: resolved config, manifest, log lines, and stages that are complete or absent.

A stage is a folder under `stages/` with `stage.json` and the files that it names. It is written to
a temporary folder and moved when complete, so that a killed run, or a full disk, leaves no partial
stage. Its key is a hash of everything that it was made from.
"""

from __future__ import annotations

import contextlib
import datetime
import errno
import fcntl
import functools
import hashlib
import json
import os
import re
import shutil
import socket
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from relearn_jax import loading
from relearn_jax.config import Config
from relearn_jax.errors import UserError

PyTree = Any
CODE = 7
"""Version of the code, raised whenever a change alters the result of a stage."""
FORMAT = 3
"""Format of the manifest and the tables; raised whenever reports must read them differently."""


def key_of(*parts: Any) -> str:
    """SHA-256 of plain data."""
    return hashlib.sha256(json.dumps([CODE, *parts], sort_keys=True).encode()).hexdigest()


INCIDENTAL = (
    "experiment", "gates", "parallel", "checkpoint", "expected_minutes", "description", "out",
)  # fmt: skip
"""Settings that do not affect stages, so that a run may be continued on other devices."""
PARTIAL = ".{}.partial"
"""Name of a file or a stage until it is complete."""
LOCK = ".lock"
"""Name of the file that says which process holds a run directory."""


def check_run(out: Path, config: Config, reuse: bool) -> None:
    """Check that a run of this config may start or continue in a directory.

    Raises:
      UserError: the directory holds other files, or a run of another config (unless `reuse`, which
        keeps the stages that the new config does not change).
    """
    begun = {PARTIAL.format("config.yaml"), LOCK}
    if (out / "config.yaml").is_file():
        changed = _changed(out, config)
        if changed and not reuse:
            raise UserError(
                f"{out} belongs to a run with another config (differs in: {', '.join(changed)}). "
                "Give another --out, or --reuse to continue here and keep the stages that "
                "do not depend on the change."
            )
    elif out.is_dir() and any(path.name not in begun for path in out.iterdir()):
        raise UserError(f"{out} is not empty and is no run directory; give another --out")
    elif out.exists() and not out.is_dir():
        raise UserError(f"{out} is a file; give another --out")


@contextlib.contextmanager
def locked(out: Path) -> Iterator[None]:
    """Hold a run directory, so that no other process writes there.

    The lock is the kernel's: a process that dies gives it up. A file system without locks is used
    as it is.

    Raises:
      UserError: another process holds the directory. Nothing has been changed.
    """
    with disk(out):
        out.mkdir(parents=True, exist_ok=True)
        file = (out / LOCK).open("a+", encoding="utf-8")
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.seek(0)
            holder = file.read().strip() or "another process"
            raise UserError(
                f"{out} is in use by {holder}. Wait until it ends, or give another --out."
            ) from error
        except OSError:
            pass
        since = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()} since {since}\n")
        file.flush()
        try:
            yield
        finally:
            file.truncate(0)


def _changed(out: Path, config: Config) -> list[str]:
    keys = loading.differences(_saved(out), loading.plain(config))
    return [key for key in keys if key.split(".")[0] not in INCIDENTAL]


def _saved(out: Path) -> Any:
    path = out / "config.yaml"
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is damaged: {error}. {AGAIN}") from error
    if not isinstance(values, dict):
        raise UserError(f"{path} is damaged: it holds no settings. {AGAIN}")
    return values


def config_of(out: Path) -> Config:
    """The config that a run directory was last started with.

    Raises:
      UserError: `out` is no run directory.
    """
    path = out / "config.yaml"
    if not path.is_file():
        raise UserError(f"{out}: no run directory (it has no config.yaml)")
    values = _saved(out)
    return loading.build(loading.schema_of(values, str(path)), values, str(path), "")


def open_run(out: Path, config: Config) -> None:
    """Make or continue a run directory, after `check_run`.

    It may be interrupted at any time and called again.
    """
    with disk(out):
        if (out / "config.yaml").is_file() and _changed(out, config):
            # These belong to the earlier config. Stages are checked by their keys instead.
            for stale in ("tables", "figures"):
                shutil.rmtree(out / stale, ignore_errors=True)
            for stale in ("manifest.json", "report.html"):
                (out / stale).unlink(missing_ok=True)
        out.mkdir(parents=True, exist_ok=True)
        # Written first, as it marks a run directory.
        write_text(out / "config.yaml", loading.dump(config))
        (out / "stages").mkdir(exist_ok=True)
        for leftover in (out / "stages").glob(PARTIAL.format("*")):
            shutil.rmtree(leftover)


@contextlib.contextmanager
def disk(place: Path) -> Iterator[None]:
    """Turn the error of a full or read-only disk into a UserError that says what is kept."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EFBIG):
            raise UserError(
                f"cannot write to {place}: {os.strerror(error.errno)}. Finished stages "
                "are kept; make room and give the same command again."
            ) from error
        raise


def write_text(path: Path, text: str) -> None:
    """Write a file completely or not at all."""
    partial = path.with_name(PARTIAL.format(path.name))
    try:
        partial.write_text(text, encoding="utf-8")
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
    """Write JSON completely or not at all."""
    write_text(path, json.dumps(value, indent=1, sort_keys=True) + "\n")


AGAIN = "Restore it, or move it away and give the command of the run again."


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
      UserError: the file is damaged.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{path} is damaged: {error}. {AGAIN}") from error


def stage_folder(out: Path, name: str) -> Path:
    """The folder of a stage."""
    return out / "stages" / name


def record_file(out: Path, name: str) -> Path:
    """The file of a stage's record; it exists only if the stage does."""
    return stage_folder(out, name) / "stage.json"


def finished(out: Path, name: str, key: str) -> dict[str, Any] | None:
    """The record of a finished stage with that key, or None.

    A damaged stage is not finished: its record cannot be read, or a file that it still has does not
    have the SHA-256 of the record.
    """
    record = record_file(out, name)
    if not record.is_file():
        return None
    try:
        value = read_json(record)
        held, digests = value["key"], value["sha256"]
    except (UserError, KeyError, TypeError):
        return _damaged(record)
    if held != key:
        return None
    for file, digest in digests.items():
        path = array_file(out, name, file)
        if path.is_file() and _digest(path, *_state(path)) != digest:
            return _damaged(path)
    return value


def _damaged(path: Path) -> None:
    """Say that a stage is computed again."""
    print(f"{path} is damaged; its stage is computed again", file=sys.stderr, flush=True)


def _state(path: Path) -> tuple[int, int]:
    stat = path.stat()
    return stat.st_size, stat.st_mtime_ns


@functools.lru_cache(maxsize=4096)
def _digest(path: Path, size: int, changed: int) -> str:
    """SHA-256 of a file, computed once for each state of it."""
    return sha256(path)


def save_stage(
    out: Path,
    name: str,
    key: str,
    record: Mapping[str, Any],
    arrays: Mapping[str, Mapping[str, np.ndarray]],
) -> dict[str, Any]:
    """Write a stage: `record` as JSON, and each entry of `arrays` as NAME.safetensors.

    The record also has the SHA-256 of each file, which is kept when the file is dropped.
    """
    folder = stage_folder(out, name)
    partial = folder.with_name(PARTIAL.format(name))
    value = {**record, "key": key, "sha256": {}}
    try:
        with disk(folder):
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True)
            for file, tensors in arrays.items():
                path = partial / f"{file}.safetensors"
                _save_tensors(path, tensors)
                value["sha256"][file] = sha256(path)
            write_json(partial / "stage.json", value)
            if folder.exists():
                shutil.rmtree(folder)
            os.replace(partial, folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return value


def digest_of(record: Mapping[str, Any]) -> str:
    """SHA-256 of a stage's record without times: key, scores, and the SHA-256 of its files."""
    reproducible = {name: value for name, value in record.items() if not name.endswith("_s")}
    return hashlib.sha256(json.dumps(reproducible, sort_keys=True).encode()).hexdigest()


def sha256(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()


def _save_tensors(path: Path, tensors: Mapping[str, np.ndarray]) -> None:
    try:
        save_file({k: np.ascontiguousarray(v) for k, v in tensors.items()}, path)
    except Exception as error:  # safetensors wraps the operating system's errors in its own type
        code = re.search(r"os error (\d+)", str(error))
        if code is None:
            raise
        raise OSError(int(code[1]), str(error)) from error


def array_file(out: Path, name: str, file: str) -> Path:
    """The path of a file of arrays in a stage."""
    return stage_folder(out, name) / f"{file}.safetensors"


def arrays_of(out: Path, name: str, file: str) -> dict[str, np.ndarray]:
    """The arrays of a safetensors file of a stage.

    Raises:
      UserError: the file is damaged.
    """
    path = array_file(out, name, file)
    try:
        return load_file(path)
    except SafetensorError as error:
        raise UserError(
            f"{path} is damaged ({error}); give the command of the run again, which computes the "
            "stage again"
        ) from error


def has_arrays(out: Path, name: str, file: str) -> bool:
    """Whether a stage still has a file of arrays."""
    return array_file(out, name, file).is_file()


def drop_arrays(out: Path, names: Iterable[str], file: str) -> None:
    """Delete a file of stages that later stages have made superfluous, to free disk space."""
    for name in names:
        array_file(out, name, file).unlink(missing_ok=True)


def append_line(path: Path, value: Mapping[str, Any]) -> None:
    """Add one JSON line."""
    with disk(path), path.open("a") as f:
        f.write(json.dumps(value, sort_keys=True) + "\n")


def filter_lines(path: Path, keep: Callable[[Mapping[str, Any]], bool]) -> None:
    """Keep the JSON lines for which `keep` is true; drop the others, and damaged lines."""
    if not path.is_file():
        return

    def kept_line(line: str) -> bool:
        try:
            return line.endswith("\n") and keep(json.loads(line))
        except ValueError:
            return False

    lines = path.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True)
    kept = [line for line in lines if kept_line(line)]
    if len(kept) < len(lines):
        with disk(path):
            write_text(path, "".join(kept))
