"""From a config to a finished run directory: settings shown, progress drawn, report written."""

from __future__ import annotations

import datetime
import importlib.metadata
import platform
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.monitoring
from tqdm import tqdm

from relearn_jax import loading, runs
from relearn_jax.errors import UserError
from relearn_jax.experiments import manifest, memory, preparation, relearning, tables
from relearn_jax.experiments.preparation import Prepared
from relearn_jax.experiments.relearning import Watcher

PACKAGES = ("relearn-jax", "jax", "jaxlib", "flax", "optax", "numpy", "transformers", "datasets")
COMPILE_EVENTS = ("/jax/core/compile/",)


def run(
    path: Path, overrides: Sequence[str], out: Path | None, dry: bool = False, reuse: bool = False
) -> Path | None:
    """Run a config; returns the run directory, or None for a dry run."""
    began, started = time.perf_counter(), _now()
    config = loading.load(path, overrides)
    out = out or Path(config.out or f"runs/{config.name}")
    if not dry:
        runs.check_run(out, config, reuse)
    prepared = preparation.prepare(config, path.resolve().parent)
    preparing = round(time.perf_counter() - began, 1)
    print(preparation.summary(prepared), file=sys.stderr)
    if dry:
        print(memory.summary(prepared), file=sys.stderr)
        return None
    runs.open_run(out, config)
    print(f"  run          {out}\n", file=sys.stderr, flush=True)

    compiling, before = _listen(), _before(out)

    def facts() -> dict[str, Any]:
        return {
            "started": before.get("started", started),
            "finished": _now(),
            "total_s": round(before.get("total_s", 0.0) + time.perf_counter() - began, 1),
            "compile_s": round(before.get("compile_s", 0.0) + sum(compiling), 1),
            "prepare_s": preparing,
            "versions": versions(),
            "devices": [f"{d.platform}: {d.device_kind}" for d in jax.devices()],
        }

    try:
        _work(prepared, out)
    except (KeyboardInterrupt, UserError):
        # What is there can be looked at: `relearn report` makes a page of the finished stages.
        if tables.begun(prepared, out):
            tables.write(prepared, out)
            runs.write_json(out / "manifest.json", manifest.build(prepared, out, facts()))
        raise
    finish(prepared, out, facts())
    return out


def _before(out: Path) -> dict[str, Any]:
    """The manifest of earlier sessions on the same run, whose times count too."""
    path = out / "manifest.json"
    return runs.read_json(path) if path.is_file() else {}


def finish(prepared: Prepared, out: Path, facts: dict[str, Any]) -> None:
    """Tables, manifest and report, from the stages."""
    from relearn_jax import report

    with runs.disk(out):
        clock = time.perf_counter()
        tables.write(prepared, out)
        facts = facts | {"tables_s": round(time.perf_counter() - clock, 1)}
        record = manifest.build(prepared, out, facts)
        runs.write_json(out / "manifest.json", record)
        clock = time.perf_counter()
        page = report.build(out)
        record["report_s"] = round(time.perf_counter() - clock, 1)
        runs.write_json(out / "manifest.json", record)
    print(f"\n{headline(out, prepared)}. Report: {page}", flush=True)


def headline(out: Path, prepared: Prepared) -> str:
    """One line: what came out."""
    import pandas as pd

    scores = pd.read_parquet(out / "tables" / "scores.parquet")
    target = prepared.config.concepts.target
    rows = scores[(scores.variant == "word") & (scores.type == target)]
    if rows.empty:
        rows = scores[(scores.variant == "word") & (scores.type == "all")]
    mean = rows[rows.arm.isin(["base", "concept"])].groupby("stage").f1.mean()
    parts = [f"{s} {mean[s]:.3f}" for s in tables.stages(prepared) if s in mean]
    return f"{rows.type.iloc[0]} F1: {', '.join(parts)} ({_seeds(rows.seed.nunique())})"


def _seeds(number: int) -> str:
    return "one seed" if number == 1 else f"mean of {number} seeds"


def _work(prepared: Prepared, out: Path) -> None:
    log = out / "metrics.jsonl"
    with tqdm(
        total=_total(prepared), unit="step", dynamic_ncols=True, smoothing=0.05,
        mininterval=0.5 if sys.stderr.isatty() else 20,
    ) as bar:  # fmt: skip

        def tick(done: int, text: str) -> None:
            bar.set_description(text, refresh=False)
            bar.update(done)

        watch = Watcher(tick, lambda line: runs.append_line(log, {"at": _now(), **line}))
        relearning.run(prepared, out, watch)


def _total(prepared: Prepared) -> int:
    config = prepared.config
    again = loading.retraining(config)
    base = preparation.steps(prepared.train, config.training.batch_size) * config.training.epochs
    arm = preparation.steps(prepared.retrain, again.batch_size) * again.epochs
    return len(config.seeds) * (base + len(config.arms) * config.retrain.rounds * arm)


def _listen() -> list[float]:
    """Seconds that JAX spends tracing and compiling from now on."""
    seconds: list[float] = []

    def heard(event: str, duration: float, **_: Any) -> None:
        if event.startswith(COMPILE_EVENTS):
            seconds.append(duration)

    jax.monitoring.register_event_duration_secs_listener(heard)
    return seconds


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that decide the numbers."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
