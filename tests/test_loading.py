"""Configs: strict, with helpful refusals, and what is written reads back the same."""

from __future__ import annotations

from pathlib import Path

import pytest

from relearn_jax import loading
from relearn_jax.config import Relearning
from relearn_jax.errors import UserError

CONFIGS = sorted((Path(__file__).resolve().parents[1] / "configs").glob("*.yaml"))


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "c.yaml"
    path.write_text(text)
    return path


@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: p.stem)
def test_every_config_of_the_repository_loads_and_says_what_it_is(path):
    config = loading.load(path)
    assert config.name == path.stem
    assert path.read_text().startswith("# ")


def test_an_empty_config_is_the_defaults(tmp_path):
    assert loading.load(write(tmp_path, "")) == Relearning()


def test_a_dumped_config_reads_back_the_same(tmp_path):
    config = loading.load(CONFIGS[0], ["training.warmup=0.1", "prune.count=7"])
    assert loading.load(write(tmp_path, loading.dump(config))) == config


def test_overrides_reach_deep_and_numbers_may_be_scientific(tmp_path):
    path = write(tmp_path, "training: {learning_rate: 1e-4}")
    config = loading.load(path, ["data.train.limit=5", "seeds=[3]", "training.epochs=2"])
    assert config.training.learning_rate == 1e-4
    assert (config.data.train.limit, config.seeds, config.training.epochs) == (5, (3,), 2)


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("sead: [0]", "unknown key sead; did you mean seeds"),
        ("prune: {fracton: 0.5}", r"unknown key prune\.fracton; did you mean fraction"),
        ("prune: 0.5", "prune should be a mapping"),
        ("training: {epochs: 2.5}", r"training\.epochs should be a whole number"),
        ("training: {epochs: true}", r"training\.epochs should be a whole number"),
        ("seeds: 3", r"seeds should be a list like \[3\]"),
        ("prune: {target: gain}", "allowed: ln_gain"),
        ("prune: {fraction: 0}", r"in \(0, 1\]"),
        ("prune: {fraction: 1.5}", r"in \(0, 1\]"),
        ("prune: {target: state_mask}", "regrowth: frozen"),
        ("prune: {target: mlp_unit}", "site mlp"),
        ("arms: [random]", "must contain concept"),
        ("seeds: []", "seeds is empty"),
        ("seeds: [1, 1]", "names one twice"),
        ("model: {max_length: 4096}", "largest must reach"),
        ("retrain: {rounds: -1}", "at least 0"),
        ("training: {dropout: 1.0}", r"should be in \[0, 1\)"),
        ("training: {clip_norm: -1}", "clip_norm > 0"),
        ("tracking: {top_k: 0}", "must be positive"),
        ("seeds: [-1]", "must not be negative"),
        ("seeds: [4294967296]", "must be below"),
        ("training: {learning_rate: -1}", "must be positive"),
        ("a: [", "not valid YAML"),
        ("[1, 2]", "mapping of keys"),
    ],
)
def test_what_is_refused_and_how(tmp_path, text, match):
    with pytest.raises(UserError, match=match):
        loading.load(write(tmp_path, text))


@pytest.mark.parametrize("override", ["seeds", "seeds.a=1", "training.lr=3"])
def test_bad_overrides_are_refused(tmp_path, override):
    with pytest.raises(UserError):
        loading.load(write(tmp_path, "seeds: [0]"), [override])


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UserError, match=r"none\.yaml"):
        loading.load(tmp_path / "none.yaml")


def test_a_nested_mapping_keeps_the_other_defaults(tmp_path):
    config = loading.load(write(tmp_path, "data: {evaluation: {sentences: 50}}"))
    assert config.data.evaluation.split == "test"
    assert config.data.evaluation.sentences == 50


def test_retraining_takes_what_it_is_given_and_the_rest_from_training(tmp_path):
    text = "training: {batch_size: 8, weight_decay: 0.5}\nretrain: {learning_rate: 1e-5}"
    settings = loading.load(write(tmp_path, text)).retraining
    assert (settings.learning_rate, settings.batch_size, settings.epochs) == (1e-5, 8, 2)
    assert settings.weight_decay == 0.5


def test_paths_start_at_the_config_and_then_here(tmp_path, monkeypatch):
    (tmp_path / "configs").mkdir()
    (tmp_path / "here").mkdir()
    for name in ("configs/a.conll", "here/b.conll"):
        (tmp_path / name).write_text("x O")
    path = write(tmp_path / "configs", "data: {train: {kind: conll, path: a.conll}}")
    monkeypatch.chdir(tmp_path / "here")
    config = loading.load(path, ["concepts.data.kind=conll", "concepts.data.path=b.conll"])
    assert config.data.train.path == str(tmp_path / "configs/a.conll")
    assert config.concepts.data.path == str(tmp_path / "here/b.conll")


def test_a_tokenizer_or_a_dataset_beside_the_config_is_found_from_elsewhere(tmp_path):
    for name in ("words", "dataset"):
        (tmp_path / name).mkdir()
    text = "model: {tokenizer: words}\ndata: {train: {kind: hub, path: dataset}}"
    config = loading.load(write(tmp_path, text))
    assert config.model.tokenizer == str(tmp_path / "words")
    assert config.data.train.path == str(tmp_path / "dataset")


def test_no_folder_swallows_a_keyword_or_a_name(tmp_path, monkeypatch):
    for name in ("model", "random", "conll2003"):
        (tmp_path / "here" / name).mkdir(parents=True)
        if name != "conll2003":
            (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / "here")
    text = (
        "model: {source: random, settings: {model_type: bert}, tokenizer: some/words}\n"
        "tracking: {vectors: model}\ndata: {train: {kind: hub, path: conll2003}}"
    )
    config = loading.load(write(tmp_path, text))
    assert (config.model.source, config.model.tokenizer) == ("random", "some/words")
    assert config.tracking.vectors == "model"
    assert config.data.train.path == "conll2003"
