"""Entity-level scores by seqeval's definition (default, lenient IOB reading), vectorised.

An entity is a maximal run of words of one type; it starts at a B-, after an O, or where the type
changes. A predicted entity is correct if both ends and the type agree.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int

ALL = "all"
SMALLEST_LOSS = 0.02
"""Smallest loss of F1 of which a share may be regained; of a smaller one, the share is noise."""


def tag_types(tag_set: Sequence[str]) -> tuple[str, ...]:
    """Entity types of a tag set, sorted."""
    return tuple(sorted({tag[2:] for tag in tag_set if tag != "O"}))


def spans(
    tags: Int[np.ndarray, W], first: Int[np.ndarray, W], tag_set: Sequence[str]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Entities of one long sequence of tag ids.

    Args:
      tags: ids into `tag_set`, all sentences one after another.
      first: 1 where a sentence starts.
      tag_set: "O", "B-X", "I-X", ...

    Returns:
      (start, end exclusive, type index) of every entity, in order.
    """
    types = tag_types(tag_set)
    kind_of = np.array([-1 if tag == "O" else types.index(tag[2:]) for tag in tag_set])
    begins = np.array([tag.startswith("B-") for tag in tag_set])
    kind = kind_of[tags]
    before = np.concatenate([[-1], kind[:-1]])
    start = (kind >= 0) & (begins[tags] | (first == 1) | (before != kind))
    boundary = np.concatenate([start | (kind < 0) | (first == 1), [True]])
    positions = np.flatnonzero(boundary)
    starts = np.flatnonzero(start)
    ends = positions[np.searchsorted(positions, starts, side="right")]
    return starts, ends, kind[starts]


def score(
    gold: Sequence[Int[np.ndarray, W]],
    predicted: Sequence[Int[np.ndarray, W]],
    tag_set: Sequence[str],
) -> list[dict[str, float | int | str]]:
    """Precision, recall and F1 over all entities (micro) and per type, and token accuracy.

    Args:
      gold: tag ids of each sentence.
      predicted: predicted tag ids, of the same lengths.
      tag_set: names of the ids.

    Returns:
      One record for type "all" (with accuracy) and one for each type: {type, precision, recall, f1,
      support, accuracy}. A ratio with denominator 0 is 0, as in seqeval.
    """
    types = tag_types(tag_set)
    first = np.concatenate([np.arange(len(g)) == 0 for g in gold]).astype(np.int64)
    g, p = np.concatenate(gold), np.concatenate(predicted)
    gold_spans, predicted_spans = spans(g, first, tag_set), spans(p, first, tag_set)
    gold_at = np.full((2, len(g)), -1)
    gold_at[:, gold_spans[0]] = np.stack(gold_spans[1:])
    starts, ends, kinds = predicted_spans
    correct = (gold_at[0, starts] == ends) & (gold_at[1, starts] == kinds)
    size = len(types)
    support = np.bincount(gold_spans[2], minlength=size)
    predictions = np.bincount(kinds, minlength=size)
    hits = np.bincount(kinds[correct], minlength=size)

    def record(
        name: str, hits: int, predictions: int, support: int
    ) -> dict[str, float | int | str]:
        precision = hits / predictions if predictions else 0.0
        recall = hits / support if support else 0.0
        total = precision + recall
        f1 = 2 * precision * recall / total if total else 0.0
        values = {"precision": precision, "recall": recall, "f1": f1, "support": int(support)}
        return {"type": name, **values, "accuracy": float("nan")}

    overall = record(ALL, hits.sum(), predictions.sum(), support.sum())
    overall["accuracy"] = float(np.mean(g == p)) if len(g) else 0.0
    return [
        overall,
        *(record(t, hits[i], predictions[i], support[i]) for i, t in enumerate(types)),
    ]
