"""The wish of a cluster that the process end (SIGTERM): a question that work asks between parts."""

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
    """While it lasts, SIGTERM is noted instead of obeyed; a second one ends the process at once.

    Gives the question whether to end now. Several processes have to ask equally often: JAX's own
    service hears the signal and names a question, counted from the start, that all will reach, and
    all get the same answer.
    """
    asked = threading.Event()
    if jax.process_count() > 1:
        questions = itertools.count()
        yield lambda: multihost_utils.reached_preemption_sync_point(next(questions))
        return
    if threading.current_thread() is not threading.main_thread():
        yield asked.is_set
        return

    def note(number: int, frame: Any) -> None:
        asked.set()
        signal.signal(signal.SIGTERM, before)

    before = signal.signal(signal.SIGTERM, note)
    try:
        yield asked.is_set
    finally:
        signal.signal(signal.SIGTERM, before)


def until(stop: Callable[[], bool], parts: Iterable[T], what: str) -> Iterator[T]:
    """Parts of some work, as long as nobody wants the process to end.

    Raises:
      Stopped: somebody does; `what` says what was left undone.
    """
    for part in parts:
        if stop():
            raise Stopped(f"stopped in {what}")
        yield part
