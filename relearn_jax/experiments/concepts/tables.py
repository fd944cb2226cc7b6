"""Tidy tables of the finished stages, with one row per observation."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from relearn_jax import runs
from relearn_jax.config import Relearning
from relearn_jax.data.concepts import ConceptData
from relearn_jax.evaluation import entities
from relearn_jax.evaluation.entities import SMALLEST_LOSS
from relearn_jax.experiments.concepts import damage, set_tables, sets, snapshots
from relearn_jax.experiments.concepts.dose import choice, losses
from relearn_jax.experiments.concepts.dose import tables as dose_tables
from relearn_jax.experiments.concepts.setup import Setup
from relearn_jax.experiments.concepts.snapshots import Snapshot
from relearn_jax.neurons import ranking, saliency, tokens

TAKEN_OVER = 30


def write(setup: Setup, out: Path) -> None:
    """Write the tables of the finished stages to `tables/`; tables without rows are left out."""
    folder, config, concepts = out / "tables", setup.config, setup.probed.concepts
    folder.mkdir(exist_ok=True)
    names = concepts.names[:-1]
    scores = score_table(config, out)
    small: dict[str, list | pd.DataFrame] = {"scores": scores, "recovery": recovery_table(scores)}
    small |= {"layers": [], "similarity_null": [], "taken_over": [], "takeover": []}
    types = entities.tag_types(setup.pretrained.model.labels)
    curves = dose_tables.curves(config, out)
    small["dose"] = dose_tables.score_rows(curves, types)
    small["selectivity"] = losses.selectivity_rows(curves, types)
    small["damage"] = _damage_table(setup, out, scores, curves)
    small["choices"] = dose_tables.choice_rows(config, out)
    if len(sets.groups(config)) > 1:
        small["overlap"] = set_tables.overlap_rows(config, names, setup.shape, out)
    writers: dict[str, pq.ParquetWriter] = {}
    with_label = tokens.types_with_labels(
        np.concatenate(concepts.kind), np.concatenate(concepts.member), len(concepts.types)
    )
    try:
        for now, base, pruned, first, last in snapshots.snapshots(config, out):
            chance = with_label[:, concepts.names.index(now.target)]
            small["layers"] += _layer_rows(now, base, pruned, chance, names)
            if now.stage == "base":
                if not first:
                    continue
                now, pruned = now._replace(arm="base"), np.zeros_like(pruned)
            else:
                small["similarity_null"] += _null_rows(now)
            _append(writers, folder / "concepts.parquet", _concept_rows(now, pruned, names))
            rows = _neuron_rows(now, pruned, chance, concepts.types)
            _append(writers, folder / "neurons.parquet", rows)
            if last:
                small["taken_over"] += _taken_over_rows(now, base, pruned, concepts)
                small["takeover"] += set_tables.takeover_rows(
                    now, base, pruned, names, config.concepts.site
                )
    finally:
        for writer in writers.values():
            writer.close()
    for name, rows in small.items():
        if len(rows):
            pd.DataFrame(rows).to_parquet(folder / f"{name}.parquet", index=False)


def _damage_table(
    setup: Setup, out: Path, scores: pd.DataFrame, curves: Sequence[dose_tables.Curve]
) -> pd.DataFrame:
    """What pruning did on the whole evaluation text, and selectivity on that of the dose curve."""
    config = setup.config
    targets = {sets.group_name(group): group.target for group in sets.groups(config)}
    table = damage.table(scores, targets)
    of_groups = losses.group_rows(
        curves,
        entities.tag_types(setup.pretrained.model.labels),
        config,
        choice.saved(config, out),
        math.prod(setup.shape),
    )
    if table.empty or of_groups.empty:
        return table
    keys = ["group", "arm", "seed"]
    left_out = ["target", "others", "seeds", "target_loss", "others_loss"]
    return table.merge(of_groups.drop(columns=left_out), how="left", on=keys)


def _append(writers: dict[str, pq.ParquetWriter], path: Path, rows: pd.DataFrame) -> None:
    table = pa.Table.from_pandas(rows, preserve_index=False)
    if path.name not in writers:
        writers[path.name] = pq.ParquetWriter(path, table.schema)
    writers[path.name].write_table(table)


def score_table(config: Relearning, out: Path) -> pd.DataFrame:
    """Entity scores of every evaluation; evaluations within a round have no stage name."""
    return pd.DataFrame(list(_score_rows(config, out)))


def _score_rows(config: Relearning, out: Path) -> Iterator[dict[str, Any]]:
    names, arms = snapshots.stages(config), sets.arms(config)
    for concept_set in sets.product(config):
        for number, stage in enumerate(names):
            path = runs.record_file(out, sets.stage_name(concept_set, stage))
            # The base model appears once in every group, with the first arm.
            if not path.is_file() or (stage == "base" and concept_set.arm != arms[0]):
                continue
            arm, number = ("base", 0) if stage == "base" else (concept_set.arm, number - 1)
            record = runs.read_json(path)
            for entry in record["scores"]:
                last = entry is record["scores"][-1]
                place = {
                    "group": sets.group_name(concept_set.group), "seed": concept_set.seed,
                    "arm": arm, "stage": stage if last else "", "round": number,
                    "epoch": entry["epoch"], "step": entry["step"],
                }  # fmt: skip
                for row in entry["records"]:
                    yield place | row


def recovery_table(scores: pd.DataFrame) -> pd.DataFrame:
    """Fraction of the lost F1 regained by each round, and when 50 % and 90 % first were."""
    rows = []
    base = scores[(scores.arm == "base") & (scores.stage == "base")]
    base = base.set_index(["group", "seed", "variant", "type"]).f1
    keys = ["group", "seed", "arm", "type", "variant"]
    retrained = scores[scores.arm != "base"]
    for (group, seed, arm, kind, variant), part in retrained.groupby(keys, sort=False):
        start = part[part.stage == "pruned"].f1.item()
        lost = base[(group, seed, variant, kind)] - start
        part = part.sort_values("epoch")
        first = {}
        for name, share in (("50", 0.5), ("90", 0.9)):
            enough = part[(part["round"] > 0) & (part.f1 >= start + share * lost)]
            some = lost >= SMALLEST_LOSS and len(enough)
            first |= {
                f"epochs_to_{name}": enough.epoch.min() if some else None,
                f"steps_to_{name}": enough.step.min() if some else None,
            }
        for _, row in part[part.stage.str.startswith("round")].iterrows():
            share = (row.f1 - start) / lost if lost >= SMALLEST_LOSS else None
            rows.append(
                {
                    "group": group, "seed": seed, "arm": arm, "type": kind, "variant": variant,
                    "round": row["round"], "lost": lost, "recovery": share, **first,
                }
            )  # fmt: skip
    table = pd.DataFrame(rows)
    whens = [f"{unit}_to_{name}" for unit in ("epochs", "steps") for name in ("50", "90")]
    return (
        table.astype({"recovery": "float64"} | dict.fromkeys(whens, "Float64")) if rows else table
    )


def _grid(now: Snapshot, pruned: np.ndarray) -> dict[str, Any]:
    rows, channels = pruned.shape
    size = rows * channels
    return {
        "group": np.full(size, now.group),
        "seed": np.full(size, now.seed, np.int32),
        "arm": np.full(size, now.arm),
        "stage": np.full(size, now.stage),
        "neuron": np.arange(size, dtype=np.int32),
        "layer": np.repeat(np.arange(rows, dtype=np.int16), channels),
        "channel": np.tile(np.arange(channels, dtype=np.int32), rows),
        "pruned": pruned.ravel(),
    }


def _concept_rows(now: Snapshot, pruned: np.ndarray, names: Sequence[str]) -> pd.DataFrame:
    ranks = ranking.ranks(now.arrays["score"])
    values = saliency.columns(now.arrays)
    grid = _grid(now, pruned)
    frames = []
    for y, concept in enumerate(names):
        columns = {
            "concept": np.full(grid["neuron"].size, concept),
            "score": now.arrays["score"][y].ravel(),
            "rank": ranks[y].ravel().astype(np.int32),
        }
        columns |= {name: v[y].ravel().astype(np.float32) for name, v in values.items()}
        frames.append(pd.DataFrame(grid | columns))
    return pd.concat(frames, ignore_index=True)


def _words(types: Sequence[str], ids: np.ndarray) -> list[list[str]]:
    return [[types[i] for i in row if i >= 0] for row in ids]


def _neuron_rows(
    now: Snapshot, pruned: np.ndarray, chance: np.ndarray, types: Sequence[str]
) -> pd.DataFrame:
    arrays, grid = now.arrays, _grid(now, pruned)
    ids, size = arrays["top_ids"], len(arrays["top_ids"])
    scores = [row[i >= 0] for row, i in zip(arrays["top_scores"], ids, strict=True)]
    columns = {
        "null": tokens.is_null(ids, types),
        "top_tokens": _words(types, ids),
        "top_scores": scores,
        "similarity": arrays.get("similarity", np.full(size, np.nan, np.float32)),
        "unchanged": arrays.get("unchanged", np.ones(size, bool)),
        "target_share": tokens.target_share(ids, chance).astype(np.float32),
    }
    return pd.DataFrame(grid | columns)


def _layer_rows(
    now: Snapshot,
    base: Snapshot,
    pruned: np.ndarray,
    chance: np.ndarray,
    names: Sequence[str],
) -> Iterator[dict[str, Any]]:
    """Mean of every measure by layer, for all, pruned and unpruned neurons."""
    shape, ids = pruned.shape, now.arrays["top_ids"]
    by_concept = saliency.columns(now.arrays)
    by_concept["high_share"] = (by_concept["saliency_paper"] > saliency.HIGH).astype(float)
    measures = [
        (concept, name, values[y])
        for y, concept in enumerate(names)
        for name, values in by_concept.items()
    ]
    jaccard = tokens.jaccard(base.arrays["top_ids"], ids).reshape(shape)
    target = now.target
    measures += [
        (target, "token_jaccard", jaccard),
        (target, "target_share", tokens.target_share(ids, chance).reshape(shape)),
    ]
    if "similarity" in now.arrays:
        changed = ~now.arrays["unchanged"]
        similar = np.where(changed, now.arrays["similarity"], np.nan).reshape(shape)
        measures.append((target, "similarity", similar))
    for concept, measure, values in measures:
        summary = saliency.layer_summary(values, pruned)
        for g, group in enumerate(saliency.GROUPS):
            for layer in range(shape[0]):
                yield {
                    "group": now.group, "seed": now.seed, "arm": now.arm, "stage": now.stage,
                    "concept": concept,
                    "layer": layer, "pruned": group, "neurons": int(summary.neurons[g, layer]),
                    "measure": measure, "mean": summary.mean[g, layer],
                    "ci95": summary.ci95[g, layer],
                }  # fmt: skip


def _null_rows(now: Snapshot) -> Iterator[dict[str, Any]]:
    mean, low, high, number = now.arrays["null"]
    for g, group in enumerate(saliency.GROUPS):
        for layer in range(mean.shape[1]):
            yield {
                "group": now.group, "seed": now.seed, "arm": now.arm, "stage": now.stage,
                "layer": layer,
                "pruned": group, "mean": mean[g, layer], "low": low[g, layer],
                "high": high[g, layer], "neurons": int(number[g, layer]),
            }  # fmt: skip


def _taken_over_rows(
    now: Snapshot, base: Snapshot, pruned: np.ndarray, concepts: ConceptData
) -> Iterator[dict[str, Any]]:
    """The target's best neurons at the end, among those in the lower half of the base ranking."""
    target = concepts.names.index(now.target)
    before = ranking.ranks(base.arrays["score"][target]).ravel()
    after = ranking.ranks(now.arrays["score"][target]).ravel()
    size, channels = before.size, pruned.shape[1]
    candidates = np.flatnonzero(before >= size // 2)
    chosen = candidates[np.argsort(after[candidates])][:TAKEN_OVER]
    was = _words(concepts.types, base.arrays["top_ids"][chosen])
    became = _words(concepts.types, now.arrays["top_ids"][chosen])
    for i, neuron in enumerate(chosen):
        yield {
            "group": now.group, "seed": now.seed, "arm": now.arm, "neuron": int(neuron),
            "layer": int(neuron // channels), "channel": int(neuron % channels),
            "pruned": bool(pruned.ravel()[neuron]),
            "rank_base": int(before[neuron]), "rank_final": int(after[neuron]),
            "saliency_base": float(saliency.rank(before[neuron], size)),
            "saliency_final": float(saliency.rank(after[neuron], size)),
            "tokens_base": was[i], "tokens_final": became[i],
            "similarity": float(now.arrays["similarity"][neuron]),
        }  # fmt: skip
