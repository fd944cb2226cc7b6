"""The settings that checkpoints carry on the hub are understood, and strictly read."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from relearn_jax.errors import UserError
from relearn_jax.models import checkpoint, gated, weights
from relearn_jax.models.rotary import Rope

COMMON = {"initializer_range": 0.02, "vocab_size": 28996}
GPT2 = {
    "activation_function": "gelu_new", "attn_pdrop": 0.1, "bos_token_id": 50256,
    "embd_pdrop": 0.1, "eos_token_id": 50256, "initializer_range": 0.02,
    "layer_norm_epsilon": 1e-05, "model_type": "gpt2", "n_ctx": 1024, "n_embd": 768, "n_head": 12,
    "n_positions": 1024, "resid_pdrop": 0.1, "summary_activation": None,
    "summary_first_dropout": 0.1, "summary_proj_to_labels": True, "summary_type": "cls_index",
    "summary_use_proj": True, "vocab_size": 50257,
    "task_specific_params": {"text-generation": {"do_sample": True, "max_length": 50}},
}  # fmt: skip
HUB = {
    "bert-base-cased": COMMON | {
        "architectures": ["BertForMaskedLM"], "attention_probs_dropout_prob": 0.1,
        "gradient_checkpointing": False, "hidden_act": "gelu", "hidden_dropout_prob": 0.1,
        "hidden_size": 768, "intermediate_size": 3072, "layer_norm_eps": 1e-12,
        "max_position_embeddings": 512, "model_type": "bert", "num_attention_heads": 12,
        "num_hidden_layers": 12, "pad_token_id": 0, "position_embedding_type": "absolute",
        "transformers_version": "4.6.0.dev0", "type_vocab_size": 2, "use_cache": True,
    },
    "distilbert-base-cased": COMMON | {
        "activation": "gelu", "attention_dropout": 0.1, "dim": 768, "dropout": 0.1,
        "hidden_dim": 3072, "max_position_embeddings": 512, "model_type": "distilbert",
        "n_heads": 12, "n_layers": 6, "output_past": True, "pad_token_id": 0, "qa_dropout": 0.1,
        "seq_classif_dropout": 0.2, "sinusoidal_pos_embds": False, "tie_weights_": True,
    },
    "distilgpt2": GPT2 | {
        "_num_labels": 1, "architectures": ["GPT2LMHeadModel"], "id2label": {"0": "LABEL_0"},
        "label2id": {"LABEL_0": 0}, "n_layer": 6,
    },
    "gpt2": GPT2 | {"architectures": ["GPT2LMHeadModel"], "n_layer": 12},
}  # fmt: skip


@pytest.mark.parametrize("name", HUB)
def test_a_hub_config_is_understood(name):
    ck = checkpoint.Checkpoint(Path(), HUB[name], {}, name)
    model = checkpoint.describe(ck, "token-classification", ("O", "B-LOC", "I-LOC"))
    assert model.config.width == 768
    assert model.config.layers == (6 if "distil" in name else 12)


LLAMA = {
    "architectures": ["LlamaForCausalLM"], "bos_token_id": 1, "eos_token_id": 2,
    "hidden_act": "silu", "hidden_size": 4096, "initializer_range": 0.02, "model_type": "llama",
    "num_attention_heads": 32, "num_hidden_layers": 32, "tie_word_embeddings": False,
    "torch_dtype": "float16", "use_cache": True,
}  # fmt: skip
LLAMA3 = LLAMA | {
    "attention_bias": False, "attention_dropout": 0.0, "bos_token_id": 128000,
    "eos_token_id": 128001, "max_position_embeddings": 8192, "num_key_value_heads": 8,
    "intermediate_size": 14336, "pretraining_tp": 1, "rms_norm_eps": 1e-05, "rope_scaling": None,
    "rope_theta": 500000.0, "torch_dtype": "bfloat16", "vocab_size": 128256,
}  # fmt: skip
SCALING = {
    "factor": 32.0, "high_freq_factor": 4.0, "low_freq_factor": 1.0,
    "original_max_position_embeddings": 8192, "rope_type": "llama3",
}  # fmt: skip
GEMMA = {
    "attention_bias": False, "attention_dropout": 0.0, "bos_token_id": 2, "eos_token_id": 1,
    "head_dim": 256, "initializer_range": 0.02, "max_position_embeddings": 8192,
    "num_attention_heads": 16, "pad_token_id": 0, "rms_norm_eps": 1e-06, "rope_theta": 10000.0,
    "use_cache": True, "vocab_size": 256000,
}  # fmt: skip
DECODERS = {
    "llama-7b": LLAMA | {
        "intermediate_size": 11008, "max_position_embeddings": 2048, "max_sequence_length": 2048,
        "pad_token_id": 0, "rms_norm_eps": 1e-06, "vocab_size": 32000,
    },
    "Meta-Llama-3-8B": LLAMA3,
    "Llama-3.2-1B": LLAMA3 | {
        "head_dim": 64, "hidden_size": 2048, "intermediate_size": 8192, "mlp_bias": False,
        "max_position_embeddings": 131072, "num_hidden_layers": 16, "rope_scaling": SCALING,
        "tie_word_embeddings": True,
    },
    "gemma-7b": GEMMA | {
        "architectures": ["GemmaForCausalLM"], "hidden_act": "gelu", "hidden_activation": None,
        "hidden_size": 3072, "intermediate_size": 24576, "model_type": "gemma",
        "num_hidden_layers": 28, "num_key_value_heads": 16, "rope_scaling": None,
    },
    "gemma-2-9b": GEMMA | {
        "architectures": ["Gemma2ForCausalLM"], "attn_logit_softcapping": 50.0,
        "cache_implementation": "hybrid", "final_logit_softcapping": 30.0,
        "hidden_act": "gelu_pytorch_tanh", "hidden_activation": "gelu_pytorch_tanh",
        "hidden_size": 3584, "intermediate_size": 14336, "model_type": "gemma2",
        "num_hidden_layers": 42, "num_key_value_heads": 8, "query_pre_attn_scalar": 256,
        "sliding_window": 4096, "sliding_window_size": 4096,
    },
    "pythia-70m": {
        "architectures": ["GPTNeoXForCausalLM"], "bos_token_id": 0, "eos_token_id": 0,
        "hidden_act": "gelu", "hidden_size": 512, "initializer_range": 0.02,
        "intermediate_size": 2048, "layer_norm_eps": 1e-05, "max_position_embeddings": 2048,
        "model_type": "gpt_neox", "num_attention_heads": 8, "num_hidden_layers": 6,
        "rotary_emb_base": 10000, "rotary_pct": 0.25, "tie_word_embeddings": False,
        "torch_dtype": "float16", "use_cache": True, "use_parallel_residual": True,
        "vocab_size": 50304,
    },
}  # fmt: skip
PUBLISHED = {
    "llama-7b": 6_738_415_616, "Meta-Llama-3-8B": 8_030_261_248, "Llama-3.2-1B": 1_235_814_400,
    "gemma-7b": 8_537_680_896, "gemma-2-9b": 9_241_705_984, "pythia-70m": 70_426_624,
}  # fmt: skip
"""Parameters, as the model cards count them."""


def described(values, name="config"):
    return checkpoint.describe(checkpoint.Checkpoint(Path(), values, {}, name), "language-model")


@pytest.mark.parametrize("name", DECODERS)
def test_a_decoder_has_as_many_parameters_as_published(name):
    shapes = weights.shapes(described(DECODERS[name]))
    assert sum(map(math.prod, shapes.values())) == PUBLISHED[name]


def test_what_sets_the_families_apart_is_read():
    gemma, second = (described(DECODERS[name]).config for name in ("gemma-7b", "gemma-2-9b"))
    assert gemma.activation == "gelu_pytorch_tanh", "what the first releases meant by gelu"
    assert (gemma.score_cap, gemma.logit_cap, gemma.windows) == (None, None, ())
    assert (second.score_cap, second.logit_cap, second.score_scale) == (50.0, 30.0, 1 / 16)
    assert second.windows == (4096, gated.EVERYTHING) * 21
    assert second.embedding_scale == pytest.approx(np.sqrt(3584))
    stretched = described(DECODERS["Llama-3.2-1B"]).config
    assert stretched.rope == Rope(500000.0, "llama3", 1.0, 32.0, 1.0, 4.0, 8192)
    assert (stretched.heads, stretched.kv_heads, stretched.tied) == (32, 8, True)


def test_null_takes_a_cap_away_and_absence_does_not():
    bare = DECODERS["gemma-2-9b"] | {"attn_logit_softcapping": None, "sliding_window": None}
    del bare["final_logit_softcapping"]
    found = described(bare).config
    assert (found.score_cap, found.logit_cap) == (None, 30.0)
    assert set(found.windows) == {gated.EVERYTHING}


@pytest.mark.parametrize(
    ("name", "changed", "match"),
    [
        ("Meta-Llama-3-8B", {"attention_bias": True}, "attention_bias = True"),
        ("Meta-Llama-3-8B", {"mlp_bias": True}, "mlp_bias = True"),
        ("Meta-Llama-3-8B", {"num_key_value_heads": 5}, "32 attention heads cannot share 5"),
        ("Meta-Llama-3-8B", {"hidden_act": "swish7"}, "swish7"),
        ("Meta-Llama-3-8B", {"rope_scaling": {"type": "dynamic", "factor": 2.0}}, "dynamic"),
        ("Meta-Llama-3-8B", {"tie_word_embeddings": "yes"}, "true or false"),
        ("Meta-Llama-3-8B", {"sliding_window": 4096}, "not understood: sliding_window"),
        ("gemma-7b", {"hidden_act": "relu"}, "relu"),
        ("gemma-7b", {"hidden_activation": "gelu"}, "hidden_activation 'gelu'"),
        ("gemma-7b", {"use_bidirectional_attention": True}, "use_bidirectional_attention"),
        ("gemma-2-9b", {"final_logit_softcapping": 0}, "positive number or null"),
        ("gemma-2-9b", {"layer_types": ["full_attention"]}, "layer_types should be 42 times"),
        ("gemma-2-9b", {"layer_types": ["chunked_attention"] * 42}, "layer_types"),
        ("gemma-2-9b", {"layer_types": "full_attention"}, "list of names"),
        ("pythia-70m", {"attention_bias": False}, "attention_bias = False"),
        ("pythia-70m", {"rotary_pct": 0.3}, "19 of 64"),
    ],
)
def test_a_decoder_that_is_not_built_is_refused_by_name(name, changed, match):
    with pytest.raises(UserError, match=match):
        described(DECODERS[name] | changed)
