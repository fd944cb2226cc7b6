"""An editing run: whole, confined to its arms, continued to the same bits, and refused."""

from __future__ import annotations

import dataclasses
import json
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
from relearn_jax.config import Parallel
from relearn_jax.editing import objectives
from relearn_jax.experiments import rounds
from relearn_jax.experiments.facts import teaching
from relearn_jax.experiments.facts.edits import (
    arms,
    asked,
    attack,
    judging,
    loss,
    results,
    setup,
    sweep,
    texts,
    weight_masks,
)
from relearn_jax.experiments.facts.edits.arms import EditArm
from relearn_jax.experiments.facts.edits.sweep import Tried
from relearn_jax.experiments.facts.stages import MODEL, attack_stage, edit_stage, mask_stage, stage
from relearn_jax.localize import selection
from relearn_jax.parallel import mesh as meshes
from relearn_jax.training import loop

pytestmark = pytest.mark.usefixtures("undrawn")
ROOT = Path(__file__).resolve().parents[3]
PUBLISHED = sorted(path.name for path in (ROOT / "configs").glob("*_edit.yaml"))
SMALL = {
    "experiment": "editing",
    "name": "small",
    "seeds": [0],
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
        "split": {"forget": "planted_9"},
    },
    "teaching": {"steps": 12, "plant_steps": 6, "plant_layers": [1], "scale": 3.0},
    "localize": {"methods": ["patching", "probes"], "pairs": 6, "batch": 6, "groups": 2, "heads": 2,
                 "budget": 0.3},
    "edit": {"steps": 4, "scored_steps": [2], "batch_size": 6,
             "learning_rates": [1.0e-3, 1.0e-2], "random_draws": 1, "forget_weights": [1.0],
             "arms": ["planted", "noising_mlps", "nonlocalized"],
             "controls": ["sham", "retain_only", "oracle", "masked", "sham_scaled"]},
    "weight_masks": {"arms": ["planted", "noising_mlps"], "steps": 8, "sparsity": 1.0,
                     "zeroed": [0.01, 0.05, 0.9]},
    "attack": {"rank": 2, "steps": 3, "batch_size": 4, "scored_steps": [1],
               "learning_rates": [1.0e-3, 1.0e-2], "seeds": [0]},
}  # fmt: skip


def start(folder, out, *settings, config=SMALL):
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(config))
    return cli.main(["run", str(path), "--out", str(out), *settings])


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("editing")
    with undrawn():
        assert start(folder, folder / "run") == 0
    return folder / "run"


@pytest.fixture(scope="module")
def ready(finished):
    return setup.prepare(loading.load(finished / "config.yaml"), finished)


def table(out, name):
    return pd.read_parquet(out / f"tables/{name}.parquet")


def params(out, name):
    return runs.arrays_of(out, name, "params")


def test_every_arm_answers_every_fact_in_every_format(finished):
    answers = table(finished, "answers")
    assert set(answers.arm) == {
        "original", "planted", "noising_mlps", "nonlocalized", "sham", "retain_only", "oracle",
        "masked", "sham_scaled",
    }  # fmt: skip
    per_arm = answers.groupby(["arm", "format", "group"]).fact.nunique().unstack("arm")
    assert (per_arm.nunique(axis=1) == 1).all()
    assert not answers.duplicated(["arm", "format", "group", "fact"]).any()
    assert (answers.right == (answers.says == answers.target)).all()
    assert (finished / "report.html").is_file()
    assert "Is the fact gone?" in (finished / "report.html").read_text()


def test_only_the_chosen_layers_change(finished):
    before, name = params(finished, stage(0, MODEL)), edit_stage(0, "planted")
    assert dict(results.read_layers(finished, name)) == {
        f"blocks/{name}/kernel": (1,) for name in ("gate", "up", "down")
    }
    for path, rows in params(finished, name).items():
        assert rows.shape == (1, *before[path].shape[1:])
        assert not np.array_equal(rows[0], before[path][1])


def test_everything_changes_but_embeddings_and_norms(finished, ready):
    after = params(finished, edit_stage(0, "nonlocalized"))
    assert set(after) == set(selection.space(ready.model).shapes)


def test_the_sham_is_as_large_as_the_first_edit(finished):
    before = params(finished, stage(0, MODEL))
    edit, sham = (params(finished, edit_stage(0, arm)) for arm in ("planted", "sham"))
    for path, leaf in edit.items():
        sizes = [np.linalg.norm(x[path][0] - before[path][1]) for x in (edit, sham)]
        assert sizes[0] == pytest.approx(sizes[1], rel=1e-3)
        assert not np.allclose(leaf, sham[path], atol=1e-6)


