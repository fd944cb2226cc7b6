"""Loading refuses what it does not understand, and says all of it at once."""

from __future__ import annotations

import json
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from parity import LABELS, golden_of, opened, part, same_tensors, tagger
from safetensors.numpy import save_file

from relearn_jax.errors import UserError
from relearn_jax.models import checkpoint, paths


def load(ck, task="token-classification", labels=LABELS):
    model = checkpoint.describe(ck, task, labels)
    return model, *checkpoint.load(ck, model, jax.random.key(0))


@pytest.fixture
def bert(tmp_path):
    config, arrays = golden_of("bert")
    return tmp_path / "model", config, part(arrays, "weights/")


def test_old_names_and_missing_prefix_load_the_same(bert):
    folder, config, tensors = bert
    _, params, _ = load(opened(folder, config, tensors))
    old = {
        k.removeprefix("bert.")
        .replace("LayerNorm.weight", "LayerNorm.gamma")
        .replace("LayerNorm.bias", "LayerNorm.beta"): v
        for k, v in tensors.items()
    }
    assert set(old) != set(tensors)
    _, again, _ = load(opened(folder.parent / "old", config, old))
    same_tensors(paths.flatten(params), paths.flatten(again), 0.0)


def test_sharded_checkpoints_load_the_same(bert):
    folder, config, tensors = bert
    _, params, _ = load(opened(folder, config, tensors))
    shards = folder.parent / "sharded"
    shards.mkdir()
    names = sorted(tensors)
    files = {n: f"model-0000{1 + (i % 2)}-of-00002.safetensors" for i, n in enumerate(names)}
    for file in set(files.values()):
        save_file({n: tensors[n] for n in names if files[n] == file}, shards / file)
    (shards / "model.safetensors.index.json").write_text(json.dumps({"weight_map": files}))
    (shards / "config.json").write_text(json.dumps(config))
    _, again, _ = load(checkpoint.open_checkpoint(str(shards)))
    same_tensors(paths.flatten(params), paths.flatten(again), 0.0)


def test_every_problem_is_in_one_error(bert):
    folder, config, tensors = bert
    del tensors["bert.encoder.layer.1.output.dense.bias"]
    tensors["bert.encoder.layer.2.intermediate.dense.bias"] = np.zeros(5, np.float32)
    tensors["bert.adapter.weight"] = np.zeros(5, np.float32)
    with pytest.raises(UserError) as error:
        load(opened(folder, config, tensors))
    text = str(error.value)
    assert "missing tensor encoder.layer.1.output.dense.bias" in text
    assert "unexpected tensor bert.adapter.weight" in text
    assert "shape (5,)" in text


def test_a_head_is_drawn_if_absent_and_refused_if_half_there(bert):
    folder, config, tensors = bert
    bare = {k: v for k, v in tensors.items() if not k.startswith("classifier")}
    _, params, fresh = load(opened(folder, config, bare))
    assert fresh == ("head/classifier/bias", "head/classifier/kernel")
    assert np.abs(params["head"]["classifier"]["kernel"]).max() > 0
    half = {k: v for k, v in tensors.items() if k != "classifier.bias"}
    with pytest.raises(UserError, match=r"missing tensor classifier\.bias"):
        load(opened(folder.parent / "half", config, half))


def test_pickles_are_refused_with_the_way_out(bert):
    folder, config, _ = bert
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "pytorch_model.bin").write_bytes(b"\x80\x04")
    with pytest.raises(UserError, match="safe_serialization"):
        checkpoint.open_checkpoint(str(folder))


def test_a_truncated_file_is_named(bert):
    folder, config, tensors = bert
    opened(folder, config, tensors)
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(UserError, match="truncated or damaged"):
        checkpoint.open_checkpoint(str(folder))


@pytest.mark.parametrize(
    ("key", "value", "match"),
    [
        ("position_embedding_type", "relative_key", "position_embedding_type"),
        ("hidden_act", "swish7", "swish7"),
        ("num_attention_heads", "four", "whole number"),
        ("new_setting", 3, "new_setting"),
    ],
)
def test_settings_that_are_not_understood_are_refused(bert, key, value, match):
    folder, config, tensors = bert
    with pytest.raises(UserError, match=match):
        load(opened(folder, config | {key: value}, tensors))


def test_an_unknown_architecture_and_a_missing_package_are_named(bert):
    folder, config, tensors = bert
    with pytest.raises(UserError, match="xlnet"):
        load(opened(folder, config | {"model_type": "xlnet"}, tensors))
    with pytest.raises(UserError, match="no_such_package"):
        checkpoint.open_checkpoint("package:no_such_package/model")


def test_a_saved_folder_loads_back_bit_for_bit(golden):
    ck, model, params = tagger(*golden)
    target = ck.folder.parent / "saved"
    checkpoint.save(target, model, params, ck.settings)
    _, again, _ = load(checkpoint.open_checkpoint(str(target)))
    same_tensors(paths.flatten(params), paths.flatten(again), 0.0)


@pytest.mark.parametrize("name", ["dtype", "torch_dtype"])
def test_a_saved_folder_says_that_it_is_float32(golden, tmp_path, name):
    """Whatever the base was stored in: transformers would round the weights to it."""
    ck, model, params = tagger(*golden)
    checkpoint.save(tmp_path / "saved", model, params, ck.settings | {name: "bfloat16"})
    assert json.loads((tmp_path / "saved/config.json").read_text())[name] == "float32"


def test_a_head_made_for_other_labels_is_not_taken_over(bert):
    folder, config, tensors = bert
    turned = config | {"id2label": {str(i): label for i, label in enumerate(reversed(LABELS))}}
    _, _, fresh = load(opened(folder, turned, tensors))
    assert fresh == ("head/classifier/bias", "head/classifier/kernel")


def test_the_digest_follows_the_tokenizer_in_use(bert, tmp_path):
    ck = opened(*bert)
    before, other = checkpoint.digest(ck), checkpoint.digest(ck, tmp_path)
    (ck.folder / "tokenizer_config.json").write_text("{}")
    assert checkpoint.digest(ck) != before
    assert checkpoint.digest(ck, tmp_path) == other, "not in use"
    (tmp_path / "tokenizer_config.json").write_text("{}")
    assert checkpoint.digest(ck, tmp_path) == checkpoint.digest(ck) != other


def test_gated_weights_without_access_say_what_to_do(monkeypatch):
    import huggingface_hub
    from huggingface_hub.errors import GatedRepoError

    def refuse(*_, **__):
        raise GatedRepoError("401 Client Error", response=SimpleNamespace(headers={}, request=None))

    monkeypatch.setattr(huggingface_hub, "snapshot_download", refuse)
    with pytest.raises(UserError, match=r"gated.*accept their licence.*hf auth login"):
        checkpoint.locate("someone/gated-model")
