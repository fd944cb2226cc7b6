"""Tidy tables of a localization, from its stages: one row for each seed, method and component."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float
from scipy.stats import rankdata, spearmanr

from relearn_jax import runs
from relearn_jax.experiments.facts import scores, teaching
from relearn_jax.experiments.facts.localization import stage
from relearn_jax.experiments.facts.setup import Prepared
from relearn_jax.localize import paths, probes, selection
from relearn_jax.localize.selection import Chosen

PARTS = tuple(selection.PARTS)
ROLES = ("before", "subject", "subject end", "between", "last")
DRAWS = 100
"""Random layers that the truth is compared with."""
BASELINES = ("random", "random_mlps", "all_mlps", "nonlocalized")


class Seed(NamedTuple):
    """What one seed's stages say."""

    seed: int
    effects: dict[str, np.ndarray]
    probes: dict[str, np.ndarray]
    record: dict[str, Any]
    gates: list[dict[str, Any]]


def write(prepared: Prepared, out: Path) -> None:
    """Write every table of the finished seeds."""
    found = [one for seed in prepared.config.seeds if (one := _seed(out, seed)) is not None]
    makers = {
        "gates": gate_rows, "maps": map_rows, "scores": score_rows, "selections": selection_rows,
        "truth": truth_rows, "agreement": agreement_rows, "probes": probe_rows,
        "heads": head_rows, "units": unit_rows,
    }  # fmt: skip
    (out / "tables").mkdir(exist_ok=True)
    for name, maker in makers.items():
        rows = [row for one in found for row in maker(prepared, one)]
        pd.DataFrame(rows).to_parquet(out / "tables" / f"{name}.parquet", index=False)


def _seed(out: Path, seed: int) -> Seed | None:
    name = stage(seed, "localized")
    if not runs.has_arrays(out, name, "effects"):
        return None
    record = runs.read_json(runs.stage_folder(out, name) / "stage.json")
    taught = runs.stage_folder(out, stage(seed, "model")) / "stage.json"
    gates = runs.read_json(taught).get("gates", []) if taught.is_file() else []
    probed = runs.arrays_of(out, name, "probes") if runs.has_arrays(out, name, "probes") else {}
    return Seed(
        seed, runs.arrays_of(out, name, "effects"), probed, record, gates + record.get("gates", [])
    )


def gate_rows(prepared: Prepared, one: Seed) -> Iterator[dict[str, Any]]:
    """What must hold before a result means anything, and whether it does."""
    for gate in one.gates:
        passed = (
            gate["value"] >= gate["limit"] if gate["at_least"] else gate["value"] <= gate["limit"]
        )
        yield {"seed": one.seed, **gate, "passed": bool(passed)}


def map_rows(prepared: Prepared, one: Seed) -> Iterator[dict[str, Any]]:
    """Effects by layer and position, as shares of the whole change, beside their nulls.

    Where prompts differ in what stands at a position, it is by role instead: the mean over the
    tokens that have it in their own prompt.
    """
    roles = roles_of(prepared.pairs[one.seed].clean)
    names = [sorted(set(column)) for column in roles.T]
    alike = all(len(some) == 1 for some in names)
    for name in one.effects:
        method, _, rest = name.partition("/")
        if method == "null" or not (rest.endswith("/position") or name == "interchange"):
            continue
        place = rest.removesuffix("/position") or "states"
        share, null = _shares(one, name, None if alike else roles)
        for (layer, position), value in np.ndenumerate(share):
            role = names[position][0] if alike else ROLES[position]
            yield {
                "seed": one.seed, "method": method, "place": place, "layer": layer,
                "position": position, "role": role, "share": float(value),
                "null": float(null[layer, position]),
            }  # fmt: skip


