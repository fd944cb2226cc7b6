"""Table rows of relative losses and selectivity, with intervals over sentences and over seeds."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float
from scipy import stats

from relearn_jax.config import Relearning
from relearn_jax.evaluation import selectivity
from relearn_jax.evaluation.selectivity import Loss
from relearn_jax.experiments.concepts import sets
from relearn_jax.experiments.concepts.dose.choice import Choices
from relearn_jax.experiments.concepts.dose.tables import Curve
from relearn_jax.experiments.concepts.sets import Group

CONTROL = "layer_matched"


class Line(NamedTuple):
    """A line of a table of selectivity: a mask of each seed's curve, and that of its control."""

    facts: dict[str, Any]
    rows: tuple[int, ...]
    controls: tuple[int, ...] | None


def selectivity_rows(curves: Sequence[Curve], types: Sequence[str]) -> pd.DataFrame:
    """Relative losses and selectivity at every point, by seed and as means over seeds.

    The rows of means have no `seed`. `low` and `high` are the 95 % interval over sentences; for
    means the same sentences are drawn for all seeds. `seeds_low` and `seeds_high` are Student's
    95 % interval over seeds. `against` is the selectivity less that of the layer-matched control.
    """
    rows: list[dict[str, Any]] = []
    for zeroed in dict.fromkeys(curve.zeroed for curve in curves):
        alike = [curve for curve in curves if curve.zeroed == zeroed]
        for target in dict.fromkeys(alike[0].points["target"]):
            if target in types:
                rows += _measured(alike, target, types, _point_lines(alike, target))
    return _with_seeds(rows)


def group_rows(
    curves: Sequence[Curve],
    types: Sequence[str],
    settings: Relearning,
    choices: Choices,
    size: int,
) -> pd.DataFrame:
    """`selectivity_rows` of the groups, each seed at its own fraction of the `size` neurons."""
    alike = [curve for curve in curves if curve.zeroed == settings.prune.target]
    rows: list[dict[str, Any]] = []
    for group in sets.groups(settings):
        if alike and group.target in types:
            lines = _group_lines(alike, group, settings, choices, size)
            rows += _measured(alike, group.target, types, lines)
    return _with_seeds(rows)


def _with_seeds(rows: list[dict[str, Any]]) -> pd.DataFrame:
    return pd.DataFrame(rows).astype({"seed": "Int64"}) if rows else pd.DataFrame()


def _point_lines(curves: Sequence[Curve], target: str) -> list[Line]:
    """A line for each point that all curves have."""
    keys = ["ranking", "arm", "fraction"]
    places = [
        curve.points[curve.points["target"] == target].set_index(keys)["row"] for curve in curves
    ]
    table = pd.concat(places, axis=1, join="inner", keys=range(len(places))).sort_index()
    table = table.reindex([key for key in places[0].index if key in table.index])
    neurons = curves[0].points[curves[0].points["target"] == target].set_index(keys)["neurons"]
    masks = {
        key: tuple(map(int, row)) for key, row in zip(table.index, table.to_numpy(), strict=True)
    }
    return [
        Line(
            {
                "target": target, "zeroed": curves[0].zeroed, "ranking": ranking, "arm": arm,
                "fraction": fraction, "neurons": int(neurons[ranking, arm, fraction]),
            },
            row,
            masks.get((ranking, CONTROL, fraction)),
        )
        for (ranking, arm, fraction), row in masks.items()
    ]  # fmt: skip


