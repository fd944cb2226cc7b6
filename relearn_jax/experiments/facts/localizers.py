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

from relearn_jax import config
from relearn_jax.data.facts.prompts import Prompts, take
from relearn_jax.localize import attribution, patching, paths, questions, tracing
from relearn_jax.localize.questions import Cache, Pair, Question
from relearn_jax.models.inputs import Inputs
from relearn_jax.models.transformer import Model

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
    null: Prompts,
    settings: config.Localize,
    seed: int,
    tick: Callable[[int, str], None],
) -> Effects:
    """All localizers, some pairs at a time.

    Args:
      model, params: a causal language model.
      clean, corrupt: prompts that have the fact, and partners that have another.
      null: partners of equal length whose answer is the same: what patching from them changes is
        what patching changes by chance.
      settings: which localizers, and how.
      seed: of the noise of causal tracing.
      tick: progress; called with the pairs done.
    """
    found: list[Effects] = []
    for number, rows in enumerate(_batches(len(clean.ids), settings.batch)):
        parts = [take(prompts, rows) for prompts in (clean, corrupt, null)]
        key = jax.random.fold_in(jax.random.key(seed), number)
        some = _of_batch(model, params, *parts, settings, key)
        found.append(jax.tree.map(np.asarray, some))
        tick(len(rows), "localizing")
    return {name: np.concatenate([f[name] for f in found], axis=-1) for name in found[0]}


def _batches(count: int, size: int) -> Iterator[np.ndarray]:
    """Rows of equally large batches; the last is filled up with none, so that sizes may differ."""
    for begin in range(0, count, size):
        yield np.arange(begin, min(begin + size, count))


def _of_batch(
    model: Model,
    params: PyTree,
    clean: Prompts,
    corrupt: Prompts,
    null: Prompts,
    settings: config.Localize,
    key: jax.Array,
) -> Effects:
    donor = settings.corrupt == "swapped"
    asked = pair(clean, corrupt, donor)
    question = asked.question
    run = partial(questions.run, model, params, question=question)
    at_clean, at_corrupt = run(asked.clean), run(asked.corrupt)
    value = questions.difference
    found = {"clean": value(at_clean.answers), "corrupt": value(at_corrupt.answers)}

    def noised(cache: Cache) -> tuple[Any, ...]:
        return model, params, asked.clean, at_clean, cache, question

    restored = (model, params, asked.corrupt, at_corrupt, at_clean, question)
    if "patching" in settings.methods:
        at_null = run(Inputs(null.ids, null.mask))
        for place in STREAM:
            found[f"patching/{place}"] = _change(
                patching.whole(*noised(at_corrupt), place), at_clean
            )
            found[f"restoring/{place}"] = _change(patching.whole(*restored, place), at_corrupt)
            found[f"null/{place}"] = _change(patching.whole(*noised(at_null), place), at_clean)
        for place in ("states", *STREAM):
            by_position = patching.by_position(*noised(at_corrupt), place, settings.groups)
            found[f"patching/{place}/position"] = _change(by_position, at_clean)
            if place == "states":
                found["interchange"] = _flips(by_position, at_clean, at_corrupt, question)
        heads = patching.by_head(*noised(at_corrupt))
        found["patching/heads"] = _change(heads, at_clean)
    for name, steps in (("attribution", 0), ("attribution_path", settings.path_steps)):
        if name in settings.methods:
            change = attribution.attribution(
                model, params, asked.clean, at_clean, at_corrupt, question, steps
            )
            for place in ("states", *STREAM):
                found[f"{name}/{place}/position"] = change[place]
            found[f"{name}/heads"] = jnp.moveaxis(change["heads"].sum(1), 2, 1)
    if "paths" in settings.methods:
        heads = paths.heads_to_output(*restored)
        found["paths/heads"] = _change(heads, at_corrupt)
    if "tracing" in settings.methods:
        found |= _traced(model, params, asked, settings, key)
    return found


def _flips(
    by_position: jax.Array, at_clean: Cache, at_corrupt: Cache, question: Question
) -> jax.Array:
    """Whether the answer becomes the donor's when a state is the donor's: L+1 rows, the last state
    being the answer itself at the last position and nothing elsewhere."""
    here = jnp.arange(by_position.shape[1])[:, None] == question.last
    final = jnp.where(here[..., None], at_corrupt.answers, at_clean.answers)
    return jnp.argmax(jnp.concatenate([by_position, final[None]]), -1) == 1


def _change(answers: jax.Array, base: Cache) -> jax.Array:
    return questions.difference(answers) - questions.difference(base.answers)


def _traced(
    model: Model, params: PyTree, asked: Pair, settings: config.Localize, key: jax.Array
) -> Effects:
    """Probability of the right answer that restoring brings back, and what noise takes."""
    clean = questions.run(model, params, asked.clean, asked.question, probabilities=True)
    scale = settings.noise * tracing.deviation(clean, asked.question.subject)
    keys = jax.random.split(key, settings.draws)
    first = int(np.argmax(np.asarray(asked.question.subject).any(0)))
    length = asked.clean.mask.shape[1]
    trace = partial(
        tracing.restored, model, params, asked.clean, clean, asked.question,
        keys=keys, scale=scale, start=first,
    )  # fmt: skip
    sure = jnp.exp(clean.answers[:, 0])
    found: Effects = {}
    for place in STREAM:
        restored, corrupt = trace(place=place, where=jnp.ones((1, 1, 1, 1), bool))
        gained = jnp.exp(restored[..., 0]) - jnp.exp(corrupt[..., 0])[:, None, None]
        found[f"tracing/{place}"] = gained.mean(0)[:, 0]
    here = (jnp.arange(first, length) == jnp.arange(first, length)[:, None])[:, None, :, None]
    restored, corrupt = trace(place="states", where=here)
    gained = jnp.exp(restored[..., 0]) - jnp.exp(corrupt[..., 0])[:, None, None]
    before = jnp.zeros((gained.shape[1], first, gained.shape[3]))
    found["tracing/states/position"] = jnp.concatenate([before, gained.mean(0)], axis=1)
    found["tracing/lost"] = sure - jnp.exp(corrupt[..., 0]).mean(0)
    return found


def lookup_by_paths(
    model: Model,
    params: PyTree,
    clean: Prompts,
    corrupt: Prompts,
    effects: Effects,
    settings: config.Localize,
) -> tuple[list[tuple[int, int]], np.ndarray]:
    """The second step of fact lookup by paths (specs: mechanistic unlearning 3.2).

    Returns:
      (extraction heads, largest effect first; effects of the feed-forward layers on the state that
      enters the earliest of them, [L, B])
    """
    change = np.mean(effects["clean"] - effects["corrupt"])
    heads = paths.extraction(jnp.asarray(effects["paths/heads"].mean(-1) / change), settings.heads)
    receiver = jnp.int32(min(layer for layer, _ in heads))
    found = []
    for rows in _batches(len(clean.ids), settings.batch):
        asked = pair(take(clean, rows), take(corrupt, rows), settings.corrupt == "swapped")
        run = partial(questions.run, model, params, question=asked.question)
        at_clean, at_corrupt = run(asked.clean), run(asked.corrupt)
        said = paths.mlps_to_state(
            model, params, asked.corrupt, at_corrupt, at_clean, asked.question, receiver
        )
        found.append(np.asarray(_change(said, at_corrupt)))
    return heads, np.concatenate(found, axis=-1)
