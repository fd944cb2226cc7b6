"""All that waits for an accelerator, in one command: speed, share of the peak, memory.

    python scripts/bench/accelerator.py --out accelerator.json     # one 80 GB card, about 8 minutes
    python scripts/bench/accelerator.py --toy                      # a CPU, toy sizes

Training steps of MiniLM's, GPT-2's and a 1.5 B shape for 1, 4 and 16 sets; the patching grid; the
edit of 5 of 42 feed-forward layers of Gemma 2 9B's shape; an attack with 16 adapters, together and
one by one. All weights are drawn. Each part runs in a process of its own; what does not fit is said
and the others go on. Without an accelerator the sizes are toys.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import common
from train_step import PEAK

TURNS = 5


class Part(NamedTuple):
    """A measurement: what it does, on which model, and how large."""

    name: str
    kind: str
    model: dict[str, Any]
    count: int
    """Sets, pairs or adapters."""
    rows: int
    tokens: int
    parts: int = 1
    """Parts of a step (accumulation)."""
    remat: bool = False


def bert(layers: int, width: int, heads: int, mlp: int) -> dict[str, Any]:
    return {
        "model_type": "bert", "vocab_size": 30522, "hidden_size": width,
        "num_hidden_layers": layers, "num_attention_heads": heads, "intermediate_size": mlp,
        "max_position_embeddings": 512, "type_vocab_size": 2, "pad_token_id": 0,
    }  # fmt: skip


def gpt2(layers: int, width: int, heads: int) -> dict[str, Any]:
    return {
        "model_type": "gpt2", "n_embd": width, "n_layer": layers, "n_head": heads,
        "n_positions": 1024, "vocab_size": 50257,
    }  # fmt: skip


def gemma2(layers: int, width: int, mlp: int, heads: int, words: int) -> dict[str, Any]:
    return {
        "model_type": "gemma2", "hidden_size": width, "intermediate_size": mlp,
        "num_hidden_layers": layers, "num_attention_heads": heads, "vocab_size": words,
        "num_key_value_heads": heads // 2, "head_dim": width // heads if layers < 42 else 256,
        "query_pre_attn_scalar": 256, "max_position_embeddings": 8192,
    }  # fmt: skip


MINILM, GPT2 = bert(6, 384, 12, 1536), gpt2(12, 768, 12)
FULL = (
    *(Part(f"train, MiniLM's shape, C = {c}", "train", MINILM, c, 64, 128) for c in (1, 4, 16)),
    *(Part(f"train, GPT-2's shape, C = {c}", "train", GPT2, c, 32, 256) for c in (1, 4, 16)),
    Part("train, 1.5 B, C = 1", "train", gpt2(48, 1600, 25), 1, 16, 512, 4, True),
    Part("patching grid, GPT-2's shape", "patch", GPT2, 64, 64, 24),
    Part("edit of 5 MLPs, 9 B", "edit", gemma2(42, 3584, 14336, 16, 256000), 1, 16, 48, 8, True),
    Part("attack together, GPT-2's shape", "attack", GPT2, 16, 16, 32),
    Part("attack one by one, GPT-2's shape", "attack", GPT2, 1, 16, 32),
)
SMALL = gpt2(2, 32, 2) | {"vocab_size": 500}
TOY = (
    *(Part(f"train, toy tagger, C = {c}", "train", bert(2, 32, 2, 64), c, 4, 16) for c in (1, 4)),
    Part("train, toy decoder", "train", SMALL, 1, 4, 16, 2, True),
    Part("patching grid, toy", "patch", SMALL, 8, 8, 12),
    Part("edit of 5 MLPs, toy", "edit", gemma2(6, 32, 64, 2, 500), 1, 4, 16, 2, True),
    Part("attack together, toy", "attack", SMALL, 4, 4, 8),
    Part("attack one by one, toy", "attack", SMALL, 1, 4, 8),
)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--toy", action="store_true", help="toy sizes, whatever the device")
    parser.add_argument("--out", type=Path, help="write all figures there as JSON")
    parser.add_argument("--part", type=int, help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    args = parse()
    if args.part is not None:
        child((TOY if args.toy else FULL)[args.part], args.out)
        return
    device = _device()
    toy = args.toy or device["platform"] == "cpu"
    print(f"{device['kind']}, jax {device['jax']}" + ", toy sizes" * toy, flush=True)
    found = {}
    for number, part in enumerate(TOY if toy else FULL):
        found[part.name] = _measured(number, toy)
        print(f"  {part.name}: {found[part.name].get('error', 'done')}", flush=True)
    print(common.table(HEADER, [_row(name, one) for name, one in found.items()]))
    common.write(args.out, {"device": device, "parts": found})


HEADER = ("", "ms", "TFLOP/s", "share of the peak", "peak memory, GiB", "first call, s")


def _row(name: str, found: dict[str, Any]) -> list[str]:
    if "error" in found:
        return [name, found["error"], "", "", "", ""]
    peak = found["peak_flops"]
    memory = found["memory"]
    return [
        name, common.number(1e3 * found["seconds"]), common.number(found["flops"] / 1e12),
        f"{found['flops'] / peak:.0%}" if peak else "",
        common.number(memory / 2**30) if memory else "", common.number(found["first"]),
    ]  # fmt: skip


def _device() -> dict[str, str]:
    """The device, asked in a child: a process that holds it would leave no memory for the parts."""
    script = (
        "import jax, json; d = jax.devices()[0]; "
        "print(json.dumps({'platform': d.platform, 'kind': d.device_kind, 'jax': jax.__version__}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    return json.loads(done.stdout.splitlines()[-1])


def _measured(number: int, toy: bool) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder) / "result.json"
        command = [sys.executable, __file__, "--part", str(number), "--out", str(result)]
        try:
            return common.measured([*command, *["--toy"] * toy], result)
        except SystemExit:
            return {"error": "did not finish"}


def child(part: Part, out: Path) -> None:
    """Measure one part and write what was found."""
    import jax

    kinds = {"train": train, "patch": patch, "edit": edit, "attack": attack}
    try:
        once, flops = kinds[part.kind](part)
        times = [_timed(once) for _ in range(1 + TURNS)]
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        common.write(out, {"error": "does not fit"})
        return
    device = jax.devices()[0]
    stats = device.memory_stats() or {}
    seconds = statistics.median(times[1:])
    peaks = [flops for name, flops in PEAK.items() if name in device.device_kind]
    common.write(
        out,
        {
            "seconds": seconds, "first": times[0], "flops": flops / seconds,
            "memory": stats.get("peak_bytes_in_use", 0), "peak_flops": peaks[0] if peaks else 0,
        },
    )  # fmt: skip


def _timed(once: Callable[[], None]) -> float:
    began = time.perf_counter()
    once()
    return time.perf_counter() - began


def _model(part: Part, task: str) -> Any:
    from relearn_jax.models import checkpoint

    opened = checkpoint.Checkpoint(Path("."), part.model, {}, "drawn weights")
    labels = tuple(f"L{i}" for i in range(9)) if task == "token-classification" else ()
    return checkpoint.describe(opened, task, labels, "bfloat16", 0.0, remat=part.remat)


def _blocks(model: Any) -> int:
    """Parameters of the matrices of all blocks."""
    from relearn_jax.localize import selection

    space = selection.space(model)
    return space.layers * sum(selection.sizes(space).values())


def _batch(part: Part, seed: int, words: int, labels: int, everywhere: bool) -> Any:
    """Drawn rows; every token has a label, or only the last."""
    import numpy as np

    from relearn_jax.data.batching import TokenBatch
    from relearn_jax.models.inputs import Inputs

    rng = np.random.default_rng(seed)
    shape = (part.rows, part.tokens)
    ids = rng.integers(10, words, shape).astype(np.int32)
    answers = rng.integers(0, labels, shape).astype(np.int32)
    if not everywhere:
        answers[:, :-1] = -100
    return TokenBatch(Inputs(ids, np.ones(shape, bool)), answers, np.arange(part.rows) * 1)


def _stepper(part: Part, loss: Any, leaves: Any, batches: Any, reference: Any = None) -> Callable:
    """A function that does one step of `part.count` models side by side."""
    import jax
    import jax.numpy as jnp

    from relearn_jax import config
    from relearn_jax.parallel import drivers
    from relearn_jax.parallel import mesh as meshes
    from relearn_jax.training import optimizer
    from relearn_jax.training.optimizer import Schedule
    from relearn_jax.training.step import Round, start

    settings = config.Training(learning_rate=1e-4, accumulate=part.parts)
    direction = optimizer.direction(settings)
    mesh = meshes.make(config.Parallel(), part.count)
    shared = ("reference",) if reference is not None else ()
    step = drivers.make("jit", mesh, drivers.body(loss, direction, part.parts, shared))
    schedule = Schedule(
        *(jnp.full(part.count, v) for v in optimizer.schedule(settings, 10**6))
    )  # fmt: skip
    round_ = Round(schedule, jax.vmap(jax.random.key)(jnp.arange(part.count)), reference=reference)
    begin = jax.jit(jax.vmap(lambda tree: start(tree, direction)), donate_argnums=0)
    held = [begin(leaves)]

    def once() -> None:
        held[0], _ = step(held[0], batches, round_)
        jax.block_until_ready(held[0])

    return once


def _stacked(draw: Callable[[Any], Any], count: int) -> Any:
    import jax
    import jax.numpy as jnp

    return jax.jit(jax.vmap(draw))(jax.vmap(jax.random.key)(jnp.arange(count)))


def train(part: Part) -> tuple[Callable, float]:
    """Steps of whole models: a tagger, or a decoder that predicts every next token."""
    from functools import partial

    from relearn_jax.models import transformer
    from relearn_jax.training import losses

    tagger = part.model["model_type"] == "bert"
    model = _model(part, "token-classification" if tagger else "language-model")
    words = part.model["vocab_size"]
    batch = _batch(part, 0, words, 9 if tagger else words, True)
    loss = partial(losses.token_classification if tagger else losses.cross_entropy, model)

    def of_texts(params: Any, reference: Any, texts: Any) -> Any:
        if tagger:
            return loss(params, reference, texts)
        return {losses.TASK: loss(params, texts[losses.TASK])}

    params = _stacked(partial(transformer.init, model), part.count)
    head = 0 if tagger else words * model.config.width
    flops = 6.0 * part.count * part.rows * part.tokens * (_blocks(model) + head)
    return _stepper(part, of_texts, params, {losses.TASK: batch}), flops


def patch(part: Part) -> tuple[Callable, float]:
    """The state of every layer and position, patched one at a time, for all pairs."""
    import jax
    import numpy as np

    from relearn_jax.localize import patching, questions
    from relearn_jax.localize.questions import Question
    from relearn_jax.models import transformer
    from relearn_jax.models.inputs import Inputs

    model = _model(part, "language-model")
    params = jax.jit(lambda key: transformer.init(model, key))(jax.random.key(0))
    rng = np.random.default_rng(0)
    ids = rng.integers(10, part.model["vocab_size"], (2, part.rows, part.tokens)).astype(np.int32)
    mask, last = np.ones(ids.shape[1:], bool), np.full(part.rows, part.tokens - 1, np.int32)
    words = rng.integers(10, part.model["vocab_size"], (part.rows, 2)).astype(np.int32)
    question = Question(last, words, ids[0] != ids[1])
    clean, corrupt = (questions.run(model, params, Inputs(some, mask), question) for some in ids)

    def once() -> None:
        found = patching.by_position(
            model, params, Inputs(ids[1], mask), corrupt, clean, question, "states"
        )
        jax.block_until_ready(found)

    # On average half of the layers and half of the positions follow a patched state.
    tokens = part.rows * part.tokens * part.tokens / 2
    return once, 2.0 * tokens * model.config.layers * _blocks(model) / 2


def edit(part: Part) -> tuple[Callable, float]:
    """Steps that train the feed-forward matrices of five early layers above a frozen model."""
    import jax
    import numpy as np

    from relearn_jax import config
    from relearn_jax.editing.objectives import FORGET, INJECTED, PLAIN, RETAIN
    from relearn_jax.experiments.facts.edits.loss import EditLoss
    from relearn_jax.localize import selection
    from relearn_jax.models import overlay, paths, transformer

    model = _model(part, "language-model")
    params = jax.jit(lambda key: transformer.init(model, key))(jax.random.key(0))
    space = selection.space(model)
    chosen = (np.arange(space.layers) > 0) & (np.arange(space.layers) < 6)
    layers = overlay.layers_of(selection.mask({"mlp": chosen}, space).marked)
    words = part.model["vocab_size"]
    batches = {
        name: _batch(part, number, words, words, name == PLAIN)
        for number, name in enumerate((FORGET, INJECTED, RETAIN, PLAIN))
    }
    del batches[FORGET]
    rows = paths.unflatten(
        {path: leaf[None] for path, leaf in overlay.rows(params, layers).items()}
    )
    loss = EditLoss(model, config.Edit(), layers)
    block = sum(selection.sizes(space).values())
    trained = sum(leaf.size for leaf in jax.tree.leaves(rows))
    tokens = 3.0 * part.rows * part.tokens
    head = words * model.config.width * part.rows * (2 + part.tokens)
    flops = 2 * tokens * (block + 2 * (space.layers - 1) * block + trained) + 6.0 * head
    return _stepper(part, loss, rows, batches, params), flops


def attack(part: Part) -> tuple[Callable, float]:
    """Steps of adapters of rank 8 above one frozen model; a step relearns and retains."""
    import jax
    import numpy as np

    from relearn_jax.editing import adapters
    from relearn_jax.editing.objectives import FORGET, RETAIN
    from relearn_jax.experiments.facts.edits.attack import Attach, AttackLoss
    from relearn_jax.localize import selection
    from relearn_jax.models import transformer

    model = _model(part, "language-model")
    params = jax.jit(lambda key: transformer.init(model, key))(jax.random.key(0))
    shapes = adapters.shapes(selection.space(model).shapes, 8)
    leaves = _stacked(lambda key: adapters.draw(key, shapes), part.count)
    words = part.model["vocab_size"]
    batches = {
        name: jax.tree.map(
            lambda x: np.stack([x] * part.count), _batch(part, number, words, words, False)
        )
        for number, name in enumerate((FORGET, RETAIN))
    }
    flops = 4.0 * part.count * 2 * part.rows * part.tokens * _blocks(model)
    return _stepper(part, AttackLoss(model, Attach(2.0), False), leaves, batches, params), flops


if __name__ == "__main__":
    main()
