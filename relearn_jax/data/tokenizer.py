"""Loading a tokenizer that can say which word each sub-word belongs to."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from relearn_jax.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast


def load_tokenizer(
    path_or_name: str | Path, revision: str = "main", words: bool = True
) -> PreTrainedTokenizerFast:
    """The fast tokenizer (`PreTrainedTokenizerFast`) of a local folder or a hub name.

    `words`: whether sentences come split into words. Then byte-level tokenizers (GPT-2) get
    `add_prefix_space`, without which a word would be encoded as if glued to the one before; whole
    texts, such as prompts, are encoded as they stand. Where there is no padding token, the
    end-of-text token pads (padding is masked, so its id never matters).

    Raises UserError if the tokenizer cannot be had, is not a fast one, or would need code from the
    checkpoint (which is never run).
    """
    source = str(path_or_name)
    tokenizer = _load(source, revision)
    if not getattr(tokenizer, "is_fast", False):
        raise UserError(
            f"tokenizer of {source}: {type(tokenizer).__name__} is not a fast tokenizer, so it "
            "cannot say which word a sub-word belongs to. Use a checkpoint that has a "
            "tokenizer.json."
        )
    if words:
        _add_prefix_space(tokenizer)
    if tokenizer.pad_token_id is None:
        if tokenizer.eos_token_id is None:
            raise UserError(
                f"tokenizer of {source}: it has neither a padding nor an end-of-text token. Name "
                "one of its tokens as `pad_token` in tokenizer_config.json."
            )
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def _load(source: str, revision: str) -> PreTrainedTokenizerFast:
    # Imported here because it takes a second, which `relearn --help` need not wait for.
    from transformers import AutoTokenizer, GPT2TokenizerFast

    kind = GPT2TokenizerFast if _is_bare_bpe(Path(source)) else AutoTokenizer
    try:
        return kind.from_pretrained(source, revision=revision, trust_remote_code=False)
    except Exception as error:  # the hub, JSON and Rust each raise their own
        raise UserError(
            f"tokenizer of {source!r} (revision {revision}): {type(error).__name__}: "
            f"{str(error).strip()[:300]}\n"
            "A local folder needs tokenizer.json (or vocab.txt, or vocab.json with merges.txt) and "
            "tokenizer_config.json; a hub name needs a network or a filled cache. Code from a "
            "checkpoint is never run."
        ) from error


def _is_bare_bpe(folder: Path) -> bool:
    """GPT-2's two vocabulary files alone, with nothing that names the tokenizer's class."""
    has = [
        (folder / name).is_file()
        for name in ("vocab.json", "merges.txt", "tokenizer_config.json", "config.json")
    ]
    return has == [True, True, False, False]


def _add_prefix_space(tokenizer: PreTrainedTokenizerFast) -> None:
    """Make a byte-level tokenizer put a blank before each word; others stay as they are.

    Done on the backend, because not every tokenizer class heeds the setting when it is loaded; the
    attribute beside it is what a saved copy keeps.
    """
    from tokenizers.pre_tokenizers import ByteLevel

    backend = tokenizer.backend_tokenizer
    state = json.loads(backend.to_str())["pre_tokenizer"] or {}
    if state.get("type") == "ByteLevel":
        backend.pre_tokenizer = ByteLevel(
            add_prefix_space=True, use_regex=state.get("use_regex", True)
        )
        tokenizer.add_prefix_space = True