def _shares(one: Seed, name: str, roles: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Mean over pairs of an effect and of its null; of the whole change, or of the answers.

    With `roles` [B, T] the axis of positions becomes one of `ROLES`.
    """
    method = name.partition("/")[0]
    effect, null = one.effects[name], one.effects[scores.null_name(name)]
    if roles is not None:
        effect, null = (_by_role(some, roles) for some in (effect, null))
    if method == "interchange":
        return effect.mean(-1), null.mean(-1)
    change = scores.whole_change(one.effects, method).mean()
    return scores.SIGNS[method] * effect.mean(-1) / change, null.mean(-1) / change


def _by_role(effect: np.ndarray, roles: np.ndarray) -> np.ndarray:
    """[L, T, B] to [L, roles, B]; 0 where a prompt has no token of a role."""
    has = np.stack([roles == role for role in ROLES], axis=-1).astype(np.float32)
    has /= np.maximum(has.sum(1, keepdims=True), 1)
    return np.einsum("LTB,BTR->LRB", effect, has)


def roles_of(clean: Any) -> np.ndarray:
    """[B, T] what stands at each position of each prompt: one of `ROLES`, or padding."""
    length = clean.ids.shape[1]
    where = np.arange(length)
    first = clean.subject.argmax(1)[:, None]
    end = (length - 1 - clean.subject[:, ::-1].argmax(1))[:, None]
    last = clean.last[:, None]
    return np.select(
        [where > last, where == last, where == end, clean.subject, where < first],
        ["padding", "last", "subject end", "subject", "before"],
        "between",
    )


def head_rows(prepared: Prepared, one: Seed) -> Iterator[dict[str, Any]]:
    """Effects by head, as shares of the whole change, beside their nulls."""
    for name in one.effects:
        method, _, place = name.partition("/")
        if method == "null" or place != "heads":
            continue
        share, null = _shares(one, name)
        for (layer, head), value in np.ndenumerate(share):
            yield {
                "seed": one.seed, "method": method, "layer": layer, "head": head,
                "share": float(value), "null": float(null[layer, head]),
            }  # fmt: skip


def component_scores(prepared: Prepared, one: Seed) -> dict[str, dict[str, np.ndarray]]:
    """For each localizer one score for each part of each layer."""
    found = {
        method: {
            part: scores.share(effect, scores.whole_change(one.effects, method), one.seed)[0]
            for part, effect in parts.items()
        }
        for method, parts in scores.by_pair(one.effects).items()
    }
    if one.probes:
        found["probes"] = {"mlp": _gains(prepared, one)[0]["mlp"]}
    return found


def score_rows(prepared: Prepared, one: Seed) -> Iterator[dict[str, Any]]:
    """Shares of the whole change, with 95 % intervals over pairs, beside those of the null; for
    probes gains in accuracy, beside those of probes of shuffled answers."""
    nulls = scores.nulls(one.effects)
    for method, parts in scores.by_pair(one.effects).items():
        change = scores.whole_change(one.effects, method)
        for part, effect in parts.items():
            found = scores.share(effect, change, one.seed)
            beside = scores.share(nulls[method][part], change, one.seed)
            yield from _layers(one, method, part, *found, *beside)
    if one.probes:
        found, shuffled = _gains(prepared, one)
        for part, gains in found.items():
            none = np.full(len(gains), np.nan)
            yield from _layers(one, "probes", part, gains, none, none, shuffled[part], none, none)


def _layers(
    one: Seed, method: str, part: str, *columns: Float[np.ndarray, " L"]
) -> Iterator[dict[str, Any]]:
    names = ("score", "low", "high", "null", "null_low", "null_high")
    for layer, values in enumerate(zip(*columns, strict=True)):
        yield {"seed": one.seed, "method": method, "part": part, "layer": layer} | dict(
            zip(names, map(float, values), strict=True)
        )


def _gains(prepared: Prepared, one: Seed) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """What the parts of each layer add to what probes read at the subject's end, and the noise."""
    parts = {name.split("/")[1]: x for name, x in one.probes.items() if name.startswith("subject/")}
    found = probes.Readable(**{k: parts[k] for k in probes.Readable._fields})
    return probes.gains(found, prepared.chance(one.seed)), probes.noise(found)


def selections(prepared: Prepared, one: Seed) -> dict[str, Chosen]:
    """What every localizer and baseline chooses under the budget."""
    settings, space = prepared.config.localize, selection.space(prepared.model)
    found: dict[str, Chosen] = {}
    if one.probes:
        gains, noise = (some["mlp"] for some in _gains(prepared, one))
        first, last = probes.window(gains, settings.window, noise.max())
        rows = np.arange(space.layers)
        found["probes"] = {"mlp": (rows >= first) & (rows <= last)}
    mlps = selection.parameter_count(selection.everything(space, ("mlp",)), space)
    if settings.budget is None:
        # Where probes find no layer, the others have room for one.
        budget = max(selection.parameter_count(found["probes"], space), mlps // space.layers)
    else:
        every = selection.parameter_count(selection.everything(space, PARTS), space)
        budget = max(int(settings.budget * every), 1)
    for method, parts in component_scores(prepared, one).items():
        if method == "probes":
            continue
        if method == "paths":
            found["paths"] = {"mlp": np.asarray(paths.lookup(parts["mlp"], settings.threshold))}
        else:
            found[method] = selection.select(_by_unit(prepared, one, method), budget, space)
        mlp = {"mlp": parts["mlp"]}
        found[f"{method}_mlps"] = selection.select(mlp, min(budget, mlps), space)
    kinds = selection.kinds(space, settings.granularity)
    found["random"] = selection.random(space, budget, one.seed, kinds)
    found["random_mlps"] = selection.select(_drawn(prepared, one.seed), min(budget, mlps), space)
    found["all_mlps"] = selection.everything(space, ("mlp",))
    found["nonlocalized"] = selection.everything(space, PARTS)
    return found


def _drawn(prepared: Prepared, seed: int, number: int = 0) -> dict[str, np.ndarray]:
    """Random scores of feed-forward layers; the first draw is the arm `random_mlps`."""
    rng = np.random.default_rng((seed, number))
    return {"mlp": rng.random(prepared.model.config.layers)}


def _reference(prepared: Prepared, chosen: dict[str, Chosen]) -> Chosen | None:
    """What the others' choices are compared with: what was planted, or fact lookup."""
    if prepared.config.teaching.plant_layers:
        return teaching.planted(prepared.model, prepared.config.teaching)
    return chosen.get("probes", chosen.get("paths"))


def _by_unit(prepared: Prepared, one: Seed, method: str) -> dict[str, np.ndarray]:
    """A method's scores at the granularity of the config.

    A matrix has the score of its part. Methods that do not score heads choose components.
    """
    parts, granularity = (
        component_scores(prepared, one)[method],
        prepared.config.localize.granularity,
    )
    space = selection.space(prepared.model)
    if granularity == "matrix":
        return {k: parts[selection.part_of(space, k)] for k in selection.kinds(space, "matrix")}
    if granularity == "head" and f"{method}/heads" in one.effects:
        return {"heads": _shares(one, f"{method}/heads")[0], "mlp": parts["mlp"]}
    return parts


def selection_rows(prepared: Prepared, one: Seed) -> Iterator[dict[str, Any]]:
    """What is chosen of each part of each layer, and how many parameters that is."""
    space = selection.space(prepared.model)
    size = selection.sizes(space)
    chosen = selections(prepared, one)
    reference = _reference(prepared, chosen)
    for method, units in chosen.items():
        counts = selection.counts(units, space)
        whole = sum(int(rows.sum()) for rows in counts.values())
        shared = np.nan if reference is None else selection.overlap(units, reference, space)
        for part, rows in counts.items():
            for layer, count in enumerate(map(int, np.broadcast_to(rows, space.layers))):
                yield {
                    "seed": one.seed, "method": method, "part": part, "layer": layer,
                    "chosen": count > 0, "share": count / size[part], "parameters": count,
                    "parameters_of_method": whole, "overlap": shared,
                }  # fmt: skip


def unit_rows(prepared: Prepared, one: Seed) -> Iterator[dict[str, Any]]:
    """Every unit that a method chooses: a part or matrix of a layer, or a head."""
    for method, chosen in selections(prepared, one).items():
        for kind, units in chosen.items():
            for layer, *head in np.argwhere(units).tolist():
                yield {
                    "seed": one.seed, "method": method, "unit": kind, "layer": layer,
                    "head": head[0] if head else -1,
                }  # fmt: skip


def truth_rows(prepared: Prepared, one: Seed) -> Iterator[dict[str, Any]]:
    """Against the layers that the facts were planted in: how well each method finds them.

    Random layers are the mean of many draws, of which the first is named.
    """
    if not prepared.config.teaching.plant_layers:
        return
    truth = teaching.planted(prepared.model, prepared.config.teaching)["mlp"]
    for method, parts in component_scores(prepared, one).items():
        # A probe's accuracy may fall in a layer; that is no sign of looking up.
        score = np.maximum(parts["mlp"], 0) if method == "probes" else np.abs(parts["mlp"])
        yield {"seed": one.seed, "method": method} | _found(prepared, score, truth)
    draws = [_found(prepared, _drawn(prepared, one.seed, n)["mlp"], truth) for n in range(DRAWS)]
    means = {k: float(np.mean([d[k] for d in draws])) for k in ("precision", "recall", "roc_area")}
    yield {"seed": one.seed, "method": "random_mlps"} | draws[0] | means


def _found(prepared: Prepared, score: np.ndarray, truth: np.ndarray) -> dict[str, Any]:
    space = selection.space(prepared.model)
    budget = int(truth.sum()) * selection.sizes(space)["mlp"]
    chosen = selection.select({"mlp": score}, budget, space)["mlp"]
    precision, recall = selection.precision_recall(chosen, truth)
    return {
        "precision": precision, "recall": recall, "roc_area": selection.roc_area(score, truth),
        "planted": [int(layer) for layer in np.flatnonzero(truth)],
        "chosen": [int(layer) for layer in np.flatnonzero(chosen)],
    }  # fmt: skip


def agreement_rows(prepared: Prepared, one: Seed) -> Iterator[dict[str, Any]]:
    """Rank correlation of two methods' scores of feed-forward layers, and their shared choice."""
    rows = {m: np.abs(parts["mlp"]) for m, parts in component_scores(prepared, one).items()}
    chosen, space = selections(prepared, one), selection.space(prepared.model)
    for a, b in combinations(rows, 2):
        flat = len(set(rankdata(rows[a]))) < 2 or len(set(rankdata(rows[b]))) < 2
        pair = [chosen.get(f"{m}_mlps", chosen.get(m)) for m in (a, b)]
        yield {
            "seed": one.seed, "method_a": a, "method_b": b,
            "spearman": np.nan if flat else float(spearmanr(rows[a], rows[b])[0]),
            "jaccard": selection.overlap(*pair, space),
        }  # fmt: skip


def probe_rows(prepared: Prepared, one: Seed) -> Iterator[dict[str, Any]]:
    """Accuracy of probes by state and position, and of always giving the most common answer."""
    chance = prepared.chance(one.seed)
    for where in ("subject", "last"):
        if f"{where}/states" not in one.probes:
            continue
        for kind in ("states", "middle", "shuffled", "middle_shuffled"):
            for row, value in enumerate(one.probes[f"{where}/{kind}"]):
                yield {
                    "seed": one.seed, "position": where, "kind": kind, "row": row,
                    "accuracy": float(value), "chance": chance,
                    "facts": one.probes[f"{where}/facts"].item(),
                }  # fmt: skip
