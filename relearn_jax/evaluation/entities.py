"""Entity-level scores by seqeval's definition (default, lenient IOB reading), vectorised.

An entity is a maximal run of words of one type; it starts at a B-, after an O, or where the type
changes. A predicted entity is correct if both ends and the type agree.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int

ALL = "all"
OF_WORDS = ("accuracy", "outside", "most_frequent")
"""What a record of all types says of words, beside entities."""
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


def counts(
    gold: Sequence[Int[np.ndarray, W]],
    predicted: Sequence[Int[np.ndarray, W]],
    tag_set: Sequence[str],
) -> Int[np.ndarray, "N Y 3"]:
    """Entities of each of N sentences and Y types: correct ones, predicted ones, gold ones.

    Args:
      gold: tag ids of each sentence.
      predicted: predicted tag ids, of the same lengths.
      tag_set: names of the ids.
    """
    lengths = np.array([len(g) for g in gold], np.int64)
    sentence = np.repeat(np.arange(len(lengths)), lengths)
    first = (np.diff(sentence, prepend=-1) > 0).astype(np.int64)
    g, p = np.concatenate(gold), np.concatenate(predicted)
    gold_spans, predicted_spans = spans(g, first, tag_set), spans(p, first, tag_set)
    gold_at = np.full((2, len(g)), -1)
    gold_at[:, gold_spans[0]] = np.stack(gold_spans[1:])
    starts, ends, kinds = predicted_spans
    correct = (gold_at[0, starts] == ends) & (gold_at[1, starts] == kinds)
    table = np.zeros((len(lengths), len(tag_types(tag_set)), 3), np.int64)
    np.add.at(table, (sentence[starts[correct]], kinds[correct], 0), 1)
    np.add.at(table, (sentence[starts], kinds, 1), 1)
    np.add.at(table, (sentence[gold_spans[0]], gold_spans[2], 2), 1)
    return table


def f1(counts: Int[np.ndarray, "... 3"]) -> Float[np.ndarray, ...]:
    """F1 of summed `counts`; 0 where nothing is predicted and nothing is there."""
    correct, predicted, gold = (counts[..., i].astype(np.float64) for i in range(3))
    return 2 * correct / np.maximum(predicted + gold, 1)


def score(
    gold: Sequence[Int[np.ndarray, W]],
    predicted: Sequence[Int[np.ndarray, W]],
    tag_set: Sequence[str],
) -> list[dict[str, float | int | str]]:
    """Precision, recall and F1 over all entities (micro) and per type, and two shares of words.

    Args:
      gold, predicted, tag_set: as in `counts`.

    Returns:
      One record for type "all" and one for each type: {type, precision, recall, f1, support,
      accuracy, outside, most_frequent}. A ratio with denominator 0 is 0, as in seqeval. Only "all"
      has the last three: `accuracy` over words, `outside`, the accuracy over words outside
      entities, and `most_frequent`, the share of words with the label that is predicted most often.
    """
    table = counts(gold, predicted, tag_set).sum(0)
    g, p = np.concatenate(gold), np.concatenate(predicted)

    def record(name: str, row: Int[np.ndarray, 3]) -> dict[str, float | int | str]:
        hits, predictions, support = row
        precision = float(hits / predictions) if predictions else 0.0
        recall = float(hits / support) if support else 0.0
        total = precision + recall
        values = {
            "precision": precision,
            "recall": recall,
            "f1": 2 * precision * recall / total if total else 0.0,
            "support": int(support),
        }
        return {"type": name, **values, **dict.fromkeys(OF_WORDS, float("nan"))}

    overall = record(ALL, table.sum(0))
    if len(g):
        outside = g == tag_set.index("O")
        overall |= {
            "accuracy": float(np.mean(g == p)),
            "outside": float(np.mean((g == p)[outside])) if outside.any() else float("nan"),
            "most_frequent": float(np.bincount(p).max() / len(p)),
        }
    return [overall, *(record(t, table[i]) for i, t in enumerate(tag_types(tag_set)))]
