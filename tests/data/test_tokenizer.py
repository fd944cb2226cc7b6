"""What a tokenizer must do, and which are refused."""

from __future__ import annotations

import json

import pytest
from transformers import AutoTokenizer, CanineTokenizer, GPT2TokenizerFast

from relearn_jax.data.tokenizer import load_tokenizer
from relearn_jax.errors import UserError


def pieces(tokenizer, words):
    """Tokens of one sentence that is split into words."""
    return tokenizer([words], is_split_into_words=True).tokens(0)


def test_gpt2_words_keep_the_blank_before_them(gpt2):
    assert pieces(gpt2, ["New", "York"]) == ["ĠNew", "ĠYork"]
    assert gpt2.pad_token_id == gpt2.eos_token_id == 50256


@pytest.mark.parametrize("named", [True, False])
def test_a_saved_gpt2_tokenizer_gets_the_prefix_space_too(shared, tmp_path, named):
    GPT2TokenizerFast.from_pretrained(shared / "data/tokenizer-gpt2").save_pretrained(tmp_path)
    if not named:
        # A class that ignores add_prefix_space at loading, as a generic tokenizer.json has.
        settings = {"tokenizer_class": "TokenizersBackend", "eos_token": "<|endoftext|>"}
        (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    tokenizer = load_tokenizer(tmp_path)
    assert pieces(tokenizer, ["New", "York"]) == ["ĠNew", "ĠYork"]
    tokenizer.save_pretrained(tmp_path / "copy")
    others = AutoTokenizer.from_pretrained(tmp_path / "copy")
    assert pieces(others, ["a", "b"]) == ["Ġa", "Ġb"], "an export must carry it"


def test_wordpiece_is_left_alone(minilm):
    assert pieces(minilm, ["Qaim", "!"]) == ["[CLS]", "q", "##ai", "##m", "!", "[SEP]"]
    assert minilm.pad_token_id == 0


def test_slow_tokenizers_are_refused(tmp_path):
    CanineTokenizer().save_pretrained(tmp_path)
    with pytest.raises(UserError, match="CanineTokenizer is not a fast tokenizer"):
        load_tokenizer(tmp_path)


def test_code_of_a_checkpoint_is_not_run(tmp_path):
    settings = {"auto_map": {"AutoTokenizer": ["code.Mine", None]}, "tokenizer_class": "Mine"}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    (tmp_path / "code.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nclass Mine: pass\n")
    with pytest.raises(UserError, match="never run"):
        load_tokenizer(tmp_path)
    assert not (tmp_path / "ran").exists()


def test_nothing_to_pad_with_is_refused(shared, tmp_path):
    GPT2TokenizerFast.from_pretrained(shared / "data/tokenizer-gpt2").save_pretrained(tmp_path)
    (tmp_path / "tokenizer_config.json").write_text('{"tokenizer_class": "TokenizersBackend"}')
    with pytest.raises(UserError, match="pad_token"):
        load_tokenizer(tmp_path)


def test_an_empty_folder_says_what_is_needed(tmp_path):
    with pytest.raises(UserError, match=r"tokenizer\.json"):
        load_tokenizer(tmp_path)