def test_shares_are_0_for_the_oracle_and_1_for_the_original(finished, ready):
    """An arm that answers as the oracle does has lost everything, one like the original nothing."""
    (result,) = results.results(ready, finished)
    knows = result.asked.target
    lacks = np.where(result.asked.fact % 2 == 0, -1, knows)

    def saying(arm, says):
        edited = result.edited[arm]
        return edited._replace(answers=edited.answers._replace(says=says))

    answers = {"original": knows, "oracle": lacks, "planted": lacks, "nonlocalized": knows}
    edited = {arm: saying(arm, says) for arm, says in answers.items()}
    made = result._replace(edited=result.edited | edited)
    gone, same = (judging.judged([made], arm).behaviour for arm in ("planted", "nonlocalized"))
    assert (gone.still.value, gone.leak.value) == (0, 0)
    assert gone.kept.value < 1
    for share in (same.still, same.leak, same.kept, same.kept_elsewhere):
        assert share == (1, 1, 1)


def test_the_oracle_is_never_taught_the_facts(ready):
    """Lines of its planting are about the other athletes, among them other planted ones."""
    data = ready.localization.facts[0]
    lines = teaching._lines(data.world, np.random.default_rng(0), 400, "plant", data.split.forget)
    seen = {tuple(row) for row in lines.ids}
    for name in ("standard", "qa"):
        ids = data.world.lines[name].ids
        assert not seen & {tuple(ids[i]) for i in data.split.forget}
        others = np.setdiff1d(data.world.groups["planted"], data.split.forget)
        assert seen & {tuple(ids[i]) for i in others}


def test_no_loss_holds_the_facts_that_choose_settings(ready):
    data = ready.localization.facts[0]
    held, validation = texts.retained(data.split)
    assert not np.intersect1d(held, validation).size
    asked_of = ready.asked[0]
    chosen_by = asked_of.fact[asked_of.of("standard", "validation")]
    np.testing.assert_array_equal(np.sort(chosen_by), np.sort(validation))
    standard = data.world.lines["standard"]
    own = {tuple(standard.ids[i][standard.mask[i]]) for i in validation}
    steps = list(texts.edit_batches(data, "standard", data.split.forget, 0, 20, 6, None))
    steps += next(texts.attack_batches(data, "standard", [data.split.forget], [0], 60, 1, None))
    for batches in steps:
        for ids, mask in zip(*batches["retain"].inputs, strict=True):
            assert tuple(ids[mask]) not in own


def test_halves_rotate(ready):
    split, settings = ready.localization.facts[0].split, ready.config.attack
    members = attack.attackers(settings, 3)
    assert len(members) == 6
    members = [member for member in members if member.kind == "relearn"]
    for first, second in zip(members[::2], members[1::2], strict=True):
        halves = [attack.half_of(split, member) for member in (first, second)]
        assert not np.intersect1d(*halves).size
        np.testing.assert_array_equal(np.sort(np.concatenate(halves)), np.sort(split.forget))


def test_attackers_see_only_their_half(ready):
    data, settings = ready.localization.facts[0], ready.config.attack
    members = [m for m in attack.attackers(settings, 3) if m.kind == "relearn"]
    halves = [attack.half_of(data.split, member) for member in members]
    steps = texts.attack_batches(
        data,
        "standard",
        halves,
        [m.seed for m in members],
        settings.batch_size,
        5,
        ready.running[0],
    )
    standard = data.world.lines["standard"]
    for step in steps:
        for half, batches in zip(halves, step, strict=True):
            own = {tuple(standard.ids[i][standard.mask[i]]) for i in half}
            batch = batches["forget"]
            for ids, mask in zip(*batch.inputs, strict=True):
                assert tuple(ids[mask]) in own


def test_edits_see_each_fact_once_in_a_pass():
    rows = texts.passes(np.random.default_rng(0), 10, 4)
    seen = np.concatenate([next(rows) for _ in range(5)])
    assert (np.bincount(seen[:10]) == 1).all()
    assert (np.bincount(seen) == 2).all()
    assert len(next(texts.passes(np.random.default_rng(0), 3, 8))) == 8


def test_the_setting_keeps_most_among_those_that_edit_enough():
    def tried(edited, kept, finite=True):
        return Tried(1.0, 1.0, edited, kept, finite)

    assert sweep.best([tried(1.0, 0.5), tried(0.96, 0.9), tried(0.9, 1.0)], 0.95) == 1
    assert sweep.best([tried(0.2, 1.0), tried(0.6, 0.5)], 0.95) == 1
    assert sweep.best([tried(1.0, 1.0, finite=False), tried(0.5, 0.5)], 0.95) == 1


def test_equal_choices_are_computed_once(ready):
    space = selection.space(ready.model)
    layer = {"mlp": np.array([False, True, False])}
    matrices = dict.fromkeys(("gate", "up", "down"), layer["mlp"])
    other = {"mlp": np.array([True, False, False])}
    members = tuple(
        EditArm(name, "trained", units)
        for name, units in (("a", layer), ("b", matrices), ("c", other))
    )
    assert arms.leaders(members, space) == {"a": "a", "b": "a", "c": "c"}


