"""What torch `transformers` computes for a tiny random checkpoint of each family.

Run as a script (in an environment with torch) it writes the golden files that let parity be part of
the tests where torch is not: `python tests/oracles/torch_reference.py`.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
import transformers
from safetensors.numpy import save_file

GOLDEN = Path(__file__).resolve().parents[1] / "models/golden"
LABELS = ("O", "B-LOC", "I-LOC", "B-PER", "I-PER")
RATE, DECAY, CLIP, STEPS = 1e-3, 0.5, 0.5, 3
"""Large enough that each shows: without decay, clipping or moments, parameters end elsewhere."""
HF = {
    "bert": ("Bert", "BertForMaskedLM"),
    "distilbert": ("DistilBert", "DistilBertForMaskedLM"),
    "gpt2": ("GPT2", "GPT2LMHeadModel"),
    "llama": ("Llama", "LlamaForCausalLM"),
    "ministral": ("Ministral", "MinistralForCausalLM"),
    "gemma": ("Gemma", "GemmaForCausalLM"),
    "gemma2": ("Gemma2", "Gemma2ForCausalLM"),
    "gpt_neox": ("GPTNeoX", "GPTNeoXForCausalLM"),
    "gpt_neox_serial": ("GPTNeoX", "GPTNeoXForCausalLM"),
}
NO_DROPOUT = {
    "bert": ("hidden_dropout_prob", "attention_probs_dropout_prob"),
    "distilbert": ("dropout", "attention_dropout", "seq_classif_dropout"),
    "gpt2": ("embd_pdrop", "attn_pdrop", "resid_pdrop", "classifier_dropout"),
    "llama": ("attention_dropout", "classifier_dropout"),
    "ministral": ("attention_dropout", "classifier_dropout"),
    "gemma": ("attention_dropout", "classifier_dropout"),
    "gemma2": ("attention_dropout", "classifier_dropout"),
    "gpt_neox": ("attention_dropout", "hidden_dropout", "classifier_dropout"),
    "gpt_neox_serial": ("attention_dropout", "hidden_dropout", "classifier_dropout"),
}
LONG = 600
"""Positions at which an error in rotary frequencies shows; short inputs hide it."""


def tiny_config(family: str) -> transformers.PretrainedConfig:
    """Small, with the family's odd settings kept."""
    gated = {
        "vocab_size": 60,
        "hidden_size": 16,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 6,
        "intermediate_size": 24,
        "max_position_embeddings": 640,
        "pad_token_id": 0,
    }
    neox = {
        "vocab_size": 60,
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 24,
        "max_position_embeddings": 640,
        "rotary_pct": 0.25,
    }
    sizes = {
        "bert": {
            "vocab_size": 60, "hidden_size": 16, "num_hidden_layers": 3,
            "num_attention_heads": 4, "intermediate_size": 24, "max_position_embeddings": 20,
        },
        "distilbert": {
            "vocab_size": 60, "dim": 16, "n_layers": 3, "n_heads": 4, "hidden_dim": 24,
            "max_position_embeddings": 20, "sinusoidal_pos_embds": True,
        },
        "gpt2": {
            "vocab_size": 60, "n_embd": 16, "n_layer": 3, "n_head": 4, "n_inner": 24,
            "n_positions": 20, "bos_token_id": 0, "eos_token_id": 0,
        },
        # Of its four waves (6, 63, 628 and 6283 positions long) one stays, one is stretched in
        # part and two are stretched.
        "llama": gated | {
            "head_dim": 8, "rms_norm_eps": 1e-5, "rope_parameters": {
                "rope_type": "llama3", "rope_theta": 10000.0, "factor": 8.0,
                "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                "original_max_position_embeddings": 128,
            },
        },
        "ministral": gated | {
            "sliding_window": 4,
            "layer_types": ["sliding_attention", "sliding_attention", "full_attention"],
        },
        "gemma": gated | {"num_key_value_heads": 1},
        "gemma2": gated | {
            "sliding_window": 4, "query_pre_attn_scalar": 7, "attn_logit_softcapping": 1.5,
            "final_logit_softcapping": 2.0,
        },
        "gpt_neox": neox,
        "gpt_neox_serial": neox | {"use_parallel_residual": False},
    }[family]  # fmt: skip
    kind = getattr(transformers, f"{HF[family][0]}Config")
    return kind(
        **sizes,
        **dict.fromkeys(NO_DROPOUT[family], 0.0),
        id2label=dict(enumerate(LABELS)),
        label2id={label: i for i, label in enumerate(LABELS)},
    )


