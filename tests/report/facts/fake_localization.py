"""A made-up run of localization with the layout of a real one, for the report's tests."""

from __future__ import annotations

import json
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import yaml

BOTH = ("noising", "denoising")
METHODS = ("patching", "tracing", "attribution", "attribution_path", "paths", "probes")
STREAM = ("attention", "mlp_out")
PARTS = ("attention", "mlp")


class Shape(NamedTuple):
    """Sizes of the run; `planted` is empty for a model whose lookup layers nobody knows."""

    seeds: tuple[int, ...] = (0,)
    done: tuple[int, ...] | None = None
    layers: int = 4
    heads: int = 2
    tokens: int = 6
    planted: tuple[int, ...] = (1,)
    methods: tuple[str, ...] = METHODS
    gates: bool = True
    name: str = "fake"


SHAPE = Shape()


def write_run(folder: Path, shape: Shape = SHAPE) -> Path:
    """Write a run directory with tables of `shape.done` (None: all) seeds."""
    (folder / "tables").mkdir(parents=True)
    done = shape.seeds if shape.done is None else shape.done
    makers = {
        "gates": _gates, "maps": _maps, "scores": _scores, "selections": _selections,
        "truth": _truth, "agreement": _agreement, "probes": _probes, "heads": _heads,
    }  # fmt: skip
    for name, maker in makers.items():
        rows = [
            {"seed": seed} | row
            for seed in done
            for row in maker(shape, np.random.default_rng((seed, len(name))))
        ]
        pd.DataFrame(rows).to_parquet(folder / "tables" / f"{name}.parquet", index=False)
    _head(folder, shape)
    return folder


