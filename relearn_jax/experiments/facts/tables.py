"""Tidy tables of a localization: one row for each seed, method and component."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float
from scipy.stats import rankdata, spearmanr

from relearn_jax.data.facts.prompts import Prompts, last_of_subject
from relearn_jax.experiments.facts.gates import Gate
from relearn_jax.experiments.facts.results import Result, results
from relearn_jax.experiments.facts.setup import Setup
from relearn_jax.localize import probes, selection
from relearn_jax.localize.effects import Effect, Effects, share
from relearn_jax.localize.methods import SCORES
from relearn_jax.localize.scores import null_of

ROLES = ("before", "subject", "subject end", "between", "last")
Row = dict[str, Any]


def write(setup: Setup, out: Path) -> None:
    """Write every table of the seeds whose components have been chosen."""
    finished = list(results(setup, out))
    makers = {
        "gates": gate_rows, "maps": map_rows, "scores": score_rows, "selections": selection_rows,
        "truth": truth_rows, "agreement": agreement_rows, "probes": probe_rows,
        "heads": head_rows, "units": unit_rows,
    }  # fmt: skip
    (out / "tables").mkdir(exist_ok=True)
    for name, rows_of in makers.items():
        rows = [{"seed": result.seed, **row} for result in finished for row in rows_of(result)]
        pd.DataFrame(rows).to_parquet(out / "tables" / f"{name}.parquet", index=False)


def gate_rows(result: Result) -> Iterator[Row]:
    """All gates, and whether they are passed."""
    for gate in result.gates:
        yield {**gate, "passed": bool(Gate(**gate).passed)}


def map_rows(result: Result) -> Iterator[Row]:
    """Effects by layer and position, as shares of the whole change, beside their nulls.

    If a position has different roles in different prompts, rows are by role instead: the mean over
    the tokens with this role in each prompt.
    """
    roles = roles_of(result.clean)
    names = [sorted(set(column)) for column in roles.T]
    alike = all(len(roles_at) == 1 for roles_at in names)
    for effect in result.effects.values:
        if effect.null or effect.axis != "position":
            continue
        share, null = _shares(result.effects, effect, None if alike else roles)
        for (layer, position), value in np.ndenumerate(share):
            yield {
                "method": effect.method, "place": effect.place, "layer": layer,
                "position": position, "role": names[position][0] if alike else ROLES[position],
                "share": float(value), "null": float(null[layer, position]),
            }  # fmt: skip


def _shares(
    effects: Effects, effect: Effect, roles: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Mean over pairs of an effect and of its null.

    Both are shares of the whole change; interchange is a share of the answers. With `roles` [B, T]
    the axis of positions becomes an axis of `ROLES`.
    """
    score = SCORES.get(effect.method)
    null = effect._replace(null=True) if score is None else null_of(effect, score)
    values, nulls = effects.values[effect], effects.values[null]
    if roles is not None:
        values, nulls = _by_role(values, roles), _by_role(nulls, roles)
    if score is None:
        return values.mean(-1), nulls.mean(-1)
    total = effects.totals[score.metric]
    return score.sign * share(values, total), share(nulls, total)


def _by_role(values: Float[np.ndarray, "L T B"], roles: np.ndarray) -> Float[np.ndarray, "L R B"]:
    """Mean over the positions of each role; 0 where a prompt has no token with the role."""
    weights = np.stack([roles == role for role in ROLES], axis=-1).astype(np.float32)
    weights /= np.maximum(weights.sum(1, keepdims=True), 1)
    return np.einsum("LTB,BTR->LRB", values, weights)


def roles_of(clean: Prompts) -> np.ndarray:
    """The role of each position of each prompt, [B, T]: one of `ROLES`, or padding."""
    where = np.arange(clean.ids.shape[1])
    first = clean.subject.argmax(1)[:, None]
    end = last_of_subject(clean)[:, None]
    last = clean.last[:, None]
    return np.select(
        [where > last, where == last, where == end, clean.subject, where < first],
        ["padding", "last", "subject end", "subject", "before"],
        "between",
    )


