"""Interventions and readings: what changes nothing, what must change something, and gradients."""

from __future__ import annotations

from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from relearn_jax.models import transformer
from relearn_jax.models.inputs import Inputs, Past
from relearn_jax.models.sites import Site, Sites, Tap, Taps, everything

ALL = Taps(*(Tap(everything) for _ in Taps._fields))
INSIDE = Taps._fields[1:]


apply = jax.jit(transformer.apply, static_argnames=("model", "taps"))
suffix = jax.jit(transformer.suffix, static_argnames="model")


def run(tiny, sites=Sites(), taps=Taps()):  # noqa: B008
    """Logits and readings, on the host: each operation on a device is a program to compile."""
    return jax.device_get(apply(*tiny, sites, taps=taps))


def test_a_mask_of_ones_changes_nothing(tiny):
    _, taps = run(tiny, taps=ALL)
    ones = Sites(*(Site(mask=np.ones_like(x)) for x in taps))
    # Not to the last bit: XLA may fuse, and so round, the two programs differently.
    np.testing.assert_allclose(run(tiny)[0], run(tiny, ones)[0], atol=1e-6)


def test_a_patch_with_itself_changes_nothing(tiny):
    logits, taps = run(tiny, taps=ALL)
    itself = Sites(*(Site(patch=x) for x in taps))
    np.testing.assert_allclose(logits, run(tiny, itself)[0], atol=1e-6)
    itself = Sites(*(Site(patch=x, where=np.ones(x.shape, bool)) for x in taps))
    np.testing.assert_allclose(logits, run(tiny, itself)[0], atol=1e-6)


@pytest.mark.parametrize("place", Taps._fields)
def test_a_patch_from_elsewhere_changes_that_place_and_the_outputs(tiny, place):
    logits, taps = run(tiny, taps=ALL)
    mine = getattr(taps, place)
    where = (np.arange(len(mine)) == 1).reshape(-1, *[1] * (mine.ndim - 1))
    patched, found = run(tiny, Sites(**{place: Site(patch=mine[:, ::-1], where=where)}), ALL)
    np.testing.assert_allclose(getattr(found, place)[1], mine[1, ::-1], atol=1e-6)
    np.testing.assert_allclose(getattr(found, place)[0], mine[0], atol=1e-6)
    assert np.abs(logits - patched).max() > 1e-4


def test_the_places_add_up(tiny):
    """Each state is the one before, plus attention, plus feed-forward; norms where they stand."""
    model, params, _ = tiny
    _, x = run(tiny, taps=ALL)
    joined = x.heads.reshape(*x.heads.shape[:-2], -1)
    attention = added(model, params["blocks"], joined, "attention_out", "attention_out_norm")
    np.testing.assert_allclose(x.attention, attention, atol=1e-5)
    mlp = added(model, params["blocks"], x.mlp, "down", "mlp_out_norm")
    np.testing.assert_allclose(x.mlp_out, mlp, atol=1e-5)
    if model.family.causal:
        stream = x.states[:-2] + x.attention[:-1] + x.mlp_out[:-1]
        np.testing.assert_allclose(x.states[1:-1], stream, atol=1e-5)


def added(model, blocks, x, out, norm):
    """By hand: an output matrix, its bias if any, and Gemma 2's norm if any."""
    y = np.einsum("LBTF,LFD->LBTD", x, blocks[out]["kernel"])
    if "bias" in blocks[out]:
        y = y + np.asarray(blocks[out]["bias"])[:, None, None]
    if norm in blocks:
        size = np.sqrt(np.square(y).mean(-1, keepdims=True) + model.config.epsilon)
        y = y / size * (1 + np.asarray(blocks[norm]["scale"])[:, None, None])
    return y


@pytest.mark.parametrize("place", ["nothing", *INSIDE])
def test_a_suffix_of_layers_is_the_rest_of_the_pass(tiny, place):
    model, params, inputs = tiny
    _, taps = run(tiny, taps=ALL)
    for layer in range(model.config.layers):
        row, sites = Sites(), Sites()
        if place != "nothing":
            mine = getattr(taps, place)
            where = (np.arange(len(mine)) == layer).reshape(-1, *[1] * (mine.ndim - 1))
            sites = Sites(**{place: Site(patch=mine[:, ::-1], where=where)})
            row = Sites(**{place: Site(patch=mine[layer, ::-1])})
        whole = run(tiny, sites, ALL)[1].states
        found = suffix(model, params, inputs, taps.states[layer], layer, row)
        np.testing.assert_allclose(found, whole[-1], atol=1e-5)


def test_a_suffix_of_positions_is_the_rest_of_the_pass(tiny):
    model, params, inputs = tiny
    if not model.family.causal:
        return
    _, taps = run(tiny, taps=ALL)
    for start in (1, 2):
        past = Past(taps.keys[:, :, :start], taps.values[:, :, :start])
        found = suffix(model, params, inputs, taps.states[1][:, start:], 1, past=past)
        np.testing.assert_allclose(found, taps.states[-1][:, start:], atol=1e-5)


def test_patching_the_last_state_decides_the_logits(tiny):
    _, params, inputs = tiny
    _, taps = run(tiny, taps=ALL)
    rows = len(taps.states)
    where = (np.arange(rows) == rows - 1)[:, None, None, None]
    patched = Sites(states=Site(patch=np.zeros_like(taps.states), where=where))
    bias = np.asarray(params["head"]["classifier"]["bias"])
    np.testing.assert_array_equal(
        run(tiny, patched)[0], np.broadcast_to(bias, (*inputs.ids.shape, len(bias)))
    )


