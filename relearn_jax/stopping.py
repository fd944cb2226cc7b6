"""Stopping on SIGTERM: work asks between its parts whether it should stop."""

from __future__ import annotations

import contextlib
import itertools
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

import jax
from jax.experimental import multihost_utils

from relearn_jax.errors import Stopped

T = TypeVar("T")


@contextlib.contextmanager
def on_termination() -> Iterator[Callable[[], bool]]:
    """Within this context the first SIGTERM is only recorded; a second one ends the process at
    once.

    Gives a function that tells whether to stop now. Several processes must call it equally often:
    JAX's service receives the signal and chooses a call, counted from the start, at which all
    processes get the answer to stop.
    """
    stopping = threading.Event()
    if jax.process_count() > 1:
        calls = itertools.count()
        yield lambda: multihost_utils.reached_preemption_sync_point(next(calls))
        return
    if threading.current_thread() is not threading.main_thread():
        yield stopping.is_set
        return

    def note(number: int, frame: Any) -> None:
        stopping.set()
        signal.signal(signal.SIGTERM, before)

    before = signal.signal(signal.SIGTERM, note)
    try:
        yield stopping.is_set
    finally:
        signal.signal(signal.SIGTERM, before)


def until(stop: Callable[[], bool], parts: Iterable[T], what: str) -> Iterator[T]:
    """Yield the parts of some work until `stop` returns true.

    Raises:
      Stopped: `stop` returned true; the message names the work, `what`.
    """
    for part in parts:
        if stop():
            raise Stopped(f"stopped in {what}")
        yield part
