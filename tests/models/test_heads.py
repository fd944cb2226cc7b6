"""The language head: its own vectors or the word embedding, and the logits of a few words."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import jax
import numpy as np
import pytest
from parity import FAMILIES, golden_of, inputs, opened, part, same_tensors

from relearn_jax.errors import UserError
from relearn_jax.models import checkpoint, transformer, weights
from relearn_jax.models.transformer import Model, PyTree

UNTIED = ("llama", "ministral", "gpt_neox", "gpt_neox_serial")
WORDS = np.array([[4, 59], [0, 17], [17, 17]])


class Speaker(NamedTuple):
    family: str
    model: Model
    params: PyTree
    stored: dict
    h: jax.Array
    """The last state."""


@pytest.fixture(scope="module", params=FAMILIES)
def speaker(request, tmp_path_factory):
    config, arrays = golden_of(request.param)
    stored = part(arrays, "lm_weights/")
    ck = opened(tmp_path_factory.mktemp("model"), config, stored)
    model = checkpoint.describe(ck, "language-model")
    params, _ = checkpoint.load(ck, model, jax.random.key(0))
    h, _ = jax.jit(partial(transformer.hidden, model))(params, inputs(arrays))
    return Speaker(request.param, model, params, stored, h)


def test_the_logits_of_a_few_words_are_those_of_the_whole_vocabulary(speaker):
    head = partial(transformer.head, speaker.model, speaker.params, speaker.h)
    few, whole = head(words=WORDS), np.asarray(head())
    assert few.dtype == np.float32
    np.testing.assert_allclose(few, np.take_along_axis(whole, WORDS[:, None], -1), atol=1e-6)


def test_no_logits_but_those_of_the_words_are_computed(speaker):
    head = partial(transformer.head, speaker.model, speaker.params, words=WORDS)
    program = jax.make_jaxpr(head)(speaker.h)
    made = {v.aval.shape for e in program.jaxpr.eqns for v in e.outvars}
    assert (*speaker.h.shape[:2], 2) in made
    assert (*speaker.h.shape[:2], speaker.model.config.vocabulary) not in made


def test_a_language_model_is_exported_as_it_was_stored(speaker):
    same_tensors(weights.export(speaker.model, speaker.params), speaker.stored, 0.0)
    own = "head/word/embedding" in weights.shapes(speaker.model)
    assert own == ("word" in speaker.params.get("head", {})) == (speaker.family in UNTIED)


def test_a_stored_copy_of_a_tied_head_is_passed_over_and_a_missing_head_is_not(tmp_path):
    config, arrays = golden_of("gemma")
    tensors = part(arrays, "lm_weights/")
    copy = tensors | {"lm_head.weight": tensors["model.embed_tokens.weight"]}
    ck = opened(tmp_path / "tied", config, copy)
    model = checkpoint.describe(ck, "language-model")
    assert checkpoint.load(ck, model, jax.random.key(0))[1] == ()
    config, arrays = golden_of("llama")
    tensors = part(arrays, "lm_weights/")
    del tensors["lm_head.weight"]
    ck = opened(tmp_path / "untied", config, tensors)
    with pytest.raises(UserError, match=r"missing tensor lm_head\.weight"):
        checkpoint.load(ck, checkpoint.describe(ck, "language-model"), jax.random.key(0))


@pytest.mark.parametrize("family", ["llama", "gemma2", "gpt_neox"])
def test_a_classifier_made_for_other_labels_is_not_taken_over(family, tmp_path):
    config, arrays = golden_of(family)
    ck = opened(tmp_path / "model", config, part(arrays, "weights/"))
    model = checkpoint.describe(ck, "token-classification", ("O", "B-LOC"))
    params, fresh = checkpoint.load(ck, model, jax.random.key(0))
    assert fresh == ("head/classifier/bias", "head/classifier/kernel")
    assert params["head"]["classifier"]["kernel"].shape == (model.config.width, 2)
