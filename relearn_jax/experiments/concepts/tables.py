"""Finished stages to tidy tables: one row per observation, nothing that is not in the stages."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from relearn_jax import runs
from relearn_jax.experiments.concepts import set_tables, sets, snapshots
from relearn_jax.experiments.concepts.setup import Prepared
from relearn_jax.experiments.concepts.snapshots import Snapshot
from relearn_jax.neurons import ranking, saliency, tokens

SMALLEST_LOSS = 0.02
"""Below this loss of F1 a recovered fraction would be noise."""
TAKEN_OVER = 30


def write(prepared: Prepared, out: Path) -> None:
    """Write the tables of the stages that are there under `tables/`; those without rows are not."""
    folder = out / "tables"
    folder.mkdir(exist_ok=True)
    scores = score_table(prepared, out)
    small: dict[str, list | pd.DataFrame] = {"scores": scores, "recovery": recovery_table(scores)}
    small |= {"layers": [], "similarity_null": [], "taken_over": [], "takeover": []}
    if len(sets.groups(prepared.config)) > 1:
        small["overlap"] = set_tables.overlap_rows(prepared, out)
    writers: dict[str, pq.ParquetWriter] = {}
    with_label = tokens.types_with_labels(
        np.concatenate(prepared.concepts.kind),
        np.concatenate(prepared.concepts.member),
        len(prepared.concepts.types),
    )
    try:
        for now, base, pruned, first, last in snapshots.places(prepared, out):
            chance = with_label[:, prepared.concepts.names.index(now.target)]
            small["layers"] += _layer_rows(prepared, now, base, pruned, chance)
            if now.stage == "base":
                if not first:
                    continue
                now, pruned = now._replace(arm="base"), np.zeros_like(pruned)
            else:
                small["similarity_null"] += _null_rows(now)
            _append(writers, folder / "concepts.parquet", _concept_rows(prepared, now, pruned))
            _append(
                writers, folder / "neurons.parquet", _neuron_rows(prepared, now, pruned, chance)
            )
            if last:
                small["taken_over"] += _taken_over_rows(prepared, now, base, pruned)
                small["takeover"] += set_tables.takeover_rows(prepared, now, base, pruned)
    finally:
        for writer in writers.values():
            writer.close()
    for name, rows in small.items():
        if len(rows):
            pd.DataFrame(rows).to_parquet(folder / f"{name}.parquet", index=False)


def _append(writers: dict[str, pq.ParquetWriter], path: Path, rows: pd.DataFrame) -> None:
    table = pa.Table.from_pandas(rows, preserve_index=False)
    if path.name not in writers:
        writers[path.name] = pq.ParquetWriter(path, table.schema)
    writers[path.name].write_table(table)


def score_table(prepared: Prepared, out: Path) -> pd.DataFrame:
    """Entity scores of every evaluation; those inside a round have no stage name."""
    return pd.DataFrame(list(_score_rows(prepared, out)))


def _score_rows(prepared: Prepared, out: Path) -> Iterator[dict[str, Any]]:
    names, arms = snapshots.stages(prepared), prepared.config.arms
    for one in sets.product(prepared.config):
        for number, stage in enumerate(names):
            path = runs.stage_folder(out, sets.stage_name(one, stage)) / "stage.json"
            # The base model stands in every group once, with the first of its arms.
            if not path.is_file() or (stage == "base" and one.arm != arms[0]):
                continue
            arm, number = ("base", 0) if stage == "base" else (one.arm, number - 1)
            record = runs.read_json(path)
            for entry in record["scores"]:
                last = entry is record["scores"][-1]
                place = {
                    "group": sets.group_name(one.group), "seed": one.seed, "arm": arm,
                    "stage": stage if last else "", "round": number, "epoch": entry["epoch"],
                }  # fmt: skip
                for row in entry["records"]:
                    yield place | row


def recovery_table(scores: pd.DataFrame) -> pd.DataFrame:
    """Fraction of the lost F1 that each round regained, and the first epoch with 90 % of it."""
    rows = []
    base = scores[(scores.arm == "base") & (scores.stage == "base")]
    base = base.set_index(["group", "seed", "variant", "type"]).f1
    keys = ["group", "seed", "arm", "type", "variant"]
    retrained = scores[scores.arm != "base"]
    for (group, seed, arm, kind, variant), part in retrained.groupby(keys, sort=False):
        start = part[part.stage == "pruned"].f1.item()
        lost = base[(group, seed, variant, kind)] - start
        part = part.sort_values("epoch")
        enough = part[(part["round"] > 0) & (part.f1 >= start + 0.9 * lost)]
        first = enough.epoch.min() if lost >= SMALLEST_LOSS and len(enough) else None
        for _, row in part[part.stage.str.startswith("round")].iterrows():
            share = (row.f1 - start) / lost if lost >= SMALLEST_LOSS else None
            rows.append(
                {
                    "group": group, "seed": seed, "arm": arm, "type": kind, "variant": variant,
                    "round": row["round"], "lost": lost, "recovery": share, "epochs_to_90": first,
                }
            )  # fmt: skip
    table = pd.DataFrame(rows)
    return table.astype({"recovery": "float64", "epochs_to_90": "Float64"}) if rows else table


def _saliencies(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Three saliencies [Y, S, D], from the scores of a stage."""
    ranks = ranking.ranks(arrays["score"])
    size = ranks[0].size
    return {
        "saliency_paper": saliency.paper(ranks, size),
        "saliency_rank": saliency.rank(ranks, size),
        "saliency_standardized": arrays["standardized"],
    }


