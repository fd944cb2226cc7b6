"""The environment of a run: versions, devices, the clock, and messages to the user."""

from __future__ import annotations

import contextlib
import datetime
import importlib.metadata
import platform
import sys
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.monitoring
from tqdm import tqdm

from relearn_jax import hosts

PACKAGES = ("relearn-jax", "jax", "jaxlib", "flax", "optax", "numpy", "transformers", "datasets")
COMPILE_EVENTS = ("/jax/core/compile/",)


def say(text: str) -> None:
    """Print a message to stderr, from the first process only."""
    if hosts.is_writer():
        print(text, file=sys.stderr, flush=True)


@contextlib.contextmanager
def progress(total: int) -> Iterator[Callable[[int, str], None]]:
    """A progress bar. Gives a function that takes the steps done and the name of the work."""
    with tqdm(
        total=total, unit="step", dynamic_ncols=True, smoothing=0.05,
        mininterval=0.5 if sys.stderr.isatty() else 20, disable=not hosts.is_writer(),
    ) as bar:  # fmt: skip

        def tick(done: int, text: str) -> None:
            # tqdm itself never draws what begins without a step, however long it takes.
            bar.set_description(text, refresh=done == 0)
            bar.update(done)

        yield tick


def listen() -> list[float]:
    """A list that grows by the seconds of each tracing and compilation in JAX from now on."""
    seconds: list[float] = []

    def heard(event: str, duration: float, **_: Any) -> None:
        if event.startswith(COMPILE_EVENTS):
            seconds.append(duration)

    jax.monitoring.register_event_duration_secs_listener(heard)
    return seconds


def devices() -> list[str]:
    """Platform and kind of every device."""
    return [f"{d.platform}: {d.device_kind}" for d in jax.devices()]


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that affect results."""
    versions = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = "not installed"
    return versions


def now() -> str:
    """Date and time in UTC, to the second."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
