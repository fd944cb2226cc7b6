"""Where an experiment reports its progress, and whether it is asked to end."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple


class Watcher(NamedTuple):
    """The driver's side of a running experiment."""

    tick: Callable[[int, str], None]
    """Takes steps done and what is being done, after every step."""
    log: Callable[[dict[str, Any]], None]
    """Takes a line of metrics.jsonl."""
    say: Callable[[str], None]
    """Takes what the user should read."""
    stop: Callable[[], bool]
    """Whether the process is to end. All processes ask equally often (`stopping`)."""