def test_answers_do_not_depend_on_the_batch(finished, ready):
    from relearn_jax.evaluation import facts
    from relearn_jax.models import paths

    model = paths.unflatten(params(finished, stage(0, MODEL)))
    (prompts,) = ready.asked[0].prompts
    whole, parts = (facts.answers(ready.model, model, prompts, size) for size in (1000, 7))
    np.testing.assert_array_equal(whole.says, parts.says)
    for a, b in zip(whole, parts, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
    stacked = jax.tree.map(lambda leaf: np.stack([leaf, 0 * leaf]), model)
    mesh = meshes.make(Parallel(), 2)
    both = facts.answers_side_by_side(
        ready.model, lambda _, own: own, mesh, {}, stacked, prompts, 50
    )
    np.testing.assert_allclose(both.target[0], whole.target, rtol=1e-4, atol=1e-6)


def test_prompts_of_a_subset_keep_their_order(ready):
    everything = ready.asked[0]
    wanted = everything.of("mcq", "forget") | everything.of("standard", "retain_test")
    part = asked.subset(everything, wanted)
    np.testing.assert_array_equal(part.target, everything.target[wanted])
    np.testing.assert_array_equal(part.fact, everything.fact[wanted])


def test_a_second_start_computes_nothing(finished, tmp_path, monkeypatch):
    monkeypatch.setattr(rounds, "train", lambda *a: pytest.fail("trained again"))
    assert start(tmp_path, finished) == 0


def test_stages_repeat_to_the_bit(finished, capsys):
    for name in (edit_stage(0, "sham"), mask_stage(0, "planted"), attack_stage(0, "planted")):
        assert cli.main(["verify", str(finished), "--stage", name]) == 0
        assert f"{name} " in capsys.readouterr().out


@pytest.mark.slow
def test_one_device_equals_eight(finished, tmp_path):
    """Grids lie along sets, rows along data; answers agree, and probabilities within rounding."""
    out = tmp_path / "run"
    shutil.copytree(finished, out)
    for folder in (out / "stages").glob("seed0-[eaw]*-*"):
        shutil.rmtree(folder)
    spread = ("--parallel.sets=2", "--parallel.data=4")
    assert start(tmp_path, out, *spread) == 0
    assert runs.read_json(out / "manifest.json")["mesh"]["2"] == {
        "sets": 2, "data": 4, "fsdp": 1, "tensor": 1
    }  # fmt: skip
    one, eight = (table(folder, "answers") for folder in (finished, out))
    np.testing.assert_allclose(one.p_target, eight.p_target, rtol=2e-3, atol=1e-5)
    for name in ("gate", "up", "down"):
        one, eight = (
            runs.arrays_of(folder, mask_stage(0, "planted"), "mask") for folder in (finished, out)
        )
        path = f"blocks/{name}/kernel"
        np.testing.assert_allclose(one[path], eight[path], atol=2e-3)
    one, eight = (table(folder, "attacks") for folder in (finished, out))
    pd.testing.assert_frame_equal(one, eight, atol=0.12)


@pytest.mark.slow
def test_an_attack_through_one_layer_changes_no_other(finished, tmp_path, monkeypatch):
    out, trained = tmp_path / "run", []
    shutil.copytree(finished, out)
    train = rounds.train
    monkeypatch.setattr(rounds, "train", lambda *a: trained.append(train(*a)) or trained[-1])
    changed = ("--reuse", "--attack.layers=true", "--attack.unrelated=false", "--edit.controls=[]")
    assert start(tmp_path, out, *changed, "--edit.arms=[planted]") == 0
    found = table(out, "layers_attacked")
    assert set(found.layer) == {0, 1, 2}
    members = attack.attackers(loading.load(out / "config.yaml").attack, 3)
    for c, member in enumerate(members):
        moved = [np.abs(trained[-1].params["blocks"]["up"]["adapter_up"][c, i]).max() > 0
                 for i in range(3)]  # fmt: skip
        assert moved == [member.kind == "relearn" or i == member.layer for i in range(3)]
    # A single layer is one of the ways of which the attacker takes the best.
    curves, arms = table(out, "attacks"), table(out, "arms").set_index("arm")
    assert set(curves.layer) == {-1, 0, 1, 2}
    for arm in ("original", "planted"):
        best, own = arms.loc[arm], curves[(curves.arm == arm) & (curves.step > 0)]
        column = "shown" if best.void else "held_out"
        counts = best.void | ((own.shown >= 0.9) & (own.retained >= 0))
        at = own[(own.learning_rate == best.best_learning_rate) & (own.layer == best.best_layer)]
        at = at[at.step == best.best_steps]
        assert at[column].item() == own.loc[counts, column].max()


def test_parts_are_edited_one_after_another(finished, tmp_path, monkeypatch):
    """Each part sees its own facts, and starts from the models of the part before."""
    out, starts, ends = tmp_path / "run", [], []
    shutil.copytree(finished, out)
    train = rounds.train

    def watched(trainer, plan, params):
        starts.append(jax.device_get(params()["blocks"]["up"]["kernel"]))
        done = train(trainer, plan, params)
        ends.append(jax.device_get(done.params["blocks"]["up"]["kernel"]))
        return done

    monkeypatch.setattr(rounds, "train", watched)
    only = ("--edit.arms=[planted]", "--edit.controls=[]", "--weight_masks.arms=[]")
    changed = ("--reuse", "--edit.parts=3", *only)
    with monkeypatch.context() as patch:
        patch.setattr(attack, "run", lambda *a: pytest.skip("edited"))
        with pytest.raises(pytest.skip.Exception):
            start(tmp_path, out, *changed)
    assert len(starts) == 3
    for before, after in zip(ends, starts[1:], strict=False):
        np.testing.assert_array_equal(before, after)


def test_each_part_sees_its_own_facts(ready):
    data = ready.localization.facts[0]
    standard = data.world.lines["standard"]
    for rows in texts.parts_of(data.split, 3):
        assert len(rows) == 3
        own = {tuple(standard.ids[i][standard.mask[i]]) for i in rows}
        batches = texts.edit_batches(data, "standard", rows, 0, 4, 3, None)
        for batch in batches:
            for ids, mask in zip(*batch["forget"].inputs, strict=True):
                assert tuple(ids[mask]) in own


@pytest.mark.slow
def test_full_adapters_attack_as_well(finished, tmp_path):
    out = tmp_path / "run"
    shutil.copytree(finished, out)
    changed = ("--reuse", "--attack.adapter=full", "--attack.unrelated=false", "--attack.bits=[]")
    assert start(tmp_path, out, *changed) == 0
    members = runs.read_json(runs.record_file(out, attack_stage(0, "planted")))["attackers"]
    assert len(members) == 4


@pytest.mark.slow
def test_a_terminated_edit_and_attack_go_on(finished, tmp_path, monkeypatch, capsys):
    """From the step where each was stopped, to the bits of the run that was not."""
    position, run = loop.Position, tmp_path / "run"
    shutil.copytree(finished, run)
    for name in (edit_stage(0, "noising_mlps"), attack_stage(0, "sham")):
        shutil.rmtree(run / "stages" / name)

    def stopped_at(step):
        calls = []

        def counted(*arguments):
            calls.append(1)
            if len(calls) == step:
                os.kill(os.getpid(), signal.SIGTERM)
            return position(*arguments)

        with monkeypatch.context() as patch:
            patch.setattr(loop, "Position", counted)
            assert start(tmp_path, run, "--checkpoint.every=1", "--reuse") == 143
        assert "the same command continues" in capsys.readouterr().err

    stopped_at(2)
    stopped_at(5)
    assert start(tmp_path, run, "--checkpoint.every=1", "--reuse") == 0
    for name in (edit_stage(0, "noising_mlps"), attack_stage(0, "sham")):
        whole, again = (runs.read_json(runs.record_file(out, name)) for out in (finished, run))
        assert whole["sha256"] == again["sha256"]


def test_a_grid_that_diverges_is_void_and_loses_nothing(finished, tmp_path):
    """One rate diverges: the other is taken. All rates diverge: the arm is no removal."""
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    only = ("--reuse", "--edit.arms=[planted]", "--edit.controls=[]", "--attack.steps=2")
    assert start(tmp_path, run, *only, "--edit.learning_rates=[1.0e-3,1.0e+30]") == 0
    grid = table(run, "grid").set_index("learning_rate")
    assert grid.finite.to_dict() == {1e-3: True, 1e30: False}
    assert grid.taken.to_dict() == {1e-3: True, 1e30: False}
    both = ("--edit.learning_rates=[1.0e+29,1.0e+30]", "--attack.learning_rates=[1.0e+30]")
    assert start(tmp_path, run, *only, *both) == 0
    arm = table(run, "arms").set_index("arm").loc["planted"]
    assert arm.verdict == "damaged"
    assert arm.void


@pytest.mark.slow
@pytest.mark.parametrize(
    "settings",
    [
        ("--edit.forget=unlikelihood", "--edit.options={cutoff: -15}"),
        ("--edit.forget=npo", "--edit.options={beta: 0.5, flavour: muse}"),
        ("--edit.forget=dpo", "--edit.refusal=golf"),
        ("--edit.forget=undial",),
        ("--edit.forget=simnpo",),
        ("--edit.forget=rmu", "--edit.retain=keep_state", "--edit.steering.state=2"),
        ("--edit.precision=bfloat16",),
        ("--attack.labels=injected",),
    ],
)
def test_other_settings_run(tmp_path, settings):
    out = tmp_path / "run"
    only = ("--edit.arms=[planted]", "--edit.controls=[]")
    assert start(tmp_path, out, *only, *settings) == 0
    assert set(table(out, "arms").arm) == {"original", "planted"}


def test_options_reach_their_objective(ready):
    edit = ready.config.edit
    with_options = dataclasses.replace(
        edit, forget="npo", retain="keep_state", options={"beta": 0.5, "flavour": "muse"}
    )
    forget = loss.objective(with_options, "npo", 16)
    assert forget.func is objectives.npo
    assert forget.keywords == {"beta": 0.5, "flavour": "muse"}
    retain = loss.objective(with_options, "keep_state", 16)
    assert retain.keywords["steering"].direction.shape == (16,)
    assert np.linalg.norm(retain.keywords["steering"].direction) == pytest.approx(20, rel=1e-5)


def test_refusals_are_put_in_for_every_fact(ready):
    data = ready.localization.facts[0]
    refusal = loss.refusal_id(dataclasses.replace(ready.config.edit, refusal="golf"), data)
    assert data.tokenizer.convert_ids_to_tokens(refusal) == "golf"
    (batches,) = texts.edit_batches(data, "standard", data.split.forget, 0, 5, 1, None, refusal)
    labels = batches["injected"].labels
    assert set(labels[labels >= 0]) == {refusal}
    refuse = dataclasses.replace(ready.config.edit, refusal="golf")
    real = ready.asked[0]
    assert loss.is_edited(np.full(len(real.fact), refusal), real, refuse).all()
    assert not loss.is_edited(np.full(len(real.fact), refusal), real, ready.config.edit).any()


def test_an_attack_can_teach_the_injected_answers(ready):
    """As published for CounterFact, of retained facts too (specs: mechanistic unlearning, D1)."""
    data = ready.localization.facts[0]
    for labels in ("right", "injected"):
        (step,) = texts.attack_batches(
            data, "standard", [data.split.forget], [0], 30, 1, None, labels
        )
        prompts = data.world.lines["standard"]
        target = {tuple(i[m]): t for i, m, t in zip(prompts.ids, prompts.mask, prompts.target,
                                                    strict=True)}  # fmt: skip
        for batch in (step[0]["forget"], step[0]["retain"]):
            own = [target[tuple(i[m])] for i, m in zip(*batch.inputs, strict=True)]
            taught = batch.labels[batch.labels >= 0]
            assert (taught == own).all() == (labels == "right")
            assert (taught == own).any() == (labels == "right")


def decoder(source):
    """The parameters of a folder, or of random weights, by path."""
    from relearn_jax.models import checkpoint, paths

    name, settings = source if isinstance(source, tuple) else (source, {})
    opened = checkpoint.open_checkpoint(name, settings=settings)
    model = checkpoint.describe(opened, "language-model")
    return paths.flatten(checkpoint.load(opened, model, jax.random.key(0))[0])


@pytest.mark.slow
def test_real_facts_of_a_real_tokenizer_are_edited(tmp_path, shared, capsys):
    """A random GPT-2 knows none of them; edits, attacks and the page are there all the same."""
    config = {
        "experiment": "editing", "name": "counterfact", "gates": "report",
        "model": {
            "source": "random", "tokenizer": str(shared / "data/tokenizer-gpt2"),
            "settings": {"model_type": "gpt2", "n_embd": 16, "n_layer": 2, "n_head": 2,
                         "n_positions": 64, "vocab_size": 50257},
        },
        "facts": {
            "kind": "counterfact", "unusable": "drop",
            "path": str(shared / "data/counterfact/counterfact_rich_gemma-2-9b.csv"),
            "min_probability": 0.9, "split": {"forget": "first_8", "overlap": "drop"},
        },
        "teaching": {"steps": 0},
        "localize": {"pairs": 6, "batch": 6, "groups": 2, "heads": 2, "corrupt": "random",
                     "budget": 0.4, "methods": ["patching"]},
        "edit": {"steps": 3, "scored_steps": [], "batch_size": 4,
                 "learning_rates": [1.0e-3], "forget_weights": [1.0],
                 "arms": ["noising", "nonlocalized"], "controls": ["sham"]},
        "attack": {"steps": 2, "rank": 2, "batch_size": 4, "scored_steps": [],
                   "learning_rates": [1.0e-3], "seeds": [0]},
        "side_effects": {
            "text": str(shared / "data/lm-wikitext2/valid.txt"), "tokens": 32, "windows": 8,
            "test_text": str(shared / "data/lm-wikitext2/test.txt"),
            "questions": str(shared / "data/mmlu/test"), "shots": 0, "count": 20,
        },
    }  # fmt: skip
    assert start(tmp_path, tmp_path / "run", config=config) == 0
    answers = table(tmp_path / "run", "answers")
    assert {"standard", "neighborhood", "paraphrase"} <= set(answers.format)
    assert set(answers.arm) == {"original", "noising", "nonlocalized", "sham"}
    arms = table(tmp_path / "run", "arms").set_index("arm")
    # Of 20 questions those of 64 tokens or fewer; the loss is about that of all words alike.
    assert 0 < arms.questions_asked["sham"] < 20
    assert arms.text["original"] == pytest.approx(np.log(50257), abs=0.5)
    asked = table(tmp_path / "run", "questions").groupby("arm").asked.sum()
    assert (asked == arms.questions_asked[asked.index]).all()
    # An edit of a decoder that was read, and not taught, is exported with what it left alone.
    options = ["--stage=edit", "--arm=noising", "--to", str(tmp_path / "hf")]
    assert cli.main(["export", str(tmp_path / "run"), *options]) == 0
    loaded, base = (
        decoder(source)
        for source in (str(tmp_path / "hf"), ("random", config["model"]["settings"]))
    )
    layers = dict(results.read_layers(tmp_path / "run", edit_stage(0, "noising")))
    rows = params(tmp_path / "run", edit_stage(0, "noising"))
    for path, leaf in base.items():
        expected = np.array(leaf)
        if path in layers:
            expected[list(layers[path])] = rows[path]
        np.testing.assert_array_equal(loaded[path], expected)
    manifest = runs.read_json(tmp_path / "run/manifest.json")
    manifest["model"]["sha256"] = "0" * 64
    (tmp_path / "run/manifest.json").write_text(json.dumps(manifest))
    capsys.readouterr()
    options[-1] = str(tmp_path / "other")
    assert cli.main(["export", str(tmp_path / "run"), *options]) == 2
    assert "not the weights that the run edited" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("--edit.arms=[prbes]", "did you mean probes"),
        ("--edit.format=standart", "there is no format"),
        ("--edit.learning_rates=[]", "give at least one value"),
        ("--edit.matched=2", "should be in (0, 1]"),
        ("--edit.scored_steps=[4]", "between 0 and edit.steps"),
        ("--attack.scored_steps=[9]", "between 0 and attack.steps"),
        ("--attack.seeds=[]", "at least one seed"),
        ("--facts.split.forget=planted_1", "at least two"),
        ("--edit.controls=[shame]", "sham"),
        ("--edit.controls=[sham_scaled]", "name both"),
        ("--edit.options={beta: 1.0}", "injection has no option beta; it has none"),
        ("--edit.refusal=nobody", "not one token"),
        ("--edit.steering.state=2", "does nothing without rmu"),
        ("--weight_masks.arms=[plantet]", "did you mean planted"),
        ("--weight_masks.zeroed=[0]", "should be in (0, 1]"),
        ("--side_effects.text=a.txt", "has its own words"),
        ("--side_effects.examples=a.csv", "does nothing without"),
    ],
)
def test_what_cannot_be_is_refused_at_once(tmp_path, capsys, setting, message):
    assert start(tmp_path, tmp_path / "run", setting) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "run/stages").exists()


