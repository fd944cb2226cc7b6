"""Checkpoints: what was saved comes back to the bit, or the one before does."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import threading
import time
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec, SingleDeviceSharding

from relearn_jax.errors import UserError
from relearn_jax.training import checkpoints
from relearn_jax.training.fingerprint import fingerprint

ROOT = Path(__file__).parents[2]


class State(NamedTuple):
    params: Any
    moments: Any
    step: Any
    key: Any
    nothing: Any = None


def state_of(step: int) -> State:
    """All kinds of leaves; every value a function of the step."""
    rng = np.random.default_rng(step)
    params = {
        "a/b": jnp.asarray(rng.normal(size=(16, 40)), jnp.float32),
        "layers": [jnp.asarray(rng.normal(size=8), jnp.bfloat16), jnp.arange(8) > step % 8],
    }
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.scale_by_adam())
    return State(params, optimizer.init(params), jnp.int32(step), jax.random.key(step))


def spread(state: Any, devices: int) -> Any:
    """Place arrays on a mesh: on all devices by their first axis where that can be cut."""
    mesh = Mesh(np.array(jax.devices()[:devices]), ("data",))

    def place(leaf: jax.Array) -> jax.Array:
        cut = leaf.ndim > 0 and leaf.shape[0] % devices == 0
        spec = PartitionSpec("data") if cut else PartitionSpec()
        return jax.device_put(leaf, NamedSharding(mesh, spec))

    return jax.tree.map(place, state)


def shapes(state: Any) -> Any:
    return jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), state
    )


def bits(state: Any) -> list[tuple]:
    def plain(leaf: jax.Array) -> np.ndarray:
        is_key = jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        return np.asarray(jax.random.key_data(leaf) if is_key else leaf)

    paths, _ = jax.tree_util.tree_flatten_with_path(state)
    return [(path, str(leaf.dtype), plain(leaf).tobytes()) for path, leaf in paths]


def restored(folder: Path, like: Any) -> tuple[Any, Any, list[str]]:
    said: list[str] = []
    found = checkpoints.restore(folder, lambda progress: shapes(like), said.append)
    return (*(found or (None, None)), said)


@pytest.mark.parametrize(
    ("before", "after"), [(1, 1), (8, 2), (2, 8)], ids=["one", "8-to-2", "2-to-8"]
)
def test_a_state_comes_back_to_the_bit_on_other_devices(tmp_path, before, after):
    state, asked = spread(state_of(3), before), spread(state_of(0), after)
    progress = {"epoch": 1, "round": None, "history": [{"loss": 0.1 + 0.2}, {"f1": float("inf")}]}
    with checkpoints.opened(tmp_path / "new" / "folder", 2) as checkpointer:
        checkpoints.save(checkpointer, 30, state, progress)
    found, seen, said = restored(tmp_path / "new" / "folder", asked)
    assert jax.tree.structure(found) == jax.tree.structure(state)
    assert bits(found) == bits(state)
    assert shapes(found) == shapes(asked)
    assert seen == progress
    assert said == []


def test_nothing_saved_is_none(tmp_path):
    with checkpoints.opened(tmp_path / "empty", 2):
        pass
    for name in ("empty", "absent"):
        assert checkpoints.restore(tmp_path / name, pytest.fail, pytest.fail) is None


@pytest.mark.parametrize("devices", [1, 8])
def test_donating_right_after_a_save_does_not_change_it(tmp_path, devices):
    step = jax.jit(lambda s: jax.tree.map(lambda x: x * 1.5 + 1, s), donate_argnums=0)

    def first() -> Any:
        return step(spread({"w": jnp.arange(1_600_000.0), "small": jnp.float32(1)}, devices))

    state = first()
    with checkpoints.opened(tmp_path / "all", 9) as checkpointer:
        for number in range(3):
            progress = {"done": [number]}
            checkpoints.save(checkpointer, number, state, progress)
            progress["done"].append("later")
            for _ in range(5):
                state = step(state)
    # The fingerprint was taken before, so that it alone would not tell.
    expected = first()
    for number in range(3):
        (tmp_path / "all" / str(number)).rename(tmp_path / str(number))
        found, progress, said = restored(tmp_path, expected)
        assert said == []
        assert progress == {"done": [number]}
        assert bits(found) == bits(expected)
        for _ in range(5):
            expected = step(expected)


def test_the_newest_stay_and_those_of_an_abandoned_line_go(tmp_path):
    def saved(*steps: int) -> set[str]:
        with checkpoints.opened(tmp_path, 2) as checkpointer:
            for step in steps:
                checkpoints.save(checkpointer, step, state_of(step), {"step": step})
        return {path.name for path in tmp_path.iterdir()}

    threads = threading.active_count()
    assert saved(8, 9, 10) == {"9", "10"}
    (tmp_path / "70.orbax-checkpoint-tmp" / "state").mkdir(parents=True)
    # Training went on from 9, as if 10 were damaged: what is saved now must not count as old.
    assert saved(9) == {"9"}
    assert saved(5) == {"5"}
    ends = time.monotonic() + 20
    while threading.active_count() > threads + 1:
        assert time.monotonic() < ends, "threads of finished saves stay"
        time.sleep(0.1)
    with checkpoints.opened(tmp_path, 2) as checkpointer:
        checkpoints.save(checkpointer, 6, state_of(6), {}, wait=True)
        assert restored(tmp_path, state_of(0))[0].step == 6


def array_file(place: Path) -> Path:
    return max((p for p in place.rglob("*") if p.is_file()), key=lambda p: p.stat().st_size)


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def rewrite(old: str, new: str, path: Path) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


DAMAGE = {
    "flipped bit in an array": (array_file, flip, "params/big"),
    "array cut off": (array_file, cut, "arrays cannot be read"),
    "array missing": (array_file, Path.unlink, "arrays cannot be read"),
    "list of arrays missing": (lambda p: p / "state/_METADATA", Path.unlink, "arrays cannot"),
    "types missing": (lambda p: p / "state/array_metadatas/process_0", Path.unlink, "types"),
    "progress cut off": (lambda p: p / "_CHECKPOINT_METADATA", cut, "progress cannot be read"),
    "progress missing": (lambda p: p / "_CHECKPOINT_METADATA", Path.unlink, "progress cannot"),
    "progress changed": (
        lambda p: p / "_CHECKPOINT_METADATA",
        partial(rewrite, '"batch": 20', '"batch": 21'),
        "progress is damaged",
    ),
    "folder renamed": (lambda p: p, lambda p: p.rename(p.with_name("21")), "progress is damaged"),
}  # fmt: skip


def small(step: int) -> Any:
    return {"params": {"big": state_of(step).params["a/b"]}, "key": jax.random.key(step)}


@pytest.fixture(scope="module")
def two_saved(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("two")
    with checkpoints.opened(folder, 2) as checkpointer:
        for step in (10, 20):
            checkpoints.save(checkpointer, step, small(step), {"batch": step})
    return folder


OFTEN = {"flipped bit in an array", "array missing", "progress cut off", "progress changed"}


@pytest.mark.parametrize(
    "kind", [pytest.param(k, marks=() if k in OFTEN else pytest.mark.slow) for k in DAMAGE]
)
def test_damage_is_named_and_the_checkpoint_before_is_used(
    two_saved, tmp_path, kind, capfd, caplog
):
    find, harm, reason = DAMAGE[kind]
    shutil.copytree(two_saved, tmp_path, dirs_exist_ok=True)
    harm(find(tmp_path / "20"))
    found, progress, (line,) = restored(tmp_path, small(0))
    assert progress == {"batch": 10}
    assert bits(found) == bits(small(10))
    assert str(tmp_path / "2") in line
    assert reason in line
    assert "the one before it, 10" in line
    assert capfd.readouterr() == ("", "")
    assert caplog.text == "", "Orbax speaks too"


def test_training_goes_on_beside_damaged_checkpoints(two_saved, tmp_path):
    shutil.copytree(two_saved, tmp_path, dirs_exist_ok=True)
    flip(tmp_path / "20" / "_CHECKPOINT_METADATA")
    cut(tmp_path / "10" / "_CHECKPOINT_METADATA")
    with checkpoints.opened(tmp_path, 1) as checkpointer:
        checkpoints.save(checkpointer, 15, small(15), {"batch": 15})
    assert [path.name for path in tmp_path.iterdir()] == ["15"]
    flip(array_file(tmp_path / "15"))
    found, _, (line,) = restored(tmp_path, small(0))
    assert found is None
    assert "none before" in line


def test_another_state_is_not_taken_for_this_one(tmp_path):
    with checkpoints.opened(tmp_path, 2) as checkpointer:
        checkpoints.save(checkpointer, 1, {"w": jnp.ones((4, 6))}, {})
    for other in (
        {"v": jnp.ones((4, 6))},
        {"w": jnp.ones((6, 4))},
        {"w": jnp.ones((4, 6), "int32")},
    ):
        found, _, said = restored(tmp_path, other)
        assert found is None
        assert len(said) == 1


def test_a_save_that_fails_is_reported_and_leaves_those_before(tmp_path, capfd):
    place, moved = tmp_path / "place", tmp_path / "moved"

    def save_two() -> None:
        with checkpoints.opened(place, 2) as checkpointer:
            checkpoints.save(checkpointer, 1, {"w": jnp.ones(3)}, {"n": 1}, wait=True)
            place.rename(moved)
            place.write_text("in the way")
            checkpoints.save(checkpointer, 2, {"w": jnp.ones(3)}, {"n": 2})

    with checkpoints.opened(tmp_path / "first", 2) as checkpointer:
        checkpoints.save(checkpointer, 1, {"w": jnp.ones(3)}, {}, wait=True)
    threads = threading.active_count()
    with pytest.raises(UserError, match="cannot write a checkpoint"):
        save_two()
    for _ in range(50):
        if threading.active_count() > threads:
            time.sleep(0.1)
    assert threading.active_count() <= threads, "parts of the save wait for others that failed"
    assert restored(moved, {"w": jnp.zeros(3)})[1:] == ({"n": 1}, [])
    assert capfd.readouterr().err == ""


SAVE_ON_AND_ON = """
import sys, itertools
from pathlib import Path
import jax, jax.numpy as jnp
from relearn_jax.training import checkpoints

