"""All localizers on a few pairs: what is patched from its own run changes nothing anywhere."""

from __future__ import annotations

import ast
import dataclasses
from functools import partial
from pathlib import Path

import jax
import numpy as np
import pytest

from relearn_jax import config
from relearn_jax.data.facts.prompts import Prompts
from relearn_jax.localize import effects as effect_files
from relearn_jax.localize import measure
from relearn_jax.localize.batch import Measured, Pairs
from relearn_jax.localize.effects import Effect
from relearn_jax.localize.localizer import Localizer
from relearn_jax.localize.methods import LOCALIZERS, SCORES
from relearn_jax.localize.scores import null_of
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


def measured(decoder, clean, corrupt, null, settings=SETTINGS, mesh=None):
    pairs = Pairs(np.arange(len(clean.ids)), clean, corrupt, null)
    return measure.effects(*decoder, pairs, settings, 0, lambda *_: None, mesh)[0]


@pytest.fixture(scope="module")
def effects(decoder):
    clean, corrupt = prompts(0), prompts(1)
    return measured(decoder, clean, corrupt, corrupt)


def test_between_a_run_and_itself_every_null_is_nothing(effects):
    nulls = {e: v for e, v in effects.values.items() if e.null and e.method != "tracing"}
    assert len(nulls) > 10
    for effect, values in nulls.items():
        np.testing.assert_allclose(values, 0, atol=1e-4, err_msg=str(effect))


def test_every_effect_has_a_null_of_its_shape(effects):
    for effect, values in effects.values.items():
        if effect.null:
            continue
        score = SCORES.get(effect.method)
        null = null_of(effect, score) if score else effect._replace(null=True)
        assert effects.values[null].shape == values.shape, effect
        assert np.abs(values).max() > 0 or effect.method == "interchange", effect


def test_effects_read_back_are_those_that_were_written(effects):
    again = effect_files.from_arrays(effect_files.to_arrays(effects))
    for before, after in zip(effects, again, strict=True):
        assert before.keys() == after.keys()
        for name, values in before.items():
            np.testing.assert_array_equal(values, after[name])


def test_both_directions_of_patching_everything_meet(effects):
    """The state that enters block 0 at the subject is all that differs between the runs."""
    total = effects.totals["logit_difference"]
    for method, sign in (("noising", -1), ("denoising", 1)):
        values = effects.values[Effect(method, "states", "position")]
        np.testing.assert_allclose(values[0, 1], sign * total, atol=1e-4)


def test_what_is_prepared_from_all_pairs_reaches_each_batch_by_its_rows(decoder, monkeypatch):
    """And a localizer needs no more than a place in the registry."""

    def prepare(model, params, pairs, settings, seed, put):
        return lambda rows: 10.0 * rows + len(pairs.facts)

    def effects(batch):
        values = np.tile(batch.prepared["toy"], (batch.model.config.layers, 1))
        return Measured({Effect("toy", "mlp_out", "layer"): values})

    monkeypatch.setitem(LOCALIZERS, "toy", Localizer("toy", {}, prepare=prepare, effects=effects))
    settings = dataclasses.replace(SETTINGS, methods=("toy",), batch=2)
    found = measured(decoder, *(prompts(n) for n in range(3)), settings)
    wanted = np.tile([5, 15, 25, 35, 45], (SIZES["n_layer"], 1))
    np.testing.assert_array_equal(found.values[Effect("toy", "mlp_out", "layer")], wanted)


GENERIC = {
    "localize": (
        *("arms", "batch", "choice", "effects", "localizer", "measure", "methods", "questions"),
        *("recovery", "scores", "selection"),
    ),
    "experiments/facts": ("localization", "pairs", "plan", "results", "setup", "stages"),
}


def test_generic_code_knows_no_localizer_by_name():
    names, root = {*LOCALIZERS, *SCORES}, Path(measure.__file__).parents[1]
    for room, files in GENERIC.items():
        for file in files:
            nodes = ast.walk(ast.parse((root / room / f"{file}.py").read_text()))
            said = {n.value for n in nodes if isinstance(n, ast.Constant)} & names
            assert not said, (room, file)


def assert_same(some, others, tolerance):
    for ours, theirs in zip(some, others, strict=True):
        assert ours.keys() == theirs.keys()
        for name in ours:
            np.testing.assert_allclose(ours[name], theirs[name], atol=tolerance, err_msg=str(name))


@pytest.mark.parametrize(
    "methods",
    [
        ("attribution", "probes"),
        ("tracing_published", "attribution_published"),
        pytest.param(SETTINGS.methods, marks=pytest.mark.slow, id="all"),
    ],
)
def test_batches_do_not_change_what_is_found(decoder, methods):
    pairs = prompts(0), prompts(1), prompts(2)
    larger = dataclasses.replace(SETTINGS, methods=methods)
    smaller = dataclasses.replace(larger, batch=2, groups=2)
    assert_same(measured(decoder, *pairs, larger), measured(decoder, *pairs, smaller), 1e-4)


@pytest.mark.parametrize(
    ("axes", "methods"),
    [
        ({"data": 2, "fsdp": 2, "tensor": 2}, ("attribution",)),
        pytest.param({"data": 8}, ("tracing",), marks=pytest.mark.slow),
        pytest.param(
            {"data": 2, "fsdp": 2, "tensor": 2},
            ("patching", "tracing", "paths"),
            marks=pytest.mark.slow,
        ),
    ],
)
def test_eight_devices_find_what_one_finds(decoder, axes, methods):
    """Pairs over devices, and parameters too."""
    model, params = decoder
    mesh = meshes.make(config.Parallel(**axes), 1, jax.devices()[:8])
    pairs = [Prompts(*(np.concatenate([part, part])[:8] for part in prompts(n))) for n in range(3)]
    settings = dataclasses.replace(SETTINGS, batch=8, methods=methods)
    spread = jax.device_put(params, sharding.shardings(params, mesh))
    alone = measured((model, params), *pairs, settings)
    assert_same(measured((model, spread), *pairs, settings, mesh), alone, 2e-4)
