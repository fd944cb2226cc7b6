"""The dose curve and the automatic dose, on a tiny model and generated text."""

from __future__ import annotations

import dataclasses

import jax
import numpy as np
import pandas as pd
import pytest

from relearn_jax import cli, loading, runs
from relearn_jax.config import Parallel
from relearn_jax.evaluation import selectivity
from relearn_jax.experiments.concepts import pruning, rankings, setup
from relearn_jax.experiments.concepts.dose import choice, points, scoring
from relearn_jax.experiments.concepts.dose.points import Point
from relearn_jax.experiments.concepts.side_by_side import Run
from relearn_jax.experiments.rounds import Trainer
from relearn_jax.experiments.watcher import Watcher
from relearn_jax.models import masks, transformer
from relearn_jax.models.inputs import Inputs
from relearn_jax.models.sites import Sites

pytestmark = pytest.mark.usefixtures("undrawn")
ARMS = ("concept", "random", "layer_matched", "bottom")
SILENT = Watcher(lambda *x: None, lambda line: None, lambda text: None, lambda: False)


def table(out, name):
    return pd.read_parquet(out / "tables" / f"{name}.parquet")


def run_of(config, out, *overrides, parallel=None):
    settings = loading.load(config, overrides)
    settings = dataclasses.replace(settings, parallel=parallel or settings.parallel)
    prepared = setup.prepare(settings, config.parent)
    return Run(prepared, Trainer(out, settings, SILENT, {}), {})


def test_a_curve_meets_the_scores_of_the_pruned_models(finished):
    """At the share that is pruned before retraining, each arm prunes the same neurons."""
    config, out = finished
    run = run_of(config, out)
    names, ranked = run.setup.probed.concepts.names, rankings.read(out, 0)
    dose, scores = table(out, "dose"), table(out, "scores")
    here = dose[(dose.fraction == 0.5) & (dose.ranking == "probeless")]
    pruned = scores[(scores.stage == "pruned") & (scores.variant == "word")]
    base = scores[(scores.stage == "base") & (scores.variant == "word")].set_index("type").f1
    assert sorted(here.arm.unique()) == sorted(ARMS)
    for arm in ARMS:
        of_curve = here[here.arm == arm].set_index("type")
        of_stage = pruned[pruned.arm == arm].set_index("type")
        assert of_curve.f1.to_dict() == pytest.approx(of_stage.f1.to_dict())
        assert of_curve.base.to_dict() == pytest.approx(base.to_dict())
        keep = runs.arrays_of(out, f"seed0-LOC-0.5-free-{arm}-pruned", "mask")["keep"]
        point = Point("LOC", "probeless", "ln_gain", arm, 0.5)
        pruned_here = points.mask(run.setup.config, 0, point, ranked, names)
        np.testing.assert_array_equal(pruned_here, ~keep)
        assert (of_curve.neurons == (~keep).sum()).all()


def test_shares_of_less_than_one_neuron_are_left_out(finished):
    _, out = finished
    dose = table(out, "dose")
    assert dose.neurons.min() == 1
    assert dose.fraction.min() == 0.03, "0.02 of 48 neurons is less than one"


def test_every_point_has_its_losses(finished):
    _, out = finished
    dose, losses = table(out, "dose"), table(out, "selectivity")
    keys = ["ranking", "arm", "fraction"]
    loc = dose[dose.type == "LOC"].set_index(keys)
    of_seed = losses[losses.seed == 0].set_index(keys)
    assert set(loc.index) == set(of_seed.index)
    assert set(map(tuple, losses[losses.seed.isna()][keys].to_numpy())) == set(of_seed.index)


@pytest.mark.parametrize("target", ["ln_gain", "ln_gain_bias", "state_mask", "mlp_unit"])
def test_masks_side_by_side_are_models_pruned_one_by_one(tagger, target):
    model, params = tagger.model, tagger.params
    site = pruning.site_of(target)
    shape = (3, 16) if site == "states" else (2, 24)
    rng, allowed = np.random.default_rng(0), np.arange(shape[0])[:, None] >= (site == "states")
    many = (rng.random((3, *shape)) < 0.4) & allowed
    ids = jax.numpy.asarray(rng.integers(0, 100, (2, 7)))
    inputs = Inputs(ids, jax.numpy.ones((2, 7), bool))

    @jax.jit
    def side_by_side(many):
        def of_mask(pruned):
            own, sites = pruning.without(model, target, params, pruned)
            return transformer.apply(model, own, inputs, sites)[0]

        return jax.vmap(of_mask)(many)

    logits = side_by_side(many)
    for pruned, own in zip(many, logits, strict=True):
        sites = Sites()
        if target == "state_mask":
            _, sites = pruning.without(model, target, params, pruned)
        removed = masks.remove(params, pruning.mask_of(model, target, site, pruned))
        alone, _ = transformer.apply(model, removed, inputs, sites)
        np.testing.assert_allclose(own, alone, atol=1e-5)
    assert np.abs(np.diff(logits, axis=0)).max() > 1e-3