def _group_lines(
    curves: Sequence[Curve],
    group: Group,
    settings: Relearning,
    choices: Choices,
    size: int,
) -> Iterator[Line]:
    """A line for each arm of a group, if all curves have its points."""
    ranking = sets.prune_settings(settings, group).ranking
    shares = [
        choices.get((curve.seed, group.target, ranking))
        if group.fraction == "auto"
        else group.count / size
        if group.fraction is None
        else group.fraction
        for curve in curves
    ]

    def masks(arm: str) -> tuple[int, ...] | None:
        rows = []
        for curve, share in zip(curves, shares, strict=True):
            points = curve.points
            here = (points["target"] == group.target) & (points["ranking"] == ranking)
            found = points.loc[here & (points["arm"] == arm) & (points["fraction"] == share), "row"]
            rows += found.tolist()
        return tuple(rows) if len(rows) == len(curves) else None

    controls = masks(CONTROL)
    for arm in settings.arms:
        rows = masks(arm)
        if rows is not None:
            facts = {"group": sets.group_name(group), "target": group.target, "arm": arm}
            yield Line(facts | {"fractions": shares}, rows, controls)


def _measured(
    curves: Sequence[Curve], target: str, types: Sequence[str], lines: Iterable[Line]
) -> Iterator[dict[str, Any]]:
    """The rows of lines: of each seed, and of the mean."""
    lines, y = list(lines), list(types).index(target)
    others = selectivity.others(np.mean([curve.scores[0] for curve in curves], axis=0), y)
    named = ", ".join((*types, "words outside entities")[i] for i in others)

    def of(curve: Curve, rows: Sequence[int]) -> tuple[Loss, Loss]:
        losses = selectivity.losses(curve.scores[list(rows)], curve.scores[0], y, others)
        draws = selectivity.losses(curve.draws[:, list(rows)], curve.draws[:, :1], y, others)
        return losses, draws

    # Row 0 stands in for the control of lines without one; their `against` is left out below.
    parts = [
        (
            *of(curve, [line.rows[s] for line in lines]),
            *of(curve, [line.controls[s] if line.controls else 0 for line in lines]),
        )
        for s, curve in enumerate(curves)
    ]
    seeds: list[tuple[int | None, tuple[Loss, ...]]] = [
        (curve.seed, part) for curve, part in zip(curves, parts, strict=True)
    ]
    means = tuple(Loss(*np.mean(column, axis=0)) for column in zip(*parts, strict=True))
    seeds.append((None, means))
    spread = np.stack([part[0].selectivity for part in parts])
    above = spread - np.stack([part[2].selectivity for part in parts])
    for seed, (losses, draws, control, control_draws) in seeds:
        for k, line in enumerate(lines):
            mean = seed is None
            facts = dict(line.facts)
            if (shares := facts.pop("fractions", None)) is not None:
                own = [shares[[c.seed for c in curves].index(seed)]] if not mean else shares
                facts |= {"fraction_low": min(own), "fraction_high": max(own)}
            yield facts | {
                "seed": seed, "seeds": len(parts) if mean else 1, "others": named,
                "sentences": curves[0].counts.words.shape[1],
                "entities": int(curves[0].counts.entities[0, :, y, 2].sum()),
                "target_loss": losses.target[k], "others_loss": losses.others[k],
                "selectivity": losses.selectivity[k],
                **_interval(draws.selectivity[:, k], ""),
                **(_over_seeds(spread[:, k], "") if mean else {}),
            } | (
                {
                    "against": losses.selectivity[k] - control.selectivity[k],
                    **_interval((draws.selectivity - control_draws.selectivity)[:, k], "against_"),
                    **(_over_seeds(above[:, k], "against_") if mean else {}),
                }
                if line.controls
                else {}
            )  # fmt: skip


def _interval(draws: Float[np.ndarray, " R"], prefix: str) -> dict[str, float]:
    low, high = selectivity.interval(draws)
    return {f"{prefix}low": float(low), f"{prefix}high": float(high)}


def _over_seeds(values: Float[np.ndarray, " seeds"], prefix: str) -> dict[str, float]:
    """Student's 95 % interval; NaN for one seed."""
    if len(values) < 2:
        return dict.fromkeys((f"{prefix}seeds_low", f"{prefix}seeds_high"), np.nan)
    half = stats.t.ppf(0.975, len(values) - 1) * stats.sem(values)
    mean = values.mean()
    return {f"{prefix}seeds_low": float(mean - half), f"{prefix}seeds_high": float(mean + half)}
