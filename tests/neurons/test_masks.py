from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from relearn_jax.config import Prune
from relearn_jax.errors import UserError
from relearn_jax.neurons import masks

S, D = 7, 768
LEAVES = {"blocks/attention_norm/scale": 1}
MLP_LEAVES = {"blocks/up/kernel": 2, "blocks/up/bias": 1, "blocks/down/kernel": 1}


@pytest.fixture
def scores():
    return np.random.default_rng(0).permutation(S * D).reshape(S, D).astype(float)


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


def pruned(mask):
    return ~np.asarray(mask.keep)


def test_half_of_all_neurons_from_those_that_may_be_pruned(scores):
    chosen = masks.select(scores, Prune())
    assert chosen.requested == chosen.pruned == masks.pruned_count(chosen.mask) == 2688
    gone = pruned(chosen.mask)
    assert not gone[0].any()
    assert scores[gone].min() > scores[1:][~gone[1:]].max()


def test_never_more_than_there_are_to_prune(scores):
    chosen = masks.select(scores, Prune(fraction=1.0))
    assert chosen.pruned == 6 * D
    assert not pruned(chosen.mask)[0].any()
    assert masks.select(scores, Prune(fraction=1.0), "mlp").pruned == S * D


def test_count_overrides_fraction_and_fractions_do_not_lose_a_neuron_to_rounding(scores):
    assert masks.select(scores, Prune(count=17)).pruned == 17
    assert masks.select(scores[:2, :50], Prune(fraction=0.29)).requested == 29


def test_per_layer_takes_the_best_of_each_layer_alike(scores):
    gone = pruned(masks.select(scores, Prune(scope="per_layer")).mask)
    assert gone.sum(1).tolist() == [0] + [448] * 6
    for row in range(1, S):
        assert scores[row][gone[row]].min() > scores[row][~gone[row]].max()


def test_faithful_reproduces_the_published_wrap_around():
    """Protocol 4.3: 3,000 nominal ids, of them 333 in state 0, prune 2,757 distinct gains."""
    nominal = [333, 363, 345, 400, 452, 543, 564]
    scores = np.random.default_rng(2).random((S, D))
    for row, number in enumerate(nominal[1:], start=1):
        scores[row, :number] += 1
    # Of the channels of state 0, 243 are pruned in the last row anyhow.
    scores[0, 564 - 243 : 564 - 243 + 333] += 1
    chosen = masks.select(scores, Prune(count=3000, embedding_state="faithful"))
    assert (chosen.requested, chosen.pruned) == (3000, 2757)
    gone = pruned(chosen.mask)
    assert gone.sum(1).tolist() == [0, 363, 345, 400, 452, 543, 654]
    np.testing.assert_array_equal(np.flatnonzero(gone[-1]), np.arange(654))
    half = masks.select(scores, Prune(embedding_state="faithful"))
    assert half.requested == 2688
    assert half.pruned == masks.pruned_count(half.mask) <= 2688


def test_faithful_per_layer_gives_state_0_its_share(scores):
    chosen = masks.select(scores, Prune(scope="per_layer", embedding_state="faithful"))
    gone = pruned(chosen.mask)
    assert chosen.requested == 2688
    assert gone.sum(1)[:6].tolist() == [0] + [384] * 5
    assert gone[6].sum() == chosen.pruned - 5 * 384 > 384


def test_feed_forward_neurons_have_no_embedding_state(scores):
    chosen = masks.select(scores, Prune(embedding_state="faithful"), "mlp")
    assert chosen.pruned == chosen.requested == 2688
    assert pruned(chosen.mask)[0].any()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (Prune(fraction=0.0), r"\(0, 1\]"),
        (Prune(fraction=1.2), r"\(0, 1\]"),
        (Prune(fraction=-0.1), r"\(0, 1\]"),
        (Prune(fraction=float("nan")), r"\(0, 1\]"),
        (Prune(fraction=1e-5), "selects nothing"),
        (Prune(count=0), "between 1 and 4608"),
        (Prune(count=4609), "between 1 and 4608"),
        (Prune(count=5, scope="per_layer"), "nothing is pruned"),
    ],
)
def test_what_cannot_be_pruned_is_refused(scores, settings, message):
    with pytest.raises(UserError, match=message):
        masks.select(scores, settings)


def test_scores_of_a_concept_without_words_prune_nothing(scores):
    with pytest.raises(UserError, match="no neuron has a score"):
        masks.select(np.full_like(scores, np.nan), Prune())


def test_random_control_is_uniform_over_what_may_be_pruned(scores):
    concept = masks.select(scores, Prune(count=900)).mask
    total = np.zeros((S, D))
    for seed in range(40):
        control = masks.random(concept, seed)
        assert masks.pruned_count(control) == 900
        total += pruned(control)
    assert not total[0].any()
    # 768 * 40 * 900 / 4608 = 6000 in each row, with a standard deviation of about 65.
    np.testing.assert_allclose(total[1:].sum(1), 6000, atol=300)
    assert (pruned(masks.random(concept, 1)) == pruned(masks.random(concept, 1))).all()
    assert (pruned(masks.random(concept, 1)) != pruned(masks.random(concept, 2))).any()


