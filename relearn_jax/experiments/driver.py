"""The driver of all experiments: from a config to a finished run directory.

It shows a summary before a run starts, and progress while it lasts; at the end it writes a report.
"""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax

from relearn_jax import hosts, report, runs, stopping
from relearn_jax.config import Config
from relearn_jax.errors import UserError
from relearn_jax.experiments import environment, manifest, memory
from relearn_jax.experiments.experiment import Experiment, Setup
from relearn_jax.experiments.registry import experiment_of
from relearn_jax.experiments.watcher import Watcher
from relearn_jax.parallel import mesh as meshes

Times = Callable[[], dict[str, Any]]


def run(
    config: Config, base: Path, out: Path, dry: bool = False, reuse: bool = False
) -> Path | None:
    """Run a config whose relative paths start at `base`. Returns the run directory; None if dry."""
    experiment = experiment_of(config)
    if jax.process_count() > 1 and not experiment.many_processes:
        raise UserError(
            f"{config.experiment} runs in one process, on all its devices; leave out --distributed"
        )
    began, started = time.perf_counter(), environment.now()
    if dry:
        meshes.simulate(config.parallel)
    else:
        runs.check_run(out, config, reuse)
    setup = experiment.setup(config, base)
    preparing = round(time.perf_counter() - began, 1)
    _show(experiment, config, setup, None if dry else out)
    if dry:
        environment.say("\n".join(experiment.plan(setup)))
        return None
    with contextlib.ExitStack() as held:
        hosts.once(lambda: held.enter_context(runs.locked(out)), "run locked")
        hosts.once(lambda: runs.open_run(out, config), "run opened")
        if finished := len(list(out.glob("stages/*/stage.json"))):
            environment.say(f"  continues    {finished} finished stages, where they still hold")
        environment.say(f"  run          {out}\n")
        times = _times(out, began, started, preparing)
        try:
            with stopping.on_termination() as stop, memory.reported(experiment.memory_remedy):
                _compute(experiment, setup, out, stop)
        except (KeyboardInterrupt, UserError):
            # SIGTERM writes no report: the time until SIGKILL is for the checkpoint.
            if hosts.is_writer() and experiment.reportable(setup, out):
                _leave(experiment, config, setup, out, times)
            raise
        hosts.once(lambda: _finish(experiment, config, setup, out, times), "report")
    return out


def _show(experiment: Experiment, config: Config, setup: Setup, out: Path | None) -> None:
    """Print the summary of a run before it starts."""
    lines = [f"{config.name}: {config.description}".rstrip(": ")]
    lines += experiment.summary(setup, out)
    if config.expected_minutes:
        lines.append(
            f"  expected     about {config.expected_minutes:g} minutes on two CPU cores, with the "
            "settings of the file"
        )
    environment.say("\n".join(lines))


def _times(out: Path, began: float, started: str, preparing: float) -> Times:
    """A function that gives a manifest's times, added to those of earlier sessions on the run."""
    path = out / "manifest.json"
    earlier = runs.read_json(path) if path.is_file() else {}
    compiling = environment.listen()

    def times() -> dict[str, Any]:
        total = earlier.get("total_s", 0.0) + time.perf_counter() - began
        return {
            "started": earlier.get("started", started),
            "finished": environment.now(),
            "total_s": round(total, 1),
            "compile_s": round(earlier.get("compile_s", 0.0) + sum(compiling), 1),
            "prepare_s": round(earlier.get("prepare_s", 0.0) + preparing, 1),
        }

    return times


def _compute(experiment: Experiment, setup: Setup, out: Path, stop: Callable[[], bool]) -> None:
    log = out / "metrics.jsonl"
    with environment.progress(experiment.steps(setup)) as tick:

        def write(line: dict[str, Any]) -> None:
            if hosts.is_writer():
                runs.append_line(log, {"at": environment.now(), **line})

        experiment.run(setup, out, Watcher(tick, write, environment.say, stop))


def _leave(experiment: Experiment, config: Config, setup: Setup, out: Path, times: Times) -> None:
    """Write tables, manifest and report of the finished stages, after an interruption.

    An error on the way (a full disk) is printed and not raised, so that the user reads what ended
    the run.
    """
    try:
        with runs.disk(out):
            experiment.tables(setup, out)
            record = manifest.build(experiment, config, setup, out, times())
            runs.write_json(out / "manifest.json", record)
            report.build(out)
    except (OSError, UserError, jax.errors.JaxRuntimeError) as error:
        environment.say(f"\nno report of the finished stages: {error}")


def _finish(experiment: Experiment, config: Config, setup: Setup, out: Path, times: Times) -> None:
    """Write tables, manifest and report from the stages; remove the checkpoints."""
    with runs.disk(out):
        shutil.rmtree(out / "checkpoints", ignore_errors=True)
        clock = time.perf_counter()
        experiment.tables(setup, out)
        tables_s = round(time.perf_counter() - clock, 1)
        record = manifest.build(experiment, config, setup, out, times() | {"tables_s": tables_s})
        runs.write_json(out / "manifest.json", record)
        clock = time.perf_counter()
        page = report.build(out)
        record["report_s"] = round(time.perf_counter() - clock, 1)
        runs.write_json(out / "manifest.json", record)
    print(f"\n{experiment.headline(setup, out)}. Report: {page}", flush=True)