state = {"w": jax.random.normal(jax.random.key(0), (1_000_000,)), "step": jnp.int32(0)}
advance = jax.jit(lambda s: jax.tree.map(lambda x: x + 1, s), donate_argnums=0)
with checkpoints.opened(Path(sys.argv[1]), 2) as checkpointer:
    for step in itertools.count(1):
        state = advance(state)
        checkpoints.save(checkpointer, step, state, {"step": step, "history": list(range(step))})
"""


@pytest.mark.parametrize(
    "delay",
    [pytest.param(0.0, marks=pytest.mark.slow), 0.01, pytest.param(0.04, marks=pytest.mark.slow)],
)
def test_killed_during_a_save_the_newest_whole_checkpoint_is_found(tmp_path, delay):
    """At the sight of the folder of an unfinished save, or a moment later, kill -9."""
    child = subprocess.Popen([sys.executable, "-c", SAVE_ON_AND_ON, str(tmp_path)], cwd=ROOT)
    try:
        end = time.monotonic() + 60
        while not (steps := whole(tmp_path)) or not list(tmp_path.glob("*-tmp")):
            assert time.monotonic() < end
            assert child.poll() is None
        time.sleep(delay)
    finally:
        child.send_signal(signal.SIGKILL)
        child.wait()

    device = SingleDeviceSharding(jax.devices()[0])
    like = {"w": jax.ShapeDtypeStruct((1_000_000,), "float32", sharding=device),
            "step": jax.ShapeDtypeStruct((), "int32", sharding=device)}  # fmt: skip
    state, progress = checkpoints.restore(tmp_path, lambda progress: like, pytest.fail)
    step = progress["step"]
    assert step == max(whole(tmp_path)) >= max(steps)
    assert progress["history"] == list(range(step))
    assert int(state["step"]) == step
    expected = jax.random.normal(jax.random.key(0), (1_000_000,))
    for _ in range(step):
        expected = expected + 1
    assert fingerprint({"w": state["w"]}) == fingerprint({"w": expected})

    with checkpoints.opened(tmp_path, 2) as checkpointer:
        checkpoints.save(checkpointer, step + 1, state, {})
    assert {path.name for path in tmp_path.iterdir()} <= {str(step), str(step + 1)}


def whole(folder: Path) -> list[int]:
    return [int(path.name) for path in folder.iterdir() if path.name.isdecimal()]
