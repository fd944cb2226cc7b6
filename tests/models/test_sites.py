"""Interventions and readings: what changes nothing, what must change something, and gradients."""

from __future__ import annotations

from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np

from relearn_jax.models import transformer
from relearn_jax.models.inputs import Inputs
from relearn_jax.models.sites import Site, Sites, Tap, Taps, everything

ALL = Taps(states=Tap(everything), mlp=Tap(everything))


def run(tiny, sites=Sites(), taps=Taps()):  # noqa: B008
    model, params, inputs = tiny
    return jax.jit(partial(transformer.apply, model, taps=taps))(params, inputs, sites)


def test_a_mask_of_ones_changes_nothing(tiny):
    model = tiny[0]
    c = model.config
    ones = Sites(
        states=Site(mask=jnp.ones((c.layers + 1, c.width))),
        mlp=Site(mask=jnp.ones((c.layers, c.mlp_width))),
    )
    # Not to the last bit: XLA may fuse, and so round, the two programs differently.
    np.testing.assert_allclose(run(tiny)[0], run(tiny, ones)[0], atol=1e-6)


def test_a_patch_with_itself_changes_nothing(tiny):
    logits, taps = run(tiny, taps=ALL)
    rows = len(taps.states)
    every = jnp.ones((rows, 1, 1, 1), bool)
    itself = Sites(states=Site(patch=taps.states, where=every))
    np.testing.assert_allclose(logits, run(tiny, itself)[0], atol=1e-6)
    itself = Sites(mlp=Site(patch=taps.mlp, where=every[:-1]))
    np.testing.assert_allclose(logits, run(tiny, itself)[0], atol=1e-6)


def test_a_patch_from_elsewhere_changes_the_outputs(tiny):
    _, taps = run(tiny, taps=ALL)
    where = jnp.arange(len(taps.states)) == 2
    other = Sites(states=Site(patch=taps.states[:, ::-1], where=where[:, None, None, None]))
    assert np.abs(run(tiny)[0] - run(tiny, other)[0]).max() > 1e-3


def test_patching_the_last_state_decides_the_logits(tiny):
    _, params, inputs = tiny
    _, taps = run(tiny, taps=ALL)
    rows = len(taps.states)
    where = (jnp.arange(rows) == rows - 1)[:, None, None, None]
    patched = Sites(states=Site(patch=jnp.zeros_like(taps.states), where=where))
    bias = params["head"]["classifier"]["bias"]
    np.testing.assert_array_equal(
        run(tiny, patched)[0], jnp.broadcast_to(bias, (*inputs.ids.shape, len(bias)))
    )


def test_masking_neurons_equals_zeroing_their_rows(tiny):
    model, params, inputs = tiny
    c = model.config
    keep = (jnp.arange(c.layers * c.mlp_width) % 3 > 0).reshape(c.layers, c.mlp_width)
    down = params["blocks"]["down"] | {
        "kernel": params["blocks"]["down"]["kernel"] * keep[..., None]
    }
    cut = params | {"blocks": params["blocks"] | {"down": down}}
    masked = run(tiny, Sites(mlp=Site(mask=keep.astype(jnp.float32))))[0]
    np.testing.assert_allclose(masked, run((model, cut, inputs))[0], atol=1e-6)
    assert np.abs(masked - run(tiny)[0]).max() > 1e-3


def test_the_gradient_of_a_delta_is_the_derivative(tiny):
    model, params, inputs = tiny
    rows, width = model.config.layers + 1, model.config.width
    zero = jnp.zeros((rows, *inputs.ids.shape, width))

    def total(delta):
        logits, _ = transformer.apply(model, params, inputs, Sites(states=Site(delta=delta)))
        return jnp.sin(logits[inputs.mask.nonzero()]).sum()

    direction = jax.random.normal(jax.random.key(0), zero.shape)
    slope = jnp.vdot(jax.grad(total)(zero), direction)
    step = 1e-2
    measured = (total(step * direction) - total(-step * direction)) / (2 * step)
    np.testing.assert_allclose(slope, measured, rtol=2e-2)


def test_many_masks_are_one_more_axis(tiny):
    model, params, inputs = tiny
    c = model.config
    masks = jax.random.bernoulli(jax.random.key(0), 0.5, (4, c.layers + 1, c.width))
    masks = masks.astype(jnp.float32)

    def logits(mask):
        return transformer.apply(model, params, inputs, Sites(states=Site(mask=mask)))[0]

    together = jax.jit(jax.vmap(logits))(masks)
    for mask, alone in zip(masks, together, strict=True):
        np.testing.assert_allclose(jax.jit(logits)(mask), alone, atol=2e-6)


def test_a_reading_is_reduced_row_by_row_with_its_own_data(tiny):
    rows = tiny[0].config.layers + 1
    scale = jnp.arange(1.0, rows + 1)
    tap = Tap(lambda h, s: (h * s).sum((0, 1)), scale)
    reduced = run(tiny, taps=Taps(states=tap))[1].states
    full = run(tiny, taps=ALL)[1].states
    wanted = (full * scale[:, None, None, None]).sum((1, 2))
    np.testing.assert_allclose(reduced, wanted, atol=1e-4)


def test_padding_does_not_reach_real_tokens(tiny):
    model, params, inputs = tiny
    other = Inputs(np.where(inputs.mask, inputs.ids, 7), inputs.mask)
    a, b = run(tiny)[0], run((model, params, other))[0]
    np.testing.assert_array_equal(np.asarray(a)[inputs.mask], np.asarray(b)[inputs.mask])


def test_who_sees_whom(tiny):
    """By gradients of the embedding state: a decoder sees the past alone, an encoder everything."""
    model, params, inputs = tiny
    zero = jnp.zeros((model.config.layers + 1, *inputs.ids.shape, model.config.width))

    def first_row(delta):
        site = Sites(states=Site(delta=delta))
        return transformer.apply(model, params, inputs, site)[0][0].sum(-1)

    seen = np.abs(np.asarray(jax.jacrev(first_row)(zero))[:, 0, 0]).max(-1) > 0
    length = inputs.ids.shape[1]
    wanted = np.tri(length, dtype=bool) if model.family.name == "gpt2" else np.ones_like(seen)
    np.testing.assert_array_equal(seen, wanted)


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
    mixed = f(jax.numpy.concatenate([a[:1], b[1:]]))
    np.testing.assert_allclose(mixed[0], f(a)[0], atol=1e-6, err_msg="a row's key is its own")
    np.testing.assert_allclose(transformer.apply(model, params, inputs)[0], run(tiny)[0], atol=1e-6)
