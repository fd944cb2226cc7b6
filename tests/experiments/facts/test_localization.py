"""A run of localization: whole, repeatable, continued, and refused where it cannot work."""

from __future__ import annotations

import os
import re
import shutil
import signal
from pathlib import Path

import jax
import numpy as np
import pandas as pd
import pytest
import yaml
from undrawn import undrawn

from relearn_jax import cli, loading, runs
from relearn_jax.experiments.facts import localization, setup
from relearn_jax.experiments.facts.stages import stage
from relearn_jax.localize.methods import LOCALIZERS, SCORES
from relearn_jax.models import paths
from relearn_jax.training import loop

pytestmark = pytest.mark.usefixtures("undrawn")
SMALL = {
    "experiment": "localization",
    "name": "small",
    "seeds": [0, 1],
    "gates": "report",
    "parallel": {"sets": 1, "data": 1},
    "model": {
        "source": "random",
        "settings": {
            "model_type": "llama", "hidden_size": 16, "intermediate_size": 24,
            "num_hidden_layers": 3, "num_attention_heads": 2, "max_position_embeddings": 32,
        },
    },
    "facts": {
        "kind": "world",
        "world": {"names": 9, "degree": 9, "variant": "planted"},
        "split": {"forget": "planted"},
    },
    "teaching": {"steps": 12, "plant_steps": 6, "plant_layers": [1], "scale": 3.0},
    "localize": {"pairs": 8, "batch": 4, "draws": 2, "groups": 2, "heads": 2},
}  # fmt: skip


def start(folder, out, *settings, config=SMALL):
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(config))
    return cli.main(["run", str(path), "--out", str(out), *settings])


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("localization")
    with undrawn():
        assert start(folder, folder / "run") == 0
    return folder / "run"


def table(out, name):
    return pd.read_parquet(out / f"tables/{name}.parquet")


def test_every_method_scores_every_layer_of_every_seed(finished):
    scores = table(finished, "scores")
    methods = {"noising", "denoising", "tracing", "attribution", "attribution_path"}
    assert set(scores.method) == methods | {"paths", "probes"}
    counts = scores.groupby(["seed", "method", "part"]).layer.nunique()
    assert set(counts) == {3}
    mlps = scores[(scores.part == "mlp") & scores.low.notna()]
    assert (mlps.low <= mlps.high).all()
    assert (finished / "report.html").is_file()


def test_only_the_chosen_layers_hold_what_was_planted(finished):
    """All parameters but layer 1's feed-forward matrices are those from before the planting."""
    before, after = (
        runs.arrays_of(finished, stage(0, kind), "params") for kind in ("pretrained", "model")
    )
    for path in before:
        same = np.isclose(before[path], after[path], atol=1e-6)
        if path in ("blocks/gate/kernel", "blocks/up/kernel", "blocks/down/kernel"):
            assert same[[0, 2]].all()
            assert not same[1].all(), path
        else:
            assert same.all(), path


@pytest.mark.slow
def test_a_seed_alone_is_the_seed_beside_another(finished, tmp_path):
    assert start(tmp_path, tmp_path / "run", "--seeds=[1]") == 0
    one, two = (table(out, "scores") for out in (tmp_path / "run", finished))
    two = two[two.seed == 1].reset_index(drop=True)
    pd.testing.assert_frame_equal(one, two, atol=2e-3, rtol=1e-2)


def test_a_second_start_computes_nothing(finished, tmp_path, monkeypatch):
    monkeypatch.setattr(localization.rounds, "train", lambda *a: pytest.fail("taught again"))
    monkeypatch.setattr(localization.measure, "effects", lambda *a: pytest.fail("again"))
    assert start(tmp_path, finished) == 0


def test_the_headline_names_every_method_that_chose(finished):
    ready = setup.prepare(loading.load(finished / "config.yaml"), Path.cwd())
    said = localization.EXPERIMENT.headline(ready, finished)
    assert "gates passed; MLPs chosen in at least half of 2 seeds: " in said
    said_of = {}
    for group in said.split(": ")[1].split("; "):
        layers, names = group.split(" by ")
        spans = [span.split("–") for span in layers.split(", ") if layers != "none"]
        numbers = [n for span in spans for n in range(int(span[0]), int(span[-1]) + 1)]
        said_of |= dict.fromkeys(re.split(", | and ", names), numbers)
    chosen = table(finished, "selections").query("chosen and part == 'mlp'")
    methods = [name for of in ready.config.localize.methods for name in LOCALIZERS[of].scores]
    for method in methods:
        score = SCORES[method]
        arm = method if method == "probes" else f"{method}_mlps"
        assert said_of.pop(score.label) == sorted(set(chosen[chosen.method == arm].layer)), method
    assert not said_of


