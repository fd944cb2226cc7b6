"""Which leaves an arm trains: those of its own layers, or more, of which the others are held."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from jax.sharding import Mesh

from relearn_jax import config
from relearn_jax.localize.selection import Space
from relearn_jax.models import overlay
from relearn_jax.models.masks import Mask
from relearn_jax.models.overlay import Layers
from relearn_jax.parallel import stacking

SMALL = 2**28
"""Bytes that training all layers of all settings side by side may take, for `program: auto`."""
COPIES = 4
"""A trained parameter has a gradient and two moments."""
BYTES = 4


def layers(marked: Mask, space: Space, edit: config.Edit) -> Layers:
    """The layers that an arm trains.

    Args:
      marked: the parameters that it may change.
      space: all matrices that can be chosen.
      edit: the program `own` trains the layers in which something is marked. The program `shared`
        trains every matrix, so that all arms share one compiled step.
    """
    own = overlay.layers_of(marked.marked)
    whole = tuple((path, tuple(range(space.layers))) for path in sorted(space.shapes))
    if edit.program == "auto":
        settings = len(edit.learning_rates) * len(edit.forget_weights)
        count = sum(math.prod(space.shapes[path]) for path, _ in whole)
        return whole if count * settings * COPIES * BYTES <= SMALL else own
    return whole if edit.program == "shared" else own


def held(marked: Mask, layers: Layers, mesh: Mesh, count: int) -> Mask:
    """The entries of trained layers that do not change, of each of `count` models."""
    return Mask(
        {
            path: stacking.per_set(mesh, [~marked.marked[path][np.array(chosen)]] * count)
            for path, chosen in layers
        }
    )


def own_rows(
    marked: Mask, layers: Layers, rows: Mapping[str, np.ndarray]
) -> tuple[Layers, dict[str, np.ndarray]]:
    """The layers in which something is marked, and their leaves out of those of `layers`."""
    all_layers, own = dict(layers), overlay.layers_of(marked.marked)
    return own, {
        path: rows[path][[all_layers[path].index(layer) for layer in chosen]]
        for path, chosen in own
    }
