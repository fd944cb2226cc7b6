"""Greedy continuation: against a plain loop, and a real checkpoint's published story."""

from __future__ import annotations

import re

import jax
import numpy as np
import pytest
import stories
from parity import golden_of, opened, part

from relearn_jax.errors import UserError
from relearn_jax.models import checkpoint, generation, transformer
from relearn_jax.models.inputs import Inputs

PROMPTS = ([5, 9, 2], [7], [3, 3, 8, 1, 4])
NEW = 5


def language_model(folder, config, tensors, task="language-model"):
    ck = opened(folder, config, tensors)
    model = checkpoint.describe(ck, task)
    return model, checkpoint.load(ck, model, jax.random.key(0))[0]


@pytest.fixture(scope="module", params=["gpt2", "llama", "gemma2"])
def speaker(request, tmp_path_factory):
    config, arrays = golden_of(request.param)
    return language_model(tmp_path_factory.mktemp("lm"), config, part(arrays, "lm_weights/"))


@pytest.fixture(scope="module")
def alone(speaker):
    """Each row by itself and unpadded, with a whole pass for each token."""
    model, params = speaker
    # Tokens that have not been said yet are none that a decoder could see.
    run = jax.jit(lambda ids: transformer.apply(model, params, Inputs(ids, ids >= 0))[0])
    found = []
    for row in PROMPTS:
        ids = np.array([[*row, *[0] * NEW]])
        for last in range(len(row) - 1, len(row) - 1 + NEW):
            ids[0, last + 1] = np.asarray(run(ids))[0, last].argmax()
        found.append(ids[0].tolist())
    return found


def padded(rows):
    longest = max(map(len, rows))
    ids = np.array([[*row, *[0] * (longest - len(row))] for row in rows])
    mask = np.arange(longest) < np.array([len(row) for row in rows])[:, None]
    return Inputs(ids, mask)


def said(found, row):
    return np.asarray(found.ids)[row][np.asarray(found.mask)[row]].tolist()


def test_each_row_is_continued_as_if_alone(speaker, alone):
    found = generation.greedy(*speaker, padded(PROMPTS), NEW)
    assert found.ids.shape == (3, max(map(len, PROMPTS)) + NEW)
    assert [said(found, i) for i in range(3)] == alone
    assert not np.asarray(found.ids)[~np.asarray(found.mask)].any()


def test_a_row_ends_with_the_token_that_stops_it(speaker, alone):
    end = alone[0][len(PROMPTS[0]) + 1]
    found = generation.greedy(*speaker, padded(PROMPTS), NEW, stop=(end,))
    assert found.mask[0].sum() < len(alone[0])
    for i, (row, whole) in enumerate(zip(PROMPTS, alone, strict=True)):
        new = whole[len(row) :]
        stop = new.index(end) + 1 if end in new else NEW
        assert said(found, i) == whole[: len(row) + stop]


def test_what_cannot_be_continued_is_refused(tmp_path):
    config, arrays = golden_of("gpt2")
    tensors = part(arrays, "lm_weights/")
    speaker = language_model(tmp_path / "gpt2", config, tensors)
    with pytest.raises(UserError, match="23 tokens, but the model has 20 positions"):
        generation.greedy(*speaker, padded(PROMPTS), 18)
    with pytest.raises(UserError, match="prompt without a token"):
        generation.greedy(*speaker, padded([[], [1]]), 1)
    config, arrays = golden_of("bert")
    encoder = language_model(tmp_path / "bert", config, part(arrays, "lm_weights/"))
    with pytest.raises(UserError, match="only causal language models"):
        generation.greedy(*encoder, padded(PROMPTS), 1)


@pytest.mark.slow
def test_a_real_llama_tells_its_published_story(shared, tmp_path):
    """stories260K: outside weights, tokenizer and oracle; interleaved rotary pairs turned."""
    folder = shared / "data/model-stories260k"
    model, params = language_model(tmp_path, *stories.checkpoint_of(folder / "stories260K.bin"))
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == 260_032
    pieces = stories.pieces_of(folder / "tok512.bin", model.config.vocabulary)
    begin = Inputs(np.array([[stories.BEGIN]]), np.ones((1, 1), bool))
    found = said(generation.greedy(model, params, begin, 256, stop=(stories.BEGIN,)), 0)
    told = [token for token in found if token != stories.BEGIN]
    published = re.search(
        r"-t 0\.0\n(.*?)\n```", (folder / "stories260K.upstream.md").read_text(), re.DOTALL
    )
    assert stories.text_of(told, pieces) == published[1]
