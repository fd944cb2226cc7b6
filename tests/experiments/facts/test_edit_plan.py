"""The plan of edits: what is trained is counted exactly, and fewer layers take less."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from relearn_jax import config, loading
from relearn_jax.experiments.facts.edits import plan, program, setup, sweep
from relearn_jax.localize import selection

CONFIGS = Path(__file__).resolve().parents[3] / "configs"


@pytest.fixture(scope="module")
def ready():
    path = CONFIGS / "facts_world_ci.yaml"
    options = ("parallel.sets=1", "parallel.data=1")
    return setup.prepare(loading.load(path, options), CONFIGS)


def one_layer(ready, layer):
    space = selection.space(ready.model)
    marked = selection.mask({"mlp": np.arange(space.layers) == layer}, space)
    return program.layers(marked, space, config.Edit(program="own"))


def test_trained_bytes_are_twelve_a_parameter_and_setting(ready):
    cost = plan.of_edit(ready, one_layer(ready, 1))
    size = selection.sizes(selection.space(ready.model))["mlp"]
    settings = len(sweep.grid(ready.config.edit))
    # Adam's step count and the like take a few bytes more.
    assert 0 <= cost.trained - 12 * size * settings < 100


def test_layers_further_up_take_less_work_and_memory(ready):
    first, last = (plan.of_edit(ready, one_layer(ready, layer)) for layer in (0, 3))
    assert last.flops < first.flops / 1.9
    assert last.temporary < first.temporary
    assert last.base == first.base


def test_the_summary_has_a_line_for_each_kind_of_edit_and_the_attack(ready):
    lines = plan.summary(ready)
    named = ("edit of 2 feed-forward", "edit of all feed", "edit of all matrices", "attack")
    for line, name in zip(lines, named, strict=True):
        assert name in line
        assert "FLOP a step" in line
