"""A fingerprint: blind to devices, to nothing else."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from relearn_jax.training.fingerprint import fingerprint

VALUES = np.random.default_rng(0).normal(size=(16, 24)).astype(np.float32)


@pytest.mark.parametrize(
    "spec", [("a",), (None, "a"), ("a", "b"), ()], ids=["rows", "columns", "both", "replicated"]
)
@pytest.mark.parametrize("devices", [2, 8])
def test_same_on_any_number_of_devices(devices, spec):
    mesh = Mesh(np.array(jax.devices()[:devices]).reshape(2, -1), ("a", "b"))
    spread = jax.device_put(VALUES, NamedSharding(mesh, PartitionSpec(*spec)))
    assert fingerprint({"x": spread}) == fingerprint({"x": jnp.asarray(VALUES)})


@pytest.mark.parametrize(
    "dtype", ["float32", "bfloat16", "float16", "int32", "uint8", "int8", "bool"]
)
def test_one_changed_element_changes_it(dtype):
    values = jnp.asarray(VALUES > 0).astype(dtype)
    other = values.at[3, 5].set(~values[3, 5] if dtype == "bool" else values[3, 5] + 1)
    assert fingerprint(values) != fingerprint(other)


def test_the_last_bit_the_sign_of_zero_and_the_place_count():
    swapped = VALUES.copy()
    swapped[[0, 1]] = swapped[[1, 0]]
    next_float = VALUES.copy()
    next_float[7, 7] = np.nextafter(next_float[7, 7], np.float32(np.inf))
    # Ones and zeros differ in few bits, which a sum weighted by position would lose.
    bits = np.zeros((4096,), np.float32)
    variants = [VALUES, swapped, next_float, VALUES.T, 0 * VALUES, -0.0 * np.abs(VALUES)]
    variants += [np.where(np.arange(4096) == 256 * i, 1, bits) for i in range(3)]
    found = [fingerprint(jnp.asarray(v, jnp.float32))[""] for v in variants]
    assert len(set(found)) == len(found)


def test_names_are_paths_and_keys_count():
    state = {"params": {"w": jnp.ones(3)}, "key": jax.random.key(1)}
    other = state | {"key": jax.random.key(2)}
    one, two = fingerprint(state), fingerprint(other)
    assert set(one) == {"params/w", "key"}
    assert one["params/w"] == two["params/w"]
    assert one["key"] != two["key"]
