"""Concept similarity of a neuron's tokens to its own earlier tokens, beside a null.

Axes: V word types, E width of the word vectors, N = S*D neurons, k tokens of a neuron (-1 = none),
G the groups of `saliency.GROUPS`, S rows (layers). A row of NaN is a word without a vector.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from relearn_jax.errors import UserError
from relearn_jax.neurons.saliency import groups


class Null(NamedTuple):
    """Mean similarity of random pairs by group and layer, with its 95 % range over the draws."""

    mean: Float[np.ndarray, "G S"]
    low: Float[np.ndarray, "G S"]
    high: Float[np.ndarray, "G S"]
    neurons: Int[np.ndarray, "G S"]


def vectors_from_embeddings(
    embeddings: Float[np.ndarray, "P E"], pieces: Sequence[Sequence[int]]
) -> Float[np.ndarray, "V E"]:
    """A vector for every word type: the mean of the embedding rows of its sub-words.

    `pieces` holds the sub-word ids of each type, without special tokens; no ids give NaN.
    """
    embeddings = np.asarray(embeddings, np.float32)
    counts = np.fromiter((len(ids) for ids in pieces), np.int64, len(pieces))
    vectors = np.full((len(pieces), embeddings.shape[1]), np.nan, np.float32)
    known = counts > 0
    if known.any():
        flat = np.concatenate([np.asarray(ids, np.int64) for ids in pieces if len(ids)])
        starts = np.cumsum(counts[known]) - counts[known]
        vectors[known] = np.add.reduceat(embeddings[flat], starts) / counts[known, None]
    return vectors


def vectors_from_file(path: str | Path, types: Sequence[str]) -> Float[np.ndarray, "V E"]:
    """Vectors of the word types from a text file with `word x1 x2 ...` on each line.

    Fields are separated by spaces or tabs; a first line of two integers is a header (words, width).
    A type that is not in the file gets the vector of its lower-case form, else NaN. If a word has
    two lines, the first counts. Lines of other words are only checked for their length.

    Raises UserError, with the line's number, for a file that is not UTF-8 text, a line of another
    width and a field that is not a finite number; also if no type has a vector.
    """
    forms = {form for word in types for form in (word, word.lower())}
    vectors: dict[str, np.ndarray] = {}
    width, number = 0, 0
    try:
        with Path(path).open(encoding="utf-8", newline="\n") as lines:
            for number, line in enumerate(lines, start=1):
                text = line.rstrip("\r\n").replace("\t", " ").strip(" ")
                if not text:
                    continue
                if not width:
                    width, header = _first_line(text, f"{path}, line {number}")
                    if header:
                        continue
                if text.split(" ", 1)[0] not in forms and text.count(" ") >= width:
                    continue
                word, vector = _parse(text, width, f"{path}, line {number}")
                if word in forms:
                    vectors.setdefault(word, vector)
    except UnicodeDecodeError as error:
        raise UserError(
            f"{path}, after line {number}: not UTF-8 text; word vectors must be a text file with "
            "a word and its numbers on each line (convert binary vectors first)"
        ) from error
    except OSError as error:
        raise UserError(
            f"{path}: cannot be read ({error.strerror}); set tracking.vectors to `model` or to a "
            "text file of word vectors"
        ) from error
    if not vectors:
        raise UserError(
            f"{path}: holds a vector for none of the {len(types)} word types of the concept data; "
            "choose word vectors of the same language"
        )
    missing = np.full(width, np.nan, np.float32)
    return np.stack([vectors.get(w, vectors.get(w.lower(), missing)) for w in types])


def _first_line(text: str, where: str) -> tuple[int, bool]:
    """Width of the vectors, and whether the line is a header."""
    fields = _fields(text)
    if len(fields) < 2:
        raise UserError(f"{where}: a word without numbers; expected `word x1 x2 ...`")
    if len(fields) == 2 and all(field.isdecimal() for field in fields):
        return max(int(fields[1]), 1), True
    return len(fields) - 1, False


def _fields(text: str) -> list[str]:
    # Not str.split(): a word may be, or hold, a no-break space.
    return [field for field in text.split(" ") if field]


def _parse(text: str, width: int, where: str) -> tuple[str, Float[np.ndarray, " E"]]:
    """Word and vector of a line; the word is everything before the last `width` fields."""
    fields = _fields(text)
    if len(fields) <= width:
        raise UserError(
            f"{where}: {len(fields) - 1} numbers after the word, expected {width} as in the first "
            "line; mend or delete the line"
        )
    try:
        vector = np.array(fields[-width:], np.float32)
    except ValueError as error:
        raise UserError(f"{where}: {error}; mend or delete the line") from error
    if not np.isfinite(vector).all():
        raise UserError(f"{where}: a number is not finite; mend or delete the line")
    return " ".join(fields[:-width]), vector


def concept_similarity(
    first: Int[np.ndarray, "N k"], second: Int[np.ndarray, "N k"], vectors: Float[Array, "V E"]
) -> Float[np.ndarray, " N"]:
    """Cosine of the mean vectors of a neuron's two token sets, in [-1, 1] (specs: relearning 6.3).

    Vectors are not normalised before the mean, and tokens without a vector are left out of it. The
    result is NaN where either set has no token with a vector. A neuron with the same tokens in both
    sets has 1 here, while the paper leaves it out: see `tokens.same_tokens`.
    """
    return np.asarray(_similarity(jnp.asarray(first), jnp.asarray(second), jnp.asarray(vectors)))


@jax.jit
def _similarity(
    first: Int[Array, "N k"], second: Int[Array, "N k"], vectors: Float[Array, "V E"]
) -> Float[Array, " N"]:
    product = (_direction(first, vectors) * _direction(second, vectors)).sum(axis=1)
    return jnp.clip(product, -1, 1)


@jax.jit
def _direction(ids: Int[Array, "N k"], vectors: Float[Array, "V E"]) -> Float[Array, "N E"]:
    """Mean vector of each token set, scaled to length 1; NaN for a set without vectors."""
    has_vector = jnp.isfinite(vectors).all(axis=1)
    vectors = jnp.where(has_vector[:, None], vectors, 0).astype(jnp.float32)
    known = (ids >= 0) & has_vector[ids]
    # One token at a time, so that the gathered array is [N, E] instead of [N, k, E].
    total = sum(vectors[ids[:, j]] * known[:, j, None] for j in range(ids.shape[1]))
    mean = total / jnp.maximum(known.sum(axis=1, keepdims=True), 1)
    length = jnp.linalg.norm(mean, axis=1, keepdims=True)
    return mean / jnp.where(length > 0, length, jnp.nan)


@jax.jit
def _cosines(first: Float[Array, "D E"], second: Float[Array, "D E"]) -> Float[Array, "D D"]:
    # The accelerators' default for float32 products keeps 10 bits.
    product = jnp.einsum("AE,BE->AB", first, second, precision=jax.lax.Precision.HIGHEST)
    return jnp.clip(product, -1, 1)


def null(
    first: Int[np.ndarray, "N k"],
    second: Int[np.ndarray, "N k"],
    vectors: Float[Array, "V E"],
    pruned: Bool[np.ndarray, "S D"],
    seed: int,
    draws: int = 1000,
    included: Bool[np.ndarray, "S D"] | None = None,
) -> Null:
    """Similarity of a neuron's earlier tokens to the later tokens of ANOTHER neuron.

    This is what `concept_similarity` would give if a neuron's identity did not matter. In each draw
    the neurons of one layer and one group are put on a ring in random order, and each is paired
    with the next. So no neuron is paired with itself, and each is used once on either side. Pairs
    stay within a group, as the tokens of pruned and unpruned neurons differ. The value of a draw is
    the mean over its pairs; `low` and `high` are its 2.5 and 97.5 % quantiles over `draws`.

    Only neurons in `included` (default: all) with a defined similarity take part; pass the changed
    neurons to compare with a mean over changed neurons. Fewer than two neurons give NaN.
    """
    layers, channels = np.shape(pruned)
    vectors = jnp.asarray(vectors)
    before = _direction(jnp.asarray(first), vectors).reshape(layers, channels, -1)
    after = _direction(jnp.asarray(second), vectors).reshape(layers, channels, -1)
    defined = np.asarray(jnp.isfinite(before[..., 0]) & jnp.isfinite(after[..., 0]))
    members = groups(pruned) & defined
    if included is not None:
        members &= np.asarray(included, bool)
    rng = np.random.default_rng(seed)
    result = np.full((3, len(members), layers), np.nan)
    for layer in range(layers):
        cosines = np.asarray(_cosines(before[layer], after[layer]))
        for group, member in enumerate(members[:, layer]):
            means = _ring_means(cosines, np.flatnonzero(member), rng, draws)
            if len(means):
                result[:, group, layer] = means.mean(), *np.quantile(means, (0.025, 0.975))
    return Null(*result, members.sum(axis=-1))


def _ring_means(
    cosines: Float[np.ndarray, "D D"],
    members: Int[np.ndarray, " M"],
    rng: np.random.Generator,
    draws: int,
) -> Float[np.ndarray, " R"]:
    if len(members) < 2:
        return np.empty(0)
    ring = rng.permuted(np.tile(members, (draws, 1)), axis=1)
    return cosines[ring, np.roll(ring, -1, axis=1)].mean(axis=1, dtype=np.float64)
