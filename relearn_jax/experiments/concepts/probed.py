"""The probed text of a relearning run: its words, their concepts, and vectors of word types."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from relearn_jax.config import Concepts
from relearn_jax.data import alignment, concepts
from relearn_jax.data.alignment import Encoded
from relearn_jax.data.concepts import ConceptData
from relearn_jax.data.corpus import Corpus
from relearn_jax.data.readers import reading
from relearn_jax.errors import UserError
from relearn_jax.neurons import similarity

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast


@dataclass(frozen=True)
class ProbedText:
    """The text for the statistics of neurons."""

    corpus: Corpus
    concepts: ConceptData
    encoded: Encoded
    pieces: tuple[np.ndarray, ...]
    """Sub-word ids of every word type."""
    vectors: np.ndarray | None
    """Vectors of the word types from a file, [V, E]; None for the base model's embeddings."""

    @property
    def vectors_sha256(self) -> str:
        """SHA-256 of the vectors from a file; empty without a file."""
        return "" if self.vectors is None else hashlib.sha256(self.vectors.tobytes()).hexdigest()


def read(
    settings: Concepts,
    base: Path,
    tokenizer: PreTrainedTokenizerFast,
    max_length: int,
    targets: Sequence[str],
    vectors: str,
) -> ProbedText:
    """Read the probed text and its concepts; relative paths start at `base`.

    Args:
      settings: source of the text, and assignment of words to concepts.
      base: the config's folder.
      tokenizer, max_length: the model's tokenizer and longest sentence.
      targets: the removed concepts.
      vectors: `tracking.vectors`.

    Raises:
      UserError: a target has no words; see also the readers.
    """
    corpus = reading.read(settings.data, base)
    data = concepts.concept_data(corpus, _tracked(settings, targets), base)
    encoded = alignment.encode(tokenizer, data.words, max_length)
    for target in targets:
        _check_target(data, encoded, target, max_length)
    types = alignment.encode(tokenizer, tuple((t,) for t in data.types), max_length)
    pieces = tuple(ids[word >= 0] for ids, word in zip(types.ids, types.word, strict=True))
    return ProbedText(corpus, data, encoded, pieces, _vectors(vectors, base, data.types))


def _tracked(settings: Concepts, targets: Sequence[str]) -> Concepts:
    """Settings that also track every removed concept, if only some concepts are tracked."""
    track = tuple(dict.fromkeys((*settings.track, *targets))) if settings.track else ()
    return dataclasses.replace(settings, target=targets[0], track=track)


def _check_target(data: ConceptData, encoded: Encoded, target: str, max_length: int) -> None:
    """Raise UserError for a target without words, or with all words truncated."""
    if target not in data.names:
        raise UserError(
            f"sets.concepts: no word of the concept text is {target}; it has "
            f"{', '.join(data.names[:-1])}"
        )
    index = data.names.index(target)
    words = zip(data.member, encoded.covered, strict=True)
    if not any(member[:covered, index].any() for member, covered in words):
        raise UserError(
            f"every word of {target} is truncated at model.max_length = {max_length}; raise it"
        )


def _vectors(source: str, base: Path, types: tuple[str, ...]) -> np.ndarray | None:
    if source == "model":
        return None
    path = base / source
    if not path.is_file():
        raise UserError(f"tracking.vectors: no file {path}")
    return similarity.vectors_from_file(path, types)
