"""Callbacks of an experiment: progress, log, messages, and requests to stop."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple


class Watcher(NamedTuple):
    """Callbacks from a running experiment to the driver."""

    tick: Callable[[int, str], None]
    """Takes the number of steps done and the name of the work, after every step."""
    log: Callable[[dict[str, Any]], None]
    """Takes a line of metrics.jsonl."""
    say: Callable[[str], None]
    """Takes a message to the user."""
    stop: Callable[[], bool]
    """Whether the process should stop. All processes must call it equally often (`stopping`)."""
