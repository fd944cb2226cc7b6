"""Objectives of an edit: pure functions of parameters, reference parameters and texts.

An objective returns one `Term`: a sum over tokens or sentences in float32 with their count, which
the step divides once. The texts of a step, by name:

    FORGET    prompts with the answers to remove
    INJECTED  the same prompts, row by row, with the answers to put in
    RETAIN    prompts with answers to keep
    PLAIN     running text

Formulas have the letters of their papers: y the answer's tokens, L = -sum log p(y_t) of a sentence,
L0 that of the reference. Where papers and the code that the field runs differ, a `flavour` says
which is computed; specs: field C1, mechanistic unlearning 4.1.

To add an objective, write a function of this type and a row of `OBJECTIVES`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int

from relearn_jax.editing import tokens
from relearn_jax.models import transformer
from relearn_jax.models.sites import Tap, Taps
from relearn_jax.models.transformer import Model
from relearn_jax.training.losses import Term, Text, Texts, cross_entropy

PyTree = Any
FORGET, INJECTED, RETAIN, PLAIN = "forget", "injected", "retain", "plain"
Objective = Callable[[Model, PyTree, PyTree, Texts], Term]
"""(model, parameters, reference parameters or None, texts) -> the term."""


def injection(model: Model, params: PyTree, reference: PyTree, texts: Texts) -> Term:
    """Cross-entropy of the injected answers, a mean over tokens (Guo et al. 2025, editing)."""
    return cross_entropy(model, params, texts[INJECTED])


def gradient_ascent(model: Model, params: PyTree, reference: PyTree, texts: Texts) -> Term:
    """Cross-entropy of the forgotten answers with its sign turned; it has no lower bound.

    Together with a retain term it is gradient difference (Liu et al. 2022).
    """
    term = cross_entropy(model, params, texts[FORGET])
    return Term(-term.sum, term.count)


def unlikelihood(
    model: Model, params: PyTree, reference: PyTree, texts: Texts, cutoff: float = -5.0
) -> Term:
    """-log(1 - p) of each forgotten token, 0 where log p < cutoff; a mean over tokens.

    The cutoff is -5 in Guo et al. (2025) and -15 in TAR.
    """

    def value(labels: Array, logits: Array) -> Array:
        index = jnp.where(tokens.labelled(labels), labels, 0)
        words = jax.lax.broadcasted_iota(jnp.int32, logits.shape, logits.ndim - 1)
        others = jnp.where(words == index[..., None], -jnp.inf, logits)
        everything = jax.nn.logsumexp(logits, axis=-1)
        counts = tokens.log_probability(labels, logits) >= cutoff
        return jnp.where(counts, everything - jax.nn.logsumexp(others, axis=-1), 0.0)

    return _token_mean(model, (params,), texts[FORGET], value)


def weighted_ascent(
    model: Model, params: PyTree, reference: PyTree, texts: Texts, beta: float = 1.0
) -> Term:
    """log p of each forgotten token times p**beta, held constant; a mean over tokens.

    Weighted gradient ascent (Wang et al. 2025).
    """

    def value(labels: Array, logits: Array) -> Array:
        logp = tokens.log_probability(labels, logits)
        return jax.lax.stop_gradient(jnp.exp(beta * logp)) * logp

    return _token_mean(model, (params,), texts[FORGET], value)


def npo(
    model: Model,
    params: PyTree,
    reference: PyTree,
    texts: Texts,
    beta: float = 0.1,
    flavour: Literal["paper", "token_mean", "muse"] = "paper",
) -> Term:
    """Negative preference optimization: -2/beta log sigmoid(beta (L - L0)), a mean over sentences.

    paper: L sums over a sentence's tokens (Zhang et al. 2024). token_mean: L is their mean, as in
    Unlearn-Smooth on WMDP with one sentence a batch. muse: in place of L - L0, the difference of
    raw logits z0 - z, in a mean over all tokens, padding among them, and all words, as in the
    baseline of MUSE that is called NPO.
    """
    text = texts[FORGET]
    if flavour == "muse":

        def value(labels: Array, logits: Array, before: Array) -> Array:
            return jnp.mean(_preference(beta, before - logits), axis=-1)

        return _token_mean(model, (params, reference), text, value, everywhere=True)
    loss, before = _sentence_losses(model, (params, reference), text)
    margin = loss - before
    if flavour == "token_mean":
        margin /= jnp.maximum(_lengths(text), 1)
    return _sentence_mean(_preference(beta, margin), text)


def simnpo(
    model: Model,
    params: PyTree,
    reference: PyTree,
    texts: Texts,
    beta: float = 4.5,
    delta: float = 0.0,
) -> Term:
    """-2/beta log sigmoid(beta (L / |y| - delta)), a mean over sentences (Fan et al. 2024).

    The paper's own runs have beta 2.5; 4.5 is the default of open-unlearning.
    """
    text = texts[FORGET]
    (loss,) = _sentence_losses(model, (params,), text)
    margin = loss / jnp.maximum(_lengths(text), 1) - delta
    return _sentence_mean(_preference(beta, margin), text)


def dpo(model: Model, params: PyTree, reference: PyTree, texts: Texts, beta: float = 0.1) -> Term:
    """-2/beta log sigmoid(beta ((L - L0) of the forgotten answer - (L - L0) of the injected one)).

    A mean over sentences (Rafailov et al. 2023, as in open-unlearning). With refusals as injected
    answers it is IdkDPO, with answers that the model made up AltPO.
    """
    margins = []
    for name in (FORGET, INJECTED):
        loss, before = _sentence_losses(model, (params, reference), texts[name])
        margins.append(loss - before)
    lose, win = margins
    return _sentence_mean(_preference(beta, lose - win), texts[FORGET])


def undial(
    model: Model,
    params: PyTree,
    reference: PyTree,
    texts: Texts,
    beta: float = 10.0,
    flavour: Literal["paper", "open_unlearning"] = "paper",
) -> Term:
    """Cross-entropy against the reference with the label's logit lowered by beta.

    Self-distillation with adjusted logits (Dong et al. 2024). paper: a mean over the answer's
    tokens. open_unlearning: a mean over all tokens, padding among them; without a label, the logit
    of word V - 100 is lowered, as label -100 counts from the end of the vocabulary there.
    """

    def value(labels: Array, logits: Array, before: Array) -> Array:
        words = jax.lax.broadcasted_iota(jnp.int32, logits.shape, logits.ndim - 1)
        index = jnp.where(labels < 0, labels + logits.shape[-1], labels)
        wanted = jax.nn.softmax(before - beta * (words == index[..., None]), axis=-1)
        return optax.safe_softmax_cross_entropy(logits, jax.lax.stop_gradient(wanted))

    everywhere = flavour == "open_unlearning"
    return _token_mean(model, (params, reference), texts[FORGET], value, everywhere)


class Steering(NamedTuple):
    """Where and how far RMU moves the hidden states of the forgotten text."""

    direction: Float[Array, " D"]
    """The control vector c, from `control`."""
    state: int
    """Row of the hidden states, 0 to L; row l + 1 is the output of block l."""


def control(key: Array, width: int, scale: float) -> Float[Array, " D"]:
    """RMU's control vector: scale u / |u|, u uniform on [0, 1) (Li et al. 2024)."""
    u = jax.random.uniform(key, (width,), jnp.float32)
    return scale * u / jnp.linalg.norm(u)