def test_masking_neurons_equals_zeroing_their_rows(tiny):
    model, params, inputs = tiny
    c = model.config
    keep = (np.arange(c.layers * c.mlp_width) % 3 > 0).reshape(c.layers, c.mlp_width)
    down = params["blocks"]["down"] | {
        "kernel": np.asarray(params["blocks"]["down"]["kernel"]) * keep[..., None]
    }
    cut = params | {"blocks": params["blocks"] | {"down": down}}
    masked = run(tiny, Sites(mlp=Site(mask=keep.astype(np.float32))))[0]
    np.testing.assert_allclose(masked, run((model, cut, inputs))[0], atol=1e-6)
    assert np.abs(masked - run(tiny)[0]).max() > 1e-3


def test_the_gradient_of_a_delta_is_the_derivative(tiny):
    model, params, inputs = tiny
    rows, width = model.config.layers + 1, model.config.width
    zero = np.zeros((rows, *inputs.ids.shape, width), np.float32)

    @jax.jit
    def total(delta):
        logits, _ = transformer.apply(model, params, inputs, Sites(states=Site(delta=delta)))
        return jnp.sin(logits[inputs.mask.nonzero()]).sum()

    direction = np.random.default_rng(0).normal(size=zero.shape).astype(np.float32)
    slope = np.vdot(jax.grad(total)(zero), direction)
    step = 3e-3
    measured = (total(step * direction) - total(-step * direction)) / (2 * step)
    np.testing.assert_allclose(slope, measured, rtol=2e-2)


def test_many_masks_are_one_more_axis(tiny):
    model, params, inputs = tiny
    c = model.config
    masks = np.random.default_rng(0).integers(0, 2, (4, c.layers + 1, c.width)).astype(np.float32)

    @jax.jit
    def logits(mask):
        return transformer.apply(model, params, inputs, Sites(states=Site(mask=mask)))[0]

    together = jax.jit(jax.vmap(logits))(masks)
    for mask, alone in zip(masks, together, strict=True):
        np.testing.assert_allclose(logits(mask), alone, atol=2e-6)


def test_a_reading_is_reduced_row_by_row_with_its_own_data(tiny):
    rows = tiny[0].config.layers + 1
    scale = np.arange(1.0, rows + 1, dtype=np.float32)
    tap = Taps(states=Tap(lambda h, s: (h * s).sum((0, 1)), scale))
    reduced = jax.jit(partial(transformer.apply, tiny[0], taps=tap))(*tiny[1:])[1].states
    full = run(tiny, taps=ALL)[1].states
    wanted = (full * scale[:, None, None, None]).sum((1, 2))
    np.testing.assert_allclose(reduced, wanted, atol=1e-4)


def test_padding_does_not_reach_real_tokens(tiny):
    model, params, inputs = tiny
    other = Inputs(np.where(inputs.mask, inputs.ids, 7), inputs.mask)
    a, b = run(tiny)[0], run((model, params, other))[0]
    np.testing.assert_array_equal(np.asarray(a)[inputs.mask], np.asarray(b)[inputs.mask])


def test_who_sees_whom(tiny):
    """By gradients from each state to the next: a decoder sees the past alone, where it has a
    window only so much of it, an encoder everything."""
    model, params, inputs = tiny
    layers, length = model.config.layers, inputs.ids.shape[1]
    zero = np.zeros((layers + 1, *inputs.ids.shape, model.config.width), np.float32)

    def first_row(delta):
        site, tap = Sites(states=Site(delta=delta)), Taps(states=Tap(everything))
        states = transformer.apply(model, params, inputs, site, tap)[1].states
        return jnp.sin(states[1:, 0]).sum(-1)

    slopes = np.abs(np.asarray(jax.jit(jax.jacrev(first_row))(zero))).max(-1)
    seen = np.array([slopes[layer, :, layer, 0] > 0 for layer in range(layers)])
    back = np.arange(length)[:, None] - np.arange(length)
    wanted = (back >= 0) | (not model.family.causal)
    windows = np.full(layers, length)
    if model.family.windows is not None:
        windows = model.family.windows(model.config)
        assert min(windows) < length
    np.testing.assert_array_equal(seen, wanted & (back < windows[:, None, None]))


def test_rematerialising_changes_nothing(tiny):
    import dataclasses

    model, params, inputs = tiny
    again = dataclasses.replace(model, remat=True)
    assert again != model

    def loss(m, p):
        return jnp.square(transformer.apply(m, p, inputs)[0]).sum()

    a, b = (jax.jit(jax.grad(partial(loss, m)))(params) for m in (model, again))
    chex.assert_trees_all_close(a, b, atol=1e-4, rtol=1e-5)


def test_dropout_needs_a_key_and_follows_it(tiny):
    model, params, inputs = tiny
    import dataclasses

    rates = [f.name for f in dataclasses.fields(model.config) if f.name.endswith("dropout")]
    config = dataclasses.replace(model.config, **dict.fromkeys(rates, 0.5))
    model = dataclasses.replace(model, config=config)
    f = jax.jit(lambda keys: transformer.apply(model, params, inputs, keys=keys)[0])
    rows = inputs.ids.shape[0]
    a, b = (jax.random.split(jax.random.key(seed), rows) for seed in (0, 1))
    np.testing.assert_array_equal(f(a), f(a))
    assert np.abs(f(a) - f(b)).max() > 1e-3
    mixed = f(jnp.concatenate([a[:1], b[1:]]))
    np.testing.assert_allclose(mixed[0], f(a)[0], atol=1e-6, err_msg="a row's key is its own")
    without = run((model, params, inputs))[0]
    np.testing.assert_allclose(without, run(tiny)[0], atol=1e-6)