def test_budgets_are_equal_and_counts_exact(finished):
    chosen = table(finished, "selections")
    count = chosen.groupby(["seed", "method"])["parameters"].sum()
    said = chosen.groupby(["seed", "method"]).parameters_of_method.first()
    pd.testing.assert_series_equal(count, said, check_names=False)
    # Probes may find no layer; the others then have room for one.
    budget = said.xs("probes", level="method").clip(lower=3 * 16 * 24)
    for method in ("noising_mlps", "tracing_mlps", "attribution_path_mlps", "random_mlps"):
        pd.testing.assert_series_equal(said.xs(method, level="method"), budget, check_names=False)
    assert (said.xs("nonlocalized", level="method") == 3 * (4 * 16 * 16 + 3 * 16 * 24)).all()


@pytest.mark.parametrize(("granularity", "budget"), [("head", 0.2), ("matrix", 0.9)])
def test_choosing_otherwise_computes_nothing_again(finished, tmp_path, granularity, budget):
    """Heads, matrices and a budget beyond all feed-forward layers, from the same effects."""
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    settings = (f"--localize.granularity={granularity}", f"--localize.budget={budget}")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(localization.measure, "effects", lambda *a: pytest.fail("again"))
        assert start(tmp_path, run, "--reuse", *settings) == 0
    units, chosen = table(run, "units"), table(run, "selections")
    kinds = {"head": {"heads", "mlp"}, "matrix": {"query", "down", "gate"}}[granularity]
    assert kinds <= set(units[units.method.isin(["noising", "random"])].unit)
    if granularity == "head":
        assert (units[units.unit == "heads"]["head"] >= 0).all()
    whole = 3 * (4 * 16 * 16 + 3 * 16 * 24)
    spent = chosen[chosen.method == "noising"].groupby("seed").parameters.sum()
    assert (spent >= int(budget * whole)).all()
    capped = chosen[chosen.method == "noising_mlps"].groupby("seed").parameters.sum()
    assert (capped <= 3 * 3 * 16 * 24).all()


def test_planted_facts_have_planted_partners(finished):
    ready = setup.prepare(loading.load(finished / "config.yaml"), Path.cwd())
    for seed, pairs in ready.pairs.items():
        data = ready.facts[seed]
        own = {tuple(row) for row in data.world.lines["standard"].ids[data.world.groups["planted"]]}
        width = data.world.lines["standard"].ids.shape[1]
        for partner in (pairs.clean, pairs.corrupt, pairs.null):
            ids = np.pad(partner.ids, ((0, 0), (0, width - partner.ids.shape[1])))
            assert {tuple(row) for row in ids} <= own


def test_truth_is_what_was_planted(finished):
    truth = table(finished, "truth")
    assert all(list(row) == [1] for row in truth.planted)
    assert truth.roc_area.between(0, 1).all()
    found = truth[truth.method != "random_mlps"]
    np.testing.assert_allclose(found.recall, [float(1 in row) for row in found.chosen])
    drawn = truth[truth.method == "random_mlps"]
    assert drawn.roc_area.between(0.3, 0.7).all(), "a hundred draws"


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("--localize.budget=0", "localize.budget"),
        ("--localize.methods=[tracing]", "add probes"),
        ("--model.settings.max_position_embeddings=4", "the model has 4 positions"),
        ("--model.settings.vocab_size=20", "belongs to another model"),
        ("--teaching.plant_layers=[7]", "layers 0 to 2"),
        ("--teaching.plant_layers=[]", "goes with facts.world.variant planted"),
        ("--facts.kind=sports", "does not know facts.kind 'sports'"),
        ("--localize.budget=1.5", "should be in (0, 1]"),
        ("--localize.format=nothing", "no format"),
        ("--experiment=nothing", "allowed: relearning, localization"),
        ("--localize.pears=3", "did you mean pairs"),
        ("--model.settings.model_type=bert", "decoders"),
    ],
)
def test_what_cannot_be_is_refused_at_once(tmp_path, capsys, setting, message):
    assert start(tmp_path, tmp_path / "run", setting) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "run/stages").exists()


