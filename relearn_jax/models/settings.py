"""Strict reading of a checkpoint's `config.json`: what is not understood is refused."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Mapping
from typing import Any

from relearn_jax.errors import UserError

HARMLESS = (
    "_name_or_path", "architectures", "model_type", "transformers_version", "torch_dtype", "dtype",
    "gradient_checkpointing", "use_cache", "initializer_range", "initializer_factor", "id2label",
    "label2id", "num_labels", "task_specific_params", "bos_token_id", "eos_token_id",
    "sep_token_id", "pad_token_id", "decoder_start_token_id", "output_attentions",
    "output_hidden_states", "return_dict", "torchscript", "finetuning_task", "problem_type",
    "language", "license", "*attn_implementation*", "chunk_size_feed_forward", "tokenizer_class",
    "prefix", "cls_token_id", "mask_token_id", "num_beams", "max_length", "do_sample",
    "is_encoder_decoder", "name_or_path", "output_past", "_num_labels", "cache_implementation",
)  # fmt: skip
"""Keys that do not change what a forward or training pass computes here."""


class Settings:
    """A `config.json` that remembers which keys were looked at."""

    def __init__(self, values: Mapping[str, Any], origin: str):
        self.values, self.origin = dict(values), origin
        self.seen: list[str] = list(HARMLESS)

    def _take(self, key: str, default: Any) -> Any:
        self.seen.append(key)
        value = self.values.get(key)
        return default if value is None else value

    def integer(self, key: str, default: int | None) -> int | None:
        """A whole number, or `default` where the key is absent or null."""
        value = self._take(key, default)
        if value is not None and (isinstance(value, bool) or not isinstance(value, int)):
            raise UserError(f"{self.origin}: {key} should be a whole number, not {value!r}")
        return value

    def number(self, key: str, default: float | None, otherwise: float = 0.0) -> float:
        """A number; `otherwise` stands in when `default` is None and the key is absent."""
        value = self._take(key, otherwise if default is None else default)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise UserError(f"{self.origin}: {key} should be a number, not {value!r}")
        return float(value)

    def limit(self, key: str, default: float) -> float | None:
        """A positive number; null, unlike an absent key, means that there is no limit."""
        value = self.number(key, default)
        if value <= 0:
            raise UserError(f"{self.origin}: {key} should be a positive number or null")
        return None if self.values.get(key, value) is None else value

    def flag(self, key: str, default: bool) -> bool:
        """True or false."""
        value = self._take(key, default)
        if not isinstance(value, bool):
            raise UserError(f"{self.origin}: {key} should be true or false, not {value!r}")
        return value

    def names(self, key: str) -> tuple[str, ...]:
        """A list of names; empty where the key is absent or null."""
        value = self._take(key, [])
        if not isinstance(value, list | tuple) or not all(isinstance(n, str) for n in value):
            raise UserError(f"{self.origin}: {key} should be a list of names, not {value!r}")
        return tuple(value)

    def nested(self, *keys: str) -> Settings:
        """Settings within the first of these keys that holds any; to be finished on their own."""
        found: tuple[str, dict] = (keys[0], {})
        for key in reversed(keys):
            value = self._take(key, {})
            if not isinstance(value, Mapping):
                raise UserError(f"{self.origin}: {key} should be a mapping, not {value!r}")
            found = (key, dict(value)) if value else found
        inner = Settings(found[1], f"{self.origin}, {found[0]}")
        inner.seen = list(self.seen)
        return inner

    def choice(self, key: str, default: str, allowed: Iterable[str]) -> str:
        """One of a few names."""
        value = self._take(key, default)
        if value not in allowed:
            names = ", ".join(sorted(allowed))
            raise UserError(f"{self.origin}: {key} {value!r} is not built here; known: {names}")
        return value

    def require(self, key: str, value: Any) -> None:
        """Refuse any other value of a setting that would change the computation."""
        found = self._take(key, value)
        if found != value:
            raise UserError(f"{self.origin}: {key} = {found!r} is not built here, only {value!r}")

    def skip(self, *patterns: str) -> None:
        """Keys of the family that do not change what is computed here."""
        self.seen.extend(patterns)

    def finish(self) -> None:
        """Refuse keys that nobody asked for."""
        unknown = [k for k in self.values if not any(fnmatch.fnmatch(k, p) for p in self.seen)]
        if unknown:
            raise UserError(
                f"{self.origin}: settings not understood: {', '.join(sorted(unknown))}. They may "
                "change what the model computes; name them in model.ignore_settings if they do not."
            )
