"""A cache of compiled programs that outlives the tests."""

from __future__ import annotations

import hashlib
import os
import time
from importlib import metadata
from pathlib import Path

DAYS = 14
"""Programs that nobody has asked for as long are removed."""


def folder() -> Path:
    """Where compiled programs are kept: for this version of jaxlib and this kind of processor.

    RELEARN_TEST_CACHE names another folder; an empty one makes the tests start cold.
    """
    named = os.environ.get("RELEARN_TEST_CACHE")
    if named:
        return Path(named)
    home = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    return home / "relearn_jax" / f"tests-single-{metadata.version('jaxlib')}-{_processor()}"


def _processor() -> str:
    """A program compiled for one kind of processor may not run on another."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return "any"
    flags = next((line for line in lines if line.startswith(("flags", "Features"))), "")
    return hashlib.sha256(flags.encode()).hexdigest()[:8]


def leave_out_collectives() -> None:
    """Keep programs of one device only.

    Seen with jaxlib 0.10.2: the devices of a CPU program that was read back enter its collectives
    in different orders, and on a small machine wait for each other until XLA ends the process.
    """
    from jax._src import compilation_cache

    put = compilation_cache.put_executable_and_time

    def put_if_alone(key, name, executable, *rest):
        if len(executable.local_devices()) == 1:
            put(key, name, executable, *rest)

    compilation_cache.put_executable_and_time = put_if_alone


def read_only() -> dict[str, str]:
    """Environment of a process of one device that reads the cache, and may be killed: it writes
    nothing, so no file is left half written."""
    return {
        "JAX_COMPILATION_CACHE_DIR": str(folder()),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "1e9",
    }


def prune() -> None:
    """Remove what has not been used for a while."""
    oldest = time.time() - DAYS * 24 * 3600
    for path in folder().glob("*"):
        if path.stat().st_mtime < oldest and path.stat().st_atime < oldest:
            path.unlink(missing_ok=True)