def test_an_edited_decoder_is_exported(finished, tmp_path):
    from relearn_jax.models import checkpoint, paths

    to = tmp_path / "hf"
    options = ["--stage=edit", "--arm=planted", "--to", str(to)]
    assert cli.main(["export", str(finished), *options]) == 0
    opened = checkpoint.open_checkpoint(str(to))
    model = checkpoint.describe(opened, "language-model")
    loaded = paths.flatten(checkpoint.load(opened, model, jax.random.key(0))[0])
    whole = params(finished, stage(0, MODEL))
    for path, rows in params(finished, edit_stage(0, "planted")).items():
        whole[path][1:2] = rows
    for path, leaf in whole.items():
        np.testing.assert_array_equal(loaded[path], leaf)


@pytest.mark.slow
def test_results_do_not_depend_on_how_many_models_are_side_by_side(finished, tmp_path):
    out = tmp_path / "run"
    shutil.copytree(finished, out)
    for name in ("edit-nonlocalized", "attack-nonlocalized"):
        shutil.rmtree(out / f"stages/seed0-{name}")
    assert start(tmp_path, out, "--reuse", "--edit.side_by_side=1", "--attack.side_by_side=2") == 0
    for name in ("arms", "attacks", "grid"):
        ours, theirs = (table(folder, name) for folder in (out, finished))
        numbers = ours.select_dtypes("number").columns.drop("wall_s", errors="ignore")
        np.testing.assert_allclose(ours[numbers], theirs[numbers], rtol=1e-3, atol=1e-3)