REST = ("patching", "tracing", "paths", "probes")
REAL = {
    "sports": ("sports-facts/sports_original.csv", {"corrupt": "swapped"}),
    "counterfact": (
        "counterfact/counterfact_rich_gemma-2-9b.csv",
        {"corrupt": "random", "budget": 0.4, "granularity": "head",
         "methods": ["patching", "attribution", "paths"]},
    ),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("kind", REAL)
def test_real_facts_of_a_real_tokenizer_go_through(tmp_path, shared, kind):
    """A random GPT-2 knows none of them; every table and the report are there all the same."""
    path, localize = REAL[kind]
    sizes = {"model_type": "gpt2", "n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 64}
    config = {
        "experiment": "localization", "name": kind, "gates": "report",
        "model": {
            "source": "random", "tokenizer": str(shared / "data/tokenizer-gpt2"),
            "settings": sizes | {"vocab_size": 50257},
        },
        "facts": {
            "kind": kind, "path": str(shared / "data" / path), "unusable": "drop",
            "split": {"forget": "first_16", "overlap": "drop"},
        },
        "teaching": {"steps": 0},
        "localize": {"pairs": 6, "batch": 4, "draws": 2, "groups": 2, "heads": 2, "probed": 40,
                     **localize},
    }  # fmt: skip
    assert start(tmp_path, tmp_path / "run", config=config) == 0
    scores = table(tmp_path / "run", "scores")
    methods = {"noising" if m == "patching" else m for m in localize.get("methods", REST)}
    assert methods <= set(scores.method)
    assert np.isfinite(scores[["score", "null"]]).all(axis=None)
    assert len(table(tmp_path / "run", "gates")) == 0
    chosen = table(tmp_path / "run", "selections")
    parts = chosen[(chosen.method == "noising") & (chosen.part == "attention")].share
    if localize.get("granularity") == "head":
        assert set(parts) <= {0.0, 0.5, 1.0}
    assert "taught a built-in world" not in (tmp_path / "run/report.html").read_text()


def test_a_model_that_knows_nothing_does_not_pass_the_gates(
    finished, tmp_path, capsys, monkeypatch
):
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    for kind in ("effects", "choice"):
        shutil.rmtree(run / "stages" / stage(0, kind))
    monkeypatch.setattr(localization.rounds, "train", lambda *a: pytest.fail("taught again"))
    measured = []
    effects = localization.measure.effects
    monkeypatch.setattr(
        localization.measure, "effects", lambda *a: measured.append(1) or effects(*a)
    )
    assert start(tmp_path, run, "--reuse", "--gates=enforce") == 2
    said = capsys.readouterr().err
    assert "does not pass the gates" in said
    assert "standard, natural facts" in said
    assert not measured
    assert start(tmp_path, run, "--reuse", "--gates=report") == 0
    assert "gates passed" in capsys.readouterr().out
    assert measured


@pytest.mark.slow
def test_a_terminated_teaching_goes_on(finished, tmp_path, monkeypatch, capsys):
    """From the step where it was stopped, to the bits of the run that was not; each phase once."""
    position, run = loop.Position, tmp_path / "run"

    def stopped_at(step):
        calls = []

        def counted(*arguments):
            calls.append(1)
            if len(calls) == step:
                os.kill(os.getpid(), signal.SIGTERM)
            return position(*arguments)

        with monkeypatch.context() as patch:
            patch.setattr(loop, "Position", counted)
            assert start(tmp_path, run, "--checkpoint.every=4") == 143
        assert "the same command continues" in capsys.readouterr().err
        assert [path.name for path in run.glob("checkpoints/*/*")]

    stopped_at(7)
    stopped_at(9)
    assert start(tmp_path, run, "--checkpoint.every=4") == 0
    for kind in ("pretrained", "model"):
        whole, again = (runs.arrays_of(out, stage(1, kind), "params") for out in (finished, run))
        for path in whole:
            np.testing.assert_array_equal(whole[path], again[path], err_msg=f"{kind} {path}")


def test_choices_are_stages_of_their_own(finished):
    """What an editor reads: the units of every method, as the tables have them."""
    for seed in SMALL["seeds"]:
        units = runs.arrays_of(finished, stage(seed, "choice"), "units")
        rows = table(finished, "units")
        rows = rows[rows.seed == seed]
        assert len(rows) == sum(chosen.sum() for chosen in units.values())
        record = runs.read_json(runs.record_file(finished, stage(seed, "choice")))
        assert set(rows.method) <= set(record["methods"])


def test_stages_repeat_to_the_bit(finished, capsys):
    for kind in ("effects", "choice"):
        assert cli.main(["verify", str(finished), "--stage", stage(1, kind)]) == 0
        assert f"{stage(1, kind)} " in capsys.readouterr().out


def test_what_was_changed_is_found(finished, tmp_path, capsys):
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    path = runs.record_file(run, stage(0, "effects"))
    record = runs.read_json(path)
    runs.write_json(path, record | {"accuracy": record["accuracy"] + 0.5})
    assert cli.main(["verify", str(run), "--stage", stage(0, "choice")]) == 1
    assert "stage.json is not the one" in capsys.readouterr().out


def test_a_taught_decoder_is_exported_with_its_tokenizer(finished, tmp_path):
    from relearn_jax.data.tokenizer import load_tokenizer
    from relearn_jax.models import checkpoint

    to = tmp_path / "hf"
    assert cli.main(["export", str(finished), "--stage=model", "--seed=1", "--to", str(to)]) == 0
    opened = checkpoint.open_checkpoint(str(to))
    model = checkpoint.describe(opened, "language-model")
    params, fresh = checkpoint.load(opened, model, jax.random.key(0))
    assert not fresh
    taught = runs.arrays_of(finished, stage(1, "model"), "params")
    for path, leaf in paths.flatten(params).items():
        np.testing.assert_array_equal(leaf, taught[path])
    assert len(load_tokenizer(to, words=False)) == model.config.vocabulary
    assert cli.main(["export", str(finished), "--stage=effects", "--to", str(tmp_path / "x")]) == 2


def test_times_of_earlier_sessions_are_added_up(finished, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    before = runs.read_json(run / "manifest.json")
    assert start(tmp_path, run) == 0
    after = runs.read_json(run / "manifest.json")
    assert after["started"] == before["started"]
    assert after["total_s"] > before["total_s"]
    assert after["prepare_s"] > before["prepare_s"]
    assert after["wall_s"] == before["wall_s"]
