"""A step of a relearning attack with C low-rank adapters: side by side, one by one, torch and peft.

    python scripts/bench/attack.py                              # 16 adapters on 2 cores
    python scripts/bench/attack.py --sizes 12x768x12x2048 --adapters 4
    python scripts/bench/attack.py --dtype bfloat16             # an accelerator

Adapters of rank 8 on all matrices of a Llama-shaped decoder; a step has two texts, relearned and
retained facts, whose last token has a label. `together` is one program for all adapters above one
frozen model, as an attack of relearn_jax runs; `one by one` is the same step for one adapter, C
times; `torch` is peft with an AdamW for each adapter, C times. All start from the same drawn
weights, run in processes of their own on the same cores, and take turns. Without torch or peft
(pip install torch peft), or on an accelerator, only our sides run.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import common

RANK, ALPHA, RATE, CLIP = 8, 16.0, 1e-3, 1.0
VOCABULARY = 8192
PAUSE = 0.2
SIDES = ("together", "one by one", "torch")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", default="8x256x8x768", help="layers x width x heads x mlp")
    parser.add_argument("--shape", default="16x24", help="rows x tokens of each text")
    parser.add_argument("--adapters", type=int, default=16)
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--cores", type=int, default=2, help="of a run without an accelerator")
    parser.add_argument("--out", type=Path, help="write all figures there as JSON")
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


def settings(sizes: str) -> dict[str, Any]:
    """A Hugging Face `config.json`."""
    layers, width, heads, mlp = map(int, sizes.split("x"))
    return {
        "model_type": "llama", "architectures": ["LlamaForCausalLM"], "vocab_size": VOCABULARY,
        "hidden_size": width, "num_hidden_layers": layers, "num_attention_heads": heads,
        "num_key_value_heads": heads, "intermediate_size": mlp, "max_position_embeddings": 512,
        "tie_word_embeddings": False,
    }  # fmt: skip


def texts(shape: str) -> list[Any]:
    """ids and labels of both texts."""
    import numpy as np

    rows, length = map(int, shape.split("x"))
    rng = np.random.default_rng(0)
    both = []
    for _ in range(2):
        ids = rng.integers(10, VOCABULARY, (rows, length)).astype(np.int32)
        labels = np.full_like(ids, -100)
        labels[:, -1] = rng.integers(10, VOCABULARY, rows)
        both.append((ids, labels))
    return both


def our_side(args: argparse.Namespace) -> Any:
    """Greeting, and a function that takes a number of steps; writes the weights for torch."""
    import jax
    import numpy as np

    from relearn_jax import config
    from relearn_jax.config import Parallel
    from relearn_jax.data.batching import TokenBatch
    from relearn_jax.editing import adapters
    from relearn_jax.editing.objectives import FORGET, RETAIN
    from relearn_jax.experiments.facts.edits.attack import Attach, AttackLoss
    from relearn_jax.localize import selection
    from relearn_jax.models import checkpoint, transformer
    from relearn_jax.models.inputs import Inputs
    from relearn_jax.parallel import drivers, stacking
    from relearn_jax.parallel import mesh as meshes
    from relearn_jax.training import optimizer
    from relearn_jax.training.optimizer import Schedule
    from relearn_jax.training.step import Round, start

    together = args.side == "together"
    count = args.adapters if together else 1
    opened = checkpoint.Checkpoint(args.work, settings(args.sizes), {}, "drawn weights")
    model = checkpoint.describe(opened, "language-model", (), args.dtype, 0.0)
    params = transformer.init(model, jax.random.key(0))
    if together:
        checkpoint.save(args.work, model, params, opened.settings)
    training = config.Training(learning_rate=RATE, weight_decay=0.0, clip_norm=CLIP)
    direction = optimizer.direction(training)
    mesh = meshes.make(Parallel(), count)
    body = drivers.body(
        AttackLoss(model, Attach(ALPHA / RANK), False), direction, shared=("reference",)
    )
    step = drivers.make("jit", mesh, body)
    shapes = adapters.shapes(selection.space(model).shapes, RANK)
    drawn = [adapters.draw(jax.random.key(c), shapes) for c in range(count)]
    begin = jax.jit(jax.vmap(lambda tree: start(tree, direction)), donate_argnums=0)
    schedule = Schedule(*(np.full(count, v) for v in optimizer.schedule(training, 10**6)))
    round_ = Round(schedule, jax.vmap(jax.random.key)(np.arange(count)), reference=params)

    def of_all(x: Any) -> Any:
        # As in an attack, each attacker has its own batch.
        return np.stack([x] * count)

    batches = {}
    for name, (ids, labels) in zip((FORGET, RETAIN), texts(args.shape), strict=True):
        batch = TokenBatch(Inputs(ids, np.ones(ids.shape, bool)), labels, labels[:, 0] * 0)
        batches[name] = jax.tree.map(of_all, batch)
    state = begin(stacking.stack(mesh, drawn))
    first: list[float] = []

    def answer(steps: int) -> float:
        nonlocal state
        began = time.perf_counter()
        for _ in range(steps if together else steps * args.adapters):
            state, sums = step(state, batches, round_)
            if not first:
                first.append(float(sums.loss[0]))
        jax.block_until_ready(state)
        return (time.perf_counter() - began) / (steps * args.adapters)

    device = jax.devices()[0]
    greeting = {
        "name": f"jax {jax.__version__}", "platform": device.platform,
        "device": device.device_kind,
        "parameters": sum(x.size for x in jax.tree.leaves(params)),
    }  # fmt: skip
    return greeting, answer, first


def torch_side(args: argparse.Namespace) -> Any:
    """The same with torch and peft: eager, one adapter after another."""
    try:
        import peft
        import torch
        import transformers
    except ImportError as error:
        return {"missing": str(error)}, None, []
    transformers.utils.logging.disable_progress_bar()
    torch.set_num_threads(args.cores)
    base = transformers.LlamaForCausalLM.from_pretrained(args.work, dtype=torch.float32)
    names = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    lora = peft.LoraConfig(r=RANK, lora_alpha=ALPHA, lora_dropout=0.0, target_modules=names)
    model = peft.get_peft_model(base, lora, adapter_name="0")
    for c in range(1, args.adapters):
        model.add_adapter(str(c), lora)
    model.train()
    own = []
    for c in range(args.adapters):
        model.set_adapter(str(c))
        trained = [p for n, p in model.named_parameters() if f".{c}." in n and "lora" in n]
        own.append((trained, torch.optim.AdamW(trained, lr=RATE, weight_decay=0.0, fused=True)))
    both = [tuple(torch.from_numpy(x.astype("int64")) for x in text) for text in texts(args.shape)]
    first: list[float] = []

    def loss_of(ids: Any, labels: Any) -> Any:
        # The label of a position is the next token there; ours stand at the position itself.
        hidden = model.base_model.model.model(input_ids=ids).last_hidden_state[:, -1]
        logits = model.base_model.model.lm_head(hidden)
        return torch.nn.functional.cross_entropy(logits, labels[:, -1])

    def answer(steps: int) -> float:
        began = time.perf_counter()
        for _ in range(steps):
            for c, (trained, optimizer) in enumerate(own):
                model.set_adapter(str(c))
                loss = sum(loss_of(*text) for text in both)
                if not first:
                    first.append(float(loss))
                loss.backward()
                torch.nn.utils.clip_grad_norm_(trained, CLIP)
                optimizer.step()
                optimizer.zero_grad()
        return (time.perf_counter() - began) / (steps * args.adapters)

    name = f"torch {torch.__version__}, peft {peft.__version__}"
    return {"name": name, "threads": torch.get_num_threads()}, answer, first


def serve(args: argparse.Namespace) -> None:
    """A child: greet, then answer requests, one JSON line each, until the input ends."""
    replies = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what libraries print must not get among the replies
    greeting, answer, first = torch_side(args) if args.side == "torch" else our_side(args)
    replies.write(json.dumps(greeting) + "\n")
    for line in sys.stdin:
        seconds = answer(json.loads(line))
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * common.MB_PER_RSS
        replies.write(json.dumps([seconds, peak, first[0]]) + "\n")


def child(side: str, work: str) -> tuple[dict[str, Any], Any]:
    """Start a side; returns its greeting and a function that asks it."""
    process = subprocess.Popen(
        [sys.executable, __file__, *sys.argv[1:], "--side", side, "--work", work],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip

    def reply() -> Any:
        line = process.stdout.readline()
        if not line:
            raise SystemExit(f"the side `{side}` ended early")
        return json.loads(line)

    def ask(steps: int) -> Any:
        process.stdin.write(json.dumps(steps) + "\n")
        process.stdin.flush()
        return reply()

    return reply(), ask


def main() -> None:
    args = parse()
    if args.side:
        serve(args)
        return
    where = common.machine(common.pin(args.cores))
    with tempfile.TemporaryDirectory() as work:
        mine, together = child("together", work)
        sides = {"together": together, "one by one": child("one by one", work)[1]}
        other = {"missing": f"our sides run on {mine['device']} in {args.dtype}"}
        if mine["platform"] == "cpu" and args.dtype == "float32":
            other, ask = child("torch", work)
            sides |= {} if "missing" in other else {"torch": ask}
        losses = {name: ask(1)[2] for name, ask in sides.items()}  # compiles, allocates
        steps = {
            name: max(1, round(1 / (ask(1)[0] * args.adapters))) for name, ask in sides.items()
        }
        times: dict[str, list[float]] = {name: [] for name in sides}
        peaks = {}
        for _ in range(args.turns):
            for name, ask in sides.items():
                time.sleep(PAUSE)
                seconds, peaks[name], _ = ask(steps[name])
                times[name].append(seconds)

    print(f"Llama {args.sizes}, {mine['parameters'] / 1e6:.1f} M parameters, "
          f"{args.adapters} adapters of rank {RANK}, two texts of {args.shape}; {args.dtype}; "
          f"{mine['name']} on {mine['device']}; {where}")  # fmt: skip
    print(f"torch left out: {other['missing']}\n" if "missing" in other
          else f"against {other['name']}, {other['threads']} threads\n")  # fmt: skip
    rows = []
    for name, seconds in times.items():
        ratios = sorted(b / a for a, b in zip(times["together"], seconds, strict=True))
        rows.append([
            name, f"{1000 * statistics.median(seconds):.1f}",
            f"{statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})",
            f"{peaks[name]:.0f}",
        ])  # fmt: skip
    header = ["side", "a step of one adapter, ms", "times of together (range)", "peak, MB"]
    print(common.table(header, rows), end="\n\n")
    gap = max(losses.values()) - min(losses.values())
    print(f"Medians of {args.turns} turns. Loss of the first step: the same to {gap:.1e}.")
    figures = {"machine": where, "ours": mine, "torch": other, "sizes": args.sizes}
    common.write(args.out, {**figures, "times": times, "peaks": peaks, "losses": losses})


if __name__ == "__main__":
    main()
