"""The one mask: what it removes is exactly what it counts."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from relearn_jax.models import masks, paths
from relearn_jax.models.masks import Mask

LEAVES = {"blocks/attention_norm/scale": 1}
MLP_LEAVES = {"blocks/up/kernel": 2, "blocks/up/bias": 1, "blocks/down/kernel": 1}


@pytest.fixture
def params():
    """Three blocks of width 4 with 5 feed-forward neurons, and an embedding beside them."""
    shapes = {
        "embedding": (9, 4),
        "blocks": {
            "attention_norm": {"scale": (3, 4), "bias": (3, 4)},
            "up": {"kernel": (3, 4, 5), "bias": (3, 5)},
            "down": {"kernel": (3, 5, 4), "bias": (3, 4)},
        },
    }
    rng = np.random.default_rng(1)
    return jax.tree.map(
        lambda s: jnp.asarray(rng.uniform(1, 2, s), jnp.float32),
        shapes,
        is_leaf=lambda x: isinstance(x, tuple),
    )


def shapes(params):
    return {path: leaf.shape for path, leaf in paths.flatten(params).items()}


def zeros(params):
    return sum(int((leaf == 0).sum()) for leaf in jax.tree.leaves(params))


def test_row_l_of_the_states_prunes_the_gain_of_block_l_minus_1(params):
    pruned = np.zeros((4, 4), bool)
    pruned[1, 2] = pruned[3, 0] = True
    mask = masks.of_neurons(pruned, "states", LEAVES, shapes(params))
    result = masks.remove(params, mask)
    expected = np.array(params["blocks"]["attention_norm"]["scale"])
    expected[0, 2] = expected[2, 0] = 0
    np.testing.assert_array_equal(result["blocks"]["attention_norm"]["scale"], expected)
    before, after = paths.flatten(params), paths.flatten(result)
    for path in before:
        assert before[path].dtype == after[path].dtype
        if path not in LEAVES:
            np.testing.assert_array_equal(before[path], after[path])
    assert masks.count(mask, shapes(params)) == zeros(result) == 2


def test_a_feed_forward_neuron_loses_its_column_its_bias_and_its_row(params):
    pruned = np.zeros((3, 5), bool)
    pruned[0, 4] = pruned[2, 1] = True
    mask = masks.of_neurons(pruned, "mlp", MLP_LEAVES, shapes(params))
    result = masks.remove(params, mask)
    blocks = result["blocks"]
    for layer, neuron in ((0, 4), (2, 1)):
        assert not blocks["up"]["kernel"][layer, :, neuron].any()
        assert blocks["up"]["bias"][layer, neuron] == 0
        assert not blocks["down"]["kernel"][layer, neuron].any()
    assert zeros(result) == masks.count(mask, shapes(params)) == 2 * (4 + 1 + 4)


def test_a_mask_keeps_a_narrow_dtype(params):
    narrow = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), params)
    mask = masks.of_neurons(np.ones((3, 5), bool), "mlp", MLP_LEAVES, shapes(params))
    result = masks.remove(narrow, mask)
    assert {leaf.dtype for leaf in jax.tree.leaves(result)} == {jnp.dtype(jnp.bfloat16)}


def test_a_mask_that_does_not_fit_is_refused(params):
    embedding = np.zeros((4, 4), bool)
    embedding[0, 1] = True
    with pytest.raises(ValueError, match="state 0"):
        masks.of_neurons(embedding, "states", LEAVES, shapes(params))
    with pytest.raises(ValueError, match="attention_norm/scale has shape"):
        masks.of_neurons(np.zeros((4, 3), bool), "states", LEAVES, shapes(params))
    with pytest.raises(ValueError, match="blocks/gone has shape None"):
        masks.of_neurons(np.zeros((4, 4), bool), "states", {"blocks/gone": 1}, shapes(params))


@pytest.mark.parametrize(
    ("site", "leaves", "shape"), [("states", LEAVES, (4, 4)), ("mlp", MLP_LEAVES, (3, 5))]
)
def test_masks_side_by_side_do_what_each_does_alone(params, site, leaves, shape):
    rng = np.random.default_rng(3)
    pruned = rng.random((3, *shape)) < 0.5
    if site == "states":
        pruned[:, 0] = False

    def prune(pruned, params):
        return masks.remove(params, masks.of_neurons(pruned, site, leaves, shapes(params)))

    together = jax.jit(jax.vmap(prune, in_axes=(0, None)))(pruned, params)
    for c, rows in enumerate(pruned):
        alone = prune(rows, params)
        for x, y in zip(jax.tree.leaves(together), jax.tree.leaves(alone), strict=True):
            np.testing.assert_array_equal(x[c], y)


def test_union_and_intersection_count_what_they_remove(params):
    rng = np.random.default_rng(0)
    every = shapes(params)
    a = masks.of_neurons(rng.random((3, 5)) < 0.5, "mlp", MLP_LEAVES, every)
    b = Mask({"blocks/up/kernel": rng.random((3, 4, 1)) < 0.5, "embedding": np.ones((9, 1), bool)})
    both, either = masks.intersection(a, b), masks.union(a, b)
    assert zeros(masks.remove(params, either)) == masks.count(either, every)
    assert masks.count(both, every) + masks.count(either, every) == sum(
        masks.count(mask, every) for mask in (a, b)
    )
    rest = masks.remove(masks.remove(params, a), masks.complement(a))
    assert all((paths.flatten(rest)[path] == 0).all() for path in MLP_LEAVES)


def test_nothing_marked_changes_nothing(params):
    mask = masks.of_neurons(np.zeros((3, 5), bool), "mlp", MLP_LEAVES, shapes(params))
    for same in (masks.remove(params, mask), masks.remove(params, None)):
        jax.tree.map(np.testing.assert_array_equal, same, params)
    assert masks.count(mask, shapes(params)) == 0
