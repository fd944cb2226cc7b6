"""One small finished run, shared by the tests that only read it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import yaml
from filelock import FileLock
from undrawn import undrawn

from relearn_jax import cli

WORLD = {"kind": "world", "sentences": 60}
SMALL = {
    "name": "small",
    "seeds": [0],
    "arms": ["concept", "random", "layer_matched", "bottom"],
    "model": {"max_length": 48},
    "data": {
        "train": {**WORLD, "split": "train"},
        "evaluation": {**WORLD, "split": "test", "sentences": 24},
        "buckets": [48],
    },
    "concepts": {"data": {**WORLD, "split": "dev", "sentences": 40}},
    "training": {"epochs": 2, "learning_rate": 1.0e-2},
    "retrain": {"rounds": 2, "epochs": 2},
    "parallel": {"sets": 1, "data": 1},
}


@pytest.fixture(scope="session")
def write_config(tagger, tmp_path_factory):
    """Writes SMALL with changes to a file, and gives its path."""

    def write(**changes) -> Path:
        folder = tmp_path_factory.mktemp("config")
        values = {**SMALL, **changes}
        values["model"] = {"source": str(tagger.folder), **values["model"]}
        path = folder / "small.yaml"
        path.write_text(yaml.safe_dump(values))
        return path

    return write


@pytest.fixture(scope="session")
def finished(write_config, tmp_path_factory, worker_id):
    """Config and run directory of a finished run, made once for all processes of the tests."""
    config, base = write_config(), tmp_path_factory.getbasetemp()
    folder = (base if worker_id == "master" else base.parent) / "finished"
    with FileLock(f"{folder}.lock"):
        if not (folder / "run" / "report.html").is_file():
            folder.mkdir()
            shutil.copyfile(config, folder / "small.yaml")
            command = ["run", str(folder / "small.yaml"), "--out", str(folder / "run")]
            with undrawn():
                assert cli.main(command) == 0
    return folder / "small.yaml", folder / "run"


@pytest.fixture(name="undrawn")
def _undrawn():
    """The runs of a test have reports without drawings."""
    with undrawn():
        yield