def rmu(
    model: Model,
    params: PyTree,
    reference: PyTree,
    texts: Texts,
    steering: Steering,
    flavour: Literal["paper", "open_unlearning"] = "paper",
) -> Term:
    """Squared distance of a hidden state from the control vector, a mean over channels.

    paper: and over all positions, padding among them (Li et al. 2024, as in their code).
    open_unlearning: a mean over the answer's tokens of a sentence, then over sentences.
    """
    text = texts[FORGET]
    h = _state(model, params, text, steering.state)
    apart = jnp.mean(jnp.square(h - steering.direction), axis=-1)
    if flavour == "paper":
        return Term(jnp.sum(apart), jnp.float32(apart.size))
    answer = tokens.labelled(text.batch.labels)
    return _sentence_mean(jnp.sum(apart * answer, axis=1) / jnp.maximum(_lengths(text), 1), text)


def keep_answers(model: Model, params: PyTree, reference: PyTree, texts: Texts) -> Term:
    """Cross-entropy of the retained answers, a mean over tokens."""
    return cross_entropy(model, params, texts[RETAIN])


def keep_distribution(
    model: Model,
    params: PyTree,
    reference: PyTree,
    texts: Texts,
    flavour: Literal["answer", "open_unlearning"] = "answer",
) -> Term:
    """Divergence KL(reference, model) of the retained text.

    answer: a mean over the answer's tokens. open_unlearning: a mean over all positions of the
    batch, prompt and padding among them.
    """

    def value(labels: Array, logits: Array, before: Array) -> Array:
        now, then = (jax.nn.log_softmax(z, axis=-1) for z in (logits, before))
        return jnp.sum(jnp.exp(then) * (then - now), axis=-1)

    everywhere = flavour == "open_unlearning"
    return _token_mean(model, (params, reference), texts[RETAIN], value, everywhere)


