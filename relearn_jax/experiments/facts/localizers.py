"""Every localizer on the same pairs of prompts: effects by layer, position and head.

Effects are changes of the logit difference, in nats, for each pair apart: what patching adds to the
answer of the run that is patched. Dividing and averaging is left to `scores`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from relearn_jax import config
from relearn_jax.data.facts.prompts import Prompts, take
from relearn_jax.localize import attribution, patching, paths, questions, tracing
from relearn_jax.localize.questions import Cache, Pair, Question
from relearn_jax.models import transformer
from relearn_jax.models.inputs import Inputs
from relearn_jax.models.transformer import Model
from relearn_jax.parallel import mesh as meshes

PyTree = Any
Effects = dict[str, np.ndarray]
"""By name: float32, the last axis the pairs (B); L layers, T positions, H heads before it."""
STREAM = ("attention", "mlp_out")


DONOR = 2
"""With donors the metric is between the first two words: the right answer and the donor's."""


def pair(clean: Prompts, corrupt: Prompts, donor: bool) -> Pair:
    """Two runs of prompts of equal length, and the words between which the model decides.

    With `donor` the second word is the corrupt prompt's answer, and the alternatives that are left
    follow; else all are the alternatives.
    """
    others = clean.others
    if donor:
        rest = np.where(others == corrupt.target[:, None], -1, others)
        others = np.concatenate([corrupt.target[:, None], rest], axis=1)
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
    """All localizers, some pairs at a time; what is found does not depend on how many.

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
    put, first = placed(mesh), first_position(clean, corrupt, again)
    keys = jax.random.split(jax.random.key(seed), (len(clean.ids), 2, settings.draws))
    run = _Run(model, params, settings, first, 0.0)
    if "tracing" in settings.methods:
        run = run._replace(noise=settings.noise * _deviation(run, clean, put))
    found: list[Effects] = []
    for rows, count in _batches(len(clean.ids), settings.batch):
        parts = [take(prompts, rows) for prompts in (clean, corrupt, again)]
        some = _of_batch(run, *parts, jnp.moveaxis(keys[rows], 0, 2), put)
        found.append({name: np.asarray(effect)[..., :count] for name, effect in some.items()})
        tick(count, "localizing")
    return {name: np.concatenate([f[name] for f in found], axis=-1) for name in found[0]}


class _Run(NamedTuple):
    """What all batches share."""

    model: Model
    params: PyTree
    settings: config.Localize
    first: int
    """The first position at which any prompt differs from its partners."""
    noise: jax.Array | float
    """Standard deviation of the noise of causal tracing."""


def first_position(*prompts: Prompts) -> int:
    """The first position at which any prompt differs from its partners."""
    return int(np.any([p.ids != prompts[0].ids for p in prompts[1:]], axis=(0, 1)).argmax())


def _deviation(run: _Run, clean: Prompts, put: Callable[[PyTree], PyTree]) -> jax.Array:
    """Of the embeddings of all pairs' subjects."""
    inputs, subject = put((Inputs(clean.ids, clean.mask), clean.subject))
    embed = jax.jit(transformer.embed, static_argnums=0)
    return tracing.deviation(embed(run.model, run.params, inputs), subject)


def _batches(count: int, size: int) -> Iterator[tuple[np.ndarray, int]]:
    """Rows of equally large batches, and how many count: the last is filled up with the first."""
    size = min(size, count)
    for begin in range(0, count, size):
        yield np.arange(begin, begin + size) % count, min(size, count - begin)


def placed(mesh: Mesh | None) -> Callable[[PyTree], PyTree]:
    """Puts what leads with an axis of pairs onto the devices, each with its own pairs."""

    def put(tree: PyTree) -> PyTree:
        if mesh is None:
            return tree
        rows = len(jax.tree.leaves(tree)[0])
        return jax.device_put(tree, meshes.pairs(mesh, rows))

    return put


def _of_batch(
    run: _Run,
    clean: Prompts,
    corrupt: Prompts,
    again: Prompts,
    keys: jax.Array,
    put: Callable[[PyTree], PyTree],
) -> Effects:
    settings = run.settings
    donor = settings.corrupt == "swapped"
    asked = put(pair(clean, corrupt, donor))
    inputs = asked.clean, asked.corrupt, put(Inputs(again.ids, again.mask))
    at_clean, at_corrupt, at_again = (
        questions.run(run.model, run.params, some, asked.question) for some in inputs
    )
    value = partial(_difference, settings=settings)
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
        parts = method(run, *way, asked.question)
        found |= {f"{name}/{place}": effect for place, effect in parts.items()}
    if donor and "patching" in settings.methods:
        for name, (_, base, source), answer in (("", noising, 1), ("null/", null, 0)):
            states = found.pop(f"{name}patching/answers")
            found[f"{name}interchange"] = _turned(states, base, source, asked.question, answer)
    if "tracing" in settings.methods:
        found |= _traced(run, asked, keys)
    return {name: effect for name, effect in found.items() if not name.endswith("/answers")}