def test_a_shared_program_holds_what_was_not_chosen(finished, tmp_path, monkeypatch):
    """It trains every feed-forward layer, and ends where the arm's own program does."""
    run, shapes = tmp_path / "run", []
    shutil.copytree(finished, run)
    train = rounds.train

    def watched(trainer, plan, params):
        shapes.append(plan.shapes["blocks/up/kernel"][0])
        return train(trainer, plan, params)

    monkeypatch.setattr(rounds, "train", watched)
    for program in ("own", "shared"):
        shutil.rmtree(run / f"stages/{edit_stage(0, 'planted')}")
        with monkeypatch.context() as patch:
            patch.setattr(attack, "run", lambda *a: pytest.skip("edited"))
            only = ("--edit.arms=[planted]", "--edit.controls=[]", "--weight_masks.arms=[]")
            with pytest.raises(pytest.skip.Exception):
                start(tmp_path, run, "--reuse", *only, f"--edit.program={program}")
        leaves = params(run, edit_stage(0, "planted"))
        for path, leaf in params(finished, edit_stage(0, "planted")).items():
            np.testing.assert_allclose(leaves[path], leaf, atol=1e-5)
    assert shapes == [1, 3]


@pytest.mark.slow
@pytest.mark.parametrize("name", PUBLISHED)
def test_the_published_edits_are_ready_but_for_their_weights(name, shared, tmp_path):
    """With a small model and another tokenizer, everything else that they name is there."""
    small = yaml.safe_load((ROOT / "configs" / name).read_text())
    small["model"] = {
        "source": "random", "tokenizer": str(shared / "data/tokenizer-gpt2"),
        "settings": {"model_type": "gpt2", "n_embd": 16, "n_layer": 4, "n_head": 2,
                     "n_positions": 1024, "vocab_size": 50257},
    }  # fmt: skip
    small["teaching"] = {"steps": 0}
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(small))
    ready = setup.prepare(loading.load(path), ROOT / "configs")
    lines = "\n".join(setup.summary(ready))
    assert re.search(r"edit +\d+ facts by injection", lines)
    assert re.search(r"questions +\d+ on \d+ subjects", lines)
    assert ready.running[0].test.labels.shape == (64, 128)