def keep_state(
    model: Model, params: PyTree, reference: PyTree, texts: Texts, steering: Steering
) -> Term:
    """RMU's retain term: squared distance of a hidden state from the reference's.

    A mean over channels and all positions, padding among them (Li et al. 2024).
    """
    text = texts[RETAIN]
    now = _state(model, params, text, steering.state)
    then = _state(model, reference, text, steering.state)
    apart = jnp.mean(jnp.square(now - then), axis=-1)
    return Term(jnp.sum(apart), jnp.float32(apart.size))


def plain_text(model: Model, params: PyTree, reference: PyTree, texts: Texts) -> Term:
    """Cross-entropy of running text, a mean over tokens."""
    return cross_entropy(model, params, texts[PLAIN])


class Kind(NamedTuple):
    """An objective, and what it needs."""

    function: Callable[..., Term]
    role: Literal["forget", "retain", "plain"]
    texts: tuple[str, ...]
    reference: bool = False
    """Whether it compares with the model before the edit."""
    steered: bool = False
    """Whether it takes a `Steering`."""


OBJECTIVES: dict[str, Kind] = {
    "injection": Kind(injection, "forget", (INJECTED,)),
    "unlikelihood": Kind(unlikelihood, "forget", (FORGET,)),
    "gradient_ascent": Kind(gradient_ascent, "forget", (FORGET,)),
    "weighted_ascent": Kind(weighted_ascent, "forget", (FORGET,)),
    "npo": Kind(npo, "forget", (FORGET,), reference=True),
    "simnpo": Kind(simnpo, "forget", (FORGET,)),
    "dpo": Kind(dpo, "forget", (FORGET, INJECTED), reference=True),
    "undial": Kind(undial, "forget", (FORGET,), reference=True),
    "rmu": Kind(rmu, "forget", (FORGET,), steered=True),
    "keep_answers": Kind(keep_answers, "retain", (RETAIN,)),
    "keep_distribution": Kind(keep_distribution, "retain", (RETAIN,), reference=True),
    "keep_state": Kind(keep_state, "retain", (RETAIN,), reference=True, steered=True),
    "plain_text": Kind(plain_text, "plain", (PLAIN,)),
}
"""Every objective by name."""


def _preference(beta: float, margin: Array) -> Array:
    return -2 / beta * jax.nn.log_sigmoid(beta * margin)


def _token_mean(
    model: Model,
    models: tuple[PyTree, ...],
    text: Text,
    value: tokens.Value,
    everywhere: bool = False,
) -> Term:
    """The term of a value for each token with a label, or for every token, padding among them."""
    found = tokens.values(model, models, text, value)
    counted = everywhere | tokens.labelled(text.batch.labels)
    return Term(jnp.sum(jnp.where(counted, found, 0.0)), jnp.sum(counted, dtype=jnp.float32))


def _sentence_losses(model: Model, models: tuple[PyTree, ...], text: Text) -> list[Array]:
    """[B] for each model: minus the summed log probability of the labelled tokens."""
    each = (partial(tokens.values, model, (params,), text) for params in models)
    return [-jnp.sum(values(tokens.log_probability), axis=1) for values in each]


def _lengths(text: Text) -> Int[Array, " B"]:
    return jnp.sum(tokens.labelled(text.batch.labels), axis=1)


def _sentence_mean(found: Float[Array, " B"], text: Text) -> Term:
    """The term of a value for each sentence; padding rows, which have no label, do not count."""
    real: Bool[Array, " B"] = _lengths(text) > 0
    return Term(jnp.sum(jnp.where(real, found, 0.0)), jnp.sum(real, dtype=jnp.float32))


def _state(model: Model, params: PyTree, text: Text, row: int) -> Float[Array, "B T D"]:
    """One row of the hidden states, in float32."""
    wanted = jnp.arange(model.config.layers + 1) == row
    tap = Tap(lambda h, on: jnp.where(on, h.astype(jnp.float32), 0.0), wanted)
    _, readings = transformer.hidden(
        model, params, text.batch.inputs, text.sites, Taps(states=tap), keys=text.keys
    )
    return jnp.sum(readings.states, axis=0)
