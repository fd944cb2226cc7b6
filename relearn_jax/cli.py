"""The command line: it parses options and calls the commands."""

from __future__ import annotations

import argparse
import ctypes
import dataclasses
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from relearn_jax.errors import Stopped, UserError

if TYPE_CHECKING:
    from relearn_jax.config import Config


TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3
"""Numbers of `mallopt`'s settings, in glibc's malloc.h."""


def parser() -> argparse.ArgumentParser:
    """The commands and their options."""
    top = argparse.ArgumentParser(
        prog="relearn",
        description="Remove a concept from a language model and find out whether it is gone, or "
        "where it looks up a fact.",
    )
    commands = top.add_subparsers(dest="command", required=True)

    run = commands.add_parser("run", help="run a config, or continue its run")
    dose = commands.add_parser(
        "dose", help="only prune, with other shares of neurons too, and do not retrain"
    )
    for command, default in ((run, "runs/NAME"), (dose, "runs/NAME-dose")):
        command.add_argument("config", type=local_path)
        command.add_argument("--out", type=local_path, help=f"run directory (default: {default})")
        command.add_argument(
            "--dry-run", action="store_true", help="say what would be done, and stop"
        )
        command.add_argument(
            "--reuse",
            action="store_true",
            help="continue a run directory of another config with the stages that still hold",
        )
        command.add_argument(
            "--distributed",
            action="store_true",
            help="join the other processes of a TPU slice, a Slurm job or a Kubernetes job",
        )
        command.epilog = "Any other --a.b=c sets one value of the config."

    report = commands.add_parser("report", help="make the report of a run again")
    report.add_argument("run", type=local_path)

    export = commands.add_parser("export", help="write a stage as a Hugging Face folder")
    export.add_argument("run", type=local_path)
    export.add_argument(
        "--stage", required=True, help="base, pruned, round1 or, of a localization, model"
    )
    export.add_argument("--to", type=local_path, required=True)
    export.add_argument("--seed", type=int, help="default: the first")
    export.add_argument("--arm", help="an arm of a relearning run (default: concept)")
    export.add_argument("--group", help="such as LOC-0.5-free, where a relearning run has several")

    verify = commands.add_parser("verify", help="do a stage of a run again and compare its digests")
    verify.add_argument("run", type=local_path)
    verify.add_argument(
        "--stage", help="a folder of RUN/stages (default: the first, a whole training)"
    )

    commands.add_parser("doctor", help="devices, versions, and what is missing")
    return top


def local_path(text: str) -> Path:
    """A path of this machine; `~` is the home folder.

    Raises:
      UserError: it is the address of a bucket, or there is no such home folder.
    """
    if "://" in text:
        raise UserError(
            f"{text} is an address; runs are read and written in folders. Mount the bucket, by "
            "gcsfuse or mount-s3, and give the folder that it is mounted on."
        )
    try:
        return Path(text).expanduser()
    except RuntimeError as error:
        raise UserError(f"{text}: the home folder is not known; give the whole path") from error


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command. Returns 0 on success, 2 for a UserError, 143 or 130 for a stopped run."""
    try:
        options, rest = parser().parse_known_args(arguments)
        if rest and (
            options.command not in ("run", "dose") or not all(r.startswith("--") for r in rest)
        ):
            raise UserError(f"not understood: {' '.join(rest)}; settings are --a.b=c, in one word")
        # transformers is used for tokenizers alone and would advise to install torch.
        os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")
        return _call(options, [r.removeprefix("--") for r in rest])
    except UserError as error:
        print(f"relearn: {error}", file=sys.stderr)
        return 2
    except Stopped as stop:
        print(f"\nrelearn: {stop}; the same command continues the run", file=sys.stderr)
        return 143
    except KeyboardInterrupt:
        print("\nrelearn: stopped; the same command continues the run", file=sys.stderr)
        return 130


def _call(options: argparse.Namespace, overrides: list[str]) -> int:
    match options.command:
        case "run" | "dose":
            if options.distributed:
                from relearn_jax import hosts

                hosts.initialize()
            _run(options, overrides)
        case "report":
            from relearn_jax import report

            print(report.build(options.run))
        case "export":
            from relearn_jax.experiments import export
            from relearn_jax.experiments.experiment import StageName

            name = StageName(options.stage, options.seed, options.arm, options.group)
            print(export.export(options.run, name, options.to))
        case "verify":
            from relearn_jax.experiments import verify

            _keep_programs()
            _keep_memory()
            return verify.verify(options.run, options.stage)
        case "doctor":
            from relearn_jax import doctor

            return doctor.report()
    return 0


def _run(options: argparse.Namespace, overrides: list[str]) -> None:
    from relearn_jax import loading
    from relearn_jax.experiments import driver

    _keep_programs()
    _keep_memory()
    config, alone = loading.load(options.config, overrides), options.command == "dose"
    if alone:
        config = _without_retraining(config)
    named = (config.out or f"runs/{config.name}") + ("-dose" if alone else "")
    out = options.out or local_path(named)
    driver.run(config, options.config.resolve().parent, out, options.dry_run, options.reuse)


def _without_retraining(config: Config) -> Config:
    """The config of `relearn dose`."""
    if config.experiment != "relearning":
        raise UserError(
            f"relearn dose prunes the neurons of a concept; {config.name} is a {config.experiment}"
        )
    retrain = dataclasses.replace(config.retrain, rounds=0)
    return dataclasses.replace(config, retrain=retrain, expected_minutes=None)


def _keep_programs() -> None:
    """Keep compiled programs in the user's cache folder, unless the environment names another.

    Programs of several CPU devices are not kept: XLA's CPU loader loses the order of their
    collectives, so that the devices may wait for each other forever.
    """
    import jax

    if "JAX_COMPILATION_CACHE_DIR" in os.environ:
        return
    try:
        several = jax.default_backend() == "cpu" and jax.local_device_count() > 1
    except (RuntimeError, AssertionError) as error:
        from relearn_jax import doctor

        backend, lines = doctor.devices()
        named = os.environ.get("JAX_PLATFORMS", "")
        advice = (*lines, *doctor.hints(backend, doctor.plugins(), named))
        raise UserError("; ".join(advice)) from error
    home = _cache_folder()
    if several or home is None:
        return
    jax.config.update("jax_compilation_cache_dir", str(home / "relearn_jax"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)


def _cache_folder() -> Path | None:
    """The user's cache folder; None for a user without a home folder."""
    if named := os.environ.get("XDG_CACHE_HOME"):
        return Path(named)
    try:
        return Path.home() / ".cache"
    except RuntimeError:
        return None


def _keep_memory() -> None:
    """Let the C library keep freed memory for the next array.

    glibc returns every large array to the kernel, which clears its pages each time they come back:
    a sixth of the time of small models on a CPU. Other C libraries have no such settings.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(MMAP_THRESHOLD, 2**25)
        mallopt(TRIM_THRESHOLD, 2**30)
