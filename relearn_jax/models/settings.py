"""Strict reading of a checkpoint's `config.json`: unknown settings raise a UserError."""

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
"""Keys that do not change a forward or training pass here."""


class Settings:
    """The values of a `config.json`, and the keys that were read."""

    def __init__(self, values: Mapping[str, Any], origin: str):
        self.values, self.origin = dict(values), origin
        self.seen: list[str] = list(HARMLESS)

    def _take(self, key: str, default: Any) -> Any:
        self.seen.append(key)
        value = self.values.get(key)
        return default if value is None else value

    def integer(self, key: str, default: int | None) -> int | None:
        """A whole number, or `default` if the key is absent or null."""
        value = self._take(key, default)
        if value is not None and (isinstance(value, bool) or not isinstance(value, int)):
            raise UserError(f"{self.origin}: {key} should be a whole number, not {value!r}")
        return value

    def number(self, key: str, default: float | None, otherwise: float = 0.0) -> float:
        """A number. If the key is absent: `default`, or `otherwise` if `default` is None."""
        value = self._take(key, otherwise if default is None else default)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise UserError(f"{self.origin}: {key} should be a number, not {value!r}")
        return float(value)

    def limit(self, key: str, default: float) -> float | None:
        """A positive number, or None (no limit) if the key is null; `default` if it is absent."""
        value = self.number(key, default)
        if value <= 0:
            raise UserError(f"{self.origin}: {key} should be a positive number or null")
        return None if self.values.get(key, value) is None else value

    def flag(self, key: str, default: bool) -> bool:
        """A boolean."""
        value = self._take(key, default)
        if not isinstance(value, bool):
            raise UserError(f"{self.origin}: {key} should be true or false, not {value!r}")
        return value

    def names(self, key: str) -> tuple[str, ...]:
        """A list of names; empty if the key is absent or null."""
        value = self._take(key, [])
        if not isinstance(value, list | tuple) or not all(isinstance(n, str) for n in value):
            raise UserError(f"{self.origin}: {key} should be a list of names, not {value!r}")
        return tuple(value)

    def nested(self, *keys: str) -> Settings:
        """Settings within the first of these keys that has any; call their `finish` as well."""
        chosen: tuple[str, dict] = (keys[0], {})
        for key in reversed(keys):
            value = self._take(key, {})
            if not isinstance(value, Mapping):
                raise UserError(f"{self.origin}: {key} should be a mapping, not {value!r}")
            chosen = (key, dict(value)) if value else chosen
        inner = Settings(chosen[1], f"{self.origin}, {chosen[0]}")
        inner.seen = list(self.seen)
        return inner

    def choice(self, key: str, default: str, allowed: Iterable[str]) -> str:
        """One of the allowed names."""
        value = self._take(key, default)
        if value not in allowed:
            names = ", ".join(sorted(allowed))
            raise UserError(f"{self.origin}: {key} {value!r} is not built here; known: {names}")
        return value

    def require(self, key: str, value: Any) -> None:
        """Raise UserError for any other value of a setting that changes the computation."""
        stored = self._take(key, value)
        if stored != value:
            raise UserError(f"{self.origin}: {key} = {stored!r} is not built here, only {value!r}")

    def skip(self, *patterns: str) -> None:
        """Ignore keys of the family that do not change the computation here."""
        self.seen.extend(patterns)

    def finish(self) -> None:
        """Raise UserError for keys that were not read."""
        unknown = [k for k in self.values if not any(fnmatch.fnmatch(k, p) for p in self.seen)]
        if unknown:
            raise UserError(
                f"{self.origin}: settings not understood: {', '.join(sorted(unknown))}. They may "
                "change what the model computes; name them in model.ignore_settings if they do not."
            )
