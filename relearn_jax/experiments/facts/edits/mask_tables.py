"""The table of weight masks: what is left once some weights of a choice are 0."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from relearn_jax.evaluation.facts import Answers
from relearn_jax.evaluation.shares import UNKNOWN, Items, Share, share
from relearn_jax.experiments.facts import teaching
from relearn_jax.experiments.facts.edits import judging
from relearn_jax.experiments.facts.edits.arms import ORIGINAL
from relearn_jax.experiments.facts.edits.asked import RETAIN_TEST
from relearn_jax.experiments.facts.edits.results import EditResult
from relearn_jax.experiments.facts.edits.weight_masks import Zeroed

Row = dict[str, Any]
Found = list[tuple[EditResult, Zeroed]]
"""The same number of weights of the same choice, in every seed."""


def mask_rows(finished: Sequence[EditResult]) -> Iterator[Row]:
    """One row for each choice, way of choosing weights and number of them, over all seeds.

    Shares are over what the model answers before any weight is 0; those of forgotten facts are
    beyond what the oracle answers, or beyond chance without an oracle.
    """
    if not finished:
        return
    setup = finished[0].setup
    for name in setup.config.weight_masks.arms:
        own = [result for result in finished if name in result.zeroed]
        by_number: dict[tuple[str, int], Found] = {}
        for result in own:
            for zeroed in result.zeroed[name]:
                key = (zeroed.chosen_by, zeroed.count)
                by_number.setdefault(key, []).append((result, zeroed))
        for (chosen_by, count), found in by_number.items():
            yield {
                "arm": name, "chosen_by": chosen_by, "zeroed": count, "seeds": len(found),
                **_shares(found), "text_rise": float(np.mean([_text(*pair) for pair in found])),
                "planted": float(np.mean([_planted(*pair) for pair in found])),
            }  # fmt: skip


def _shares(found: Found) -> Row:
    result = found[0][0]
    own = result.setup.config.edit.format
    data = result.setup.localization.facts[result.seed]
    about = [name for name in judging.about_fact(data) if name != own]
    others = [name for name in data.formats if name != own]
    others = [name for name in others if result.asked.of(name, RETAIN_TEST).any()]
    made = {
        "still": _over(found, _forgotten, own),
        "leak": max((_over(found, _forgotten, f) for f in about), key=_value, default=UNKNOWN),
        "kept": _over(found, _retained, own),
        "kept_elsewhere": min(
            (_over(found, _retained, f) for f in others), key=_value, default=UNKNOWN
        ),
    }
    return {
        f"{name}{ending}": value
        for name, of in made.items()
        for ending, value in zip(("", "_low", "_high"), of, strict=True)
    }


def _over(found: Found, of: Callable[..., Items], format: str) -> Share:
    items = [of(result, zeroed.answers, format) for result, zeroed in found]
    return share(items, seed=found[0][0].setup.config.seeds[0])


def _forgotten(result: EditResult, answers: Answers, format: str) -> Items:
    groups = judging.FORGOTTEN
    now = judging.right_in(result, answers, format, *groups)
    before = judging.right(result, ORIGINAL, format, *groups)
    return Items(now, before, judging.floor_in(result, ORIGINAL, format, len(now)))


def _retained(result: EditResult, answers: Answers, format: str) -> Items:
    now = judging.right_in(result, answers, format, RETAIN_TEST)
    return Items(now, judging.right(result, ORIGINAL, format, RETAIN_TEST), np.zeros(len(now)))


def _text(result: EditResult, zeroed: Zeroed) -> float:
    before = result.edited[ORIGINAL].record.get("text")
    return 0.0 if zeroed.text is None or before is None else zeroed.text - before


def _planted(result: EditResult, zeroed: Zeroed) -> float:
    """The share of the zeroed weights that lies in planted layers; NaN without any."""
    truth = teaching.planted(result.setup.model, result.setup.config.teaching)
    if truth is None:
        return np.nan
    return float(zeroed.by_layer["mlp"][truth["mlp"]].sum() / zeroed.count)


def _value(found: Share) -> float:
    return float(np.nan_to_num(found.value, nan=-np.inf))
