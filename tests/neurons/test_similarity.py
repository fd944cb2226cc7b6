from __future__ import annotations

import numpy as np
import pytest

from relearn_jax.errors import UserError
from relearn_jax.neurons import similarity


def test_a_word_vector_is_the_mean_of_its_sub_words():
    table = np.random.default_rng(0).normal(size=(10, 4)).astype(np.float32)
    vectors = similarity.vectors_from_embeddings(table, [[1, 2, 2], [], [9], [0, 3]])
    np.testing.assert_allclose(vectors[0], (table[1] + 2 * table[2]) / 3, rtol=1e-6)
    assert np.isnan(vectors[1]).all()
    np.testing.assert_array_equal(vectors[2], table[9])
    np.testing.assert_allclose(vectors[3], (table[0] + table[3]) / 2, rtol=1e-6)
    assert np.isnan(similarity.vectors_from_embeddings(table, [[], []])).all()


@pytest.fixture
def file(tmp_path):
    def write(text):
        path = tmp_path / "vectors.txt"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


@pytest.mark.parametrize("header", ["", "3 2\n"])
@pytest.mark.parametrize("end", ["\n", " \n", "\r\n"])
def test_a_vector_file_is_read_with_and_without_header(file, header, end):
    path = file(header + end.join(["paris 1 2", "Paris\t3\t4", "no\u00a0break 5 6", ""]))
    vectors = similarity.vectors_from_file(path, ("Paris", "PARIS", "Rome", "no\u00a0break"))
    np.testing.assert_array_equal(vectors, [[3, 4], [1, 2], [np.nan, np.nan], [5, 6]])
    assert vectors.dtype == np.float32


def test_the_first_of_two_lines_counts_and_a_word_may_hold_spaces(file):
    path = file("a 1 2\na 3 4\nNew York 5 6\n")
    np.testing.assert_array_equal(
        similarity.vectors_from_file(path, ("a", "New York", "New")),
        [[1, 2], [5, 6], [np.nan, np.nan]],
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a 1 2\nb 1\n", "line 2: 1 numbers after the word, expected 2"),
        ("other 1 2\nanother 1\n", "line 2: 1 numbers"),
        ("2 2\na 1 2\nb 1 x2\n", "line 3: could not convert"),
        ("a 1 nan\n", "line 1: a number is not finite"),
        ("a\n", "line 1: a word without numbers"),
        ("c 1 2\n", "none of the 2 word types"),
        ("", "none of the 2 word types"),
        (b"a 1 2\n\xff\xfe 1 2\n", "not UTF-8"),
    ],
)
def test_a_bad_vector_file_is_refused_with_its_line(file, text, message):
    with pytest.raises(UserError, match=message):
        similarity.vectors_from_file(file(text), ("a", "b"))


def test_a_missing_vector_file_is_a_user_error(tmp_path):
    with pytest.raises(UserError, match="cannot be read"):
        similarity.vectors_from_file(tmp_path / "none.txt", ("a",))


def cosine(a, b, vectors):
    means = []
    for ids in (a, b):
        rows = [vectors[i] for i in ids if i >= 0 and not np.isnan(vectors[i]).any()]
        if not rows:
            return np.nan
        means.append(np.mean(rows, axis=0))
    return means[0] @ means[1] / np.linalg.norm(means[0]) / np.linalg.norm(means[1])


@pytest.fixture
def sets():
    """Token sets of 40 neurons at two stages, 30 types of which two have no vector."""
    rng = np.random.default_rng(1)
    vectors = rng.normal(size=(30, 6)) * rng.uniform(0.1, 5, (30, 1)) + 0.5
    vectors[[3, 8]] = np.nan
    first, second = (np.stack([rng.permutation(30)[:5] for _ in range(40)]) for _ in range(2))
    first[0, 2:] = -1
    first[1] = -1
    second[2] = [3, 8, -1, -1, -1]
    second[3] = first[3][::-1]
    return first, second, vectors


def test_similarity_is_the_cosine_of_means_of_unnormalised_vectors(sets):
    first, second, vectors = sets
    expected = [cosine(a, b, vectors) for a, b in zip(first, second, strict=True)]
    found = similarity.concept_similarity(first, second, vectors)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert np.isnan(found[1:3]).all()
    assert found[3] == pytest.approx(1)
    np.testing.assert_array_equal(similarity.concept_similarity(second, first, vectors), found)


def test_a_mean_vector_of_zero_has_no_similarity():
    vectors = np.array([[1.0, 2], [-1, -2], [3, 1]])
    pair, one = np.array([[0, 1]]), np.array([[2, -1]])
    assert np.isnan(similarity.concept_similarity(pair, one, vectors)).all()


def test_the_null_pairs_each_neuron_with_another_of_its_layer_and_group(sets):
    """In two groups of two per layer the only pairing without self is known."""
    first, second, vectors = sets
    first, second = first[10:18], second[10:18]
    pruned = np.array([[0, 1, 1, 0], [1, 1, 0, 0]], bool)
    null = similarity.null(first, second, vectors, pruned, seed=0, draws=20)
    for group, pairs in ((1, ((1, 2), (4, 5))), (2, ((0, 3), (6, 7)))):
        for layer, (i, j) in enumerate(pairs):
            expected = (
                cosine(first[i], second[j], vectors) + cosine(first[j], second[i], vectors)
            ) / 2
            for value in (null.mean, null.low, null.high):
                assert value[group, layer] == pytest.approx(expected, abs=1e-6)
    np.testing.assert_array_equal(null.neurons, [[4, 4], [2, 2], [2, 2]])


def test_the_nulls_mean_is_that_of_all_pairs_of_different_neurons(sets):
    first, second, vectors = sets
    null = similarity.null(first, second, vectors, np.zeros((1, 40), bool), 0, draws=4000)
    used = [n for n in range(40) if n not in (1, 2)]
    every = [cosine(first[i], second[j], vectors) for i in used for j in used if i != j]
    assert null.neurons[0, 0] == 38
    assert null.mean[0, 0] == pytest.approx(np.mean(every), abs=0.002)
    assert null.low[0, 0] < null.mean[0, 0] < null.high[0, 0]
    assert np.isnan(null.mean[1, 0])
    assert null.mean[2, 0] == pytest.approx(null.mean[0, 0], abs=0.01)


def test_the_null_separates_memory_from_sameness(sets):
    """Neurons that kept their own tokens lie above the null, permuted neurons within it."""
    first, _, vectors = sets
    first = first[4:34]
    pruned = np.zeros((1, 30), bool)
    own = similarity.concept_similarity(first, first, vectors).mean()
    null = similarity.null(first, first, vectors, pruned, seed=3)
    assert own > null.high[0, 0]
    others = similarity.concept_similarity(first, np.roll(first, 1, axis=0), vectors).mean()
    assert null.low[0, 0] < others < null.high[0, 0]


def test_the_null_follows_its_seed_and_leaves_out_the_excluded(sets):
    first, second, vectors = sets
    pruned = np.zeros((2, 20), bool)
    included = np.ones((2, 20), bool)
    included[1, 1:] = False
    a, b = (similarity.null(first, second, vectors, pruned, 5, 50, included) for _ in range(2))
    for x, y in zip(a, b, strict=True):
        np.testing.assert_array_equal(x, y)
    assert a.neurons[0].tolist() == [18, 1]
    assert np.isnan(a.mean[0, 1])
