"""The llama2.c format: a real checkpoint of 260,032 parameters as Hugging Face tensors, and its
tokenizer (see SOURCE.md beside the data)."""

from __future__ import annotations

from pathlib import Path

import numpy as np

BEGIN = 1


def checkpoint_of(path: Path) -> tuple[dict, dict[str, np.ndarray]]:
    """Settings and tensors of a llama2.c file, version 0, whose head is the word embedding."""
    data = path.read_bytes()
    width, mlp, layers, heads, groups, vocabulary, positions = np.frombuffer(data, "<i4", 7)
    assert vocabulary > 0, "the head is the word embedding"
    numbers, head = np.frombuffer(data, "<f4", offset=28), width // heads
    shared = groups * head
    sizes = {
        "embed_tokens": (vocabulary, width),
        "input_layernorm": (layers, width),
        "self_attn.q_proj": (layers, width, width),
        "self_attn.k_proj": (layers, shared, width),
        "self_attn.v_proj": (layers, shared, width),
        "self_attn.o_proj": (layers, width, width),
        "post_attention_layernorm": (layers, width),
        "mlp.gate_proj": (layers, mlp, width),
        "mlp.down_proj": (layers, width, mlp),
        "mlp.up_proj": (layers, mlp, width),
        "norm": (width,),
    }
    tensors, start = {}, 0
    for name, shape in sizes.items():
        end = start + int(np.prod(shape))
        part, start = numbers[start:end].reshape(shape), end
        if name in ("embed_tokens", "norm"):
            tensors[f"model.{name}.weight"] = part
        else:
            rows = {"self_attn.q_proj": heads, "self_attn.k_proj": groups}.get(name)
            part = part if rows is None else half_split(part, rows)
            tensors |= {f"model.layers.{i}.{name}.weight": part[i] for i in range(layers)}
    assert len(numbers) - start == positions * head, "sines and cosines of the positions are left"
    settings = {
        "model_type": "llama", "hidden_size": width, "intermediate_size": mlp,
        "num_hidden_layers": layers, "num_attention_heads": heads, "num_key_value_heads": groups,
        "vocab_size": vocabulary, "max_position_embeddings": positions, "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0, "tie_word_embeddings": True,
    }  # fmt: skip
    return {k: v.item() if isinstance(v, np.int32) else v for k, v in settings.items()}, {
        name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()
    }


def half_split(rows: np.ndarray, heads: int) -> np.ndarray:
    """Rows (2i, 2i + 1) of each head, which rotate together there, to (i, i + K/2)."""
    layers, out, width = rows.shape
    pairs = rows.reshape(layers, heads, out // heads // 2, 2, width)
    return pairs.swapaxes(2, 3).reshape(rows.shape)


def pieces_of(path: Path, count: int) -> list[bytes]:
    """The vocabulary: after the longest length, for each a score, a length and its bytes."""
    data, pieces, at = path.read_bytes(), [], 4
    for _ in range(count):
        length = int(np.frombuffer(data, "<i4", 1, at + 4)[0])
        pieces.append(data[at + 8 : at + 8 + length])
        at += 8 + length
    assert at == len(data)
    return pieces


def text_of(ids: list[int], pieces: list[bytes]) -> str:
    """Ids as text; the blank that begins the first word is none of it, and <0x0A> is a byte."""
    said = b"".join(
        bytes([int(piece[3:5], 16)]) if piece.startswith(b"<0x") else piece
        for piece in (pieces[i] for i in ids)
    )
    return said.removeprefix(b" ").decode()
