"""Tidy tables of a localization, from its stages: one row for each seed, method and component."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy.stats import rankdata, spearmanr

from relearn_jax import runs
from relearn_jax.experiments.facts import probes, scores, teaching
from relearn_jax.experiments.facts.localization import stage
from relearn_jax.experiments.facts.preparation import Prepared
from relearn_jax.localize import paths, probing, selection
from relearn_jax.localize.selection import Components
from relearn_jax.models import weights

PARTS = tuple(selection.PARTS)
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
        "heads": head_rows,
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
    """Effects by layer and position, as shares of the whole change."""
    clean = prepared.pairs[one.seed].clean
    roles = roles_of(clean)
    for name, effect in one.effects.items():
        method, _, rest = name.partition("/")
        if not rest.endswith("/position") and name != "interchange":
            continue
        place = "states" if name == "interchange" else rest.removesuffix("/position")
        if name == "interchange":
            share = effect.mean(-1)
        else:
            sign = -1 if method in ("patching", "attribution", "attribution_path") else 1
            change = scores.whole_change(one.effects, method)
            share = sign * effect.mean(-1) / change.mean()
        for layer, row in enumerate(share):
            for position, value in enumerate(row):
                yield {
                    "seed": one.seed, "method": method, "place": place, "layer": layer,
                    "position": position, "role": roles[position], "share": float(value),
                }  # fmt: skip


def roles_of(clean: Any) -> list[str]:
    """What stands at each position, where all prompts agree; else `various`."""
    length = clean.ids.shape[1]
    where = np.arange(length)
    first = clean.subject.argmax(1)[:, None]
    end = (length - 1 - clean.subject[:, ::-1].argmax(1))[:, None]
    last = clean.last[:, None]
    names = np.select(
        [where > last, where == last, where == end, clean.subject, where < first],
        ["padding", "last", "subject end", "subject", "before"],
        "between",
    )
    return [n[0] if len(set(n)) == 1 else "various" for n in names.T]


def head_rows(prepared: Prepared, one: Seed) -> Iterator[dict[str, Any]]:
    """Effects by head, as shares of the whole change."""
    for name, effect in one.effects.items():
        method, _, place = name.partition("/")
        if place != "heads":
            continue
        sign = 1 if method == "paths" else -1
        share = sign * effect.mean(-1) / scores.whole_change(one.effects, method).mean()
        for layer, row in enumerate(share):
            for head, value in enumerate(row):
                yield {
                    "seed": one.seed, "method": method, "layer": layer, "head": head,
                    "share": float(value),
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
        found["probes"] = {"mlp": _gains(one)["mlp"]}
    return found


def score_rows(prepared: Prepared, one: Seed) -> Iterator[dict[str, Any]]:
    """Shares of the whole change, with 95 % intervals over pairs; gains in accuracy for probes."""
    for method, parts in scores.by_pair(one.effects).items():
        change = scores.whole_change(one.effects, method)
        for part, effect in parts.items():
            for layer, values in enumerate(
                zip(*scores.share(effect, change, one.seed), strict=True)
            ):
                share, low, high = map(float, values)
                yield {
                    "seed": one.seed, "method": method, "part": part, "layer": layer,
                    "score": share, "low": low, "high": high,
                }  # fmt: skip
    if one.probes:
        for part, gains in _gains(one).items():
            for layer, gain in enumerate(gains):
                yield {
                    "seed": one.seed, "method": "probes", "part": part, "layer": layer,
                    "score": float(gain), "low": np.nan, "high": np.nan,
                }  # fmt: skip


def _gains(one: Seed) -> dict[str, np.ndarray]:
    parts = {name.split("/")[1]: x for name, x in one.probes.items() if name.startswith("subject/")}
    return probes.gains(probes.Readable(**{k: parts[k] for k in probes.Readable._fields}))


def selections(prepared: Prepared, one: Seed) -> dict[str, Components]:
    """What every localizer and baseline chooses under the budget."""
    settings, shapes = prepared.config.localize, weights.shapes(prepared.model)
    found: dict[str, Components] = {}
    layers = prepared.model.config.layers
    none = np.zeros(layers, bool)
    if one.probes:
        first, last = probing.window(_gains(one)["mlp"], settings.window)
        rows = np.arange(layers)
        found["probes"] = Components(none, (rows >= first) & (rows <= last))
    everything = selection.parameter_count(selection.everything(shapes, PARTS), shapes)
    if settings.budget is None:
        budget = selection.parameter_count(found["probes"], shapes)
    else:
        budget = max(int(settings.budget * everything), 1)
    for method, parts in component_scores(prepared, one).items():
        if method in ("null", "probes"):
            continue
        if method == "paths":
            chosen = np.asarray(paths.lookup(parts["mlp"], settings.threshold))
            found["paths"] = Components(none, chosen)
        else:
            found[method] = selection.select(parts, budget, shapes)
        found[f"{method}_mlps"] = selection.select({"mlp": parts["mlp"]}, budget, shapes)
    found["random"] = selection.random(shapes, budget, one.seed, PARTS)
    found["random_mlps"] = selection.random(shapes, budget, one.seed, ("mlp",))
    found["all_mlps"] = selection.everything(shapes, ("mlp",))
    found["nonlocalized"] = selection.everything(shapes, PARTS)
    return found


def selection_rows(prepared: Prepared, one: Seed) -> Iterator[dict[str, Any]]:
    """Chosen components, and how many parameters they have."""
    shapes = weights.shapes(prepared.model)
    size = selection.sizes(shapes)
    chosen = selections(prepared, one)
    reference = chosen.get("probes")
    for method, components in chosen.items():
        count = selection.parameter_count(components, shapes)
        shared = np.nan if reference is None else selection.overlap(components, reference)
        for part in PARTS:
            for layer, value in enumerate(getattr(components, part)):
                yield {
                    "seed": one.seed, "method": method, "part": part, "layer": layer,
                    "chosen": bool(value), "parameters": size[part] if value else 0,
                    "parameters_of_method": count, "overlap_with_probes": shared,
                }  # fmt: skip


def truth_rows(prepared: Prepared, one: Seed) -> Iterator[dict[str, Any]]:
    """Against the layers that the facts were planted in: how well each method finds them."""
    if not prepared.config.teaching.plant_layers:
        return
    truth = teaching.planted(prepared.model, prepared.config.teaching).mlp
    shapes = weights.shapes(prepared.model)
    size = selection.sizes(shapes)["mlp"]
    rng = np.random.default_rng((one.seed, 3))
    rows = {m: parts["mlp"] for m, parts in component_scores(prepared, one).items() if m != "null"}
    rows["random_mlps"] = rng.random(len(truth))
    for method, score in rows.items():
        chosen = selection.select({"mlp": score}, int(truth.sum()) * size, shapes).mlp
        precision, recall = selection.precision_recall(chosen, truth)
        yield {
            "seed": one.seed, "method": method, "precision": precision, "recall": recall,
            "roc_area": selection.roc_area(np.abs(score), truth),
            "planted": [int(layer) for layer in np.flatnonzero(truth)],
            "chosen": [int(layer) for layer in np.flatnonzero(chosen)],
        }  # fmt: skip


def agreement_rows(prepared: Prepared, one: Seed) -> Iterator[dict[str, Any]]:
    """Rank correlation of two methods' scores of feed-forward layers, and their shared choice."""
    rows = {m: np.abs(p["mlp"]) for m, p in component_scores(prepared, one).items() if m != "null"}
    chosen = selections(prepared, one)
    for a, b in combinations(rows, 2):
        flat = len(set(rankdata(rows[a]))) < 2 or len(set(rankdata(rows[b]))) < 2
        pair = [chosen.get(f"{m}_mlps", chosen.get(m)) for m in (a, b)]
        yield {
            "seed": one.seed, "method_a": a, "method_b": b,
            "spearman": np.nan if flat else float(spearmanr(rows[a], rows[b])[0]),
            "jaccard": selection.overlap(*pair),
        }  # fmt: skip


def probe_rows(prepared: Prepared, one: Seed) -> Iterator[dict[str, Any]]:
    """Accuracy of probes by state and position, and of always giving the most common answer."""
    answers = np.unique(prepared.probed[one.seed].target, return_counts=True)[1]
    chance = float(answers.max() / answers.sum())
    for where in ("subject", "last"):
        if f"{where}/states" not in one.probes:
            continue
        for kind in ("states", "middle", "shuffled"):
            for row, value in enumerate(one.probes[f"{where}/{kind}"]):
                yield {
                    "seed": one.seed, "position": where, "kind": kind, "row": row,
                    "accuracy": float(value), "chance": chance,
                    "facts": one.probes[f"{where}/facts"].item(),
                }  # fmt: skip