def _grid(prepared: Prepared, now: Snapshot, pruned: np.ndarray) -> dict[str, Any]:
    rows, channels = prepared.shape
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


def _concept_rows(prepared: Prepared, now: Snapshot, pruned: np.ndarray) -> pd.DataFrame:
    ranks = ranking.ranks(now.arrays["score"])
    values = _saliencies(now.arrays)
    grid = _grid(prepared, now, pruned)
    frames = []
    for y, concept in enumerate(prepared.concepts.names[:-1]):
        columns = {
            "concept": np.full(grid["neuron"].size, concept),
            "score": now.arrays["score"][y].ravel(),
            "rank": ranks[y].ravel().astype(np.int32),
        }
        columns |= {name: v[y].ravel().astype(np.float32) for name, v in values.items()}
        frames.append(pd.DataFrame(grid | columns))
    return pd.concat(frames, ignore_index=True)


def _words(prepared: Prepared, ids: np.ndarray) -> list[list[str]]:
    types = prepared.concepts.types
    return [[types[i] for i in row if i >= 0] for row in ids]


def _neuron_rows(
    prepared: Prepared, now: Snapshot, pruned: np.ndarray, chance: np.ndarray
) -> pd.DataFrame:
    arrays, grid = now.arrays, _grid(prepared, now, pruned)
    ids, size = arrays["top_ids"], len(arrays["top_ids"])
    found = [row[i >= 0] for row, i in zip(arrays["top_scores"], ids, strict=True)]
    columns = {
        "null": tokens.is_null(ids, prepared.concepts.types),
        "top_tokens": _words(prepared, ids),
        "top_scores": found,
        "similarity": arrays.get("similarity", np.full(size, np.nan, np.float32)),
        "unchanged": arrays.get("unchanged", np.ones(size, bool)),
        "target_share": tokens.target_share(ids, chance).astype(np.float32),
    }
    return pd.DataFrame(grid | columns)


def _layer_rows(
    prepared: Prepared, now: Snapshot, base: Snapshot, pruned: np.ndarray, chance: np.ndarray
) -> Iterator[dict[str, Any]]:
    """Means by layer of every measure, for all, pruned and unpruned neurons."""
    shape, ids = prepared.shape, now.arrays["top_ids"]
    by_concept = _saliencies(now.arrays)
    by_concept["high_share"] = (by_concept["saliency_paper"] > saliency.HIGH).astype(float)
    measures = [
        (concept, name, values[y])
        for y, concept in enumerate(prepared.concepts.names[:-1])
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
    prepared: Prepared, now: Snapshot, base: Snapshot, pruned: np.ndarray
) -> Iterator[dict[str, Any]]:
    """The target's highest neurons at the end of those that were in the lower half before."""
    target = prepared.concepts.names.index(now.target)
    before = ranking.ranks(base.arrays["score"][target]).ravel()
    after = ranking.ranks(now.arrays["score"][target]).ravel()
    size, channels = before.size, prepared.shape[1]
    candidates = np.flatnonzero(before >= size // 2)
    chosen = candidates[np.argsort(after[candidates])][:TAKEN_OVER]
    was = _words(prepared, base.arrays["top_ids"][chosen])
    became = _words(prepared, now.arrays["top_ids"][chosen])
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
