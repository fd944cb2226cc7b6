"""What a run runs in: versions, devices, the clock, and the user's screen."""

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
    """Tell the user, once for all processes."""
    if hosts.is_writer():
        print(text, file=sys.stderr, flush=True)


@contextlib.contextmanager
def progress(total: int) -> Iterator[Callable[[int, str], None]]:
    """A bar; gives what moves it by so many steps and says what is being done."""
    with tqdm(
        total=total, unit="step", dynamic_ncols=True, smoothing=0.05,
        mininterval=0.5 if sys.stderr.isatty() else 20, disable=not hosts.is_writer(),
    ) as bar:  # fmt: skip

        def tick(done: int, text: str) -> None:
            bar.set_description(text, refresh=False)
            bar.update(done)

        yield tick


def listen() -> list[float]:
    """Seconds that JAX spends tracing and compiling from now on."""
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
    """Versions of Python and of the packages that decide the numbers."""
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
