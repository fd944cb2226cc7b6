"""Four layers of GPT-2 XL, shared out over eight simulated devices, take two real steps.

    python scripts/large_slice.py --fsdp 2 --tensor 4

Full width (1,600), full vocabulary (50,257), random weights; bfloat16, recomputed blocks, a loss in
chunks, AdamW. The same steps are then taken in float32 on one device: the losses must agree. On two
CPU cores this takes about two minutes and 8 GiB. Simulated devices share one memory, so what the
process takes is about eight times what a device takes.
"""

from __future__ import annotations

import argparse
import dataclasses
import resource
import time
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np

from relearn_jax.config import Parallel, Training
from relearn_jax.data.batching import TokenBatch
from relearn_jax.experiments import memory
from relearn_jax.models import checkpoint
from relearn_jax.models.inputs import Inputs
from relearn_jax.models.transformer import Model
from relearn_jax.parallel import drivers, sharding, stacking
from relearn_jax.parallel import mesh as meshes
from relearn_jax.training import losses, optimizer
from relearn_jax.training.step import Round, State, start

SHAPE = {"model_type": "gpt2", "n_embd": 1600, "n_head": 25, "vocab_size": 50257}
ROWS, LENGTH, STEPS = 8, 64, 2
SETTINGS = Training(batch_size=ROWS, learning_rate=1e-4)
TOLERANCE = {"float32": 1e-5, "bfloat16": 2e-3}
"""Of a loss, relative to that of one device in float32."""
GIB = 2**30


class Found(NamedTuple):
    """What a run of a few steps shows."""

    losses: list[float]
    seconds: list[float]
    bytes: memory.Bytes
    share: float
    """The largest share of a matrix, or of its moments, that one device holds."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--fsdp", type=int, default=2)
    parser.add_argument("--tensor", type=int, default=4)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--dtype", choices=tuple(TOLERANCE), default="bfloat16")
    options = parser.parse_args()
    jax.config.update("jax_num_cpu_devices", options.fsdp * options.tensor)
    jax.config.update("jax_platforms", "cpu")

    ck = checkpoint.open_checkpoint("random", settings=SHAPE | {"n_layer": options.layers})
    model = checkpoint.describe(ck, "language-model", dtype=options.dtype, remat=True)
    before = peak()
    found = run(
        ck, model, meshes.make(Parallel(data=1, fsdp=options.fsdp, tensor=options.tensor), 1)
    )
    taken = peak() - before
    show(f"fsdp {options.fsdp} x tensor {options.tensor}, {options.dtype}", found)
    devices = options.fsdp * options.tensor
    print(
        f"  computed for {devices} devices {devices * sum(found.bytes) / GIB:.2f} GiB, the process "
        f"grew by {taken / GIB:.2f} GiB"
    )
    exact = dataclasses.replace(model, dtype="float32")
    alone = run(ck, exact, meshes.make(Parallel(data=1), 1, jax.devices()[:1]))
    show("one device, float32", alone)

    assert found.share < 1, "a matrix is whole on one device"
    np.testing.assert_allclose(found.losses, alone.losses, rtol=TOLERANCE[options.dtype])
    print(f"losses agree to {max(np.abs(np.divide(found.losses, alone.losses) - 1)):.1e}")


def run(ck: checkpoint.Checkpoint, model: Model, mesh: jax.sharding.Mesh) -> Found:
    """Draw parameters on their shards and take the steps."""
    direction = optimizer.direction(SETTINGS)
    step = memory.compiled(model, SETTINGS, LENGTH, mesh, 1)
    params, _ = checkpoint.load(ck, model, jax.random.key(0), sharding.placer(mesh))

    @partial(jax.jit, donate_argnums=0)
    def begin(params: Any) -> State:
        state = jax.vmap(lambda one: start(one, direction))(params)
        return sharding.constrain(state, mesh, sets_axis=True)

    state = begin(stacking.stack(mesh, [params]))
    del params
    keys = stacking.per_set(mesh, [np.uint32(0)])
    schedule = optimizer.schedule(SETTINGS, 10)
    round_ = Round(
        optimizer.Schedule(*(stacking.per_set(mesh, [value]) for value in schedule)),
        jax.jit(jax.vmap(jax.random.key), out_shardings=keys.sharding)(keys),
    )
    found, seconds = [], []
    for _ in range(STEPS):
        clock = time.perf_counter()
        state, sums = step(state, drivers.put(mesh, {losses.TASK: batch()}), round_)
        found.append(float(sums.loss[0]))
        seconds.append(time.perf_counter() - clock)
    sizes = memory.Bytes(
        *memory.state_bytes(model, SETTINGS, mesh, 1),
        int(step.memory_analysis().temp_size_in_bytes),
    )
    return Found(found, seconds, sizes, largest_share(state))


def batch() -> TokenBatch:
    """Random tokens; each is to be guessed from those before it. All steps take the same ones."""
    rng = np.random.default_rng(0)
    ids = rng.integers(0, SHAPE["vocab_size"], (ROWS, LENGTH)).astype(np.int32)
    inputs = Inputs(ids, np.ones((ROWS, LENGTH), bool))
    return TokenBatch(
        inputs, np.asarray(losses.next_tokens(inputs)), np.arange(ROWS, dtype=np.int32)
    )


def largest_share(state: State) -> float:
    """Over all leaves with more than a million entries: all but biases and norms."""
    return max(
        shard.data.size / leaf.size
        for leaf in jax.tree.leaves((state.params, state.moments))
        for shard in leaf.addressable_shards
        if leaf.size > 1e6
    )


def show(title: str, found: Found) -> None:
    print(title)
    print("  loss", *(f"{x:.5f}" for x in found.losses))
    print("  seconds of a step", *(f"{x:.1f}" for x in found.seconds))
    parts = zip(found.bytes._fields, found.bytes, strict=True)
    print("  GiB on each device", *(f"{name} {size / GIB:.2f}" for name, size in parts))


def peak() -> int:
    """The most memory that the process has ever had, in bytes (Linux)."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


if __name__ == "__main__":
    main()
