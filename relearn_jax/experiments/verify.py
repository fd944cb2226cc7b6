"""Check that a run can be repeated: compute one stage again, and compare digests."""

from __future__ import annotations

import dataclasses
import re
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from relearn_jax import runs
from relearn_jax.config import Config, Parallel
from relearn_jax.errors import UserError
from relearn_jax.experiments import environment, memory
from relearn_jax.experiments.experiment import Experiment, Setup
from relearn_jax.experiments.registry import experiment_of
from relearn_jax.experiments.watcher import Watcher

ROUNDING = ((r"params/.*(key|qkv)/bias", 1e-3), (r"params/.*", 1e-4), (r".*", 1e-5))
"""Tolerances (absolute and relative) for arrays from other devices, by regex over file and path;
the first match counts. Training amplifies rounding, and only rounding moves a key's bias, which
softmax ignores."""
RECORDED = 1e-4
"""Tolerance (absolute and relative) for the floats in a record from other devices. Scores are made
from counts, and must be equal."""


def verify(run: Path, stage: str | None = None) -> int:
    """Check a run, print the differences, and return 0 if there is none, else 1.

    Texts, weights and the records of stages are compared with the manifest, and the files of stages
    with the SHA-256 in their records. One stage, with the sets that were side by side with it, is
    computed again from the stages before it, in a temporary folder. On the same devices its files
    must be equal to the bit, on others within `ROUNDING`; scores must be equal. The run itself is
    not changed.

    Raises:
      UserError: no finished run, no such stage, or a run whose stages this version would compute
        otherwise.
    """
    config = runs.config_of(run)
    if not (run / "manifest.json").is_file():
        raise UserError(f"{run}: no manifest.json; the run has not finished")
    experiment = experiment_of(config)
    recorded = runs.read_json(run / "manifest.json")
    if recorded.get("code", runs.CODE) != runs.CODE:
        version = recorded["versions"].get("relearn-jax", "unknown")
        raise UserError(
            f"{run} was computed by another version of this program (relearn-jax {version}), whose "
            "stages differ from those of this one; verify it with that version"
        )
    names = sorted(path.parent.name for path in run.glob("stages/*/stage.json"))
    if stage is not None and stage not in names:
        raise UserError(f"{run} has no stage {stage}; it has {', '.join(names)}")

    problems = [*_records(run, names, recorded)]
    problems += [problem for name in names for problem in _damaged(run, name)]
    setup = experiment.setup(config, run.resolve())
    stage = stage or experiment.stages(setup)[0]
    problems += _sources(experiment.sources(setup), recorded)
    for package, version in environment.versions().items():
        if recorded["versions"].get(package) != version:
            print(f"note: {package} {version} here, {recorded['versions'].get(package)} there")
    print(f"doing {stage} again ...", flush=True)
    with tempfile.TemporaryDirectory(prefix="relearn-verify-") as folder:
        again = Path(folder) / "run"
        _mirror(run, again, stage)
        setup, alike = _placed(experiment, config, setup, again, recorded)
        watch = Watcher(lambda done, text: None, lambda line: None, print, lambda: False)
        with memory.reported(experiment.memory_remedy):
            experiment.run(setup, again, watch)
        problems += _compared(run, again, stage, alike)
    print("\n".join(problems) if problems else f"{run}: {len(names)} stages, all as recorded")
    return 1 if problems else 0


def _records(run: Path, names: list[str], recorded: Mapping[str, Any]) -> Iterator[str]:
    """Problems: stages that differ from the manifest."""
    for name, digest in recorded.get("stages", {}).items():
        if name not in names:
            yield f"{name} is in manifest.json, but not in {run / 'stages'}"
        elif runs.digest_of(runs.read_json(runs.record_file(run, name))) != digest:
            yield f"{name}: stage.json is not the one that manifest.json speaks of"


def _damaged(run: Path, name: str) -> list[str]:
    """Problems: files of a stage that changed since they were written."""
    folder = runs.stage_folder(run, name)
    recorded = runs.read_json(folder / "stage.json")["sha256"]
    return [
        f"{name}: {file}.safetensors is not what was written"
        for file, digest in recorded.items()
        if (folder / f"{file}.safetensors").is_file()
        and runs.sha256(folder / f"{file}.safetensors") != digest
    ]