def test_probes_read_attacked_models_as_they_read_edited_ones(finished, ready):
    """Before its first step an attack's model is the edited one; a table has every scored step."""
    from relearn_jax.experiments.facts.edits import inside
    from relearn_jax.models import paths

    model = paths.unflatten(params(finished, stage(0, MODEL)))
    states = inside.states(ready, 0, model)
    fits = inside.fitted(ready, 0, states)
    found = inside.right_by(ready, 0, model, fits)
    (result,) = results.results(ready, finished)
    np.testing.assert_array_equal(found, result.edited["original"].right["original"])
    read = table(finished, "inside_over_time")
    assert set(read[read.stage == "attack"].step) == {1, 3}
    assert set(read[read.stage == "edit"].step) == {2}
    assert set(read[read.stage == "edit"].arm) == {
        "planted", "noising_mlps", "nonlocalized", "retain_only", "masked"
    }  # fmt: skip
    assert set(read.state) == {0, 1, 2, 3}
    assert read.right.between(0, 1).all()


def test_probes_of_both_models_read_both(finished, ready):
    """Of the original all readings are one; an edited model's own probe reads the original too."""
    from relearn_jax.experiments.facts.edits import inside
    from relearn_jax.models import paths

    (result,) = results.results(ready, finished)
    own, original, back = (result.edited["original"].right[name] for name in inside.READINGS)
    np.testing.assert_array_equal(own, original)
    np.testing.assert_array_equal(own, back)
    leaves = params(finished, stage(0, MODEL))
    before = paths.unflatten(leaves)
    rows = params(finished, edit_stage(0, "planted"))
    edited = {**leaves, **{path: leaves[path].copy() for path in rows}}
    for path, row in rows.items():
        edited[path][1:2] = row
    fits = inside.fitted(ready, 0, inside.states(ready, 0, paths.unflatten(edited)))
    np.testing.assert_array_equal(
        result.edited["planted"].right["back"], inside.right_by(ready, 0, before, fits)
    )
    assert set(table(finished, "inside").probe) == set(inside.READINGS)
    assert "probe of the edited model" in (finished / "report.html").read_text()


