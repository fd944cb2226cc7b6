"""C concept sets trained side by side against the same sets one after another; and the drivers.

    python scripts/bench/sets.py                      # C = 1, 4, 8, 16 of MiniLM's size
    python scripts/bench/sets.py --drivers            # each driver against plain jit, one device
    python scripts/bench/sets.py --devices 1 2 4 8    # one step over simulated devices

Each C runs in a process of its own, for its peak memory, and takes turns there with one set, so
that both see the same machine. A step is 16 sentences of 32 tokens for every set, with dropout.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import common


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sets", type=int, nargs="+", default=[1, 4, 8, 16])
    parser.add_argument("--drivers", action="store_true")
    parser.add_argument("--devices", type=int, nargs="+")
    parser.add_argument("--sizes", default="6x384x12x1536", help="layers x width x heads x mlp")
    parser.add_argument("--turns", type=int, default=7)
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


def setting(args: argparse.Namespace) -> tuple[Any, Any, Any, Any]:
    """Model, parameters, optimizer and one batch."""
    import jax
    from train_step import DECAY, LABELS, RATE, bert_settings
    from train_step import batch as drawn_batch

    from relearn_jax import config
    from relearn_jax.data.batching import TokenBatch
    from relearn_jax.models import checkpoint, transformer
    from relearn_jax.models.inputs import Inputs
    from relearn_jax.training import optimizer

    opened = checkpoint.Checkpoint(Path("."), bert_settings(args.sizes), {}, "drawn weights")
    names = tuple(f"L{i}" for i in range(LABELS))
    model = checkpoint.describe(opened, "token-classification", names)
    settings = config.Training(learning_rate=RATE, weight_decay=DECAY)
    ids, mask, labels = drawn_batch(16, 32)
    batch = TokenBatch(Inputs(ids, mask), labels, labels[:, 0] * 0)
    params = jax.jit(partial(transformer.init, model))(jax.random.key(0))
    return (
        model,
        params,
        (optimizer.direction(settings), optimizer.schedule(settings, 10**6)),
        batch,
    )


def stepper(args: argparse.Namespace, driver: str, sets: int, axes: tuple[int, ...] = (1, 1, 1, 1)):
    """A function that does one step of `sets` sets and waits for it."""
    import jax
    import jax.numpy as jnp

    from relearn_jax import config
    from relearn_jax.parallel import drivers, mesh, sharding
    from relearn_jax.training import losses
    from relearn_jax.training.step import Round, start, train_step

    model, params, (direction, schedule), batch = setting(args)
    keys = jax.vmap(jax.random.key)(jnp.arange(sets))
    round_ = Round(jax.tree.map(lambda x: jnp.full(sets, x), schedule), keys)
    loss = partial(losses.token_classification, model)
    stacked = jax.tree.map(lambda x: jnp.stack([x] * sets), params)
    state = jax.vmap(lambda p: start(p, direction))(stacked)
    del stacked, params
    if driver == "plain":
        body = jax.vmap(partial(train_step, loss, direction), in_axes=(0, None, 0))
        step = jax.jit(body, donate_argnums=0)
    else:
        count = axes[0] * axes[1] * axes[2] * axes[3]
        grid = mesh.make(config.Parallel(driver, *axes), sets, jax.devices()[:count])
        state = jax.device_put(state, sharding.shardings(state, grid, sets_axis=True))
        loss = partial(losses.token_classification, sharding.spread(model, grid))
        step = drivers.make(driver, grid, drivers.body(loss, direction))
    held = [state]

    def once() -> float:
        began = time.perf_counter()
        held[0], _ = step(held[0], {losses.TASK: batch}, round_)
        jax.block_until_ready(held[0])
        return time.perf_counter() - began

    once()
    return once


def turns(count: int, *steppers) -> list[list[float]]:
    """Times of each stepper, taken in turn."""
    times: list[list[float]] = [[] for _ in steppers]
    for _ in range(count):
        for mine, once in zip(times, steppers, strict=True):
            mine.append(once())
    return times


def child(args: argparse.Namespace) -> None:
    kind, _, number = args.child.partition("=")
    if kind == "one":
        once = stepper(args, "jit", 1)
        found = {"seconds": statistics.median(turns(args.turns, once)[0])}
    elif kind == "sets":
        sets = int(number)
        many, one = stepper(args, "jit", sets), stepper(args, "jit", 1)
        together, alone = turns(args.turns, many, one)
        ratios = [a * sets / t for a, t in zip(alone, together, strict=True)]
        found = {
            "per_set": statistics.median(together) / sets,
            "alone": statistics.median(alone),
            "ratio": statistics.median(ratios),
        }
    elif kind == "drivers":
        names = ("plain", "jit", "shard_map", "pmap")
        times = turns(args.turns * 3, *(stepper(args, name, 1) for name in names))
        base = times[0]
        found = {
            name: [
                statistics.median(mine),
                statistics.median(m / b for m, b in zip(mine, base, strict=True)),
            ]
            for name, mine in zip(names, times, strict=True)
        }
    else:
        import jax

        jax.config.update("jax_num_cpu_devices", int(number))
        once = stepper(args, "jit", 1, (1, int(number), 1, 1))
        found = {"seconds": statistics.median(turns(args.turns, once)[0])}
    args.out.write_text(json.dumps(found))


def measured(args: argparse.Namespace, what: str) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder) / "result.json"
        command = [
            sys.executable, __file__, "--child", what, "--out", str(result), "--sizes", args.sizes,
            "--turns", str(args.turns),
        ]  # fmt: skip
        return common.measured(command, result)


def main() -> None:
    args = parse()
    if args.child:
        child(args)
        return
    print(common.machine(2))
    if args.drivers:
        found = measured(args, "drivers")
        rows = [
            [name, f"{found[name][0] * 1e3:.0f}", f"{found[name][1]:.3f}"]
            for name in ("plain", "jit", "shard_map", "pmap")
        ]
        print(common.table(["driver", "step, ms", "of plain jit's time"], rows))
    elif args.devices:
        rows = []
        for number in args.devices:
            found = measured(args, f"devices={number}")
            rows.append([str(number), f"{found['seconds'] * 1e3:.0f}", f"{found['peak_mb']:.0f}"])
        print(common.table(["devices", "step, ms", "peak memory, MB"], rows))
    else:
        base = measured(args, "one")["peak_mb"]
        rows = []
        for number in args.sets:
            found = measured(args, f"sets={number}")
            more = (found["peak_mb"] - base) / number
            rows.append(
                [
                    str(number), f"{found['per_set'] * 1e3:.0f}", f"{found['alone'] * 1e3:.0f}",
                    f"{found['ratio']:.2f}", f"{found['peak_mb']:.0f}", f"{more:.0f}",
                ]
            )  # fmt: skip
        header = [
            "C", "ms a set, side by side", "ms a set, one after another", "ratio",
            "peak memory, MB", "of that above one set, MB a set",
        ]  # fmt: skip
        print(common.table(header, rows))


if __name__ == "__main__":
    main()