def _sources(current: Mapping[str, str], recorded: Mapping[str, Any]) -> list[str]:
    """Problems: sources that differ from those of the run."""
    expected = recorded.get("sources", {})
    return [
        f"{name} is not that of the run"
        for name, digest in current.items()
        if expected.get(name, digest) != digest
    ]


def _placed(
    experiment: Experiment, config: Config, setup: Setup, out: Path, recorded: Mapping[str, Any]
) -> tuple[Setup, bool]:
    """The setup for the devices of this machine, and whether they are the same as the run's."""
    current, expected = environment.devices(), recorded["devices"]
    try:
        meshes = experiment.meshes(setup, out)
    except UserError:  # a mesh of more devices
        setup = dataclasses.replace(setup, config=dataclasses.replace(config, parallel=Parallel()))
        meshes = experiment.meshes(setup, out)
    alike = current == expected and meshes == recorded.get("mesh", meshes)
    if not alike:
        print(
            f"note: the run had {_device_counts(expected)} and here are {_device_counts(current)}, "
            "or the mesh is another: scores must be equal, other numbers the same within rounding"
        )
    return setup, alike


def _device_counts(devices: Sequence[str]) -> str:
    return ", ".join(f"{number} x {kind}" for kind, number in Counter(devices).items())


def _mirror(run: Path, again: Path, stage: str) -> None:
    """Link all stages of the run except one into `again`, so that the run itself is not changed."""
    (again / "stages").mkdir(parents=True)
    for settings in run.glob("*.json"):
        if settings.name != "manifest.json":
            shutil.copyfile(settings, again / settings.name)
    for folder in (run / "stages").iterdir():
        if folder.name == stage or folder.name.startswith("."):
            continue
        (again / "stages" / folder.name).mkdir()
        for file in folder.iterdir():
            (again / "stages" / folder.name / file.name).symlink_to(file.resolve())


def _compared(run: Path, again: Path, stage: str, alike: bool) -> list[str]:
    """Problems: differences between the stage computed again and the recorded one."""
    before, now = (runs.read_json(o / "stages" / stage / "stage.json") for o in (run, again))
    problems = [
        f"{stage}: {entry} in stage.json differs"
        for entry in before.keys() | now.keys()
        if not (entry.endswith("_s") or entry in ("key", "sha256"))
        and not _same(
            before.get(entry), now.get(entry), 0.0 if alike or entry == "scores" else RECORDED
        )
    ]
    for file, digest in before["sha256"].items():
        verdict = "the same"
        if now["sha256"].get(file) != digest:
            near, verdict = _nearly_equal(run, again, stage, file)
            if alike or not near:
                problems.append(f"{stage}: {file} {verdict}")
        print(f"  {stage} {file}: {verdict}, sha256 {digest[:16]}")
    return problems


def _same(old: Any, new: Any, tolerance: float) -> bool:
    """Whether two plain values are equal, their floats within a tolerance."""
    if isinstance(old, float) and isinstance(new, float):
        return bool(np.isclose(old, new, tolerance, tolerance, equal_nan=True))
    if isinstance(old, dict) and isinstance(new, dict):
        keys = {key for key in old.keys() | new.keys() if not key.endswith("_s")}
        return all(_same(old.get(key), new.get(key), tolerance) for key in keys)
    if isinstance(old, list) and isinstance(new, list):
        pairs = zip(old, new, strict=False)
        return len(old) == len(new) and all(_same(a, b, tolerance) for a, b in pairs)
    return old == new


def _nearly_equal(run: Path, again: Path, stage: str, file: str) -> tuple[bool, str]:
    """Whether arrays differ only by rounding, and by how much."""
    if not all(runs.has_arrays(o, stage, file) for o in (run, again)):
        return True, "differs (its file was dropped to save disk)"
    old, new = (runs.arrays_of(o, stage, file) for o in (run, again))
    if {k: v.shape for k, v in old.items()} != {k: v.shape for k, v in new.items()}:
        return False, "has other arrays"
    near = all(_close(f"{file}/{k}", old[k], new[k]) for k in old)
    gaps = [
        float(np.nanmax(np.abs(old[k].astype(np.float64) - new[k].astype(np.float64)), initial=0))
        for k in old
    ]
    return near, f"differs by up to {max(gaps, default=0.0):.2g}"


def _close(path: str, old: np.ndarray, new: np.ndarray) -> bool:
    tolerance = next(size for rule, size in ROUNDING if re.fullmatch(rule, path))
    return np.allclose(old, new, tolerance, tolerance, equal_nan=True)
