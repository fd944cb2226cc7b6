"""The manifest of a run: config, versions, devices, sources and stages, enough to repeat it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from relearn_jax import runs
from relearn_jax.config import Config
from relearn_jax.experiments import environment
from relearn_jax.experiments.experiment import Experiment, Setup


def build(
    experiment: Experiment, config: Config, setup: Setup, out: Path, times: dict[str, Any]
) -> dict[str, Any]:
    """The manifest of a run directory.

    Args:
      experiment: the experiment.
      config, setup: its config and setup.
      out: the run directory, whose finished stages the manifest lists.
      times: from `driver._times`.
    """
    records = {
        name: runs.read_json(path)
        for name in experiment.stages(setup)
        if (path := runs.record_file(out, name)).is_file()
    }
    return {
        "format": runs.FORMAT,
        "code": runs.CODE,
        "experiment": config.experiment,
        "name": config.name,
        "description": config.description,
        "seeds": list(config.seeds),
        "versions": environment.versions(),
        "devices": environment.devices(),
        "mesh": experiment.meshes(setup, out),
        "sources": experiment.sources(setup),
        "stages": {name: runs.digest_of(record) for name, record in records.items()},
        "wall_s": {name: record.get("wall_s", 0.0) for name, record in records.items()},
        **times,
        **experiment.manifest(setup, out),
    }
