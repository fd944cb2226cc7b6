"""All localizers on a few pairs: what is patched from its own run changes nothing anywhere."""

from __future__ import annotations

import dataclasses
from functools import partial

import jax
import numpy as np
import pytest

from relearn_jax import config
from relearn_jax.data.facts.prompts import Prompts
from relearn_jax.experiments.facts import localizers, scores
from relearn_jax.models import checkpoint, transformer
from relearn_jax.parallel import mesh as meshes
from relearn_jax.parallel import sharding

SIZES = {"model_type": "gpt2", "vocab_size": 40, "n_embd": 16, "n_layer": 2, "n_head": 2}
SETTINGS = config.Localize(batch=5, draws=2, path_steps=2, heads=1, groups=1)


@pytest.fixture(scope="module")
def decoder():
    opened = checkpoint.open_checkpoint("random", settings=SIZES)
    model = checkpoint.describe(opened, "language-model", dropout=0.0)
    params = jax.jit(partial(transformer.init, model))(jax.random.key(0))
    return model, jax.tree.map(lambda x: x * 4 if x.ndim > 1 else x, params)


def prompts(seed: int) -> Prompts:
    """Five prompts that agree but for the second token, and each with its own answer."""
    rng = np.random.default_rng(seed)
    ids = np.tile(np.arange(1, 7, dtype=np.int32), (5, 1))
    ids[:, 1] = rng.permutation(np.arange(10, 40))[:5]
    subject = np.zeros(ids.shape, bool)
    subject[:, 1] = True
    target = rng.integers(10, 40, 5).astype(np.int32)
    others = ((target[:, None] + np.array([1, 2])) % 30 + 10).astype(np.int32)
    fields = {
        "ids": ids, "mask": np.ones(ids.shape, bool), "subject": subject,
        "last": np.full(5, 5, np.int32), "target": target, "others": others,
    }  # fmt: skip
    return Prompts(**{name: fields[name] for name in Prompts._fields})


def found(decoder, clean, corrupt, again, settings=SETTINGS):
    asked = clean, corrupt, again
    effects = localizers.effects(*decoder, *asked, settings, 0, lambda *_: None)
    return effects | localizers.lookup_by_paths(*decoder, *asked, effects, settings)[1]


@pytest.fixture(scope="module")
def effects(decoder):
    clean, corrupt = prompts(0), prompts(1)
    return found(decoder, clean, corrupt, corrupt)


def test_between_a_run_and_itself_every_null_is_nothing(effects):
    nulls = {name: value for name, value in effects.items() if name.startswith("null/")}
    traced = {name for name in nulls if "tracing" in name}
    assert len(nulls) - len(traced) > 10
    for name in nulls.keys() - traced:
        np.testing.assert_allclose(nulls[name], 0, atol=1e-4, err_msg=name)


def test_every_effect_has_a_null_of_its_shape(effects):
    for name, value in effects.items():
        if name.startswith("null/") or name in ("clean", "corrupt", "tracing/lost"):
            continue
        assert effects[scores.null_name(name)].shape == value.shape, name
        assert np.abs(value).max() > 0 or name == "interchange", name


def test_both_directions_of_patching_everything_meet(effects):
    """The state that enters block 0 at the subject is all that differs between the runs."""
    change = effects["clean"] - effects["corrupt"]
    for method, sign in (("patching", -1), ("restoring", 1)):
        np.testing.assert_allclose(
            effects[f"{method}/states/position"][0, 1], sign * change, atol=1e-4
        )


def test_batches_do_not_change_what_is_found(decoder):
    ask = prompts(0), prompts(1), prompts(2)
    one = found(decoder, *ask)
    other = found(decoder, *ask, dataclasses.replace(SETTINGS, batch=2, groups=2))
    assert one.keys() == other.keys()
    for name in one:
        np.testing.assert_allclose(one[name], other[name], atol=1e-4, err_msg=name)


@pytest.mark.parametrize("axes", [{"data": 8}, {"data": 2, "fsdp": 2, "tensor": 2}])
def test_eight_devices_find_what_one_finds(decoder, axes):
    """Pairs over devices, and parameters too."""
    model, params = decoder
    mesh = meshes.make(config.Parallel(**axes), 1, jax.devices()[:8])
    asked = [Prompts(*(np.concatenate([part, part])[:8] for part in prompts(n))) for n in range(3)]
    settings = dataclasses.replace(SETTINGS, batch=8, methods=("patching", "tracing", "paths"))
    spread = jax.device_put(params, sharding.shardings(params, mesh))
    wanted = found((model, params), *asked, settings)
    effects = localizers.effects(model, spread, *asked, settings, 0, lambda *_: None, mesh)
    effects |= localizers.lookup_by_paths(model, spread, *asked, effects, settings, mesh)[1]
    for name in wanted:
        np.testing.assert_allclose(effects[name], wanted[name], atol=2e-4, err_msg=name)
