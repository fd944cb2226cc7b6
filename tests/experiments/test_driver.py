"""What a run says before it starts, and what it leaves when it ends before its time."""

from __future__ import annotations

import dataclasses
import errno
import json
import shutil
from types import SimpleNamespace

import jax.numpy as jnp
import pytest

from relearn_jax import cli, hosts, loading, runs
from relearn_jax.config import Parallel, Sets
from relearn_jax.errors import Stopped, UserError
from relearn_jax.experiments import manifest
from relearn_jax.experiments.concepts import chunks
from relearn_jax.experiments.registry import EXPERIMENTS, experiment_of


def change(monkeypatch, **functions):
    """Exchange functions of the experiment."""
    changed = dataclasses.replace(EXPERIMENTS["relearning"], **functions)
    monkeypatch.setitem(EXPERIMENTS, "relearning", changed)


pytestmark = pytest.mark.usefixtures("undrawn")


@pytest.fixture
def ended(finished, tmp_path, monkeypatch):
    """Starts a run whose stages are there again, and ends it with an error."""
    config, whole = finished
    out = tmp_path / "run"
    shutil.copytree(whole, out)
    shutil.rmtree(out / "tables")
    (out / "manifest.json").unlink()

    def run(error) -> int:
        def failing(*_):
            if callable(error):
                error()
            raise error

        change(monkeypatch, run=failing)
        return cli.main(["run", str(config), "--out", str(out)])

    return out, run


def test_ctrl_c_leaves_what_a_report_needs(ended):
    out, run = ended
    assert run(KeyboardInterrupt()) == 130
    assert (out / "tables/scores.parquet").is_file()
    assert cli.main(["report", str(out)]) == 0


def test_sigterm_takes_no_time_for_tables(ended):
    out, run = ended
    assert run(Stopped("stopped in a step")) == 143
    assert not (out / "tables").exists()
    assert not (out / "manifest.json").exists()


def test_a_full_disk_is_the_error_that_is_read(ended, monkeypatch, capsys):
    _, run = ended

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    change(monkeypatch, tables=full)
    assert run(UserError("cannot write to the checkpoint")) == 2
    assert capsys.readouterr().err.splitlines()[-1] == "relearn: cannot write to the checkpoint"


def test_a_device_without_memory_says_what_takes_less(ended, capsys):
    _, run = ended
    assert run(lambda: jnp.zeros(2**45).block_until_ready()) == 2
    said = capsys.readouterr().err
    assert "not enough memory: RESOURCE_EXHAUSTED" in said
    assert "sets.chunk" in said


def test_checkpoints_that_a_killed_process_could_not_remove_go_at_the_end(finished, tmp_path):
    config, whole = finished
    out = tmp_path / "run"
    shutil.copytree(whole, out)
    (out / "checkpoints/0123/8").mkdir(parents=True)
    assert cli.main(["run", str(config), "--out", str(out)]) == 0
    assert not list(out.glob("checkpoints/*"))


def grids_of(write_config, parallel, largest, seeds=10):
    """The meshes of that many sets of one text."""
    values = loading.load(write_config(), [f"seeds={list(range(seeds))}", "arms=[concept]"])
    values = dataclasses.replace(values, parallel=parallel, sets=Sets(chunk=largest))
    text = SimpleNamespace(corpus=SimpleNamespace(digest="text"))
    return chunks.grids(values, SimpleNamespace(retrain={("LOC", "full", None): text}), largest)


@pytest.mark.parametrize(
    ("parallel", "largest", "meshes", "said"),
    [
        (Parallel(), 4, {4: (4, 2), 3: (2, 4)}, "for 3 sets side by side the work of 4"),
        (Parallel(), 5, {5: (4, 2)}, "for 5 sets side by side the work of 8"),
        (Parallel(data=1), 10, {10: (8, 1)}, "for 10 sets side by side the work of 16"),
        (Parallel(sets=2, data=3), 2, {2: (2, 3)}, "for 2 sets side by side 6 of 8 in use"),
        (Parallel(), 2, {2: (2, 4)}, ""),
        (Parallel("pmap"), 5, {5: (1, 8)}, ""),
    ],
)
def test_meshes_are_those_of_the_chunks_and_idle_devices_are_named(
    write_config, parallel, largest, meshes, said
):
    grids = grids_of(write_config, parallel, largest)
    assert {n: (g.shape["sets"], g.shape["data"]) for n, g in grids.items()} == meshes
    line = chunks.idle(grids)
    assert said in line
    assert bool(line) == bool(said)


def test_a_run_names_idle_devices_before_it_starts(write_config, capsys):
    assert cli.main(["run", str(write_config()), "--dry-run", "--sets.chunk=1"]) == 0
    assert "for 1 set side by side 1 of 8 in use" in capsys.readouterr().err


def test_the_manifest_has_the_mesh_of_every_chunk_and_a_digest_of_every_stage(finished):
    _, out = finished
    manifest = json.loads((out / "manifest.json").read_text())
    axes = {"sets": 1, "data": 1, "fsdp": 1, "tensor": 1}
    assert manifest["mesh"] == {"4": axes, "1": axes}
    assert manifest["stages"].keys() == {path.parent.name for path in out.glob("stages/*/*.json")}


def test_what_process_0_writes_alone_asks_no_other_process(finished, monkeypatch):
    """Another process waits for it, and would never answer."""
    path, out = finished
    config = loading.load(path, [])
    experiment = experiment_of(config)
    setup = experiment.setup(config, path.parent)
    for name in ("first", "wait", "all_of"):
        monkeypatch.setattr(hosts, name, lambda *_: pytest.fail("asked the other processes"))
    record = manifest.build(experiment, config, setup, out, {})
    assert record["mesh"] == runs.read_json(out / "manifest.json")["mesh"]
