"""What a checkpoint costs: the pause, the write beside the training, the disk, the way back.

    python scripts/bench/checkpoint.py                 # MiniLM's sizes, 1 and 4 stacked sets
    python scripts/bench/checkpoint.py --folder DIR    # on the disk where the runs lie

The state is parameters and Adam's moments, float32. Writing goes on while training does, so what it
costs is measured on training: turns of some steps with one save in them and without, alternating,
on the same cores. The time lost to a save is the median over turns of the difference, and the share
of training time lost follows for any interval. CPU time is measured in the same way: it says more
where others use the machine too. Restoring is from files just written, hence from memory, and
includes the check of every bit.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import common
import jax
from orbax.checkpoint import v1 as ocp
from train_step import DECAY, LABELS, RATE, bert_settings
from train_step import batch as drawn_batch

from relearn_jax import config
from relearn_jax.data.batching import TokenBatch
from relearn_jax.models import checkpoint, transformer
from relearn_jax.models.inputs import Inputs
from relearn_jax.training import checkpoints, losses, optimizer
from relearn_jax.training.step import Round, start, train_step

TIMES = ("step", "pause", "whole", "lost", "cpu", "restore")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", default="6x384x12x1536", help="layers x width x heads x mlp")
    parser.add_argument("--sets", type=int, nargs="+", default=[1, 4], help="stacked models")
    parser.add_argument(
        "--rows", type=int, default=16, help="sentences of 64 tokens, over all sets"
    )
    parser.add_argument("--turns", type=int, default=9)
    parser.add_argument("--steps", type=int, default=20, help="steps of a turn")
    parser.add_argument("--every", type=float, default=120, help="seconds between saves")
    parser.add_argument("--cores", type=int, default=2)
    parser.add_argument("--folder", type=Path, help="where to write; default: a temporary folder")
    parser.add_argument("--out", type=Path, help="write all figures there as JSON")
    return parser.parse_args()


def training(args: argparse.Namespace, sets: int) -> tuple[Any, Callable[[Any], Any]]:
    """A state of `sets` stacked models, and a step that takes it over."""
    names = tuple(f"L{i}" for i in range(LABELS))
    opened = checkpoint.Checkpoint(Path("."), bert_settings(args.sizes), {}, "drawn weights")
    model = checkpoint.describe(opened, "token-classification", names)
    settings = config.Training(learning_rate=RATE, weight_decay=DECAY)
    direction = optimizer.direction(settings)

    def begin(key: jax.Array) -> Any:
        return start(transformer.init(model, key), direction)

    ids, mask, labels = drawn_batch(max(1, args.rows // sets), 64)
    data = {losses.TASK: TokenBatch(Inputs(ids, mask), labels, labels[:, 0])}
    round_ = Round(optimizer.schedule(settings, 10**6), jax.random.key(1))
    body = partial(train_step, partial(losses.token_classification, model), direction)
    if sets == 1:
        state = jax.jit(begin)(jax.random.key(0))
    else:
        state = jax.jit(jax.vmap(begin))(jax.random.split(jax.random.key(0), sets))
        body = jax.vmap(body, in_axes=(0, None, None))
    step = jax.jit(body, donate_argnums=0)
    return state, lambda state: step(state, data, round_)[0]


class Clocked(NamedTuple):
    result: Any
    wall: float
    cpu: float


def clocked(action: Callable[[], Any]) -> Clocked:
    """Do something to its end, by the clock."""
    wall, cpu = time.perf_counter(), time.process_time()
    result = jax.block_until_ready(action())
    return Clocked(result, time.perf_counter() - wall, time.process_time() - cpu)


def measure(args: argparse.Namespace, sets: int, folder: Path) -> dict[str, Any]:
    """All figures for one number of sets."""
    state, step = training(args, sets)
    for _ in range(3):
        state = step(state)
    number = 0
    figures: dict[str, Any] = {name: [] for name in TIMES}

    def save(state: Any, wait: bool) -> None:
        nonlocal number
        number += 1
        checkpoints.save(checkpointer, number, state, {"step": number}, wait)

    def turn(state: Any, saving: bool) -> Any:
        for position in range(args.steps):
            state = step(state)
            if saving and position == 0:
                jax.block_until_ready(state)  # else the pause would hold the step as well
                figures["pause"].append(clocked(lambda state=state: save(state, False)).wall)
        return state

    with checkpoints.opened(folder, 1) as checkpointer:
        save(state, wait=True)  # compiles the fingerprint
        figures["whole"] = [clocked(lambda: save(state, True)).wall for _ in range(args.turns)]
        for _ in range(args.turns):
            without = clocked(lambda: turn(state, False))  # noqa: B023
            saved = clocked(lambda: turn(without.result, True))  # noqa: B023
            if not (folder / str(number)).is_dir():
                raise SystemExit("the write outlasts a turn; give more --steps")
            state = saved.result
            figures["lost"].append(saved.wall - without.wall)
            figures["cpu"].append(saved.cpu - without.cpu)
            figures["step"].append(without.wall / args.steps)

    leaves = jax.tree.leaves(state)
    figures |= {
        "sets": sets,
        "values": sum(leaf.size for leaf in leaves),
        "bytes": sum(leaf.nbytes for leaf in leaves),
        "disk": sum(p.stat().st_size for p in folder.rglob("*") if p.is_file()),
    }
    like = jax.tree.map(ocp.arrays.to_shape_dtype_struct, state)

    def restored() -> Any:
        return checkpoints.restore(folder, lambda progress: like, print)[0]

    for _ in range(args.turns):
        figures["restore"].append(clocked(restored).wall)
    return figures


def row(args: argparse.Namespace, figures: dict[str, Any]) -> list[str]:
    """One line of the table."""
    middle = {name: statistics.median(figures[name]) for name in TIMES}
    low, high = min(figures["lost"]), max(figures["lost"])
    figures["share"] = middle["lost"] / (args.every + middle["lost"])
    return [
        f"{figures['sets']}, {figures['values'] / 1e6:.1f} M values",
        f"{1000 * middle['step']:.0f}",
        common.number(middle["pause"]),
        common.number(middle["whole"]),
        f"{common.number(middle['lost'])} ({low:.2f} to {high:.2f})",
        common.number(middle["cpu"]),
        f"{100 * figures['share']:.2f} %",
        f"{figures['disk'] / 1e6:.0f} ({figures['disk'] / figures['bytes']:.2f})",
        common.number(middle["restore"]),
    ]


def main() -> None:
    args = parse()
    where = common.machine(common.pin(args.cores))
    results = []
    for sets in args.sets:
        with tempfile.TemporaryDirectory(dir=args.folder) as folder:
            results.append(measure(args, sets, Path(folder)))
    header = ["sets", "step, ms", "save pauses training, s", "whole save, s",
              "training time lost to a save, s (range)", "CPU time of a save, s",
              f"share lost, a save every {args.every:.0f} s", "on disk, MB (of memory)",
              "restore, s"]  # fmt: skip
    print(f"BERT {args.sizes} with Adam's moments; jax {jax.__version__}; {where}\n")
    print(common.table(header, [row(args, figures) for figures in results]), end="\n\n")
    print(f"Medians of {args.turns} turns of {args.steps} steps.")
    common.write(args.out, {"machine": where, "every": args.every, "results": results})


if __name__ == "__main__":
    main()