def head_rows(result: Result) -> Iterator[Row]:
    """Effects by head, as shares of the whole change, beside their nulls."""
    for effect in result.effects.values:
        if effect.null or effect.axis != "head":
            continue
        share, null = _shares(result.effects, effect)
        for (layer, head), value in np.ndenumerate(share):
            yield {
                "method": effect.method, "layer": layer, "head": head,
                "share": float(value), "null": float(null[layer, head]),
            }  # fmt: skip


def score_rows(result: Result) -> Iterator[Row]:
    """Scores of every part of every layer, and of the null, with 95 % intervals over pairs."""
    for method, parts in result.scores.items():
        for part, scores in parts.items():
            for layer, values in enumerate(zip(*scores, strict=True)):
                row = dict(zip(scores._fields, map(float, values), strict=True))
                yield {"method": method, "part": part, "layer": layer, **row}


def selection_rows(result: Result) -> Iterator[Row]:
    """The share of each part of each layer that is chosen, and its number of parameters.

    `overlap` compares with the planted layers or, if no facts were planted, with fact lookup.
    """
    space, reference = result.space, result.reference
    size = selection.sizes(space)
    for arm, units in result.choice.units.items():
        counts = selection.counts(units, space)
        total = sum(int(rows.sum()) for rows in counts.values())
        shared = np.nan if reference is None else selection.overlap(units, reference, space)
        for part, rows in counts.items():
            for layer, count in enumerate(map(int, np.broadcast_to(rows, space.layers))):
                yield {
                    "method": arm.name, "part": part, "layer": layer,
                    "chosen": count > 0, "share": count / size[part], "parameters": count,
                    "parameters_of_method": total, "overlap": shared,
                }  # fmt: skip


def unit_rows(result: Result) -> Iterator[Row]:
    """Every unit that a method chooses: a part or matrix of a layer (`head` is -1), or a head."""
    for arm, units in result.choice.units.items():
        for kind, chosen in units.items():
            for layer, *head in np.argwhere(chosen).tolist():
                yield {
                    "method": arm.name,
                    "unit": kind,
                    "layer": layer,
                    "head": head[0] if head else -1,
                }


def truth_rows(result: Result) -> Iterator[Row]:
    """How well each method finds the layers that the facts were planted in.

    The row of random layers has means over many draws, and names the layers of the first.
    """
    if result.planted is None:
        return
    planted = result.planted["mlp"]
    for arm, recovery in result.found.items():
        pairs = [selection.precision_recall(chosen, planted) for chosen in recovery.chosen]
        precision, recall = map(np.mean, zip(*pairs, strict=True))
        yield {
            "method": arm.name, "precision": float(precision), "recall": float(recall),
            "roc_area": float(np.mean(recovery.roc_area)),
            "planted": [int(layer) for layer in np.flatnonzero(planted)],
            "chosen": [int(layer) for layer in np.flatnonzero(recovery.chosen[0])],
        }  # fmt: skip


def agreement_rows(result: Result) -> Iterator[Row]:
    """Rank correlation of two methods' scores of feed-forward layers, and their shared choice."""
    magnitudes = {method: np.abs(parts["mlp"].score) for method, parts in result.scores.items()}
    for a, b in combinations(magnitudes, 2):
        ranks = [rankdata(magnitudes[method]) for method in (a, b)]
        flat = any(len(set(r)) < 2 for r in ranks)
        among_mlps = [result.choice.among_mlps(method) for method in (a, b)]
        yield {
            "method_a": a, "method_b": b,
            "spearman": np.nan if flat else float(spearmanr(magnitudes[a], magnitudes[b])[0]),
            "jaccard": selection.overlap(*among_mlps, result.space),
        }  # fmt: skip


def probe_rows(result: Result) -> Iterator[Row]:
    """Accuracy of probes by state and position, and of always giving the most common answer."""
    measured = probes.from_arrays(result.readings.get(probes.LOCALIZER.name, {}))
    for position, readable in measured.items():
        for kind in ("states", "middle", "shuffled", "middle_shuffled"):
            for row, accuracy in enumerate(getattr(readable, kind)):
                yield {
                    "position": position, "kind": kind, "row": row, "accuracy": float(accuracy),
                    "chance": readable.chance, "facts": readable.facts,
                }  # fmt: skip
