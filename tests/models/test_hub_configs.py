"""The settings that the paper's checkpoints carry on the hub are understood, and strictly read."""

from __future__ import annotations

from pathlib import Path

import pytest

from relearn_jax.models import checkpoint

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
