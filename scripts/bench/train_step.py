"""One training step of a BERT token classifier: torch transformers against relearn_jax.

    python scripts/bench/train_step.py                      # 6 x 384, MiniLM's sizes, on 2 cores
    python scripts/bench/train_step.py --sizes 12x768x12x3072 --shapes 8x128    # BERT-base
    python scripts/bench/train_step.py --dtype bfloat16 --shapes 256x128        # an accelerator

A step is forward, backward, clipping and AdamW. Both sides start from the same drawn weights (speed
does not depend on their values; the losses before the first step are compared), run in processes of
their own on the same cores, and take turns, ours, torch, ours, torch, so that what the machine does
besides falls on both. The ratio is the median over turns of torch's time by ours. Without torch, or
on an accelerator, only our side runs.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import common

LABELS = 9
RATE, DECAY, CLIP = 1e-4, 0.01, 1.0
DROPOUT = 0.1
PAUSE = 0.2
"""Seconds between turns, for the other side's idle threads to stop spinning."""
PEAK = {"H100": 989e12, "H200": 989e12, "A100": 312e12, "v5 lite": 197e12, "v5e": 197e12,
        "v6 lite": 918e12, "v6e": 918e12}  # fmt: skip
"""Dense bfloat16 FLOP/s from the makers' data sheets (SXM boards), by part of the device's name."""


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", default="6x384x12x1536", help="layers x width x heads x mlp")
    parser.add_argument(
        "--shapes", nargs="+", default=["16x64", "32x128", "16x32"], help="batch x tokens"
    )
    parser.add_argument(
        "--dtype",
        choices=("float32", "bfloat16"),
        default="float32",
        help="of our computation; torch takes part in float32",
    )
    parser.add_argument("--turns", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=1.0, help="about so long a turn")
    parser.add_argument("--cores", type=int, default=2, help="of a run without an accelerator")
    parser.add_argument("--out", type=Path, help="write all figures there as JSON")
    parser.add_argument("--side", choices=("ours", "torch"), help=argparse.SUPPRESS)
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()  # fmt: skip


