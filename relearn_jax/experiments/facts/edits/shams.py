"""Shams: random updates as large as those of an edit, or so large that they damage the model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from relearn_jax.editing import controls
from relearn_jax.experiments.facts.edits.asked import VALIDATION, answered, subset
from relearn_jax.experiments.facts.edits.setup import EditSetup
from relearn_jax.experiments.facts.edits.sweep import with_rows
from relearn_jax.models import overlay
from relearn_jax.models.overlay import Layers
from relearn_jax.parallel import mesh as meshes

PyTree = Any
LARGEST_SHAM = 2.0**10
"""Largest factor of `sham_scaled`."""


def sham(
    setup: EditSetup,
    seed: int,
    layers: Layers,
    rows: Mapping[str, np.ndarray],
    base: PyTree,
    scale: float = 1.0,
) -> dict[str, np.ndarray]:
    """Rows of the sham: random updates as large as those of an edit, times `scale`."""
    before = overlay.rows(base, layers)
    updates = {path: row - before[path] for path, row in rows.items()}
    drawn = controls.sham(jax.random.fold_in(jax.random.key(seed), 1), updates, scale)
    return {path: np.asarray(before[path] + update) for path, update in drawn.items()}


def sham_scaled(
    setup: EditSetup, seed: int, layers: Layers, rows: Mapping[str, np.ndarray], base: PyTree
) -> dict[str, np.ndarray]:
    """Rows of the sham, doubled until half of the retained facts that choose settings are lost."""
    mesh, own = meshes.make(setup.config.parallel, 1), setup.config.edit.format
    prompts = subset(setup.asked[seed], setup.asked[seed].of(own, VALIDATION))

    def right(params: PyTree) -> float:
        return float((answered(setup.model, params, prompts).says == prompts.target).mean())

    enough, scale = right(base) / 2, 1.0
    while True:
        shaken = sham(setup, seed, layers, rows, base, scale)
        if right(with_rows(base, layers, shaken, mesh)) <= enough or scale >= LARGEST_SHAM:
            return shaken
        scale *= 2
