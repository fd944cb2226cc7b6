"""Loading of fast tokenizers, which can map sub-words to words."""

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

    `words`: whether sentences are passed as lists of words. Then byte-level tokenizers (GPT-2) get
    `add_prefix_space`; without it, a word would be encoded as if joined to the word before. Full
    texts, such as prompts, are encoded unchanged. Without a padding token, the end-of-text token is
    used (padding is masked, so its id does not matter).

    Raises UserError if the tokenizer cannot be loaded, is not a fast one, or needs code from the
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
    # Imported here because it takes a second, which would delay `relearn --help`.
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
    """Whether a folder has GPT-2's two vocabulary files, but no file that names a class."""
    present = [
        (folder / name).is_file()
        for name in ("vocab.json", "merges.txt", "tokenizer_config.json", "config.json")
    ]
    return present == [True, True, False, False]


def _add_prefix_space(tokenizer: PreTrainedTokenizerFast) -> None:
    """Make a byte-level tokenizer put a blank before each word; other tokenizers do not change.

    It is set on the backend, because some tokenizer classes ignore the setting on loading, and as
    an attribute, which is saved with the tokenizer.
    """
    from tokenizers.pre_tokenizers import ByteLevel

    backend = tokenizer.backend_tokenizer
    state = json.loads(backend.to_str())["pre_tokenizer"] or {}
    if state.get("type") == "ByteLevel":
        backend.pre_tokenizer = ByteLevel(
            add_prefix_space=True, use_regex=state.get("use_regex", True)
        )
        tokenizer.add_prefix_space = True
