"""Two processes of four devices each, over the loopback interface, are one of eight."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from relearn_jax import runs

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[1]
WORLD = {"kind": "world", "sentences": 40}
CONFIG = {
    "name": "hosts",
    "seeds": [0],
    "arms": ["concept", "random"],
    "model": {"max_length": 48},
    "data": {
        "train": {**WORLD, "split": "train"},
        "evaluation": {**WORLD, "split": "test", "sentences": 24},
        "buckets": [48],
    },
    "concepts": {"data": {**WORLD, "split": "dev"}},
    "training": {"epochs": 1, "learning_rate": 1.0e-3},
    "retrain": {"rounds": 1, "epochs": 1},
}
PROGRAM = """
import sys, jax
jax.config.update("jax_num_cpu_devices", int(sys.argv[1]))
from relearn_jax import cli
from undrawn import undrawn
with undrawn():
    sys.exit(cli.main(sys.argv[2:]))
"""


def start(devices, *command, **environment):
    path = os.pathsep.join(map(str, (ROOT, ROOT / "tests")))
    environment = {**os.environ, "PYTHONPATH": path, **environment}
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(devices), *map(str, command)],
        env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


def finished(*processes):
    try:
        outputs = [process.communicate(timeout=240)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    for process, output in zip(processes, outputs, strict=True):
        assert process.returncode == 0, output[-3000:]
    return outputs


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


@pytest.fixture(scope="module")
def config(tagger, tmp_path_factory):
    path = tmp_path_factory.mktemp("hosts") / "hosts.yaml"
    values = {**CONFIG, "model": {"source": str(tagger.folder), **CONFIG["model"]}}
    path.write_text(yaml.safe_dump(values))
    return path


@pytest.fixture(scope="module")
def one_process(config, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "one"
    finished(start(8, "run", config, "--out", out))
    return out


def pair(*command):
    """Two processes of four devices that know each other."""
    address = f"127.0.0.1:{free_port()}"
    return [
        start(
            4, "run", *command, "--distributed",
            JAX_COORDINATOR_ADDRESS=address, JAX_NUM_PROCESSES="2", JAX_PROCESS_ID=str(i),
        )
        for i in range(2)
    ]  # fmt: skip


@pytest.mark.parametrize(
    "axes",
    [
        ["--parallel.sets=2", "--parallel.data=4"],
        ["--parallel.sets=1", "--parallel.data=1", "--parallel.fsdp=8"],
        ["--parallel.sets=1", "--parallel.data=8", "--parallel.driver=pmap"],
    ],
)
def test_two_processes_are_one(config, one_process, tmp_path, axes):
    first, second = finished(*pair(config, "--out", tmp_path / "two", *axes))
    assert "Report:" in first
    assert "Report:" not in second, "process 0 alone talks and writes"
    same(one_process, tmp_path / "two")


def same(before, after):
    names = sorted(p.parent.name for p in before.glob("stages/*/stage.json"))
    assert names == sorted(p.parent.name for p in after.glob("stages/*/stage.json"))
    for name in names:
        if not runs.has_arrays(before, name, "params"):
            continue
        one, two = (runs.arrays_of(o, name, "params") for o in (before, after))
        for path in one:
            np.testing.assert_allclose(one[path], two[path], rtol=1e-5, atol=1e-5, err_msg=path)
    pd.testing.assert_frame_equal(
        *(pd.read_parquet(o / "tables/scores.parquet") for o in (before, after))
    )


def test_one_signal_stops_both_and_one_process_goes_on(config, one_process, tmp_path):
    """SIGTERM reaches process 1 alone; both save and end. The rest is done by one process, on
    other devices, with sets that lay on devices of both."""
    out = tmp_path / "two"
    axes = ["--parallel.sets=2", "--parallel.data=4", "--checkpoint.every=1"]
    processes = pair(config, "--out", out, *axes)
    try:
        waited = time.monotonic() + 200
        while not list(out.glob("checkpoints/*/2")):
            assert time.monotonic() < waited
            assert all(process.poll() is None for process in processes)
            time.sleep(0.05)
        processes[1].send_signal(signal.SIGTERM)
        outputs = [process.communicate(timeout=100)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [143, 143], outputs
    assert not (out / "report.html").exists(), "stopped before the end"
    finished(start(2, "run", config, "--out", out))
    same(one_process, out)


def test_a_process_without_a_cluster_is_told_what_is_missing(config, tmp_path):
    process = start(1, "run", config, "--out", tmp_path / "out", "--distributed")
    said = process.communicate(timeout=240)[0]
    assert process.returncode == 2, said[-3000:]
    assert "Traceback" not in said
    assert "JAX_COORDINATOR_ADDRESS" in said
