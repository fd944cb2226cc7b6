"""Every pruning target, ranking and retraining text runs, and does what its name says."""

from __future__ import annotations

import contextlib
import json
import shutil

import numpy as np
import pandas as pd
import pytest
import tiny
from undrawn import undrawn

from relearn_jax import cli, loading, runs
from relearn_jax.experiments.concepts import setup

pytestmark = pytest.mark.slow
QUICK = ["--arms=[concept]", "--retrain.rounds=1", "--training.epochs=1", "--retrain.epochs=1"]


def run(config, out, *settings, drawn=False):
    with contextlib.nullcontext() if drawn else undrawn():
        assert cli.main(["run", str(config), "--out", str(out), *QUICK, *settings]) == 0
    keep = runs.arrays_of(out, stage(out, "pruned"), "mask")["keep"]
    return keep, runs.arrays_of(out, stage(out, "round1"), "params")


def stage(out, name):
    (folder,) = (out / "stages").glob(f"seed0-*-concept-{name}")
    return folder.name


def test_state_mask_removes_the_neuron_itself(write_config, tmp_path):
    config = write_config()
    settings = ["--prune.target=state_mask", "--prune.regrowth=frozen"]
    keep, params = run(config, tmp_path / "run", *settings)
    assert np.all(params["blocks/output_norm/scale"] != 0), "weights are not touched"
    arrays = runs.arrays_of(tmp_path / "run", stage(tmp_path / "run", "round1-neurons"), "neurons")
    pruned = ~keep
    assert np.all(arrays["score"][:, pruned] == 0)
    assert np.all(arrays["top_ids"].reshape(*keep.shape, -1)[pruned] == -1)
    target = ["export", str(tmp_path / "run"), "--stage", "round1", "--to", str(tmp_path / "hf")]
    assert cli.main(target) == 2, "it cannot be said in weights"


def test_mlp_units_lose_row_and_column_together(write_config, tmp_path):
    config = write_config()
    settings = ["--concepts.site=mlp", "--prune.target=mlp_unit", "--prune.regrowth=frozen"]
    keep, params = run(config, tmp_path / "run", *settings, drawn=True)
    assert keep.shape == (2, 24)
    gone = ~keep
    assert np.all(np.moveaxis(params["blocks/up/kernel"], 2, 1)[gone] == 0)
    assert np.all(params["blocks/up/bias"][gone] == 0)
    assert np.all(params["blocks/down/kernel"][gone] == 0)
    assert np.all(np.any(params["blocks/down/kernel"][keep] != 0, axis=-1))


@pytest.mark.parametrize("ranking", ["linear_probe", "mean_difference"])
def test_other_rankings_run(write_config, tmp_path, ranking):
    keep, _ = run(write_config(), tmp_path / "run", f"--prune.ranking={ranking}")
    assert (~keep).sum() == 24


def test_faithful_wraps_state_0_to_the_last_block(write_config, tmp_path):
    settings = ["--prune.embedding_state=faithful", "--prune.fraction=0.9"]
    keep, _ = run(write_config(), tmp_path / "run", *settings)
    manifest = json.loads((tmp_path / "run/manifest.json").read_text())
    assert keep[0].all()
    assert manifest["prune"]["requested"] == 43
    assert manifest["prune"]["pruned"] == (~keep).sum() < 43


def test_retraining_without_the_concept_never_shows_it(write_config, tmp_path):
    from relearn_jax import loading
    from relearn_jax.experiments.concepts import setup

    config = write_config()
    settings = loading.load(config, ["retrain.data=without_concept"])
    texts = setup.prepare(settings, config.parent).texts
    retrain = texts.retrain["LOC", "without_concept", None].corpus
    assert not any(t[2:] == "LOC" for tags in retrain.tags for t in tags)
    assert any(t[2:] == "LOC" for tags in texts.train.corpus.tags for t in tags)
    assert 0 < len(retrain.words) < len(texts.train.corpus.words)
    run(config, tmp_path / "run", "--retrain.data=without_concept")