def _difference(answers: jax.Array, settings: config.Localize) -> jax.Array:
    """The right answer's logit above the donor's, or above the mean of the alternatives'."""
    return questions.difference(answers[..., :DONOR] if settings.corrupt == "swapped" else answers)


def _patched(run: _Run, inputs: Inputs, base: Cache, source: Cache, question: Question) -> Effects:
    """Activation patching of whole outputs, single positions and heads."""
    runs = run.model, run.params, inputs, base, source, question
    first, change = run.first, partial(_change, base=base, settings=run.settings)
    found = {place: change(patching.whole(*runs, place, first=first)) for place in STREAM}
    for place in ("states", *STREAM):
        answers = patching.by_position(*runs, place, run.settings.groups, first=first)
        found[f"{place}/position"] = change(answers)
        if place == "states":
            found["answers"] = answers
    found["heads"] = change(patching.by_head(*runs, first=first))
    return found


def _attributed(
    run: _Run, inputs: Inputs, base: Cache, source: Cache, question: Question, steps: int
) -> Effects:
    if run.settings.corrupt == "swapped":
        question = question._replace(words=question.words[:, :DONOR])
    change = attribution.attribution(run.model, run.params, inputs, base, source, question, steps)
    heads = jnp.moveaxis(change.pop("heads").sum(1), 2, 1)
    return {f"{place}/position": effect for place, effect in change.items()} | {"heads": heads}


def _by_path(run: _Run, inputs: Inputs, base: Cache, source: Cache, question: Question) -> Effects:
    heads = paths.heads_to_output(run.model, run.params, inputs, base, source, question)
    return {"heads": _change(heads, base, run.settings)}


def _turned(
    by_position: jax.Array, base: Cache, source: Cache, question: Question, answer: int
) -> jax.Array:
    """Whether a state of the source run turns the answer to word number `answer`, which it was not:
    L+1 rows, the last state being the answer itself at the last position and nothing elsewhere."""
    here = jnp.arange(by_position.shape[1])[:, None] == question.last
    final = jnp.where(here[..., None], source.answers, base.answers)
    said = jnp.argmax(jnp.concatenate([by_position, final[None]]), -1)
    return (said == answer) & (jnp.argmax(base.answers, -1) != answer)


def _change(answers: jax.Array, base: Cache, settings: config.Localize) -> jax.Array:
    return _difference(answers, settings) - _difference(base.answers, settings)


def _traced(run: _Run, asked: Pair, keys: jax.Array) -> Effects:
    """Probability of the right answer that restoring brings back, and what noise takes.

    `keys` [2, R, B]: of the noise, and of the noise that a null is restored from.
    """
    clean = questions.run(run.model, run.params, asked.clean, asked.question, probabilities=True)
    first, length = run.first, asked.clean.mask.shape[1]
    trace = partial(
        tracing.restored, run.model, run.params, asked.clean, clean, asked.question,
        keys=keys[0], scale=run.noise, start=first,
    )  # fmt: skip
    everywhere = jnp.ones((1, 1, 1, 1), bool)
    each = (jnp.arange(first, length) == jnp.arange(first, length)[:, None])[:, None, :, None]
    found: Effects = {}
    for name, source in (("", None), ("null/", keys[1])):
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
    for rows, count in _batches(len(clean.ids), settings.batch):
        asked = put(pair(take(clean, rows), take(corrupt, rows), settings.corrupt == "swapped"))
        other = put(take(again, rows))
        run = partial(questions.run, model, params, question=asked.question)
        base = run(asked.corrupt)
        for name, source in zip(found, (asked.clean, Inputs(other.ids, other.mask)), strict=True):
            said = paths.mlps_to_state(
                model, params, asked.corrupt, base, run(source), asked.question, receiver
            )
            found[name].append(np.asarray(_change(said, base, settings))[..., :count])
    return heads, {name: np.concatenate(parts, axis=-1) for name, parts in found.items()}
