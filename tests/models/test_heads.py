"""The language head: its own vectors or the word embedding, and the logits of a few words."""

from __future__ import annotations

import jax
import numpy as np
import pytest
from parity import FAMILIES, golden_of, inputs, opened, part, same_tensors

from relearn_jax.errors import UserError
from relearn_jax.models import checkpoint, transformer, weights

UNTIED = ("llama", "gpt_neox", "gpt_neox_serial")


@pytest.fixture(params=FAMILIES)
def speaker(request, tmp_path):
    """(family, checkpoint, model, params, arrays)"""
    config, arrays = golden_of(request.param)
    ck = opened(tmp_path / "model", config, part(arrays, "lm_weights/"))
    model = checkpoint.describe(ck, "language-model")
    return request.param, ck, model, checkpoint.load(ck, model, jax.random.key(0))[0], arrays


def test_the_logits_of_a_few_words_are_those_of_the_whole_vocabulary(speaker):
    _, _, model, params, arrays = speaker
    h, _ = transformer.hidden(model, params, inputs(arrays))
    words = np.array([[4, 59], [0, 17], [17, 17]])
    few = transformer.head(model, params, h, words=words)
    whole = transformer.head(model, params, h)
    wanted = np.take_along_axis(np.asarray(whole), words[:, None], axis=-1)
    assert few.dtype == np.float32
    np.testing.assert_allclose(few, wanted, atol=1e-6)


def test_no_logits_but_those_of_the_words_are_computed(speaker):
    _, _, model, params, arrays = speaker
    h, _ = transformer.hidden(model, params, inputs(arrays))
    words = np.array([[4, 59], [0, 17], [17, 17]])
    program = jax.make_jaxpr(lambda h: transformer.head(model, params, h, words=words))(h)
    made = [v.aval.shape for e in program.jaxpr.eqns for v in e.outvars]
    assert (*h.shape[:2], 2) in made
    assert (*h.shape[:2], model.config.vocabulary) not in made


def test_a_language_model_is_exported_as_it_was_stored(speaker):
    family, _, model, params, arrays = speaker
    same_tensors(weights.export(model, params), part(arrays, "lm_weights/"), 0.0)
    own = "word" in params.get("head", {})
    assert own == (family in UNTIED)
    assert own == ("word" in transformer.init(model, jax.random.key(0)).get("head", {}))


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