def batch() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """ids, mask, labels [3, 9]; the last rows are padded at the right."""
    rng = np.random.default_rng(0)
    ids = rng.integers(1, 60, (3, 9)).astype(np.int32)
    mask = np.arange(9)[None] < np.array([9, 6, 3])[:, None]
    labels = np.where(mask, rng.integers(0, len(LABELS), (3, 9)), -100).astype(np.int32)
    labels[0, 0] = -100
    return np.where(mask, ids, 0).astype(np.int32), mask, labels


def long() -> np.ndarray:
    """ids [1, 600]"""
    return np.random.default_rng(1).integers(1, 60, (1, LONG)).astype(np.int32)


def randomise(model: torch.nn.Module) -> None:
    """Every parameter away from its special start (zero biases, unit gains)."""
    generator = torch.Generator().manual_seed(0)
    unit = 0.0 if model.config.model_type.startswith("gemma") else 1.0
    with torch.no_grad():
        for name, p in model.named_parameters():
            norm = p.ndim == 1 and name.endswith("weight")
            p.copy_(torch.randn(p.shape, generator=generator) * 0.2 + (unit if norm else 0.0))


def reference(family: str) -> tuple[dict, dict[str, np.ndarray]]:
    """The config, and arrays: weights/*, lm_weights/*, inputs, and all that torch makes of them."""
    config = tiny_config(family)
    torch.manual_seed(0)
    kind = getattr(transformers, f"{HF[family][0]}ForTokenClassification")
    model = kind._from_config(config, attn_implementation="eager").eval()
    language = getattr(transformers, HF[family][1])
    language = language._from_config(config, attn_implementation="eager").eval()
    randomise(model)
    randomise(language)
    language.tie_weights()
    ids, mask, labels = batch()
    arrays = {"ids": ids, "mask": mask, "labels": labels}
    arrays |= {f"weights/{k}": v.numpy().copy() for k, v in model.state_dict().items()}
    tied = {k: v for k, v in language.state_dict().items() if k not in _tied(language)}
    arrays |= {f"lm_weights/{_in_files(k, config)}": v.numpy().copy() for k, v in tied.items()}

    words = torch.as_tensor(ids, dtype=torch.long)
    attention = torch.as_tensor(mask, dtype=torch.long)
    with torch.no_grad():
        arrays["lm_logits"] = language(words, attention_mask=attention).logits.numpy()
        if config.max_position_embeddings >= LONG:
            arrays["long_ids"] = long()
            arrays["long_logits"] = model(torch.as_tensor(long(), dtype=torch.long)).logits.numpy()
    gold = torch.as_tensor(labels, dtype=torch.long)
    out = model(words, attention_mask=attention, labels=gold, output_hidden_states=True)
    arrays["logits"] = out.logits.detach().numpy()
    arrays["states"] = torch.stack(out.hidden_states).detach().numpy()
    arrays["loss"] = out.loss.detach().numpy().reshape(1)
    out.loss.backward()
    arrays |= {f"grads/{k}": p.grad.numpy().copy() for k, p in model.named_parameters()}
    plain = [p for n, p in model.named_parameters() if not _kept_from_decay(n)]
    free = [p for n, p in model.named_parameters() if _kept_from_decay(n)]
    groups = [{"params": plain, "weight_decay": DECAY}, {"params": free, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=RATE)
    for number in range(STEPS):
        optimizer.zero_grad()
        # Other labels each time, so that gradients turn and both moments matter.
        turned = torch.where(gold >= 0, (gold + 2 * number) % len(LABELS), gold)
        model(words, attention_mask=attention, labels=turned).loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        assert norm > CLIP
        optimizer.step()
    arrays |= {f"after/{k}": p.detach().numpy().copy() for k, p in model.named_parameters()}
    return config.to_dict(), arrays


def _in_files(name: str, config: transformers.PretrainedConfig) -> str:
    """What a tensor is called in checkpoints; torch renames one when it loads them."""
    return name.replace("lm_head", "embed_out") if config.model_type == "gpt_neox" else name


def _tied(model: torch.nn.Module) -> set[str]:
    if not model.config.tie_word_embeddings:
        return set()
    return {k for k in model.state_dict() if k in ("lm_head.weight", "vocab_projector.weight")} | {
        k for k in model.state_dict() if k.startswith("cls.predictions.decoder.")
    }


def _kept_from_decay(name: str) -> bool:
    norms = ("LayerNorm", "layer_norm", "layernorm", "ln_1", "ln_2", "ln_f", "model.norm")
    return name.endswith("bias") or any(norm in name for norm in norms)


if __name__ == "__main__":
    GOLDEN.mkdir(exist_ok=True)
    for family in HF:
        config, arrays = reference(family)
        keep = {k: v for k, v in arrays.items() if "position_ids" not in k}
        save_file(keep, GOLDEN / f"{family}.safetensors")
        (GOLDEN / f"{family}.json").write_text(json.dumps(config, indent=1, sort_keys=True) + "\n")
