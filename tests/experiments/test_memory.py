"""What a step will take on each device, known before it starts."""

from __future__ import annotations

import dataclasses
import math

import jax
import pytest
import yaml

from relearn_jax import cli, loading
from relearn_jax.config import Parallel, Training
from relearn_jax.experiments import memory
from relearn_jax.experiments.concepts import chunks, setup
from relearn_jax.models import checkpoint, weights
from relearn_jax.parallel import mesh as meshes

ROWS, LENGTH, NEURONS = 24, 13, 256
SIZES = {"model_type": "gpt2", "n_layer": 4, "n_embd": 64, "n_head": 2, "vocab_size": 500}
BATCH = Training(batch_size=ROWS)


@pytest.fixture(scope="module")
def model():
    ck = checkpoint.open_checkpoint("random", settings=SIZES)
    return checkpoint.describe(ck, "token-classification", ("O", "B-LOC"), "float32", 0.0)


def grid(devices=1, count=1, **axes):
    return meshes.make(Parallel(**axes), count, jax.devices()[:devices])


def step(model, devices=1, settings=BATCH, **axes):
    return memory.step_bytes(model, settings, LENGTH, grid(devices, **axes), 1)


def state(model, devices, count, **axes):
    return memory.state_bytes(model, BATCH, grid(devices, count, **axes), count)


@pytest.fixture(scope="module")
def alone(model):
    return step(model)


def test_parameters_and_moments_are_what_shapes_say(model, alone):
    number = sum(math.prod(shape) for shape in weights.shapes(model).values())
    assert alone.params == 4 * number
    assert alone.moments == 2 * alone.params + 4, "two moments and the count"
    assert alone.temporary > alone.params, "gradients and a batch"


def test_what_is_shared_out_takes_less_on_each_device(model, alone):
    fsdp = step(model, 8, fsdp=8)
    assert fsdp.params < alone.params / 7
    assert fsdp.moments < alone.moments / 7
    assert fsdp.temporary < alone.temporary / 3, "rows and gradients; what is gathered stays"
    assert state(model, 8, 1, data=8) == alone[:2]


def test_sets_lie_on_their_own_devices(model, alone):
    assert state(model, 4, 4, sets=4) == alone[:2]
    assert state(model, 1, 3)[0] == 3 * alone.params
    assert state(model, 2, 3, sets=2)[0] == 2 * alone.params, "filled up to four"


def test_recomputing_and_parts_spare_activations(model, alone):
    again = dataclasses.replace(model, remat=True)
    parts = dataclasses.replace(BATCH, accumulate=4)
    assert step(again).temporary < alone.temporary
    assert step(model, settings=parts).temporary < alone.temporary


def test_no_device_computes_the_rows_of_all(model):
    """XLA, left to itself, may split the width instead, and then every device has all rows."""
    text = memory.compiled(model, BATCH, LENGTH, grid(8, fsdp=8), 1).as_text()
    assert f"[1,{ROWS // 8},{LENGTH},{NEURONS}]" in text
    assert f"[1,{ROWS},{LENGTH},{NEURONS}]" not in text


@pytest.fixture(scope="module")
def shape(tagger, tmp_path_factory):
    """A config of a random model over eight devices."""
    world = {"kind": "world", "sentences": 30}
    values = {
        "seeds": [0, 1, 2],
        "arms": ["concept"],
        "model": {
            "source": "random", "settings": SIZES | {"vocab_size": 30522, "n_positions": 64},
            "tokenizer": str(tagger.folder), "max_length": 48, "remat": True,
        },
        "data": {
            "train": world | {"split": "train"}, "evaluation": world | {"split": "test"},
            "buckets": [48],
        },
        "concepts": {"data": world | {"split": "dev"}},
        "parallel": {"data": 1, "fsdp": 4, "tensor": 2},
    }  # fmt: skip
    path = tmp_path_factory.mktemp("config") / "shape.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


def test_a_dry_run_says_what_a_random_model_takes(shape, capsys, monkeypatch):
    monkeypatch.setattr(memory, "step_bytes", lambda *_: memory.Bytes(2**30, 2**31, 2**29))
    assert cli.main(["run", str(shape), "--dry-run", "--sets.chunk=1"]) == 0
    said = capsys.readouterr().err
    assert "random (gpt2, 4 layers, 64 wide)" in said
    assert "3.50 GiB for a training step on each of 8 devices (fsdp 4 x tensor 2)" in said
    assert "sets there: 1" in said


def test_sets_that_share_devices_share_their_memory(shape, monkeypatch):
    ready = setup.prepare(loading.load(shape), shape.parent)
    assert ready.pretrained.model.remat
    each = chunks.bytes_of_set(ready)
    for memory_of_one, fitting in ((each // 10, 1), (each * 2 // 7, 2), (each, 3)):
        monkeypatch.setattr(chunks, "memory", lambda size=memory_of_one: size)
        assert chunks.size(ready) == fitting, "of three, on eight devices together"