def batch(rows: int, length: int) -> tuple[Any, Any, Any]:
    """ids, mask, labels: rows between half and full length, as a length bucket has them."""
    import numpy as np

    rng = np.random.default_rng(0)
    ids = rng.integers(1000, 30000, (rows, length)).astype(np.int32)
    mask = np.arange(length) < rng.integers(length // 2, length + 1, (rows, 1))
    labels = rng.integers(0, LABELS, (rows, length)).astype(np.int32)
    return np.where(mask, ids, 0), mask, np.where(mask, labels, -100)


def our_side(args: argparse.Namespace) -> Any:
    """Greeting, and a function that answers requests; writes the weights for torch."""
    import jax
    import jax.numpy as jnp

    from relearn_jax import config
    from relearn_jax.data.batching import TokenBatch
    from relearn_jax.models import checkpoint, transformer
    from relearn_jax.models.inputs import Inputs
    from relearn_jax.training import losses, optimizer
    from relearn_jax.training.step import Round, start, train_step

    settings = config.Training(learning_rate=RATE, weight_decay=DECAY, clip_norm=CLIP)
    names = tuple(f"L{i}" for i in range(LABELS))
    opened = checkpoint.Checkpoint(args.work, bert_settings(args.sizes), {}, "drawn weights")

    def describe(dropout: float) -> Any:
        task = "token-classification"
        return checkpoint.describe(opened, task, names, args.dtype, dropout)

    params = transformer.init(describe(0.0), jax.random.key(0))
    checkpoint.save(args.work, describe(0.0), params, opened.settings)
    direction = optimizer.direction(settings)
    round_ = Round(optimizer.schedule(settings, 10**6), jax.random.key(1))
    running: dict[float, list[Any]] = {}

    def answer(rows: int, length: int, dropout: float, steps: int) -> float:
        ids, mask, labels = batch(rows, length)
        data = TokenBatch(Inputs(ids, mask), labels, labels[:, 0])
        model = describe(dropout)
        if steps == 0:
            logits, _ = transformer.apply(model, params, data.inputs)
            return float(losses.token_loss(logits, jnp.asarray(labels)).mean)
        if dropout not in running:
            loss = partial(losses.token_classification, model)
            step = jax.jit(partial(train_step, loss, direction), donate_argnums=0)
            running[dropout] = [step, start(jax.tree.map(jnp.copy, params), direction)]
        step, state = running[dropout]
        began = time.perf_counter()
        for _ in range(steps):
            state, _ = step(state, {losses.TASK: data}, round_)
        jax.block_until_ready(state)
        running[dropout][1] = state
        return (time.perf_counter() - began) / steps

    device = jax.devices()[0]
    matrices = sum(x.size for k, v in params.items() if k != "embed" for x in jax.tree.leaves(v))
    greeting = {
        "name": f"jax {jax.__version__}", "platform": device.platform,
        "device": device.device_kind, "parameters": matrices,
    }  # fmt: skip
    return greeting, answer


def torch_side(args: argparse.Namespace) -> Any:
    """The same with torch: eager, AdamW fused, as the Trainer of transformers 5 does by default."""
    try:
        import torch
        import transformers
    except ImportError as error:
        return {"missing": str(error)}, None
    transformers.utils.logging.disable_progress_bar()
    torch.set_num_threads(args.cores)
    running: dict[float, tuple[Any, Any]] = {}

    def load(dropout: float) -> tuple[Any, Any]:
        rates = dict.fromkeys(("hidden_dropout_prob", "attention_probs_dropout_prob"), dropout)
        model = transformers.BertForTokenClassification.from_pretrained(args.work, **rates)
        plain = [p for n, p in model.named_parameters() if n.endswith("bias") or "LayerNorm" in n]
        others = {id(p) for p in plain}
        decayed = [p for p in model.parameters() if id(p) not in others]
        groups = [{"params": decayed, "weight_decay": DECAY}, {"params": plain, "weight_decay": 0}]
        return model.train(), torch.optim.AdamW(groups, lr=RATE, eps=1e-8, fused=True)

    def answer(rows: int, length: int, dropout: float, steps: int) -> float:
        if dropout not in running:
            running[dropout] = load(dropout)
        model, optimizer = running[dropout]
        ids, mask, labels = (torch.from_numpy(x.astype("int64")) for x in batch(rows, length))
        data = {"input_ids": ids, "attention_mask": mask, "labels": labels}
        if steps == 0:
            with torch.no_grad():
                return float(load(0.0)[0].eval()(**data).loss)
        began = time.perf_counter()
        for _ in range(steps):
            model(**data).loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP)
            optimizer.step()
            optimizer.zero_grad()
        return (time.perf_counter() - began) / steps

    name = f"torch {torch.__version__}, transformers {transformers.__version__}"
    return {"name": name, "threads": torch.get_num_threads()}, answer


def bert_settings(sizes: str) -> dict[str, Any]:
    """A Hugging Face `config.json`."""
    layers, width, heads, mlp = map(int, sizes.split("x"))
    return {
        "model_type": "bert", "vocab_size": 30522, "hidden_size": width,
        "num_hidden_layers": layers, "num_attention_heads": heads, "intermediate_size": mlp,
        "max_position_embeddings": 512, "type_vocab_size": 2, "pad_token_id": 0,
    }  # fmt: skip


def serve(args: argparse.Namespace) -> None:
    """A child: greet, then answer requests, one JSON line each, until the input ends."""
    replies = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what libraries print must not get among the replies
    greeting, answer = our_side(args) if args.side == "ours" else torch_side(args)
    replies.write(json.dumps(greeting) + "\n")
    for line in sys.stdin:
        replies.write(json.dumps(answer(*json.loads(line))) + "\n")