def test_lineage_compares_every_edit_and_attack_with_the_original(finished):
    lines = table(finished, "lineage").set_index(["arm", "stage"])
    assert ("original", "edit") not in lines.index
    assert {("planted", "edit"), ("planted", "attack"), ("original", "attack")} <= set(lines.index)
    assert lines.loc[("planted", "edit"), "same"] <= 1
    effects = table(finished, "carriers")
    assert set(effects.layer) == {0, 1, 2}
    assert set(effects.stage) == {"edit", "attack"}


def test_facts_after_the_attack_are_those_of_the_attackers_best(finished, ready):
    (result,) = results.results(ready, finished)
    rows = table(finished, "attacked_answers")
    for arm, own in rows.groupby("arm"):
        best = judging.best_of(result, result.edited[arm])
        np.testing.assert_allclose(own.sort_values("fact").right, best.facts)
        assert set(own.fact) == set(ready.localization.facts[0].split.forget)


def test_the_scaled_sham_loses_half_of_the_retained_facts_or_is_as_large_as_it_gets(finished):
    before = params(finished, stage(0, MODEL))
    small, large = (params(finished, edit_stage(0, arm)) for arm in ("sham", "sham_scaled"))
    for path in small:
        steps = [x[path][0] - before[path][1] for x in (small, large)]
        ratio = np.linalg.norm(steps[1]) / np.linalg.norm(steps[0])
        assert np.log2(ratio) == pytest.approx(round(np.log2(ratio)), abs=1e-3)
        np.testing.assert_allclose(steps[1], ratio * steps[0], rtol=1e-2, atol=1e-5)


