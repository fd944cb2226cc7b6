"""`relearn verify`: a run repeats itself, and what was changed is found."""

from __future__ import annotations

import json
import shutil

import numpy as np
from safetensors.numpy import load_file, save_file

from relearn_jax import cli


def contents(folder):
    return {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_stages_repeat_to_the_bit_and_the_run_is_not_touched(finished, capsys):
    _, out = finished
    before = contents(out)
    for stage in ("seed0-base", "seed0-LOC-0.5-free-random-round2", "seed0-base-neurons"):
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
