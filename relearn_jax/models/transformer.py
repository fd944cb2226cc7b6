"""One forward pass for every family: a scan over stacked blocks, with sites and taps.

Letters: B batch, T tokens, L layers, D width, F feed-forward width, V vocabulary, Y labels.
Parameters are a plain dict {"embed", "blocks" (every leaf [L, ...]), "final"?, "head"?}. Blocks may
have an overlay (`overlay.py`) or hold adapters (`layers.Dense`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int

from relearn_jax.models import overlay
from relearn_jax.models.family import Family, Task
from relearn_jax.models.inputs import Inputs, Past, RowKeys
from relearn_jax.models.layers import INIT, split
from relearn_jax.models.sites import PyTree, Sites, Taps, read, touch


class Layout(NamedTuple):
    """Shardings of the largest arrays of a pass.

    Without them, XLA may split the width of the states over devices that should split the rows of
    the batch, so that each device would compute all rows.
    """

    states: jax.sharding.Sharding
    """Of the states between blocks, [B, T, D]."""
    words: jax.sharding.Sharding
    """Of the word vectors in a language head, [V, D]."""


@dataclass(frozen=True)
class Model:
    """An architecture with its sizes: static, hashable, without parameters."""

    family: Family
    config: Any
    task: Task = "backbone"
    labels: tuple[str, ...] = ()
    dtype: str = "float32"
    remat: bool = False
    """Recompute blocks in the backward pass instead of storing them."""
    layout: Layout | None = None
    """Shardings on a mesh; None: XLA chooses."""

    def __hash__(self) -> int:
        fields = (self.family.name, self.config, self.task, self.labels, self.dtype, self.remat)
        return hash((*fields, self.layout))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Model) and hash(self) == hash(other)


def _modules(model: Model) -> dict[str, Any]:
    dtype, family, config = jnp.dtype(model.dtype), model.family, model.config
    modules = {"embed": family.embed(config, dtype), "block": family.block(config, dtype)}
    if family.final is not None:
        modules["final"] = family.final(config, dtype)
    if model.task == "token-classification":
        modules["head"] = family.classifier(config, len(model.labels))
    if model.task == "language-model":
        modules["head"] = family.language_head(config, dtype)
    return modules


def init(model: Model, key: Array) -> PyTree:
    """Random float32 parameters (normal with deviation 0.02, as in the families' papers)."""
    modules = _modules(model)
    key_embed, key_blocks, key_final, key_head = jax.random.split(key, 4)
    inputs = Inputs(jnp.zeros((1, 2), jnp.int32), jnp.ones((1, 2), bool))
    h = jnp.zeros((1, 2, model.config.width), model.dtype)

    def block(k: Array, window: Array | None) -> PyTree:
        optional = _optional(window, None)
        return modules["block"].init(k, h, inputs, Sites(), None, **optional)["params"]

    params = {
        "embed": modules["embed"].init(key_embed, inputs, None)["params"],
        "blocks": jax.vmap(block)(
            jax.random.split(key_blocks, model.config.layers), _windows(model)
        ),
    }
    if "final" in modules:
        params["final"] = modules["final"].init(key_final, h)["params"]
    if model.task == "token-classification":
        params["head"] = modules["head"].init(key_head, h, None)["params"]
    if model.task == "language-model":
        head = dict(modules["head"].init(key_head, h, _vectors(params)).get("params", {}))
        if not model.family.tied(model.config):
            shape = (model.config.vocabulary, model.config.width)
            head["word"] = {"embedding": INIT(key_head, shape)}
        if head:
            params["head"] = head
    return params


def _vectors(params: PyTree) -> Float[Array, "V D"]:
    """The word vectors of a language head: its own, or else the word embedding."""
    head = params.get("head", {})
    return (head if "word" in head else params["embed"])["word"]["embedding"]


def _windows(model: Model) -> Int[Array, " L"] | None:
    windows = model.family.windows
    return None if windows is None else jnp.asarray(windows(model.config))


def _optional(window: Array | None, past: Past | None) -> dict[str, Any]:
    """Arguments that only some families' blocks take."""
    values = {"window": window, "past": past}
    return {name: value for name, value in values.items() if value is not None}


def _placed(model: Model, h: Float[Array, "B T D"]) -> Float[Array, "B T D"]:
    return h if model.layout is None else lax.with_sharding_constraint(h, model.layout.states)


def _rows(tree: PyTree, part: slice | int | Array) -> PyTree:
    return jax.tree.map(lambda leaf: leaf[part], tree)


def embed(
    model: Model, params: PyTree, inputs: Inputs, keys: RowKeys | None = None
) -> Float[Array, "B T D"]:
    """Hidden state 0, before any intervention."""
    return _modules(model)["embed"].apply({"params": params["embed"]}, inputs, keys)


def hidden(
    model: Model,
    params: PyTree,
    inputs: Inputs,
    sites: Sites = Sites(),  # noqa: B008 (immutable)
    taps: Taps = Taps(),  # noqa: B008 (immutable)
    keys: RowKeys | None = None,
    embedded: Float[Array, "B T D"] | None = None,
) -> tuple[Float[Array, "B T D"], Taps]:
    """The last state, in the compute dtype, and the readings; arguments as in `apply`.

    `embedded` replaces hidden state 0 from the token ids.
    """
    modules = _modules(model)
    layers = model.config.layers
    for_embed, for_blocks, _ = split(keys, 3)
    if embedded is None:
        embedded = embed(model, params, inputs, for_embed)
    h = _placed(model, embedded)

    # A step handles the state that enters its block, so rows 0..L-1 are read inside the scan and
    # row L after it, where families with a final norm have applied it.
    rows = Taps(*(None if tap is None else tap.rows for tap in taps))

    def step(h: Array, layer: tuple) -> tuple[Array, Taps]:
        p, (row, tap_rows, window, k) = layer
        h = touch(h, row.states)
        state = read(taps.states, h, tap_rows.states)
        optional = _optional(window, None)
        h, inside = modules["block"].apply({"params": p}, h, inputs, row, k, **optional)
        readings = map(read, taps[1:], inside, tap_rows[1:])
        return _placed(model, h), Taps(state, *readings)

    others = (
        sites._replace(states=_rows(sites.states, slice(0, layers))),
        rows._replace(states=_rows(rows.states, slice(0, layers))),
        _windows(model),
        None if keys is None else jnp.stack(split(for_blocks, layers)),
    )
    h, readings = overlay.scan(step, h, params["blocks"], others, model.remat)

    h = final(model, params, h)
    h = touch(h, _rows(sites.states, layers))
    last = read(taps.states, h, _rows(rows.states, layers))
    states = jax.tree.map(
        lambda rows, row: jnp.concatenate([rows, row[None]]), readings.states, last
    )
    return h, readings._replace(states=states)


def suffix(
    model: Model,
    params: PyTree,
    inputs: Inputs,
    h: Float[Array, "B T D"],
    first: Int[Array, ""],
    row: Sites = Sites(),  # noqa: B008 (immutable)
    later: Sites = Sites(),  # noqa: B008 (immutable)
    past: Past | None = None,
) -> Float[Array, "B T D"]:
    """The last state, computed from the state that enters block `first`; no gradients.

    Args:
      model, params: as in `apply`.
      inputs: the mask of all positions; ids are not read.
      h: the state, at the last T positions.
      first: number of the block, as data, so that one compilation serves all blocks.
      row: interventions on that block, without a leading axis.
      later: interventions on the blocks after it, with rows for all L. `states` are ignored in
        both.
      past: keys and values [L, B, P, ...] at the P positions before the last T, if any.
    """
    modules, windows = _modules(model), _windows(model)

    def block(layer: Array, h: Array, row: Sites) -> Array:
        p, optional = _rows((params["blocks"], _optional(windows, past)), layer)
        h, _ = modules["block"].apply({"params": p}, h, inputs, row, None, **optional)
        return _placed(model, h)

    h = block(first, h, row)
    h = lax.fori_loop(first + 1, model.config.layers, lambda i, h: block(i, h, _rows(later, i)), h)
    return final(model, params, h)


def final(model: Model, params: PyTree, h: Float[Array, "B T D"]) -> Float[Array, "B T D"]:
    """A state between blocks as if it were the last: with the final norm, if the family has one."""
    modules = _modules(model)
    return modules["final"].apply({"params": params["final"]}, h) if "final" in modules else h


def head(
    model: Model,
    params: PyTree,
    h: Float[Array, "B T D"],
    keys: RowKeys | None = None,
    words: Int[Array, "B W"] | None = None,
) -> Float[Array, "B T ..."]:
    """Logits [B, T, Y] or [B, T, V] in float32 from the last state; a backbone returns the state.

    Pass the same `keys` as to `hidden`; each splits off its own part. With `words`, a language
    model computes the logits of each row's words only, [B, T, W].
    """
    if model.task == "backbone":
        return h
    module = _modules(model)["head"]
    variables = {"params": params.get("head", {})}
    if model.task == "token-classification":
        return module.apply(variables, h, split(keys, 3)[2])
    vectors = _vectors(params)
    if model.layout is not None:
        vectors = lax.with_sharding_constraint(vectors, model.layout.words)
    return module.apply(variables, h, vectors, words)


def apply(
    model: Model,
    params: PyTree,
    inputs: Inputs,
    sites: Sites = Sites(),  # noqa: B008 (immutable)
    taps: Taps = Taps(),  # noqa: B008 (immutable)
    keys: RowKeys | None = None,
) -> tuple[Float[Array, "B T ..."], Taps]:
    """Run a model.

    Args:
      model: the architecture.
      params: its parameters.
      inputs: token ids and mask, [B, T].
      sites: interventions. States have L+1 rows, all other places L.
      taps: readings to take, after the interventions.
      keys: dropout keys, one for each row; None for evaluation.

    Returns:
      Logits [B, T, Y] or [B, T, V] in float32, or for a backbone the last state [B, T, D]; and the
      readings, each leaf with a leading row axis [L+1, ...] (states) or [L, ...] (all others).
    """
    h, readings = hidden(model, params, inputs, sites, taps, keys)
    return head(model, params, h, keys), readings
