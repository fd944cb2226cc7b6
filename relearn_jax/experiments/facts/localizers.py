"""Every localizer on the same pairs of prompts: effects by layer, position and head.

Effects are changes of the logit difference, in nats, for each pair apart: what patching adds to the
answer of the run that is patched. Dividing and averaging is left to `scores`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from relearn_jax import config
from relearn_jax.data.facts.prompts import Prompts, take
from relearn_jax.localize import attribution, patching, paths, questions, tracing
from relearn_jax.localize.questions import Cache, Pair, Question
from relearn_jax.models.inputs import Inputs
from relearn_jax.models.transformer import Model
from relearn_jax.parallel import mesh as meshes

PyTree = Any
Effects = dict[str, np.ndarray]
"""By name: float32, the last axis the pairs (B); L layers, T positions, H heads before it."""
STREAM = ("attention", "mlp_out")


def pair(clean: Prompts, corrupt: Prompts, donor: bool) -> Pair:
    """Two runs of prompts of equal length, and the words between which the model decides.

    With `donor` the other word is the corrupt prompt's answer; else they are the alternatives.
    """
    others = corrupt.target[:, None] if donor else clean.others
    words = np.concatenate([clean.target[:, None], others], axis=1)
    question = Question(clean.last, words, clean.subject)
    return Pair(Inputs(clean.ids, clean.mask), Inputs(corrupt.ids, corrupt.mask), question)


def effects(
    model: Model,
    params: PyTree,
    clean: Prompts,
    corrupt: Prompts,
    again: Prompts,
    settings: config.Localize,
    seed: int,
    tick: Callable[[int, str], None],
    mesh: Mesh | None = None,
) -> Effects:
    """All localizers, some pairs at a time.

    Every method has its null, under `null/` and its name: the same between two runs of which
    neither has the fact, `corrupt` and `again` (tracing: two draws of the noise). What it finds
    there it finds without a fact.

    Args:
      model, params: a causal language model.
      clean, corrupt: prompts that have the fact, and partners that have another, or none.
      again: partners of `corrupt` in which the fact is the same.
      settings: which localizers, and how.
      seed: of the noise of causal tracing.
      tick: progress; called with the pairs done.
      mesh: devices that the pairs of a batch are spread over.
    """
    put = placed(mesh)
    found: list[Effects] = []
    for number, rows in enumerate(_batches(len(clean.ids), settings.batch)):
        parts = [take(prompts, rows) for prompts in (clean, corrupt, again)]
        key = jax.random.fold_in(jax.random.key(seed), number)
        some = _of_batch(model, params, *parts, settings, key, put)
        found.append(jax.tree.map(np.asarray, some))
        tick(len(rows), "localizing")
    return {name: np.concatenate([f[name] for f in found], axis=-1) for name in found[0]}


def _batches(count: int, size: int) -> Iterator[np.ndarray]:
    """Rows of equally large batches; the last is filled up with none, so that sizes may differ."""
    for begin in range(0, count, size):
        yield np.arange(begin, min(begin + size, count))


def placed(mesh: Mesh | None) -> Callable[[PyTree], PyTree]:
    """Puts what leads with an axis of pairs onto the devices, each with its own pairs."""

    def put(tree: PyTree) -> PyTree:
        if mesh is None:
            return tree
        rows = len(jax.tree.leaves(tree)[0])
        return jax.device_put(tree, meshes.pairs(mesh, rows))

    return put


def _of_batch(
    model: Model,
    params: PyTree,
    clean: Prompts,
    corrupt: Prompts,
    again: Prompts,
    settings: config.Localize,
    key: jax.Array,
    put: Callable[[PyTree], PyTree],
) -> Effects:
    donor = settings.corrupt == "swapped"
    asked = put(pair(clean, corrupt, donor))
    inputs = asked.clean, asked.corrupt, put(Inputs(again.ids, again.mask))
    runs = [questions.run(model, params, some, asked.question) for some in inputs]
    at_clean, at_corrupt, at_again = runs
    value = questions.difference
    found = {"clean": value(at_clean.answers), "corrupt": value(at_corrupt.answers)}
    # By name, what stands still and what is put into it: (inputs, base, source).
    noising = asked.clean, at_clean, at_corrupt
    restoring = asked.corrupt, at_corrupt, at_clean
    null = asked.corrupt, at_corrupt, at_again
    ways: list[tuple[str, Callable[..., Effects], tuple[Any, ...]]] = []
    if "patching" in settings.methods:
        ways += [("patching", _patched, noising), ("restoring", _patched, restoring)]
        ways += [("null/patching", _patched, null)]
    for name, steps in (("attribution", 0), ("attribution_path", settings.path_steps)):
        if name in settings.methods:
            gradient = partial(_attributed, steps=steps)
            ways += [(name, gradient, noising), (f"null/{name}", gradient, null)]
    if "paths" in settings.methods:
        ways += [("paths", _by_path, restoring), ("null/paths", _by_path, null)]
    for name, method, way in ways:
        parts = method(model, params, *way, asked.question, settings)
        found |= {f"{name}/{place}": effect for place, effect in parts.items()}
    if donor and "patching" in settings.methods:
        for name, (_, base, source), answer in (("", noising, 1), ("null/", null, 0)):
            states = found.pop(f"{name}patching/answers")
            found[f"{name}interchange"] = _turned(states, base, source, asked.question, answer)
    if "tracing" in settings.methods:
        found |= _traced(model, params, asked, settings, key)
    return {name: effect for name, effect in found.items() if not name.endswith("/answers")}


def _patched(
    model: Model,
    params: PyTree,
    inputs: Inputs,
    base: Cache,
    source: Cache,
    question: Question,
    settings: config.Localize,
) -> Effects:
    """Activation patching of whole outputs, single positions and heads."""
    runs = model, params, inputs, base, source, question
    found = {place: _change(patching.whole(*runs, place), base) for place in STREAM}
    for place in ("states", *STREAM):
        answers = patching.by_position(*runs, place, settings.groups)
        found[f"{place}/position"] = _change(answers, base)
        if place == "states":
            found["answers"] = answers
    found["heads"] = _change(patching.by_head(*runs), base)
    return found


def _attributed(
    model: Model,
    params: PyTree,
    inputs: Inputs,
    base: Cache,
    source: Cache,
    question: Question,
    settings: config.Localize,
    steps: int,
) -> Effects:
    change = attribution.attribution(model, params, inputs, base, source, question, steps)
    heads = jnp.moveaxis(change.pop("heads").sum(1), 2, 1)
    return {f"{place}/position": effect for place, effect in change.items()} | {"heads": heads}


def _by_path(
    model: Model,
    params: PyTree,
    inputs: Inputs,
    base: Cache,
    source: Cache,
    question: Question,
    settings: config.Localize,
) -> Effects:
    heads = paths.heads_to_output(model, params, inputs, base, source, question)
    return {"heads": _change(heads, base)}


def _turned(
    by_position: jax.Array, base: Cache, source: Cache, question: Question, answer: int
) -> jax.Array:
    """Whether a state of the source run turns the answer to word number `answer`, which it was not:
    L+1 rows, the last state being the answer itself at the last position and nothing elsewhere."""
    here = jnp.arange(by_position.shape[1])[:, None] == question.last
    final = jnp.where(here[..., None], source.answers, base.answers)
    said = jnp.argmax(jnp.concatenate([by_position, final[None]]), -1)
    return (said == answer) & (jnp.argmax(base.answers, -1) != answer)


def _change(answers: jax.Array, base: Cache) -> jax.Array:
    return questions.difference(answers) - questions.difference(base.answers)


def _traced(
    model: Model, params: PyTree, asked: Pair, settings: config.Localize, key: jax.Array
) -> Effects:
    """Probability of the right answer that restoring brings back, and what noise takes."""
    clean = questions.run(model, params, asked.clean, asked.question, probabilities=True)
    scale = settings.noise * tracing.deviation(clean, asked.question.subject)
    keys, others = jax.random.split(key, (2, settings.draws))
    first = int(np.argmax(np.asarray(asked.question.subject).any(0)))
    length = asked.clean.mask.shape[1]
    trace = partial(
        tracing.restored, model, params, asked.clean, clean, asked.question,
        keys=keys, scale=scale, start=first,
    )  # fmt: skip
    everywhere = jnp.ones((1, 1, 1, 1), bool)
    each = (jnp.arange(first, length) == jnp.arange(first, length)[:, None])[:, None, :, None]
    found: Effects = {}
    for name, source in (("", None), ("null/", others)):
        for place, where in (*((place, everywhere) for place in STREAM), ("states", each)):
            restored, corrupt = trace(place=place, where=where, others=source)
            gained = jnp.exp(restored[..., 0]) - jnp.exp(corrupt[..., 0])[:, None, None]
            gained = gained.mean(0)
            if place == "states":
                before = jnp.zeros((gained.shape[0], first, gained.shape[2]))
                by_position = jnp.concatenate([before, gained], axis=1)
                found[f"{name}tracing/states/position"] = by_position
            else:
                found[f"{name}tracing/{place}"] = gained[:, 0]
    found["tracing/lost"] = jnp.exp(clean.answers[:, 0]) - jnp.exp(corrupt[..., 0]).mean(0)
    return found


def lookup_by_paths(
    model: Model,
    params: PyTree,
    clean: Prompts,
    corrupt: Prompts,
    again: Prompts,
    effects: Effects,
    settings: config.Localize,
    mesh: Mesh | None = None,
) -> tuple[list[tuple[int, int]], Effects]:
    """The second step of fact lookup by paths (specs: mechanistic unlearning 3.2).

    Returns:
      (extraction heads, largest effect first; effects of the feed-forward layers on the state that
      enters the earliest of them, [L, B], and their null)
    """
    change = np.mean(effects["clean"] - effects["corrupt"])
    heads = paths.extraction(jnp.asarray(effects["paths/heads"].mean(-1) / change), settings.heads)
    receiver = jnp.int32(min(layer for layer, _ in heads))
    put = placed(mesh)
    found: dict[str, list[np.ndarray]] = {"paths/mlp": [], "null/paths/mlp": []}
    for rows in _batches(len(clean.ids), settings.batch):
        asked = put(pair(take(clean, rows), take(corrupt, rows), settings.corrupt == "swapped"))
        other = put(take(again, rows))
        run = partial(questions.run, model, params, question=asked.question)
        base = run(asked.corrupt)
        for name, source in zip(found, (asked.clean, Inputs(other.ids, other.mask)), strict=True):
            said = paths.mlps_to_state(
                model, params, asked.corrupt, base, run(source), asked.question, receiver
            )
            found[name].append(np.asarray(_change(said, base)))
    return heads, {name: np.concatenate(parts, axis=-1) for name, parts in found.items()}