def test_word_vectors_may_come_from_a_file(finished, write_config, tmp_path):
    _, whole = finished
    config, out = write_config(), tmp_path / "run"
    shutil.copytree(whole, out)
    before = pd.read_parquet(whole / "tables/neurons.parquet")
    types = sorted({word for row in before.top_tokens for word in row})
    lines = [f"{w} {i % 7} {i % 3} 1" for i, w in enumerate(types)]
    (config.parent / "vectors.txt").write_text("\n".join(lines))
    command = ["run", str(config), "--out", str(out), "--reuse"]
    with undrawn():
        assert cli.main([*command, "--tracking.vectors=vectors.txt"]) == 0
    after = pd.read_parquet(out / "tables/neurons.parquet")
    assert list(map(list, before.top_tokens)) == list(map(list, after.top_tokens))
    assert not np.allclose(before.similarity.fillna(0), after.similarity.fillna(0))


def test_gpt2_in_bfloat16_with_its_own_tokenizer(write_config, tmp_path, shared):
    """Half precision in the forward pass; parameters, and so the saved ones, stay float32."""
    folder = tmp_path / "gpt2"
    folder.mkdir()
    for name in ("vocab.json", "merges.txt"):
        shutil.copyfile(shared / "data/tokenizer-gpt2" / name, folder / name)
    sizes = {"model_type": "gpt2", "vocab_size": 50257, "n_embd": 16, "n_layer": 2, "n_head": 2}
    tiny.weights_for(folder, sizes | {"n_positions": 64})
    config = write_config(model={"source": str(folder), "max_length": 48, "dtype": "bfloat16"})
    keep, params = run(config, tmp_path / "run", "--prune.regrowth=frozen")
    assert np.all(params["blocks/mlp_norm/scale"][~keep[1:]] == 0)
    assert all(leaf.dtype == np.float32 for leaf in params.values())
    to = tmp_path / "hf"
    assert cli.main(["export", str(tmp_path / "run"), "--stage", "round1", "--to", str(to)]) == 0
    from relearn_jax.data.tokenizer import load_tokenizer

    words = ["Hello", "Paris"]
    ids = [load_tokenizer(f)(words, is_split_into_words=True)["input_ids"] for f in (folder, to)]
    assert ids[0] == ids[1]


def test_random_weights_in_shape_run_but_are_not_exported(write_config, tagger, tmp_path):
    source = {"source": "random", "settings": tiny.SIZES, "tokenizer": str(tagger.folder)}
    config = write_config(model={**source, "max_length": 48})
    _, params = run(config, tmp_path / "run")
    assert params["blocks/up/kernel"].shape == (2, 16, 24)
    to = ["--stage", "base", "--to", str(tmp_path / "hf")]
    assert cli.main(["export", str(tmp_path / "run"), *to]) == 2


def test_a_tokenizer_of_its_own_is_exported_and_found_again(write_config, tmp_path, tagger):
    """One that keeps capitals, in a folder beside the config; the model's own drops them."""
    from relearn_jax.data.tokenizer import load_tokenizer

    config = write_config()
    folder = config.parent / "words"
    tagger.tokenizer.save_pretrained(folder)
    file = folder / "tokenizer_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"do_lower_case": False}))
    run(config, tmp_path / "run", "--model.tokenizer=words")
    assert cli.main(["verify", str(tmp_path / "run")]) == 0

    to = tmp_path / "hf"
    assert cli.main(["export", str(tmp_path / "run"), "--stage", "base", "--to", str(to)]) == 0
    words = ["Hello", "Paris"]
    own, exported, of_model = (
        load_tokenizer(f)(words, is_split_into_words=True)["input_ids"]
        for f in (folder, to, tagger.folder)
    )
    assert own == exported != of_model


