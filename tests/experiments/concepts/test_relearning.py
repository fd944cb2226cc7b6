"""The experiment from config to tables, on a tiny model and generated text."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pandas as pd
import pytest

from relearn_jax import cli, runs
from relearn_jax.experiments import rounds
from relearn_jax.experiments.concepts import measurements
from relearn_jax.models import checkpoint

pytestmark = pytest.mark.usefixtures("undrawn")
ARMS = ("concept", "random", "layer_matched", "bottom")


def table(out, name):
    return pd.read_parquet(out / "tables" / f"{name}.parquet")


def test_a_run_leaves_report_manifest_and_every_table(finished):
    _, out = finished
    assert (out / "report.html").stat().st_size > 10_000
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["prune"]["pruned"] == manifest["prune"]["requested"] == 24
    assert manifest["prune"]["of"] == 48
    assert manifest["prune"]["parameters"] == 24, "one gain each"
    assert manifest["data"]["train"]["generated"] is True
    for name in ("scores", "recovery", "concepts", "neurons", "layers", "taken_over"):
        assert len(table(out, name)), name


def test_pruning_is_what_the_table_says(finished):
    _, out = finished
    concepts = table(out, "concepts")
    for arm in ARMS:
        rows = concepts[(concepts.arm == arm) & (concepts.stage == "pruned")]
        rows = rows[rows.concept == "LOC"]
        assert rows.pruned.sum() == 24
        assert not rows[rows.layer == 0].pruned.any()
    base = concepts[(concepts.arm == "base") & (concepts.concept == "LOC")]
    pruned = concepts[(concepts.arm == "concept") & (concepts.stage == "pruned")]
    pruned = set(pruned[pruned.pruned].neuron)
    best = base[base.layer > 0].sort_values("rank").neuron[:24]
    assert pruned == set(best), "the arm prunes the highest ranked neurons that may be pruned"


def test_controls_prune_as_many_and_the_matched_one_layer_by_layer(finished):
    _, out = finished
    rows = table(out, "concepts")
    rows = rows[(rows.stage == "pruned") & (rows.concept == "LOC")]
    by_layer = rows.groupby(["arm", "layer"]).pruned.sum().unstack()
    assert (by_layer.sum(axis=1) == 24).all()
    assert (by_layer.loc["concept"] == by_layer.loc["layer_matched"]).all()


def test_ranks_are_a_permutation_and_saliency_follows(finished):
    _, out = finished
    for _, rows in table(out, "concepts").groupby(["seed", "arm", "stage", "concept"]):
        rows = rows.sort_values("rank")
        np.testing.assert_array_equal(rows["rank"], np.arange(48))
        assert rows.score.is_monotonic_decreasing
        assert rows.saliency_rank.is_monotonic_decreasing


def test_recovery_is_the_regained_fraction(finished):
    _, out = finished
    scores = table(out, "scores")
    scores = scores[(scores.type == "all") & (scores.variant == "word") & (scores.stage != "")]
    f1 = scores.set_index(["arm", "stage"]).f1
    recovery = table(out, "recovery")
    recovery = recovery[(recovery.type == "all") & (recovery.variant == "word")]
    for row in recovery.itertuples():
        lost = f1["base", "base"] - f1[row.arm, "pruned"]
        gained = f1[row.arm, f"round{row.round}"] - f1[row.arm, "pruned"]
        if lost >= 0.02:
            assert row.recovery == pytest.approx(gained / lost)
        else:
            assert np.isnan(row.recovery)


def test_every_epoch_is_scored_once_and_early_steps_too(finished):
    _, out = finished
    scores = table(out, "scores")
    rows = scores[(scores.type == "all") & (scores.variant == "word")]
    assert list(rows[rows.arm == "base"].epoch) == [1, 2]
    for arm in ARMS:
        of_arm = rows[rows.arm == arm]
        assert list(of_arm.epoch) == [0, 1, 1.25, 2, 3, 4], "four steps an epoch"
        assert list(of_arm.step) == [0, 4, 5, 8, 12, 16]


def test_the_last_weights_are_kept_and_no_others(finished):
    _, out = finished
    kept = {p.parent.name for p in (out / "stages").glob("*/params.safetensors")}
    assert kept == {"seed0-base", *(f"seed0-LOC-0.5-free-{arm}-round2" for arm in ARMS)}


def test_a_second_start_computes_nothing(finished, monkeypatch):
    config, out = finished
    monkeypatch.setattr(rounds.loop, "fit", lambda *a: pytest.fail("trained again"))
    monkeypatch.setattr(measurements, "neuron_statistics", lambda *a: pytest.fail("measured again"))
    assert cli.main(["run", str(config), "--out", str(out)]) == 0


def test_only_what_a_change_touches_is_done_again(finished, tmp_path, monkeypatch):
    config, whole = finished
    out = tmp_path / "run"
    shutil.copytree(whole, out)
    done = []
    saved = runs.save_stage
    monkeypatch.setattr(runs, "save_stage", lambda *a: done.append(a[1]) or saved(*a))
    command = ["run", str(config), "--out", str(out), "--reuse"]
    assert cli.main([*command, "--retrain.rounds=3", "--arms=[concept]"]) == 0
    assert done == [
        "seed0-dose",
        "seed0-LOC-0.5-free-concept-round3",
        "seed0-LOC-0.5-free-concept-round3-neurons",
    ]
    done.clear()
    assert cli.main([*command, "--tracking.top_k=3", "--arms=[concept]"]) == 0
    assert "seed0-base" not in done
    assert "seed0-base-neurons" in done


def test_exported_stages_load_and_are_pruned(finished, tmp_path):
    _, out = finished
    to = tmp_path / "hf"
    assert cli.main(["export", str(out), "--stage", "pruned", "--to", str(to)]) == 0
    ck = checkpoint.open_checkpoint(str(to))
    labels = tuple(ck.settings["id2label"].values())
    model = checkpoint.describe(ck, "token-classification", labels)
    import jax

    params, fresh = checkpoint.load(ck, model, jax.random.key(0))
    assert fresh == ()
    keep = runs.arrays_of(out, "seed0-LOC-0.5-free-concept-pruned", "mask")["keep"]
    np.testing.assert_array_equal(params["blocks"]["output_norm"]["scale"] != 0, keep[1:])
    assert cli.main(["export", str(out), "--stage", "round1", "--to", str(tmp_path / "x")]) == 2
    assert cli.main(["export", str(out), "--stage", "round9", "--to", str(tmp_path / "x")]) == 2


def test_a_stopped_run_has_a_report_of_what_is_there(finished, tmp_path, monkeypatch):
    config, _ = finished
    out, saved, calls = tmp_path / "run", runs.save_stage, []

    def stopping(*arguments):
        calls.append(arguments[1])
        if len(calls) == 11:
            raise KeyboardInterrupt
        return saved(*arguments)

    monkeypatch.setattr(runs, "save_stage", stopping)
    assert cli.main(["run", str(config), "--out", str(out)]) == 130
    assert cli.main(["report", str(out)]) == 0
    page = (out / "report.html").read_text()
    assert "round1" in page or "round 1" in page