def child(side: str, work: str) -> tuple[dict[str, Any], Any]:
    """Start a side; returns its greeting and a function that asks it."""
    process = subprocess.Popen(
        [sys.executable, __file__, *sys.argv[1:], "--side", side, "--work", work],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip

    def reply() -> Any:
        line = process.stdout.readline()
        if not line:
            raise SystemExit(f"the {side} side ended early")
        return json.loads(line)

    def ask(*request: Any) -> Any:
        process.stdin.write(json.dumps(request) + "\n")
        process.stdin.flush()
        return reply()

    return reply(), ask


def flops(args: argparse.Namespace, parameters: int, rows: int, length: int) -> float:
    """Of one step: 6 per parameter (embeddings apart) and token, and attention's two products."""
    layers, width, *_ = map(int, args.sizes.split("x"))
    return 6 * parameters * rows * length + 12 * layers * rows * length**2 * width


def compare(
    args: argparse.Namespace, sides: list[Any], shape: tuple[int, int], drop: float
) -> dict:
    """Turns of both sides (or of ours alone) on one setting."""
    losses = [ask(*shape, drop, 0) for ask in sides]
    for ask in sides:
        ask(*shape, drop, 2)  # compiles, allocates
    steps = [max(1, round(args.seconds / ask(*shape, drop, 2))) for ask in sides]
    times: list[list[float]] = [[] for _ in sides]
    for _ in range(args.turns):
        for side, (ask, number) in enumerate(zip(sides, steps, strict=True)):
            time.sleep(PAUSE)
            times[side].append(ask(*shape, drop, number))
    return {"shape": shape, "dropout": drop, "losses": losses, "seconds_per_step": times}


def row(args: argparse.Namespace, result: dict, greeting: dict, peak: float | None) -> list[str]:
    """One line of the table."""
    (rows, length), (mine, *other) = result["shape"], result["seconds_per_step"]
    ours = statistics.median(mine)
    cells = [f"{rows}x{length}, dropout {result['dropout']}", f"{1000 * ours:.1f}"]
    if other:
        ratios = sorted(b / a for a, b in zip(mine, *other, strict=True))
        theirs = statistics.median(*other)
        result["ratio"] = statistics.median(ratios)
        cells += [f"{1000 * theirs:.1f}",
                  f"{result['ratio']:.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})"]  # fmt: skip
    cells.append(common.number(rows / ours))
    if other:
        cells.append(common.number(rows / theirs))
    result["flops_per_s"] = flops(args, greeting["parameters"], rows, length) / ours
    cells.append(common.number(result["flops_per_s"] / 1e12))
    if peak:
        cells.append(f"{100 * result['flops_per_s'] / peak:.1f} %")
    return cells


def main() -> None:
    args = parse()
    if args.side:
        serve(args)
        return
    where = common.machine(common.pin(args.cores))
    with tempfile.TemporaryDirectory() as work:
        mine, ask = child("ours", work)
        sides, other = [ask], {"missing": f"our side runs on {mine['device']} in {args.dtype}"}
        if mine["platform"] == "cpu" and args.dtype == "float32":
            other, ask_torch = child("torch", work)
            sides += [] if "missing" in other else [ask_torch]
        peak = next((p for part, p in PEAK.items() if part in mine["device"]), None)
        shapes = [tuple(map(int, shape.split("x"))) for shape in args.shapes]
        results = [
            compare(args, sides, shape, drop) for drop in (DROPOUT, 0.0) for shape in shapes
        ]  # fmt: skip

    print(f"BERT {args.sizes}, {mine['parameters'] / 1e6:.1f} M parameters without embeddings; "
          f"{args.dtype}; {mine['name']} on {mine['device']}; {where}")  # fmt: skip
    print(f"torch left out: {other['missing']}\n" if "missing" in other
          else f"against {other['name']}, {other['threads']} threads\n")  # fmt: skip
    two = len(sides) == 2
    header = ["batch", "ours, ms", *(["torch, ms", "ratio (range)"] if two else []),
              "ours, examples/s", *(["torch, examples/s"] if two else []), "TFLOP/s",
              *(["share of bfloat16 peak"] if peak else [])]  # fmt: skip
    print(common.table(header, [row(args, r, mine, peak) for r in results]), end="\n\n")
    print(f"Medians of {args.turns} turns. Ratio above 1: ours is faster. FLOPs counted: 6 per "
          "parameter (embeddings apart) and token, padding included, and attention.")  # fmt: skip
    if two:
        gap = max(abs(a - b) for a, b in (r["losses"] for r in results))
        print(f"Loss before the first step: the same to {gap:.1e}.")
    figures = {"machine": where, "ours": mine, "torch": other, "sizes": args.sizes}
    common.write(args.out, {**figures, "dtype": args.dtype, "peak": peak, "results": results})


if __name__ == "__main__":
    main()
