"""A run directory holds whole stages or none, and knows whose it is."""

from __future__ import annotations

import dataclasses
import errno
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from relearn_jax import runs
from relearn_jax.config import Prune, Relearning
from relearn_jax.errors import UserError


@pytest.fixture
def run(tmp_path):
    out = tmp_path / "run"
    runs.open_run(out, Relearning())
    return out


def save(run, key="k", value=1.0):
    return runs.save_stage(run, "s", key, {"a": 1}, {"x": {"v": np.full(3, value)}})


def test_a_stage_comes_back_under_its_key_alone(run):
    assert runs.finished(run, "s", "k") is None
    save(run)
    assert runs.finished(run, "s", "k")["a"] == 1
    assert runs.finished(run, "s", "other") is None
    np.testing.assert_array_equal(runs.arrays_of(run, "s", "x")["v"], np.ones(3))


def test_a_full_disk_leaves_the_last_good_stage(run, monkeypatch):
    save(run)

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(runs, "_save_tensors", full)
    with pytest.raises(UserError, match=r"No space left.*are kept"):
        save(run, value=2.0)
    monkeypatch.undo()
    np.testing.assert_array_equal(runs.arrays_of(run, "s", "x")["v"], np.ones(3))
    assert [p.name for p in (run / "stages").iterdir()] == ["s"]


def test_safetensors_own_error_for_a_full_disk_is_understood(tmp_path, monkeypatch):
    def full(*_):
        raise RuntimeError("I/O error: File too large (os error 27)")

    monkeypatch.setattr(runs, "save_file", full)
    with pytest.raises(UserError, match="File too large"):
        runs.save_stage(tmp_path, "s", "k", {}, {"x": {"v": np.ones(1)}})


def test_a_stage_cut_short_is_swept_away_at_the_next_start(run):
    partial = run / "stages" / ".s.partial"
    partial.mkdir()
    (partial / "x.safetensors").write_bytes(b"half")
    runs.open_run(run, Relearning())
    assert not partial.exists()
    assert runs.finished(run, "s", "k") is None


def test_another_config_is_refused_unless_reuse_is_asked_for(run):
    other = dataclasses.replace(Relearning(), prune=Prune(fraction=0.25))
    with pytest.raises(UserError, match=r"differs in: prune\.fraction"):
        runs.check_run(run, other, reuse=False)
    runs.check_run(run, other, reuse=True)
    (run / "manifest.json").write_text("{}")
    runs.open_run(run, other)
    assert not (run / "manifest.json").exists(), "it speaks of the config before"
    runs.check_run(run, other, reuse=False)


def test_a_folder_of_other_things_is_refused(tmp_path):
    (tmp_path / "thesis.tex").write_text("dear")
    with pytest.raises(UserError, match="not empty"):
        runs.check_run(tmp_path, Relearning(), reuse=False)


def test_keys_follow_every_part():
    keys = {runs.key_of("a", 1), runs.key_of("a", 2), runs.key_of("b", 1), runs.key_of("a", [1])}
    assert len(keys) == 4
    assert runs.key_of("a", {"x": 1, "y": 2}) == runs.key_of("a", {"y": 2, "x": 1})


KILLED = """
import itertools, os, sys
from pathlib import Path
from relearn_jax import runs
from relearn_jax.config import Relearning

folder = sys.argv[1]

def open_until(number, out):
    operations = itertools.count(1)

    def heard(event, arguments):
        own = event in ("open", "os.mkdir", "os.rename", "os.remove", "os.rmdir")
        if own and str(arguments[0]).startswith(folder) and next(operations) == number:
            os._exit(9)

    sys.addaudithook(heard)
    runs.open_run(out, Relearning())
    os._exit(0)

for number in itertools.count(1):
    child = os.fork()
    if not child:
        open_until(number, Path(folder) / str(number))
    if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0:
        break
"""


def test_a_start_that_was_killed_at_any_moment_can_be_given_again(tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[1])}
    command = [sys.executable, "-c", KILLED, str(tmp_path)]
    assert subprocess.run(command, env=environment).returncode == 0
    left = sorted(path for path in tmp_path.iterdir() if not (path / "stages").exists())
    assert any(list(path.iterdir()) == [path / ".config.yaml.partial"] for path in left)
    assert any(list(path.iterdir()) == [path / "config.yaml"] for path in left)
    for out in tmp_path.iterdir():
        runs.check_run(out, Relearning(), reuse=False)
        runs.open_run(out, Relearning())
        assert sorted(path.name for path in out.iterdir()) == ["config.yaml", "stages"]
        assert runs.config_of(out) == Relearning()


def test_a_damaged_stage_is_computed_again_and_named(run, capsys):
    """By a wrong byte, a cut file, an empty record; a file that was dropped is no damage."""
    for damage in ("byte", "cut", "record"):
        save(run)
        folder = run / "stages/s"
        path = folder / ("stage.json" if damage == "record" else "x.safetensors")
        data = path.read_bytes()
        path.write_bytes({"byte": data[:-1] + b"\xff", "cut": data[:-4], "record": b""}[damage])
        assert runs.finished(run, "s", "k") is None
        assert f"{path} is damaged" in capsys.readouterr().err
    save(run)
    runs.drop_arrays(run, ["s"], "x")
    assert runs.finished(run, "s", "k")["a"] == 1


def test_damaged_files_that_cannot_be_made_again_are_named(run):
    save(run)
    path = run / "stages/s/x.safetensors"
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(UserError, match=r"x\.safetensors is damaged"):
        runs.arrays_of(run, "s", "x")
    for name, text in (("manifest.json", ""), ("manifest.json", "{"), ("manifest.json", "\0")):
        (run / name).write_text(text)
        with pytest.raises(UserError, match=r"manifest\.json is damaged"):
            runs.read_json(run / name)
    for text in ("", "a: [", "- 1"):
        (run / "config.yaml").write_text(text)
        with pytest.raises(UserError, match=r"config\.yaml is damaged"):
            runs.config_of(run)


def test_damaged_log_lines_are_dropped(run):
    log = run / "metrics.jsonl"
    log.write_bytes(b'{"a": 1}\n{"a": \n\xff\xfe\n{"a": 2}\n{"a": 3')
    runs.filter_lines(log, lambda line: True)
    assert log.read_text() == '{"a": 1}\n{"a": 2}\n'


HOLD = """
import sys, time
from pathlib import Path
from relearn_jax import runs
with runs.locked(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_run_directory_is_held_by_one_process_until_it_dies(run):
    before = sorted(p.name for p in run.iterdir())
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(run)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout.readline() == "held\n"
        with (
            pytest.raises(UserError, match=rf"in use by process {process.pid} on .* since 2"),
            runs.locked(run),
        ):
            pass
        assert sorted(p.name for p in run.iterdir()) == sorted([*before, runs.LOCK])
    finally:
        process.kill()
        process.wait()
    with runs.locked(run):
        assert f"process {os.getpid()}" in (run / runs.LOCK).read_text()
    with runs.locked(run):
        pass
