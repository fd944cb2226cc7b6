"""Sources, meshes and summary of a localization, for its manifest and for `relearn verify`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from relearn_jax import runs
from relearn_jax.experiments.facts.setup import Setup
from relearn_jax.experiments.facts.stages import EFFECTS, stage
from relearn_jax.parallel import mesh


def meshes(setup: Setup, out: Path) -> dict[str, dict[str, int]]:
    """Sizes of the mesh axes, by the number of models side by side."""
    config = setup.config
    numbers = {len(config.seeds), 1} if config.taught else {1}
    return {str(n): dict(mesh.make(config.parallel, n).shape) for n in sorted(numbers)}


def sources(setup: Setup) -> dict[str, str]:
    """SHA-256 of everything that was read."""
    digests = {f"the facts of seed {seed}": data.digest for seed, data in setup.facts.items()}
    return digests | {"the pretrained weights or the tokenizer": setup.decoder.sha256}


def manifest(setup: Setup, out: Path) -> dict[str, Any]:
    """Entries of the manifest that only a localization has."""
    config = setup.config
    pairs = setup.pairs[config.seeds[0]]
    records = {seed: runs.record_file(out, stage(seed, EFFECTS)) for seed in config.seeds}
    return {
        "methods": list(config.localize.methods),
        "model": setup.decoder.summary(),
        "facts": {
            str(seed): {"source": data.source, "sha256": data.digest, "facts": len(data.facts)}
            for seed, data in setup.facts.items()
        },
        "pairs": len(pairs.facts),
        "tokens": int(pairs.clean.ids.shape[1]),
        "corrupt": config.localize.corrupt,
        "planted": list(config.teaching.plant_layers),
        "accuracy": {
            str(seed): runs.read_json(path)["accuracy"]
            for seed, path in records.items()
            if path.is_file()
        },
    }
