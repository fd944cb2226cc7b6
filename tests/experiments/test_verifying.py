"""`relearn verify`: a run repeats itself, and what was changed is found."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import yaml
from safetensors.numpy import load_file, save_file

from relearn_jax import cli, runs


def contents(folder):
    return {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_stages_repeat_to_the_bit_and_the_run_is_not_touched(finished, capsys):
    _, out = finished
    before = contents(out)
    for stage in ("seed0-LOC-0.5-free-random-round2", "seed0-base-neurons"):
        assert cli.main(["verify", str(out), "--stage", stage]) == 0
        assert f"{stage} " in capsys.readouterr().out
    assert contents(out) == before


def test_a_changed_file_and_a_changed_result_are_found(finished, tmp_path, capsys):
    _, whole = finished
    out = tmp_path / "run"
    shutil.copytree(whole, out)
    path = out / "stages/seed0-base/params.safetensors"
    arrays = load_file(path)
    arrays["head/classifier/bias"] = arrays["head/classifier/bias"] + np.float32(1)
    save_file(arrays, path)
    assert cli.main(["verify", str(out), "--stage", "seed0-base-neurons"]) == 1
    printed = capsys.readouterr().out
    assert "seed0-base: params.safetensors is not what was written" in printed

    shutil.rmtree(out)
    shutil.copytree(whole, out)
    record = out / "stages/seed0-base/stage.json"
    values = json.loads(record.read_text())
    values["sha256"]["params"] = "0" * 64
    record.write_text(json.dumps(values))
    assert cli.main(["verify", str(out)]) == 1
    assert "params differs" in capsys.readouterr().out
    assert cli.main(["verify", str(out), "--stage", "seed9-base"]) == 2


def test_records_and_texts_are_held_against_the_manifest(finished, tmp_path, capsys):
    _, whole = finished
    out = tmp_path / "run"
    shutil.copytree(whole, out)
    record = out / "stages/seed0-LOC-0.5-free-bottom-pruned/stage.json"
    values = json.loads(record.read_text())
    values["scores"][0]["records"][0]["f1"] = 0.99
    record.write_text(json.dumps(values))
    text = "the retraining text of LOC-0.5-free"
    change(out / "manifest.json", lambda manifest: manifest["sources"].update({text: "0" * 64}))
    assert cli.main(["verify", str(out), "--stage", "seed0-base-neurons"]) == 1
    printed = capsys.readouterr().out
    assert "seed0-LOC-0.5-free-bottom-pruned: stage.json is not the one" in printed
    assert "the retraining text of LOC-0.5-free is not that of the run" in printed


@pytest.mark.parametrize(("moved", "elsewhere", "code"), [(1e-6, 0, 1), (1e-6, 1, 0), (1e-3, 1, 1)])
def test_other_devices_may_round_otherwise_and_no_more(
    finished, tmp_path, capsys, moved, elsewhere, code
):
    _, whole = finished
    out = tmp_path / "run"
    shutil.copytree(whole, out)
    path = out / "stages/seed0-base-neurons/neurons.safetensors"
    arrays = load_file(path)
    arrays["vectors"] = arrays["vectors"] + np.float32(moved)
    save_file(arrays, path)
    record = path.with_name("stage.json")
    change(record, lambda values: values["sha256"].update(neurons=runs.sha256(path)))

    def other(manifest):
        manifest["stages"]["seed0-base-neurons"] = runs.digest_of(json.loads(record.read_text()))
        manifest["devices"] = ["gpu: Z"] * 2 if elsewhere else manifest["devices"]

    change(out / "manifest.json", other)
    assert cli.main(["verify", str(out), "--stage", "seed0-base-neurons"]) == code
    printed = capsys.readouterr().out
    assert ("the run had 2 x gpu: Z" in printed) == bool(elsewhere)
    assert "neurons differs by up to" in printed or "neurons: differs by up to" in printed


@pytest.mark.slow
def test_a_stage_trained_on_another_mesh_is_the_same_within_rounding(finished, tmp_path, capsys):
    _, whole = finished
    out = tmp_path / "run"
    shutil.copytree(whole, out)
    config = yaml.safe_load((out / "config.yaml").read_text())
    config["parallel"] |= {"sets": 1, "data": 8}
    (out / "config.yaml").write_text(yaml.safe_dump(config))
    assert cli.main(["verify", str(out), "--stage", "seed0-LOC-0.5-free-concept-round2"]) == 0
    assert "params: differs by up to" in capsys.readouterr().out, "or nothing was tested"


def change(path, how):
    values = json.loads(path.read_text())
    how(values)
    path.write_text(json.dumps(values))