def _head(folder: Path, shape: Shape) -> None:
    done = shape.seeds if shape.done is None else shape.done
    manifest = {
        "format": 2,
        "experiment": "localization",
        "accuracy": {str(seed): 0.75 for seed in done},
        "name": shape.name,
        "description": "Made up, to test the report.",
        "seeds": list(shape.seeds),
        "methods": list(shape.methods),
        "model": {
            "source": "random" if shape.gates else "owner/model", "family": "llama",
            "layers": shape.layers, "width": 8, "heads": shape.heads, "parameters": 233920,
            "sha256": "cd" * 32,
        },
        "facts": {
            str(s): {"source": "made-up facts", "sha256": "ab" * 32, "facts": 180}
            for s in shape.seeds
        },
        "pairs": 48,
        "tokens": shape.tokens,
        "corrupt": "swapped",
        "planted": list(shape.planted),
        "versions": {"jax": "0.10.2"},
        "started": "2025-01-01T10:00:00",
        "finished": "2025-01-01T10:04:00",
        "total_s": 240.0,
        "wall_s": {"seed0-model": 70.0, "seed0-effects": 20.0, "seed0-choice": 1.0},
    }  # fmt: skip
    config = {
        "experiment": "localization",
        "name": shape.name,
        "seeds": list(shape.seeds),
        "localize": {
            "format": "standard", "corrupt": "swapped", "draws": 10, "noise": 3.0, "path_steps": 8,
            "heads": 4, "window": 0.95, "budget": None,
        },
    }  # fmt: skip
    (folder / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    (folder / "config.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")


def scored(shape: Shape) -> list[str]:
    """Methods with scores of feed-forward layers."""
    return [n for m in shape.methods for n in (BOTH if m == "patching" else (m,))]


def _gates(shape: Shape, rng):
    if shape.gates:
        for name, limit, least in (
            ("standard, natural facts", 0.99, True),
            ("text: nats above the entropy", 0.05, False),
        ):
            value = limit + 0.01 * rng.random() * (1 if least else -1)
            yield {"at_least": least, "limit": limit, "name": name, "value": value, "passed": True}


def _scores(shape: Shape, rng):
    names = scored(shape)
    for method in names:
        for part in PARTS if method != "paths" else ("mlp",):
            for layer in range(shape.layers):
                score = 0.1 * rng.normal() + (0.6 if part == "mlp" and layer == 1 else 0.0)
                if method == "attribution":
                    score *= 0.1
                width = np.nan if method == "probes" else 0.05
                yield {
                    "method": method, "part": part, "layer": layer, "score": score,
                    "low": score - width, "high": score + width,
                    "null": 0.1 * score, "null_low": 0.1 * score - width,
                    "null_high": 0.1 * score + width,
                }  # fmt: skip


def _roles(tokens: int) -> list[str]:
    some = ["before", "subject", "subject end"]
    return [*some, *["between"] * (tokens - len(some) - 1), "last"]


def _maps(shape: Shape, rng):
    wanted = [
        (m, p)
        for m in (*BOTH, "attribution", "attribution_path")
        if ("patching" if m in BOTH else m) in shape.methods
        for p in ("states", *STREAM)
    ]
    wanted += [("tracing", "states")] if "tracing" in shape.methods else []
    wanted += [("interchange", "states")] if "patching" in shape.methods else []
    for method, place in wanted:
        for layer in range(shape.layers + (method == "interchange")):
            for position, role in enumerate(_roles(shape.tokens)):
                share = rng.random() * np.exp(-((position - 2) ** 2) / 8)
                share -= 0.0 if method == "interchange" else 0.2
                yield {
                    "method": method, "place": place, "layer": layer, "position": position,
                    "role": role, "share": float(share), "null": 0.1 * float(share),
                }  # fmt: skip


def _heads(shape: Shape, rng):
    for method in ("noising", "attribution", "attribution_path", "paths"):
        if method in scored(shape):
            for layer in range(shape.layers):
                for head in range(shape.heads):
                    share = 0.3 * rng.normal()
                    yield {
                        "method": method, "layer": layer, "head": head, "share": share,
                        "null": 0.1 * share,
                    }  # fmt: skip


def _probes(shape: Shape, rng):
    if "probes" not in shape.methods:
        return
    for position in ("subject", "last"):
        for kind in ("states", "middle", "shuffled", "middle_shuffled"):
            for row in range(shape.layers + ("middle" not in kind)):
                level = 0.3 if "shuffled" in kind or row < 2 else 0.8
                yield {
                    "position": position, "kind": kind, "row": row, "facts": 60.0,
                    "accuracy": level + 0.1 * rng.random(), "chance": 0.34,
                }  # fmt: skip


def _selections(shape: Shape, rng):
    attention, mlp = 16384, 36864
    names = [n for m in scored(shape) for n in ((m,) if m == "probes" else (m, f"{m}_mlps"))]
    for method in (*names, "random", "random_mlps", "all_mlps", "nonlocalized"):
        every = {"all_mlps": (0, 1), "nonlocalized": (1, 1)}.get(method)
        chosen = {
            "attention": rng.random(shape.layers) < (0.2 if "mlps" not in method else 0.0),
            "mlp": rng.random(shape.layers) < 0.4,
        }
        for part, all_of in zip(PARTS, every or (), strict=bool(every)):
            chosen[part][:] = bool(all_of)
        if method == "probes":
            chosen = {p: (np.arange(shape.layers) == 1) & (p == "mlp") for p in PARTS}
        count = int(chosen["attention"].sum()) * attention + int(chosen["mlp"].sum()) * mlp
        for part, size in (("attention", attention), ("mlp", mlp)):
            for layer, value in enumerate(chosen[part]):
                yield {
                    "method": method, "part": part, "layer": layer, "chosen": bool(value),
                    "share": float(value), "parameters": size if value else 0,
                    "parameters_of_method": count,
                    "overlap": 0.5 if "probes" in shape.methods else np.nan,
                }  # fmt: skip


def _agreement(shape: Shape, rng):
    for a, b in combinations(scored(shape), 2):
        yield {
            "method_a": a, "method_b": b, "spearman": 2 * rng.random() - 1, "jaccard": rng.random(),
        }  # fmt: skip


def _truth(shape: Shape, rng):
    for method in (*scored(shape), "random_mlps") if shape.planted else ():
        hit = method not in ("attribution", "random_mlps") and rng.random() < 0.8
        yield {
            "method": method, "precision": float(hit), "recall": float(hit),
            "roc_area": 1.0 if hit else 0.6 * rng.random(), "planted": list(shape.planted),
            "chosen": list(shape.planted) if hit else [0],
        }  # fmt: skip