def test_a_curve_does_not_depend_on_devices_or_chunks(finished, monkeypatch):
    config, out = finished
    alone = run_of(config, out)
    rng = np.random.default_rng(1)
    some = [np.arange(3)[:, None] * np.ones(16) > 0 for _ in range(5)]
    some = [rows & (rng.random((3, 16)) < 0.3) for rows in some]
    text = alone.setup.texts.dose
    expected, frequent = scoring.counted(alone, 0, "ln_gain", some, text, "")
    spread = run_of(config, out, parallel=Parallel())
    assert jax.device_count() == 8
    monkeypatch.setattr(scoring.chunks, "masks_side_by_side", lambda setup: 2)
    found, most = scoring.counted(spread, 0, "ln_gain", some, text, "")
    np.testing.assert_array_equal(found.entities, expected.entities)
    np.testing.assert_array_equal(found.words, expected.words)
    np.testing.assert_array_equal(most, frequent)


LEARNING = ("--training.epochs=16", "--retrain.rounds=0", "--data.evaluation.sentences=40")


@pytest.fixture(scope="module")
def automatic(write_config, tmp_path_factory):
    """A run whose model learns something, pruned at its automatic dose."""
    from undrawn import undrawn

    config, out = write_config(arms=["concept"]), tmp_path_factory.mktemp("auto") / "run"
    command = ["dose", str(config), "--out", str(out), "--sets.fractions=[auto,0.25]", *LEARNING]
    with undrawn():
        assert cli.main(command) == 0
    return config, out


def test_the_automatic_dose_is_the_smallest_that_takes_90_percent(automatic):
    _, out = automatic
    record = runs.read_json(runs.record_file(out, choice.stage_name(0)))["choices"][0]
    losses = dict(zip(record["fractions"], record["target_loss"], strict=True))
    chosen = record["fraction"]
    assert record["base_f1"] > selectivity.LEARNED
    assert losses[chosen] >= selectivity.GONE
    assert all(loss < selectivity.GONE for f, loss in losses.items() if f < chosen)
    keep = runs.arrays_of(out, "seed0-LOC-auto-free-concept-pruned", "mask")["keep"]
    assert (~keep).sum() == int(48 * chosen + 1e-9)
    damage = table(out, "damage")
    damage = damage[damage.group == "LOC-auto-free"]
    assert (damage.fraction_low == chosen).all()
    assert (damage.fraction_high == chosen).all()


def test_the_choice_never_sees_the_scored_text(automatic):
    config, out = automatic
    run = run_of(config, out, "prune.fraction=auto")
    texts = run.setup.texts
    assert not set(texts.choice.corpus.words) & set(texts.evaluation.corpus.words)
    assert set(texts.choice.corpus.words) <= set(run.setup.probed.corpus.words)


def test_a_page_without_retraining_says_what_pruning_did(automatic):
    _, out = automatic
    for home in (out, out / "groups" / "LOC-auto-free", out / "groups" / "LOC-0.25-free"):
        page = (home / "report.html").read_text()
        assert "not retrained" in page
        assert "unfinished" not in page
        assert "Dose: what pruning alone takes" in page


def test_no_dose_is_a_clear_sentence(automatic, capsys, tmp_path):
    config, out = automatic
    command = ["dose", str(config), "--out", str(out), "--reuse", "--prune.fraction=auto"]
    assert cli.main([*command, *LEARNING, "--dose.fractions=[0.03]"]) == 2
    assert "none of dose.fractions takes 90 % of its F1" in capsys.readouterr().err
    command = ["dose", str(config), "--out", str(tmp_path / "run"), "--prune.fraction=auto"]
    assert cli.main([*command, "--training.learning_rate=1e-9"]) == 2
    assert "has not learned LOC" in capsys.readouterr().err


def test_random_neurons_are_the_same_for_every_ranking(finished):
    config, out = finished
    run = run_of(config, out)
    settings, model = run.setup.config, run.setup.pretrained.model
    names = run.setup.probed.concepts.names
    scores = rankings.read(out, 0)
    draws = {
        points.mask(settings, 0, point, scores, names).tobytes()
        for point in points.points(settings, model)
        if point.arm == "random" and point.fraction == 0.3
    }
    assert len(draws) == 1


def test_the_sentences_of_a_curve_are_spread_over_the_text(finished):
    config, out = finished
    run = run_of(config, out, "dose.sentences=5")
    texts = run.setup.texts
    every = texts.evaluation.corpus.words
    rows = [every.index(words) for words in texts.dose.corpus.words]
    assert rows == [0, 6, 12, 17, 23]