def test_layer_matched_control_has_the_concepts_counts_by_layer(scores):
    scores = scores + 500 * np.arange(S)[:, None]
    concept = masks.select(scores, Prune(count=1500)).mask
    control = masks.layer_matched(concept, seed=4)
    np.testing.assert_array_equal(pruned(control).sum(1), pruned(concept).sum(1))
    assert (pruned(control) != pruned(concept)).any()


@pytest.mark.parametrize("scope", ["pooled", "per_layer"])
def test_bottom_control_is_the_other_end_of_the_ranking(scores, scope):
    concept = masks.select(scores, Prune(count=1500, scope=scope)).mask
    gone = pruned(masks.bottom(concept, scores, scope))
    assert gone.sum() == 1500
    assert not gone[0].any()
    assert not (gone & pruned(concept)).any()
    if scope == "pooled":
        assert scores[gone].max() < scores[1:][~gone[1:]].min()
    else:
        assert gone.sum(1).tolist() == [0] + [250] * 6


def test_controls_match_the_effective_count_of_a_faithful_mask(scores):
    chosen = masks.select(scores, Prune(count=3000, embedding_state="faithful"))
    assert chosen.pruned < 3000
    controls = (
        masks.random(chosen.mask, 0),
        masks.layer_matched(chosen.mask, 0),
        masks.bottom(chosen.mask, scores),
    )
    assert [masks.pruned_count(control) for control in controls] == [chosen.pruned] * 3


def test_row_l_of_the_states_prunes_the_gain_of_block_l_minus_1(params):
    keep = np.ones((4, 4), bool)
    keep[1, 2] = keep[3, 0] = False
    mask = masks.NeuronMask(keep, "states")
    result = masks.apply(params, masks.expand(mask, params, LEAVES))
    expected = np.array(params["blocks"]["attention_norm"]["scale"])
    expected[0, 2] = expected[2, 0] = 0
    np.testing.assert_array_equal(result["blocks"]["attention_norm"]["scale"], expected)
    before, after = (jax.tree.leaves_with_path(tree) for tree in (params, result))
    for (path, x), (_, y) in zip(before, after, strict=True):
        assert x.dtype == y.dtype
        if "scale" not in jax.tree_util.keystr(path):
            np.testing.assert_array_equal(x, y)
    assert masks.parameter_count(mask, params, LEAVES) == 2


def test_a_feed_forward_neuron_loses_its_column_its_bias_and_its_row(params):
    keep = np.ones((3, 5), bool)
    keep[0, 4] = keep[2, 1] = False
    mask = masks.NeuronMask(keep, "mlp")
    blocks = masks.apply(params, masks.expand(mask, params, MLP_LEAVES))["blocks"]
    for layer, neuron in ((0, 4), (2, 1)):
        assert not blocks["up"]["kernel"][layer, :, neuron].any()
        assert blocks["up"]["bias"][layer, neuron] == 0
        assert not blocks["down"]["kernel"][layer, neuron].any()
    zeros = sum(int((leaf == 0).sum()) for leaf in jax.tree.leaves(blocks))
    assert zeros == masks.parameter_count(mask, params, MLP_LEAVES) == 2 * (4 + 1 + 4)


def test_apply_keeps_a_narrow_dtype(params):
    narrow = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), params)
    mask = masks.NeuronMask(np.zeros((3, 5), bool), "mlp")
    result = masks.apply(narrow, masks.expand(mask, narrow, MLP_LEAVES))
    assert {leaf.dtype for leaf in jax.tree.leaves(result)} == {jnp.dtype(jnp.bfloat16)}


def test_a_mask_that_does_not_fit_is_refused(params):
    embedding = np.ones((4, 4), bool)
    embedding[0, 1] = False
    with pytest.raises(ValueError, match="state 0"):
        masks.expand(masks.NeuronMask(embedding, "states"), params, LEAVES)
    narrow = masks.NeuronMask(np.ones((4, 3), bool), "states")
    with pytest.raises(ValueError, match="attention_norm/scale has shape"):
        masks.expand(narrow, params, LEAVES)
    with pytest.raises(ValueError, match="blocks/gone is missing"):
        masks.expand(masks.NeuronMask(np.ones((4, 4), bool), "states"), params, {"blocks/gone": 1})


@pytest.mark.parametrize(
    ("site", "leaves", "shape"), [("states", LEAVES, (4, 4)), ("mlp", MLP_LEAVES, (3, 5))]
)
def test_masks_side_by_side_do_what_each_does_alone(params, site, leaves, shape):
    rng = np.random.default_rng(3)
    keep = rng.random((3, *shape)) < 0.5
    if site == "states":
        keep[:, 0] = True
    several = [masks.NeuronMask(k, site) for k in keep]

    def prune(mask, params):
        return masks.apply(params, masks.expand(mask, params, leaves))

    together = jax.jit(jax.vmap(prune, in_axes=(0, None)))(masks.stack(several), params)
    for c, mask in enumerate(several):
        alone = prune(mask, params)
        for x, y in zip(jax.tree.leaves(together), jax.tree.leaves(alone), strict=True):
            np.testing.assert_array_equal(x[c], y)
    assert masks.pruned_count(masks.stack(several)) == sum(map(masks.pruned_count, several))


def test_the_site_of_a_mask_is_static():
    mask = masks.NeuronMask(np.ones((2, 3), bool), "mlp")
    assert len(jax.tree.leaves(mask)) == 1
    assert jax.jit(lambda m: m)(mask).site == "mlp"