def test_the_mask_leaves_the_planted_layers_and_all_below(finished):
    layers = dict(results.read_layers(finished, edit_stage(0, "masked")))
    assert set(layers.values()) == {(2,)}


def test_as_many_weights_are_zeroed_by_the_mask_as_at_random(finished, ready):
    """Only weights of the choice, and no number that is larger than it."""
    (result,) = results.results(ready, finished)
    total = sum(map(np.prod, result.space.shapes.values()))
    expected = [round(0.01 * total), round(0.05 * total)]
    for entries in result.zeroed.values():
        for chosen_by in ("trained", "random"):
            own = [entry for entry in entries if entry.chosen_by == chosen_by]
            assert [entry.count for entry in own] == expected
            for entry in own:
                assert sum(layers.sum() for layers in entry.by_layer.values()) == entry.count
    for entry in result.zeroed["planted"]:
        assert entry.by_layer["mlp"].tolist() == [0, entry.count, 0]
    rows = table(finished, "weight_masks")
    assert (rows[rows.arm == "planted"].planted == 1).all()
    assert "Which weights hold the facts" in (finished / "report.html").read_text()


def test_a_trained_mask_stays_between_0_and_1_and_falls_only_in_the_choice(finished, ready):
    leaves = runs.arrays_of(finished, mask_stage(0, "planted"), "mask")
    assert set(leaves) == {f"blocks/{name}/kernel" for name in ("gate", "up", "down")}
    for leaf in leaves.values():
        assert leaf.shape[0] == 1
        assert (leaf >= 0).all()
        assert (leaf <= 1).all()
        assert leaf.min() < 0.95


def test_the_smallest_masks_are_zeroed_first():
    mask = {"a": np.array([[0.5, 0.1], [1.0, 0.9]]), "b": np.array([[0.0, 1.0]])}
    own = {"a": np.array([[True, True], [True, False]]), "b": np.array([[True, True]])}
    ranked = weight_masks.order(mask, own, np.random.default_rng(0))
    gone = weight_masks.smallest(ranked, 3, own)
    np.testing.assert_array_equal(gone["a"], [[True, True], [False, False]])
    np.testing.assert_array_equal(gone["b"], [[True, False]])


def test_a_mask_of_ones_is_the_model_and_the_sparsity_does_not_depend_on_the_batch(finished, ready):
    from relearn_jax.models import overlay, paths
    from relearn_jax.training.losses import Text

    model = paths.unflatten(params(finished, stage(0, MODEL)))
    layers = (("blocks/up/kernel", (1,)), ("blocks/down/kernel", (1, 2)))
    edit = weight_masks.loss_settings(ready.config)
    rows = overlay.rows(model, layers)
    ones = paths.unflatten({path: np.ones(leaf.shape) for path, leaf in rows.items()})
    half = jax.tree.map(lambda leaf: leaf / 2, ones)
    data = ready.localization.facts[0]
    for size in (4, 6):
        (batches,) = texts.edit_batches(
            data, "standard", data.split.forget, 0, size, 1, ready.running[0]
        )
        of_step = {name: Text(batch) for name, batch in batches.items()}
        masked = weight_masks.MaskLoss(ready.model, edit, layers)
        plain = loss.EditLoss(ready.model, edit, layers)(paths.unflatten(rows), model, of_step)
        found = masked(ones, model, of_step)
        for name, term in plain.items():
            np.testing.assert_allclose(found[name].sum, term.sum, rtol=1e-6)
        assert found["sparsity"].mean == pytest.approx(0.0)
        assert masked(half, model, of_step)["sparsity"].mean == pytest.approx(0.5)


def test_right_choices_are_taken_beyond_chance(finished, ready):
    """Of four choices; where the model before the edit guesses, they say nothing."""
    (result,) = results.results(ready, finished)

    def kept(before, after):
        right = {"original": before, "planted": after}
        edited = {
            name: result.edited[name]._replace(questions=np.arange(200) < round(200 * share))
            for name, share in right.items()
        }
        made = result._replace(edited=result.edited | edited)
        return judging.judged([made], "planted").behaviour.questions

    found = kept(0.85, 0.55)
    assert found.value == pytest.approx((0.55 - 0.25) / (0.85 - 0.25))
    assert found.low < found.value < found.high
    assert kept(0.85, 0.85) == (1, 1, 1)
    assert np.isnan(kept(0.3, 0.1).value)
