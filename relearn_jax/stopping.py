"""The wish of a cluster that the process end (SIGTERM), as a question that the loop can ask."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

import jax


@contextlib.contextmanager
def on_termination() -> Iterator[Callable[[], bool]]:
    """While it lasts, SIGTERM is noted instead of obeyed; a second one ends the process at once.

    Of several processes JAX's own service listens instead (`parallel.hosts.stop_requested`).
    """
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread() or jax.process_count() > 1:
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
