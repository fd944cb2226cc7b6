"""Rotary positions: laws of the rotation, the bands of Llama 3, and how settings are read."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from relearn_jax.errors import UserError
from relearn_jax.models import rotary
from relearn_jax.models.rotary import Rope
from relearn_jax.models.settings import Settings

LLAMA3 = {
    "rope_type": "llama3", "factor": 32.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}  # fmt: skip


def parsed(values, width=64, **older):
    settings = Settings(values, "config.json")
    rope = rotary.parse(settings, width, **older)
    settings.finish()
    return rope


def test_scores_depend_on_the_distance_alone():
    radians = rotary.frequencies(Rope(), 8)
    q, k = jax.random.normal(jax.random.key(0), (2, 1, 1, 1, 8))
    everywhere = [jnp.broadcast_to(x, (1, 40, 1, 8)) for x in (q, k)]
    q, k = (rotary.rotate(x, radians, 0)[0, :, 0] for x in everywhere)
    scores = np.asarray(q @ k.T)
    for back in range(-20, 21):
        one = np.diagonal(scores, back)
        np.testing.assert_allclose(one, np.full_like(one, one[0]), atol=1e-5)
    assert np.ptp(scores) > 1


def test_later_positions_turn_as_they_do_in_the_whole():
    radians = rotary.frequencies(Rope(share=0.5), 8)
    x = jax.random.normal(jax.random.key(0), (2, 9, 3, 8))
    whole = rotary.rotate(x, radians, 0)
    np.testing.assert_array_equal(rotary.rotate(x[:, 4:], radians, 4), whole[:, 4:])
    np.testing.assert_array_equal(whole[..., 4:], x[..., 4:])
    np.testing.assert_array_equal(whole[:, 0], x[:, 0])
    np.testing.assert_allclose(jnp.linalg.norm(whole, axis=-1), jnp.linalg.norm(x, axis=-1), 1e-6)


def test_angles_are_not_rounded_to_the_dtype_of_the_states():
    """bfloat16 knows 256 and 258, not 257."""
    x = jnp.ones((1, 258, 1, 2), jnp.bfloat16)
    turned = rotary.rotate(x, rotary.frequencies(Rope(), 2), 0)
    assert turned.dtype == jnp.bfloat16
    wanted = [math.cos(257) - math.sin(257), math.cos(257) + math.sin(257)]
    np.testing.assert_allclose(turned[0, 257, 0].astype(float), wanted, atol=0.01)


def test_llama3_stretches_long_waves_and_keeps_short_ones():
    rope = parsed({"rope_theta": 500000.0, "rope_scaling": LLAMA3})
    plain, found = (rotary.frequencies(r, 64) for r in (Rope(500000.0), rope))
    assert found.dtype == np.float32
    waves, ratio = 2 * math.pi / plain, plain / found
    np.testing.assert_array_equal(ratio[waves < 8192 / 4], 1)
    np.testing.assert_allclose(ratio[waves > 8192], 32, rtol=1e-6)
    between = ratio[(waves > 8192 / 4) & (waves < 8192)]
    assert len(between) > 2
    assert (np.diff([1, *between, 32]) > 0).all()


def test_linear_stretches_all_waves():
    rope = parsed({"rope_scaling": {"type": "linear", "factor": 4.0}})
    stretched, plain = (rotary.frequencies(r, 64) for r in (rope, Rope()))
    np.testing.assert_allclose(plain / stretched, np.full(32, 4.0))


@pytest.mark.parametrize("scaling", [None, LLAMA3, {"rope_type": "linear", "factor": 2.0}])
def test_older_and_newer_files_say_the_same(scaling):
    older = {"rope_theta": 500000.0, "rope_scaling": scaling}
    newer = {"rope_parameters": {"rope_theta": 500000.0} | (scaling or {"rope_type": "default"})}
    assert parsed(older) == parsed(newer)
    assert parsed(older).theta == 500000.0


def test_neox_says_it_in_its_own_words():
    own = {"theta": "rotary_emb_base", "share": "rotary_pct"}
    older = parsed({"rotary_emb_base": 1000, "rotary_pct": 0.5}, **own)
    inner = {"rope_theta": 1000.0, "partial_rotary_factor": 0.5, "rope_type": "default"}
    assert older == parsed({"rope_parameters": inner}, **own) == Rope(1000.0, share=0.5)
    assert parsed({}, **own).share == 0.25


@pytest.mark.parametrize(
    ("values", "match"),
    [
        ({"rope_scaling": {"type": "dynamic", "factor": 2.0}}, "'dynamic' is not built here"),
        ({"rope_scaling": {"rope_type": "yarn", "factor": 2.0}}, "'yarn' is not built here"),
        ({"rope_scaling": {"rope_type": "linear"}}, "rope_scaling: rope_type linear needs factor"),
        ({"rope_parameters": LLAMA3 | {"low_freq_factor": None}}, "needs low_freq_factor"),
        ({"rope_parameters": LLAMA3 | {"low_freq_factor": 4.0}}, "greater than low_freq_factor"),
        ({"rope_parameters": LLAMA3 | {"beta": 1}}, "rope_parameters: settings not understood"),
        ({"rope_parameters": {"partial_rotary_factor": 0.5}}, "partial_rotary_factor"),
        ({"partial_rotary_factor": 0.5}, "partial_rotary_factor"),
        ({"rope_scaling": "linear"}, "should be a mapping"),
    ],
)
def test_what_is_not_built_is_refused_by_name(values, match):
    with pytest.raises(UserError, match=match):
        parsed(values)


def test_an_odd_number_of_coordinates_cannot_turn():
    with pytest.raises(UserError, match="3 of 3 coordinates"):
        parsed({}, width=3)
