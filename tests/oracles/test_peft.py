"""Adapters against peft: the same matrices give the same logits."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")
peft = pytest.importorskip("peft")
transformers = pytest.importorskip("transformers")

import jax
import numpy as np

from relearn_jax.editing import adapters
from relearn_jax.localize import selection
from relearn_jax.models import checkpoint, paths, transformer
from relearn_jax.models.inputs import Inputs

SETTINGS = {
    "model_type": "llama", "architectures": ["LlamaForCausalLM"], "vocab_size": 40,
    "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 2,
    "intermediate_size": 24, "max_position_embeddings": 32, "tie_word_embeddings": False,
}  # fmt: skip
THEIRS = {
    "query": "self_attn.q_proj", "key": "self_attn.k_proj", "value": "self_attn.v_proj",
    "attention_out": "self_attn.o_proj", "gate": "mlp.gate_proj", "up": "mlp.up_proj",
    "down": "mlp.down_proj",
}  # fmt: skip
RANK, ALPHA = 3, 12.0


def test_logits_with_adapters_are_those_of_peft(tmp_path):
    opened = checkpoint.Checkpoint(tmp_path, SETTINGS, {}, "drawn weights")
    model = checkpoint.describe(opened, "language-model", (), "float32", 0.0)
    params = transformer.init(model, jax.random.key(0))
    checkpoint.save(tmp_path, model, params, SETTINGS)
    shapes = adapters.shapes(selection.space(model).shapes, RANK)
    rng = np.random.default_rng(0)
    drawn = {path: np.float32(0.3 * rng.normal(size=shape)) for path, shape in shapes.items()}

    base = transformers.LlamaForCausalLM.from_pretrained(tmp_path, dtype=torch.float32)
    names = [name.split(".")[1] for name in THEIRS.values()]
    config = peft.LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules=names)
    theirs = peft.get_peft_model(base, config).eval()
    blocks = theirs.base_model.model.model.layers
    with torch.no_grad():
        for path, rows in drawn.items():
            _, name, kind = path.split("/")
            for layer, matrix in enumerate(rows):
                module = blocks[layer].get_submodule(THEIRS[name])
                part = module.lora_A if kind == "adapter_down" else module.lora_B
                part["default"].weight.copy_(torch.from_numpy(matrix.T.copy()))
        ids = rng.integers(0, 40, (3, 7)).astype(np.int32)
        expected = theirs(torch.from_numpy(ids.astype("int64"))).logits.numpy()

    attached = adapters.attached(ALPHA / RANK, params, paths.unflatten(drawn))
    inputs = Inputs(ids, np.ones(ids.shape, bool))
    found, _ = transformer.apply(model, attached, inputs)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert np.abs(found - transformer.apply(model, params, inputs)[0]).max() > 1e-2
