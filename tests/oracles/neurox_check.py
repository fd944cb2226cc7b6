"""Our probeless order and top tokens against NeuroX's, on the same activations.

Needs an environment with neurox (1.0.9), its imports, jax and this package's root on the path:

    PYTHONPATH=. python tests/oracles/neurox_check.py
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from neurox.analysis import corpus
from neurox.interpretation import probeless

from relearn_jax import config
from relearn_jax.neurons import ranking, tokens

S, D, V = 4, 40, 300


class Sample(NamedTuple):
    """Sentences as lists of words, their activations [T,S,D], and the label of every word."""

    words: list[list[str]]
    activations: list[np.ndarray]
    labels: np.ndarray


class Moments(NamedTuple):
    """As relearn_jax.neurons.statistics.Moments, which needs a model's imports."""

    count: np.ndarray
    mean: np.ndarray
    m2: np.ndarray


def sample(seed: int, labels: int, dtype: type) -> Sample:
    """Words drawn with Zipf frequencies; activations follow type and label, at many scales."""
    rng = np.random.default_rng(seed)
    frequency = 1 / np.arange(1, V + 1)
    lengths = rng.integers(3, 40, 120)
    kinds = rng.choice(V, lengths.sum(), p=frequency / frequency.sum())
    label = np.where(rng.random(len(kinds)) < 0.9, kinds % labels, 0)
    of_type, of_label = rng.normal(size=(V, S, D)), rng.normal(size=(labels, S, D))
    scale = rng.lognormal(0, 2, (S, D))
    x = scale * (of_type[kinds] + of_label[label] + 0.5 * rng.normal(size=(len(kinds), S, D)))
    x += 3 * rng.normal(size=(S, D))
    # Words that occur once and have equal activations tie exactly.
    once = np.flatnonzero(np.bincount(kinds, minlength=V)[kinds] == 1)[:6]
    x[once] = x[once[0]]
    ends = np.cumsum(lengths)[:-1]
    words = [[f"w{kind}" for kind in part] for part in np.split(kinds, ends)]
    return Sample(words, np.split(x.astype(dtype), ends), label)


def direct_moments(x: np.ndarray, labels: np.ndarray) -> Moments:
    """Moments [Y+1,...] of x [W,S,D] in float64."""
    x = x.astype(np.float64)
    groups = [x[labels == y] for y in range(labels.max() + 1)] + [x]
    return Moments(
        np.array([len(g) for g in groups]),
        np.stack([g.mean(0) for g in groups]),
        np.stack([((g - g.mean(0)) ** 2).sum(0) for g in groups]),
    )


def direct_type_scores(
    x: np.ndarray, words: list[str]
) -> tuple[tuple[str, ...], np.ndarray, np.ndarray]:
    """Types in first-occurrence order, their mean |z| [V,S,D] and their counts [V]."""
    types = tuple(dict.fromkeys(words))
    kind = np.array([types.index(word) for word in words])
    x = x.astype(np.float64)
    z = np.abs((x - x.mean(0)) / x.std(0))
    score, count = np.zeros((len(types), *x.shape[1:])), np.bincount(kind)
    np.add.at(score, kind, z)
    return types, score / count[:, None, None], count


def check_probeless(seed: int, labels: int, dtype: type) -> None:
    """The order of every label, and over all labels, is NeuroX's."""
    data = sample(seed, labels, dtype)
    x = np.concatenate(data.activations)
    flat = x.reshape(len(x), -1)
    moments = direct_moments(x, data.labels)
    index = {str(y): y for y in range(labels)}
    theirs = {
        y: probeless.get_neuron_ordering_for_tag(flat, data.labels, index, str(y))
        for y in range(labels)
    }
    for y in range(labels):
        same_order(ranking.probeless(moments, y, "pairwise"), theirs[y], dtype)
        if labels == 2:
            same_order(ranking.probeless(moments, y, "rest"), theirs[y], dtype)
    overall = probeless.get_neuron_ordering(flat, data.labels)
    same_order(ranking.probeless_all(moments), overall, dtype)


def same_order(scores: np.ndarray, theirs: list[int], dtype: type) -> None:
    """Equal orders; NeuroX's float32 means may swap neurons whose scores are within rounding."""
    ours = ranking.order(scores)
    moved = np.flatnonzero(ours != np.asarray(theirs))
    if dtype is np.float64:
        assert not len(moved), f"order differs from place {moved[0]} on"
    sorted_scores = scores.ravel()[ours]
    np.testing.assert_allclose(scores.ravel()[theirs], sorted_scores, rtol=1e-5, atol=1e-5)


def check_top_words(seed: int, dtype: type, k: int = 5) -> int:
    """The top words of every neuron are NeuroX's; returns how many words were compared.

    Scores agree to 1e-5, and for float32 activations besides to the rounding of |mean| / deviation,
    which NeuroX computes in float32.
    """
    data = sample(seed, 2, dtype)
    x = np.concatenate(data.activations)
    words = [word for sentence in data.words for word in sentence]
    types, score, count = direct_type_scores(x, words)
    ids, shares = tokens.top_tokens(score, count, config.Tracking(top_k=k))
    flat = [part.reshape(len(part), -1) for part in data.activations]
    exact = x.reshape(len(x), -1).astype(np.float64)
    tolerance = 1e-5 + np.finfo(dtype).eps * np.abs(exact.mean(0)) / exact.std(0)
    compared = 0
    for neuron in range(S * D):
        theirs = corpus.get_top_words({"source": data.words}, flat, neuron, k)
        kept = ids[neuron] >= 0
        assert [types[i] for i in ids[neuron][kept]] == [word for word, _ in theirs], neuron
        difference = np.abs(shares[neuron][kept] - np.array([s for _, s in theirs]))
        assert difference.max() <= tolerance[neuron], neuron
        compared += len(theirs)
    return compared


def main() -> None:
    """Run every check and say what was compared."""
    for dtype in (np.float64, np.float32):
        for labels in (2, 5):
            check_probeless(11, labels, dtype)
            print(f"probeless, {labels} labels, {dtype.__name__}: {S * D} neurons, same order")
        print(f"top words, {dtype.__name__}: {check_top_words(12, dtype)} words, all the same")


if __name__ == "__main__":
    main()
