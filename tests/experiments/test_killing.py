"""Kill a run at any moment and give the same command again: the result is the same to the bit."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import cache
import pandas as pd
import pytest

from relearn_jax import cli
from relearn_jax.training import loop

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("undrawn")]
ROOT = Path(__file__).resolve().parents[2]
PROGRAM = """
import importlib, os, sys, jax
jax.config.update("jax_num_cpu_devices", 8)
where, after, number = sys.argv[1:4]
calls = []

def one_more():
    calls.append(1)
    if len(calls) == int(after):
        os.kill(os.getpid(), int(number))

def heard(event, arguments):
    if event == where and "orbax-checkpoint-tmp" in str(arguments[0]):
        one_more()

def dying(*arguments, **named):
    one_more()
    return real(*arguments, **named)

if where.startswith("os."):
    sys.addaudithook(heard)  # a call of the system, on a checkpoint that is not whole yet
else:
    module, name = where.rsplit(".", 1)
    module = importlib.import_module(module)
    real = getattr(module, name)
    setattr(module, name, dying)

from relearn_jax import cli
from relearn_jax.training import loop
loop.LOG_EVERY = 2
sys.exit(cli.main(sys.argv[4:]))
"""
MOMENTS = {
    "during a step of the base model": ("relearn_jax.training.loop.Position", 7),
    "during a step of a round": ("relearn_jax.training.loop.Position", 22),
    "while a checkpoint is written": ("os.rename", 3),
    "between the sets of a round": ("relearn_jax.runs.save_stage", 13),
    "while a file of a stage is written": ("relearn_jax.runs.write_json", 5),
    "during the report": ("relearn_jax.report.concepts.page.page", 1),
}
# Where SIGTERM comes, and the checkpoint it leaves; neither is among those that are due, every 3.
ENDS = {
    "during a step": ("relearn_jax.training.loop.Position", 6, 5),
    "during an evaluation": ("relearn_jax.experiments.concepts.measurements.predict", 1, 4),
    "during the tracking": ("relearn_jax.neurons.statistics.concept_moments", 1, None),
}


@pytest.fixture(scope="module", autouse=True)
def often():
    """Epochs have four steps."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "LOG_EVERY", 2)
        yield


@pytest.fixture(scope="module")
def undisturbed(write_config, often, tmp_path_factory):
    """Config and run directory of a run that nobody disturbed."""
    config, out = write_config(), tmp_path_factory.mktemp("runs") / "whole"
    assert cli.main(["run", str(config), "--out", str(out)]) == 0
    assert lines(out).loss.notna().sum() == 9 * 4, "of every stage, two an epoch"
    return config, out


def interrupted(config, out, where, after, number):
    return subprocess.run(
        [sys.executable, "-c", PROGRAM, where, str(after), str(int(number)),
         "run", str(config), "--out", str(out), "--checkpoint.every=3"],
        env={**os.environ, "PYTHONPATH": str(ROOT), **cache.read_only()},
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip


def same(whole, out):
    for path in sorted(whole.glob("stages/*/*.safetensors")):
        other = out / path.relative_to(whole)
        assert path.read_bytes() == other.read_bytes(), path.parent.name
    for path in sorted(whole.glob("tables/*.parquet")):
        pd.testing.assert_frame_equal(
            pd.read_parquet(path), pd.read_parquet(out / "tables" / path.name)
        )


def lines(out):
    table = pd.read_json(out / "metrics.jsonl", lines=True)
    return table[["stage", "step", "epoch", "loss", "event", "f1"]]


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_killed_run_continues_to_the_same_bits(undisturbed, tmp_path, moment):
    config, whole = undisturbed
    out = tmp_path / "run"
    done = interrupted(config, out, *MOMENTS[moment], signal.SIGKILL)
    assert done.returncode == -signal.SIGKILL, done.stderr[-2000:]
    if moment == "while a checkpoint is written":
        assert list(out.glob("checkpoints/*/*.orbax-checkpoint-tmp"))
    assert cli.main(["run", str(config), "--out", str(out), "--checkpoint.every=3"]) == 0
    same(whole, out)
    pd.testing.assert_frame_equal(lines(whole), lines(out))
    assert not list((out / "checkpoints").glob("*")), "no longer of use"


@pytest.mark.parametrize("moment", ENDS)
def test_a_terminated_run_saves_at_once_and_continues(undisturbed, tmp_path, moment):
    config, whole = undisturbed
    out = tmp_path / "run"
    where, call, left = ENDS[moment]
    done = interrupted(config, out, where, call, signal.SIGTERM)
    assert done.returncode == 143, done.stderr[-2000:]
    assert "the same command continues" in done.stderr
    steps = (int(path.name) for path in out.glob("checkpoints/*/*") if path.name.isdigit())
    assert max(steps, default=None) == left, "the last step done"
    assert cli.main(["run", str(config), "--out", str(out)]) == 0
    same(whole, out)


def test_a_damaged_checkpoint_is_named_and_the_one_before_is_used(undisturbed, tmp_path, capsys):
    config, whole = undisturbed
    out = tmp_path / "run"
    interrupted(config, out, "relearn_jax.training.loop.Position", 8, signal.SIGKILL)
    (folder,) = (out / "checkpoints").iterdir()
    newest = max((p for p in folder.iterdir() if p.name.isdigit()), key=lambda p: int(p.name))
    largest = max((p for p in newest.rglob("*") if p.is_file()), key=lambda p: p.stat().st_size)
    content = bytearray(largest.read_bytes())
    content[len(content) // 2] ^= 1
    largest.write_bytes(content)
    assert cli.main(["run", str(config), "--out", str(out)]) == 0
    assert f"checkpoint {newest} cannot be used" in capsys.readouterr().err
    same(whole, out)
