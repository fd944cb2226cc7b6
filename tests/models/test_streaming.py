"""Weights go from their files straight onto shards: same values, nothing whole, little memory."""

from __future__ import annotations

import json
import math
import tracemalloc

import jax
import numpy as np
import pytest
from parity import FAMILIES, LABELS, golden_of, of_each, opened, part
from safetensors.numpy import save_file

from relearn_jax import config
from relearn_jax.errors import UserError
from relearn_jax.models import checkpoint, paths, streaming, weights
from relearn_jax.parallel import mesh, sharding

SIZES = {"model_type": "gpt2", "vocab_size": 1000, "n_embd": 128, "n_layer": 8, "n_head": 2}


@pytest.fixture(scope="module")
def grid():
    """Two rows of sentences, each with parameters over fsdp 2 x tensor 2."""
    return mesh.make(config.Parallel(data=2, fsdp=2, tensor=2), 1)


@pytest.fixture(scope="module")
def many():
    """Two models, each on four devices of its own."""
    return mesh.make(config.Parallel(sets=2, data=1, fsdp=2, tensor=2), 2)


def drawn(settings, task="token-classification"):
    ck = checkpoint.open_checkpoint("random", settings=settings)
    return ck, checkpoint.describe(ck, task, LABELS)


def assert_sharded(params, grid, sets_axis=False):
    """Every leaf lies as the rules say, and what they split is whole on no device."""
    split = 0
    for path, leaf in paths.flatten(params).items():
        spec = sharding.spec(path, leaf.shape, grid, sets_axis)
        assert leaf.sharding.spec == spec, path
        parts = math.prod(grid.shape[axis] for axis in spec if axis)
        assert all(s.data.size == leaf.size // parts for s in leaf.addressable_shards), path
        split += parts > 1
    assert split > 5


def assert_same(a, b):
    a, b = paths.flatten(a), paths.flatten(b)
    assert list(a) == list(b)
    for path in a:
        assert b[path].dtype == np.float32
        np.testing.assert_array_equal(a[path], b[path], err_msg=path)


@pytest.mark.parametrize("family", of_each(FAMILIES, "distilbert", "gpt2", "gemma2"))
def test_sharded_parameters_are_the_plain_ones(family, tmp_path, grid):
    """Transposed and stacked leaves among them, and a head that has to be drawn."""
    settings, arrays = golden_of(family)
    tensors = part(arrays, "weights/")
    bare = {k: v for k, v in tensors.items() if not k.startswith(("classifier", "score"))}
    ck = opened(tmp_path / "model", settings, bare)
    model = checkpoint.describe(ck, "token-classification", LABELS)
    plain, fresh = checkpoint.load(ck, model, jax.random.key(3))
    spread, again = checkpoint.load(ck, model, jax.random.key(3), sharding.placer(grid))
    assert fresh == again == ("head/classifier/bias", "head/classifier/kernel")
    assert_same(plain, spread)
    assert_sharded(spread, grid)


def test_half_precision_files_become_float32(tmp_path, grid):
    settings, arrays = golden_of("gpt2")
    tensors = {k: v.astype(np.float16) for k, v in part(arrays, "weights/").items()}
    ck = opened(tmp_path / "model", settings, tensors)
    model = checkpoint.describe(ck, "token-classification", LABELS)
    plain, _ = checkpoint.load(ck, model, jax.random.key(0))
    spread, _ = checkpoint.load(ck, model, jax.random.key(0), sharding.placer(grid))
    assert_same(plain, spread)


def test_our_own_files_are_read_side_by_side_onto_shards(tmp_path, many):
    ck, model = drawn(SIZES)
    both = [checkpoint.load(ck, model, jax.random.key(seed))[0] for seed in (0, 1)]
    files = [tmp_path / f"{seed}.safetensors" for seed in (0, 1)]
    for params, file in zip(both, files, strict=True):
        save_file(paths.flatten(params), file)
    again = weights.read_stacked(files, sharding.placer(many, sets_axis=True))
    for c, params in enumerate(both):
        one = jax.tree.map(lambda leaf, c=c: leaf[c], again)
        assert_same(dict(sorted(params.items())), one)
    assert_sharded(again, many, sets_axis=True)


@pytest.mark.parametrize("task", ["token-classification", "backbone"])
def test_models_side_by_side_are_those_loaded_one_by_one(tmp_path, many, task):
    """With a drawn head each, and with everything from the files."""
    settings, arrays = golden_of("bert")
    tensors = {k: v for k, v in part(arrays, "weights/").items() if not k.startswith("classifier")}
    ck = opened(tmp_path / "model", settings, tensors)
    model = checkpoint.describe(ck, task, LABELS)
    keys = jax.random.split(jax.random.key(0), 2)
    places = (sharding.placer(many), sharding.placer(many, sets_axis=True))
    together = checkpoint.load_stacked(ck, model, keys, *places)
    assert_sharded(together, many, sets_axis=True)
    for c, key in enumerate(keys):
        one = jax.tree.map(lambda leaf, c=c: leaf[c], together)
        assert_same(checkpoint.load(ck, model, key)[0], one)


def test_random_parameters_are_drawn_on_their_shards(grid):
    """The same values as on one device, from the settings and the key alone."""
    ck, model = drawn(SIZES, "language-model")
    plain, fresh = checkpoint.load(ck, model, jax.random.key(5))
    assert set(fresh) == set(weights.shapes(model))
    spread, _ = checkpoint.load(ck, model, jax.random.key(5), sharding.placer(grid))
    assert_sharded(spread, grid)
    assert_same(plain, spread)
    other, _ = checkpoint.load(ck, model, jax.random.key(6))
    assert np.abs(plain["blocks"]["up"]["kernel"] - other["blocks"]["up"]["kernel"]).max() > 0
    assert checkpoint.digest(ck) == checkpoint.digest(drawn(SIZES)[0])
    assert checkpoint.digest(ck) != checkpoint.digest(drawn(SIZES | {"n_layer": 7})[0])


def test_random_needs_settings_and_nothing_else_takes_them(tmp_path):
    with pytest.raises(UserError, match="model_type"):
        checkpoint.open_checkpoint("random")
    with pytest.raises(UserError, match=r"model\.settings"):
        checkpoint.open_checkpoint(str(tmp_path), settings=SIZES)
    with pytest.raises(UserError, match="n_embed"):
        drawn(SIZES | {"n_embed": 3})


def peak(load):
    """Host bytes held at the worst moment, above those that stay."""
    tracemalloc.start()
    params = load()
    stays, worst = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert params
    return worst - stays


def test_the_host_holds_no_more_than_one_leaf(tmp_path, grid):
    """Above what stays: on CPU a device may use a NumPy array's memory as its own."""
    ck, model = drawn(SIZES, "language-model")
    params, _ = checkpoint.load(ck, model, jax.random.key(0))
    checkpoint.save(tmp_path, model, params, SIZES)
    (tmp_path / "config.json").write_text(json.dumps(SIZES))
    save_file(paths.flatten(params), tmp_path / "params.safetensors")
    ck = checkpoint.open_checkpoint(str(tmp_path))
    place = sharding.placer(grid)
    leaves = [leaf.nbytes for leaf in jax.tree.leaves(params)]
    assert max(leaves) < sum(leaves) / 3

    checkpoint.load(ck, model, jax.random.key(0), place)  # what is imported or cached on the way
    assert peak(lambda: checkpoint.load(ck, model, jax.random.key(0), place)) < max(leaves)
    stacked, file = sharding.placer(grid, sets_axis=True), tmp_path / "params.safetensors"
    assert peak(lambda: weights.read_stacked([file], stacked)) < max(leaves)


def test_a_shard_is_read_once_however_many_devices_hold_it(grid):
    asked = []

    def part(index):
        asked.append(index)
        return leaf[index]

    leaf = np.arange(4 * 8 * 6, dtype=np.float32).reshape(4, 8, 6)
    place = sharding.placer(grid)("blocks/up/kernel", leaf.shape)
    np.testing.assert_array_equal(streaming.put(part, leaf.shape, place), leaf)
    assert len(asked) == 4, "8 devices hold them"
    assert sum(leaf[index].size for index in asked) == leaf.size
