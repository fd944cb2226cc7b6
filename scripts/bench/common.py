"""What the benchmarks share: pinning to cores, a child process with its peak memory, tables.

Standard library only, and so it must stay: a child's peak memory starts at its parent's.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

MB_PER_RSS = 1 / 1024 if sys.platform == "linux" else 1 / 1024**2
BUSY = 0.5
"""Load before the start from which timings, torch's above all, say little."""


def pin(count: int) -> int:
    """Keep this process and its children to `count` cores; returns how many it got."""
    if not hasattr(os, "sched_setaffinity"):
        return os.cpu_count() or 1
    cores = sorted(os.sched_getaffinity(0))[:count]
    os.sched_setaffinity(0, cores)
    return len(cores)


def measured(command: Sequence[str], result: Path) -> dict[str, Any]:
    """Run a child that writes JSON to `result`; returns that, and its `peak_mb`."""
    child = subprocess.Popen(command)
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise SystemExit(f"failed ({child.returncode}): {' '.join(command)}")
    return json.loads(result.read_text()) | {"peak_mb": usage.ru_maxrss * MB_PER_RSS}


def machine(cores: int) -> str:
    """One line about this machine."""
    model = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    for line in info.read_text().splitlines() if info.is_file() else ():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    line = f"{model}, {cores} cores, Python {platform.python_version()}"
    busy = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    return line if busy < BUSY else f"{line}; BUSY, load {busy:.1f}: these figures do not count"


def number(value: float) -> str:
    """About three significant digits."""
    digits = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2 if abs(value) >= 1 else 3
    return f"{value:.{digits}f}"


def ratio(theirs: float, ours: float) -> str:
    """How often ours goes into theirs; a difference of two timings may be lost in their noise."""
    return number(theirs / ours) if ours > 0 else "noise"


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table, its first column text and the others numbers."""
    rule = ["---", *["---:"] * (len(header) - 1)]
    return "\n".join("| " + " | ".join(row) + " |" for row in (header, rule, *rows))


def write(path: Path | None, value: Any) -> None:
    """Write JSON, if asked to."""
    if path is not None:
        path.write_text(json.dumps(value, indent=1) + "\n")
