"""Is the manifest enough to repeat a run? A stage is done again beside it, and digests compared."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from relearn_jax import loading, runs
from relearn_jax.config import Config
from relearn_jax.errors import UserError
from relearn_jax.experiments import driver, preparation, relearning, sets
from relearn_jax.experiments.preparation import Prepared
from relearn_jax.experiments.rounds import Watcher


def verify(run: Path, stage: str | None = None) -> int:
    """Print what a run says of itself and what is found; 0 if all is the same, else 1.

    Checked are the files of every stage against their recorded SHA-256, the texts and weights
    against the manifest's, and one stage (with the sets that were side by side with it) by doing it
    again from the stages before it, in a folder of its own. The run itself is not touched.

    Raises:
      UserError: no finished run, or no such stage.
    """
    if not (run / "manifest.json").is_file():
        raise UserError(f"{run}: no manifest.json, so nothing says what the run was made from")
    config = loading.build(
        Config, yaml.safe_load((run / "config.yaml").read_text()), str(run / "config.yaml"), ""
    )
    names = sorted(path.parent.name for path in run.glob("stages/*/stage.json"))
    stage = stage or sets.stage_name(sets.product(config)[0], "base")
    if stage not in names:
        raise UserError(f"{run} has no stage {stage}; it has {', '.join(names)}")

    found = [f for name in names for f in _damaged(run, name)]
    manifest = runs.read_json(run / "manifest.json")
    prepared = preparation.prepare(config, run.resolve())
    found += _sources(prepared, manifest)
    for package, version in driver.versions().items():
        if manifest["versions"].get(package) != version:
            print(f"note: {package} {version} here, {manifest['versions'].get(package)} there")
    print(f"doing {stage} again ...", flush=True)
    with tempfile.TemporaryDirectory(prefix="relearn-verify-") as folder:
        again = Path(folder) / "run"
        _mirror(run, again, stage)
        watch = Watcher(lambda done, text: None, lambda line: None, print, lambda: False)
        relearning.run(prepared, again, watch)
        found += _compared(run, again, stage)
    print("\n".join(found) if found else f"{run}: {len(names)} stages, all as recorded")
    return 1 if found else 0


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


def _sources(prepared: Prepared, manifest: Mapping[str, Any]) -> list[str]:
    here = {
        "train": prepared.train.corpus.digest,
        "evaluation": prepared.evaluation.corpus.digest,
        "concepts": prepared.concept_corpus.digest,
    }
    found = [
        f"the text {name} is not that of the run"
        for name, digest in here.items()
        if manifest["data"][name]["sha256"] != digest
    ]
    if manifest["model"]["sha256"] != prepared.weights_sha256:
        found.append("the pretrained weights are not those of the run")
    return found


def _mirror(run: Path, again: Path, stage: str) -> None:
    """The run's stages but one, as links, so that nothing done here reaches the run."""
    (again / "stages").mkdir(parents=True)
    shutil.copyfile(run / "model.json", again / "model.json")
    for folder in (run / "stages").iterdir():
        if folder.name == stage or folder.name.startswith("."):
            continue
        (again / "stages" / folder.name).mkdir()
        for file in folder.iterdir():
            (again / "stages" / folder.name / file.name).symlink_to(file.resolve())


def _compared(run: Path, again: Path, stage: str) -> list[str]:
    """How the stage that was done again differs from the recorded one."""
    before, now = (runs.read_json(o / "stages" / stage / "stage.json") for o in (run, again))
    found = [] if before.get("scores") == now.get("scores") else [f"{stage}: other scores"]
    for file, digest in before["sha256"].items():
        same = now["sha256"].get(file) == digest
        print(f"  {stage} {file}: {'the same' if same else 'differs'}, sha256 {digest[:16]}")
        if not same:
            found.append(f"{stage}: {file} differs{_by_how_much(run, again, stage, file)}")
    return found


def _by_how_much(run: Path, again: Path, stage: str, file: str) -> str:
    if not all(runs.has_arrays(o, stage, file) for o in (run, again)):
        return " (its file was dropped to save disk)"
    old, new = (runs.arrays_of(o, stage, file) for o in (run, again))
    gaps = [
        float(np.nanmax(np.abs(old[k].astype(np.float64) - new[k].astype(np.float64)), initial=0))
        for k in old
        if k in new and old[k].shape == new[k].shape
    ]
    return f" by up to {max(gaps, default=float('nan')):.2g}"
