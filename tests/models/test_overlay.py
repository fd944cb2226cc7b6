"""Laws of overlays: the same function, only the chosen gradients, and no copy of what is frozen."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from relearn_jax.models import overlay, paths, transformer, weights
from relearn_jax.models.inputs import Inputs
from relearn_jax.models.settings import Settings
from relearn_jax.models.sites import Tap, Taps, everything
from relearn_jax.models.transformer import Model

STATES = Taps(states=Tap(everything), mlp=Tap(everything))


def chosen_layers(model):
    """Feed-forward matrices of two layers that do not touch, and an attention matrix of one."""
    shapes = weights.shapes(model)
    last = model.config.layers - 1
    names = ("up", "down", "attention_out")
    return tuple(
        (path, (last,) if "attention" in path else (0, last) if last > 1 else (last,))
        for path in sorted(f"blocks/{name}/kernel" for name in names)
        if path in shapes
    )


def changed(params, layers):
    rng = np.random.default_rng(0)
    return {
        path: row + np.float32(0.1 * rng.normal(size=row.shape))
        for path, row in overlay.rows(params, layers).items()
    }


def test_an_overlay_computes_what_the_filled_model_computes(tiny):
    model, params, inputs = tiny
    layers = chosen_layers(model)
    rows = changed(params, layers)
    apply = jax.jit(partial(transformer.apply, model), static_argnames="taps")
    over = apply(overlay.laid(layers, params, rows), inputs, taps=STATES)
    whole = apply(overlay.filled(layers, params, rows), inputs, taps=STATES)
    jax.tree.map(partial(np.testing.assert_allclose, atol=1e-5, rtol=1e-5), over, whole)
    assert np.abs(over[0] - apply(params, inputs)[0]).max() > 1e-3


@pytest.mark.parametrize("remat", [False, True])
def test_gradients_are_rows_of_the_whole_gradient(tiny, remat):
    model, params, inputs = tiny
    layers = chosen_layers(model)
    rows = changed(params, layers)
    model = Model(model.family, model.config, model.task, model.labels, model.dtype, remat)

    def loss(params):
        return jnp.sum(jnp.square(transformer.apply(model, params, inputs)[0]))

    found = jax.jit(jax.grad(lambda rows: loss(overlay.laid(layers, params, rows))))(rows)
    whole = jax.jit(jax.grad(loss))(overlay.filled(layers, params, rows))
    for path, expected in overlay.rows(whole, layers).items():
        scale = np.abs(expected).max()
        assert scale > 0
        np.testing.assert_allclose(found[path], expected, atol=1e-4 * scale)


def deep(layers=16, width=64):
    settings = {
        "model_type": "llama", "vocab_size": 32, "hidden_size": width, "num_hidden_layers": layers,
        "num_attention_heads": 2, "num_key_value_heads": 2, "intermediate_size": 4 * width,
        "max_position_embeddings": 16,
    }  # fmt: skip
    from relearn_jax.models.llama import FAMILY

    return Model(FAMILY, FAMILY.parse(Settings(settings, "here")), "language-model")


def compiled(model, layers, count=2):
    """The gradient of `count` models side by side that share all but some layers."""
    shapes = weights.shapes(model)
    params = paths.unflatten({p: jax.ShapeDtypeStruct(s, jnp.float32) for p, s in shapes.items()})
    rows = {
        path: jax.ShapeDtypeStruct((count, len(chosen), *shapes[path][1:]), jnp.float32)
        for path, chosen in layers
    }
    inputs = Inputs(jnp.zeros((1, 2), jnp.int32), jnp.ones((1, 2), bool))

    def loss(rows, params):
        return jnp.sum(transformer.apply(model, overlay.laid(layers, params, rows), inputs)[0])

    return jax.jit(jax.vmap(jax.grad(loss), (0, None))).lower(rows, params).compile()


def test_nothing_below_the_first_layer_is_differentiated_or_done_twice():
    model = deep()
    work = {
        layer: compiled(model, (("blocks/up/kernel", (layer,)),)).cost_analysis()["flops"]
        for layer in (0, 15)
    }
    # XLA counts the body of a loop once: what is left at the last layer is one pass of one model
    # below it, and the backward pass through one layer for two models.
    assert work[15] < 0.75 * work[0]


def test_the_frozen_blocks_are_not_copied():
    model = deep()
    memory = compiled(model, (("blocks/up/kernel", (3,)),), 1).memory_analysis()
    frozen = sum(4 * np.prod(s) for p, s in weights.shapes(model).items() if p.startswith("blocks"))
    assert memory.temp_size_in_bytes < frozen / 4
