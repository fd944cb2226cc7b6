"""TransformerLens's side of `patching.py`, which calls this; it makes the weights too."""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"

import numpy as np
import torch
from transformer_lens import patching
from transformer_lens.model_bridge import TransformerBridge
from transformers import GPT2Config, GPT2LMHeadModel

SWEEPS = {
    "states": patching.get_act_patch_resid_pre,
    "attention": patching.get_act_patch_attn_out,
    "mlp_out": patching.get_act_patch_mlp_out,
    "heads": patching.get_act_patch_attn_head_out_all_pos,
}


def weights(work: Path, layers: int) -> GPT2LMHeadModel:
    """Random weights, larger than GPT-2's first ones, so that every place matters."""
    torch.manual_seed(0)
    model = GPT2LMHeadModel(GPT2Config(n_layer=layers)).eval()
    with torch.no_grad():
        for name, leaf in model.named_parameters():
            if leaf.ndim == 2 and name.startswith("transformer.h"):
                leaf.mul_(2.0)
    model.save_pretrained(work / "model")
    return model


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("work", type=Path)
    parser.add_argument("result", type=Path)
    parser.add_argument("--layers", type=int)
    args, _ = parser.parse_known_args()
    torch.set_grad_enabled(False)
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    model = TransformerBridge.boot_transformers(
        str(args.work / "model"), hf_model=weights(args.work, args.layers), dtype=torch.float32
    )
    asked = np.load(args.work / "questions.npz")
    clean, corrupt, words = (torch.tensor(asked[k]) for k in ("clean", "corrupt", "words"))
    row = torch.arange(len(words))

    def difference(logits: torch.Tensor) -> torch.Tensor:
        last = logits[:, -1]
        return last[row, words[:, 0]] - last[row, words[:, 1]]

    _, cache = model.run_with_cache(clean)
    grids = {"corrupt": difference(model(corrupt)).numpy()}
    seconds, runs = {}, {}
    for name, sweep in SWEEPS.items():
        began = time.perf_counter()
        grids[name] = sweep(model, corrupt, cache, difference, reduce="none").values.numpy()
        seconds[name] = time.perf_counter() - began
        runs[name] = int(np.prod(grids[name].shape[:-1]))
    np.savez(args.work / "lens.npz", **grids)
    args.result.write_text(json.dumps({"seconds": seconds, "runs": runs}))


if __name__ == "__main__":
    main()
