"""From a config to a finished run directory: settings shown, progress drawn, report written."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.monitoring

from relearn_jax import hosts, loading, runs, stopping
from relearn_jax.errors import UserError
from relearn_jax.experiments import environment, manifest, memory
from relearn_jax.experiments.concepts import chunks, relearning, sets, setup, snapshots, tables
from relearn_jax.experiments.concepts.rounds import Watcher
from relearn_jax.experiments.concepts.setup import Prepared
from relearn_jax.parallel import mesh as meshes


def run(
    config: Config, base: Path, out: Path | None, dry: bool = False, reuse: bool = False
) -> Path | None:
    """Run a config whose relative paths start at `base`; the run directory, or None if dry."""
    began, started = time.perf_counter(), environment.now()
    out = out or Path(config.out or f"runs/{config.name}")
    if dry:
        meshes.simulate(config.parallel)
    else:
        runs.check_run(out, config, reuse)
    prepared = setup.prepare(config, base)
    grids = chunks.grids(prepared, chunks.size(prepared, None if dry else out))
    preparing = round(time.perf_counter() - began, 1)
    environment.say(setup.summary(prepared))
    if idle := chunks.idle(grids):
        environment.say(idle)
    if dry:
        environment.say(memory.summary(prepared))
        return None
    hosts.once(lambda: runs.open_run(out, config), "run opened")
    environment.say(chunks.summary(prepared, out))
    environment.say(f"  run          {out}\n")

    compiling, before = environment.listen(), _before(out)

    def facts() -> dict[str, Any]:
        return {
            "started": before.get("started", started),
            "finished": environment.now(),
            "total_s": round(before.get("total_s", 0.0) + time.perf_counter() - began, 1),
            "compile_s": round(before.get("compile_s", 0.0) + sum(compiling), 1),
            "prepare_s": preparing,
            "versions": environment.versions(),
            "devices": environment.devices(),
        }

    try:
        with stopping.on_termination() as stop, memory.reported():
            _work(prepared, out, stop)
    except (KeyboardInterrupt, UserError):
        # SIGTERM is not among them: the time until SIGKILL is for the checkpoint.
        if hosts.is_writer() and snapshots.begun(prepared, out):
            _leave(prepared, out, facts())
        raise
    hosts.once(lambda: finish(prepared, out, facts()), "report")
    return out


def _leave(prepared: Prepared, out: Path, facts: dict[str, Any]) -> None:
    """Tables and manifest of the stages that are there, so that `relearn report` makes a page.

    What keeps it from that (a full disk) is said and not raised: the user is to read what ended the
    run.
    """
    try:
        with runs.disk(out):
            tables.write(prepared, out)
            runs.write_json(out / "manifest.json", manifest.build(prepared, out, facts))
    except (OSError, UserError, jax.errors.JaxRuntimeError) as error:
        environment.say(f"\nno tables of the finished stages: {error}")


def _before(out: Path) -> dict[str, Any]:
    """The manifest of earlier sessions on the same run, whose times count too."""
    path = out / "manifest.json"
    return runs.read_json(path) if path.is_file() else {}


def finish(prepared: Prepared, out: Path, facts: dict[str, Any]) -> None:
    """Tables, manifest and report, from the stages; checkpoints are of no more use."""
    from relearn_jax import report

    with runs.disk(out):
        shutil.rmtree(out / "checkpoints", ignore_errors=True)
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
    parts = []
    for group in sets.groups(prepared.config):
        rows = scores[(scores.variant == "word") & (scores["group"] == sets.group_name(group))]
        kind = group.target if (rows.type == group.target).any() else "all"
        rows = rows[(rows.type == kind) & rows.arm.isin(["base", "concept"])]
        mean = rows.groupby("stage").f1.mean()
        f1 = ", ".join(f"{s} {mean[s]:.3f}" for s in snapshots.stages(prepared) if s in mean)
        parts.append(f"{kind} F1: {f1}")
    return f"{'; '.join(parts)} ({_seeds(scores.seed.nunique())})"


def _seeds(number: int) -> str:
    return "one seed" if number == 1 else f"mean of {number} seeds"


def _work(prepared: Prepared, out: Path, stop: Callable[[], bool]) -> None:
    log = out / "metrics.jsonl"
    with environment.progress(_total(prepared)) as tick:

        def write(line: dict[str, Any]) -> None:
            if hosts.is_writer():
                runs.append_line(log, {"at": environment.now(), **line})

        relearning.run(prepared, out, Watcher(tick, write, environment.say, stop))


def _total(prepared: Prepared) -> int:
    config = prepared.config
    again = loading.retraining(config)
    base = setup.steps(prepared.train, config.training, config) * config.training.epochs
    arms = sum(
        setup.steps(prepared.retrain[one.group.target], again, config) * again.epochs
        for one in sets.product(config)
    )
    return len(config.seeds) * base + config.retrain.rounds * arms
