"""Is the manifest enough to repeat a run? A stage is done again beside it, and digests compared."""

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
"""What other devices may change in an array, absolutely or relatively, by file and path; the first
that fits. Training amplifies rounding, and nothing else moves a key's bias: softmax ignores it."""


def verify(run: Path, stage: str | None = None) -> int:
    """Print what a run says of itself and what is found; 0 if all is the same, else 1.

    Checked are texts, weights and the records of the stages against the manifest, the files of the
    stages against the SHA-256 in their records, and one stage (with the sets that were side by side
    with it) by doing it again from the stages before it, in a folder of its own. On the devices of
    the run its files must be the same to the bit, on others the same within `ROUNDING`; the scores
    must be equal. The run itself is not touched.

    Raises:
      UserError: no finished run, or no such stage.
    """
    config = runs.config_of(run)
    if not (run / "manifest.json").is_file():
        raise UserError(f"{run}: no manifest.json; the run has not finished")
    experiment = experiment_of(config)
    recorded = runs.read_json(run / "manifest.json")
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
        with memory.reported():
            experiment.run(setup, again, watch)
        problems += _compared(run, again, stage, alike)
    print("\n".join(problems) if problems else f"{run}: {len(names)} stages, all as recorded")
    return 1 if problems else 0


def _records(run: Path, names: list[str], recorded: Mapping[str, Any]) -> Iterator[str]:
    """Stages that are not those of the manifest."""
    for name, digest in recorded.get("stages", {}).items():
        if name not in names:
            yield f"{name} is in manifest.json, but not in {run / 'stages'}"
        elif runs.digest_of(runs.read_json(runs.record_file(run, name))) != digest:
            yield f"{name}: stage.json is not the one that manifest.json speaks of"


def _damaged(run: Path, name: str) -> list[str]:
    """Files of a stage that are not what was written."""
    folder = runs.stage_folder(run, name)
    recorded = runs.read_json(folder / "stage.json")["sha256"]
    return [
        f"{name}: {file}.safetensors is not what was written"
        for file, digest in recorded.items()
        if (folder / f"{file}.safetensors").is_file()
        and runs.sha256(folder / f"{file}.safetensors") != digest
    ]


def _sources(here: Mapping[str, str], recorded: Mapping[str, Any]) -> list[str]:
    """What the run was made from and is not there any more."""
    there = recorded.get("sources", {})
    return [
        f"{name} is not that of the run"
        for name, digest in here.items()
        if there.get(name, digest) != digest
    ]


def _placed(
    experiment: Experiment, config: Config, setup: Setup, out: Path, recorded: Mapping[str, Any]
) -> tuple[Setup, bool]:
    """The experiment on the devices that are here, and whether they are those of the run."""
    here, there = environment.devices(), recorded["devices"]
    try:
        meshes = experiment.meshes(setup, out)
    except UserError:  # a mesh of more devices
        setup = dataclasses.replace(setup, config=dataclasses.replace(config, parallel=Parallel()))
        meshes = experiment.meshes(setup, out)
    alike = here == there and meshes == recorded.get("mesh", meshes)
    if not alike:
        print(
            f"note: the run had {_counted(there)} and here are {_counted(here)}, or the mesh is "
            "another: scores must be equal, arrays the same within rounding"
        )
    return setup, alike


def _counted(devices: Sequence[str]) -> str:
    return ", ".join(f"{number} x {kind}" for kind, number in Counter(devices).items())


def _mirror(run: Path, again: Path, stage: str) -> None:
    """The run's stages but one, as links, so that nothing done here reaches the run."""
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
    """How the stage that was done again differs from the recorded one."""
    before, now = (runs.read_json(o / "stages" / stage / "stage.json") for o in (run, again))
    problems = [] if _said(before, alike) == _said(now, alike) else [f"{stage}: other scores"]
    for file, digest in before["sha256"].items():
        verdict = "the same"
        if now["sha256"].get(file) != digest:
            near, verdict = _near(run, again, stage, file)
            if alike or not near:
                problems.append(f"{stage}: {file} {verdict}")
        print(f"  {stage} {file}: {verdict}, sha256 {digest[:16]}")
    return problems


def _said(record: Mapping[str, Any], alike: bool) -> dict[str, Any]:
    """What must be equal in a record: everything but times; on other devices the scores alone."""
    if not alike:
        return {"scores": record.get("scores")}
    return {k: v for k, v in record.items() if not k.endswith("_s") and k not in ("key", "sha256")}


def _near(run: Path, again: Path, stage: str, file: str) -> tuple[bool, str]:
    """Whether arrays that differ do so by rounding alone, and by how much."""
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