def test_every_kind_of_group_stands_in_one_run(write_config, tmp_path):
    out = tmp_path / "run"
    settings = [
        *("--sets.fractions=[0.25]", "--sets.rankings=[probeless,linear_probe]"),
        *("--sets.texts=[full,5]", "--sets.regrowth=[free,frozen]", "--retrain.steps=6"),
        *("--arms=[concept,layer_matched,oracle]", "--retrain.scored_steps=[2]"),
        "--dose.targets=[ln_gain_bias,state_mask,mlp_unit]",
    ]
    with undrawn():
        assert cli.main(["run", str(write_config()), "--out", str(out), *QUICK, *settings]) == 0
    scores, dose = (pd.read_parquet(out / "tables" / f"{n}.parquet") for n in ("scores", "dose"))
    assert scores.group.nunique() == 8
    assert set(dose.zeroed) == {"ln_gain", "ln_gain_bias", "state_mask", "mlp_unit"}
    assert set(dose.ranking) == {"probeless", "mean_difference", "linear_probe"}
    rows = scores[(scores.type == "all") & (scores.variant == "word") & (scores.arm == "oracle")]
    for text in ("full", "5"):
        of_text = rows[rows.group.str.endswith(f"-{text}")]
        assert of_text.group.nunique() == 4
        assert (of_text.groupby("step").f1.nunique() == 1).all(), "one oracle for four groups"
    oracles = {p.name for p in (out / "stages").glob("*oracle*")}
    assert oracles == {
        f"seed0-LOC-oracle-{text}-{name}" for text in ("full", "5") for name in ("pruned", "round1")
    }
    assert all((out / "groups" / group / "report.html").is_file() for group in set(scores.group))
    for name in ("seed0-dose", "seed0-LOC-untaught", "seed0-rankings"):
        assert cli.main(["verify", str(out), "--stage", name]) == 0


def test_a_single_type_is_held_against_the_words_outside_entities(write_config, tmp_path):
    only = {"kind": "world", "sentences": 60, "tag_map": {"PER": "O", "ORG": "O", "MISC": "O"}}
    config = write_config(
        data={
            "train": {**only, "split": "train"},
            "evaluation": {**only, "split": "test"},
            "buckets": [48],
        },
        concepts={"data": {**only, "split": "dev"}},
    )
    out = tmp_path / "run"
    with undrawn():
        command = ["dose", str(config), "--out", str(out), "--training.epochs=16"]
        assert cli.main(command) == 0
    for name in ("damage", "selectivity"):
        frame = pd.read_parquet(out / "tables" / f"{name}.parquet")
        assert set(frame.others) == {"words outside entities"}
        assert frame.others_loss.notna().all()
    assert "words outside entities" in (out / "report.html").read_text()


def test_a_concept_that_is_no_entity_type_is_held_against_the_whole_task(write_config, tmp_path):
    corpus = setup.prepare(loading.load(write_config()), tmp_path).texts.train.corpus
    marked = {w for words, tags in zip(corpus.words, corpus.tags, strict=True)
              for w, tag in zip(words, tags, strict=True) if tag == "B-LOC"}  # fmt: skip
    (tmp_path / "places.txt").write_text("\n".join(sorted(marked)))
    text = {"kind": "world", "sentences": 40, "split": "dev"}
    concepts = {"data": text, "labels": "list", "target": "places"}
    config = write_config(concepts={**concepts, "word_list": str(tmp_path / "places.txt")})
    out = tmp_path / "run"
    with undrawn():
        assert cli.main(["dose", str(config), "--out", str(out), "--training.epochs=16"]) == 0
    damage, losses = (
        pd.read_parquet(out / "tables" / f"{name}.parquet") for name in ("damage", "selectivity")
    )
    assert set(damage.target) == {"all"}
    assert set(losses.others) == set(damage.others) == {"words outside entities"}
    half = losses[(losses.fraction == 0.5) & (losses.ranking == "probeless") & losses.seed.isna()]
    half = half.set_index("arm").target_loss
    whole = damage[damage.seed.isna()].set_index("arm").target_loss
    assert half.to_dict() == pytest.approx(whole.to_dict()), "the same text, all of it"
