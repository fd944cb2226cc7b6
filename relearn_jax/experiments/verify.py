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
from relearn_jax.config import Parallel
from relearn_jax.errors import UserError
from relearn_jax.experiments import environment, manifest, memory
from relearn_jax.experiments.concepts import relearning, sets, setup
from relearn_jax.experiments.concepts.rounds import Watcher
from relearn_jax.experiments.concepts.setup import Prepared

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
    if not (run / "manifest.json").is_file():
        raise UserError(f"{run}: no manifest.json; the run has not finished, or this is none")
    config = runs.config_of(run)
    names = sorted(path.parent.name for path in run.glob("stages/*/stage.json"))
    stage = stage or sets.stage_name(sets.product(config)[0], "base")
    if stage not in names:
        raise UserError(f"{run} has no stage {stage}; it has {', '.join(names)}")

    recorded = runs.read_json(run / "manifest.json")
    found = [*_records(run, names, recorded), *(f for name in names for f in _damaged(run, name))]
    prepared = setup.prepare(config, run.resolve())
    found += _sources(prepared, recorded)
    for package, version in environment.versions().items():
        if recorded["versions"].get(package) != version:
            print(f"note: {package} {version} here, {recorded['versions'].get(package)} there")
    prepared, alike = _placed(prepared, recorded)
    print(f"doing {stage} again ...", flush=True)
    with tempfile.TemporaryDirectory(prefix="relearn-verify-") as folder:
        again = Path(folder) / "run"
        _mirror(run, again, stage)
        watch = Watcher(lambda done, text: None, lambda line: None, print, lambda: False)
        with memory.reported():
            relearning.run(prepared, again, watch)
        found += _compared(run, again, stage, alike)
    print("\n".join(found) if found else f"{run}: {len(names)} stages, all as recorded")
    return 1 if found else 0


def _records(run: Path, names: list[str], recorded: Mapping[str, Any]) -> Iterator[str]:
    """Stages that are not those of the manifest."""
    for name, digest in recorded.get("stages", {}).items():
        if name not in names:
            yield f"{name} is in manifest.json, but not in {run / 'stages'}"
        elif runs.digest_of(runs.read_json(runs.stage_folder(run, name) / "stage.json")) != digest:
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


def _sources(prepared: Prepared, recorded: Mapping[str, Any]) -> list[str]:
    """What the run was made from and is not there any more, as far as its manifest names it."""
    data, texts = recorded["data"], ("train", "evaluation", "concepts")
    here = (prepared.train.corpus, prepared.evaluation.corpus, prepared.concept_corpus)
    pairs = [
        (f"the text {name}", data[name]["sha256"], corpus.digest)
        for name, corpus in zip(texts, here, strict=True)
    ]
    pairs += [
        (
            f"the retraining text of {group['name']}",
            group.get("retrain"),
            prepared.retrain[group["target"]].corpus.digest,
        )
        for group in recorded["groups"]
    ]
    pairs += [
        ("the pretrained weights, or the tokenizer,", recorded["model"]["sha256"],
         prepared.weights_sha256),
        ("the file of tracking.vectors", recorded.get("vectors_sha256"), prepared.vectors_sha256),
    ]  # fmt: skip
    return [f"{what} is not that of the run" for what, old, new in pairs if old not in (None, new)]


def _placed(prepared: Prepared, recorded: Mapping[str, Any]) -> tuple[Prepared, bool]:
    """The experiment on the devices that are here, and whether they are those of the run."""
    here, there, chunk = environment.devices(), recorded["devices"], recorded["sets"]["chunk"]
    try:
        grids = manifest.meshes(prepared, chunk)
    except UserError:  # a mesh of more devices
        config = dataclasses.replace(prepared.config, parallel=Parallel())
        prepared = dataclasses.replace(prepared, config=config)
        grids = manifest.meshes(prepared, chunk)
    alike = here == there and grids == recorded["sets"].get("mesh", grids)
    if not alike:
        print(
            f"note: the run had {_counted(there)} and here are {_counted(here)}, or the mesh is "
            "another: scores must be equal, arrays the same within rounding"
        )
    return prepared, alike


def _counted(devices: Sequence[str]) -> str:
    return ", ".join(f"{number} x {kind}" for kind, number in Counter(devices).items())


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


def _compared(run: Path, again: Path, stage: str, alike: bool) -> list[str]:
    """How the stage that was done again differs from the recorded one."""
    before, now = (runs.read_json(o / "stages" / stage / "stage.json") for o in (run, again))
    found = [] if before.get("scores") == now.get("scores") else [f"{stage}: other scores"]
    for file, digest in before["sha256"].items():
        verdict = "the same"
        if now["sha256"].get(file) != digest:
            near, verdict = _near(run, again, stage, file)
            if alike or not near:
                found.append(f"{stage}: {file} {verdict}")
        print(f"  {stage} {file}: {verdict}, sha256 {digest[:16]}")
    return found


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
