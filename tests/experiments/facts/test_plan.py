"""Memory and work of a localization before it starts."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import jax
import numpy as np
import pytest

from relearn_jax import config, loading
from relearn_jax.experiments import driver
from relearn_jax.experiments.facts import plan, setup
from relearn_jax.localize import selection
from relearn_jax.parallel import mesh as meshes

SETTINGS = {
    "model": {
        "source": "random",
        "settings": {
            "model_type": "gpt2", "n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": 32,
        },
    },
    "facts": {"world": {"names": 9, "degree": 6}},
    "localize": {"pairs": 8, "batch": 8, "draws": 2, "groups": 2},
}  # fmt: skip


@pytest.fixture(scope="module")
def ready():
    settings = loading.build(config.Localization, SETTINGS, "test", "")
    return setup.prepare(settings, Path.cwd())


def planned(ready, mesh, **changes):
    settings = dataclasses.replace(ready.config.localize, **changes)
    return plan.make(ready.decoder.model, ready.pairs[0], ready.probed[0], settings, mesh)


def mesh(**axes):
    devices = jax.devices()[: int(np.prod(list(axes.values()) or [1]))]
    return meshes.make(config.Parallel(**axes), 1, devices)


ALONE = {"methods": ("attribution",), "budget": 0.5}


@pytest.fixture(scope="module")
def one(ready):
    """The plan of one localizer on one device."""
    return planned(ready, mesh(data=1), **ALONE)


def test_parameters_are_counted_exactly_and_split_over_devices(ready, one):
    assert one.params == 4 * ready.decoder.parameters
    half = planned(ready, mesh(data=1, fsdp=2), **ALONE).params
    assert one.params / 2 <= half < 0.6 * one.params


def test_pairs_are_spread(ready, one):
    two = planned(ready, mesh(data=2), **ALONE)
    assert two.temporary["attribution"] < one.temporary["attribution"]


@pytest.mark.slow
def test_every_localizer_is_planned_and_pairs_are_spread(ready):
    one, two = (planned(ready, mesh(data=n)) for n in (1, 2))
    assert set(one.temporary) == {
        "a run", "patching", "patching positions", "patching heads", "attribution", "head paths",
        "MLP paths", "causal tracing", "probes",
    }  # fmt: skip
    for name in one.temporary.keys() - {"probes"}:
        assert two.temporary[name] < one.temporary[name], name


def test_the_work_is_that_of_the_passes(ready, one):
    """Of runs and attribution alone the passes can be counted by hand."""
    tokens = ready.pairs[0].clean.ids.size
    matrices = selection.parameter_count(
        selection.everything(space := selection.space(ready.decoder.model), ("attention", "mlp")),
        space,
    )
    # Three runs, and for the effect and its null one pass forward, one again and one backward.
    passes = 3 + 2 * 4
    assert one.flops == pytest.approx(2 * matrices * tokens * passes)


def test_a_dry_run_says_it_and_leaves_nothing(tmp_path, capsys):
    values = {**SETTINGS, "localize": {**SETTINGS["localize"], "methods": ["probes"]}}
    settings = loading.build(config.Localization, values, "test", "")
    assert driver.run(settings, Path.cwd(), tmp_path / "run", dry=True) is None
    said = capsys.readouterr().err
    assert "on each of 8 devices: parameters 0.1 MiB" in said
    assert "GFLOP a seed" in said
    assert not (tmp_path / "run").exists()
