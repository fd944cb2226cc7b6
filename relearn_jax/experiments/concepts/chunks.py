"""Chunks of sets that fit side by side into memory, by an estimate, and the meshes for them."""

from __future__ import annotations

import os
from pathlib import Path

import jax
from jax.sharding import Mesh

from relearn_jax import hosts, runs
from relearn_jax.config import Relearning
from relearn_jax.experiments.concepts import sets
from relearn_jax.experiments.concepts.sets import ConceptSet
from relearn_jax.experiments.concepts.setup import Setup
from relearn_jax.experiments.concepts.texts import Texts, retraining
from relearn_jax.models.transformer import Model
from relearn_jax.parallel import drivers
from relearn_jax.parallel import mesh as meshes

MOST = 16
"""Largest number of sets side by side; more sets gave no more speed."""
SHARE_HOST, SHARE_DEVICE = 0.4, 0.8
"""Shares of memory that sets may take; the host also holds the data and other programs."""


def size(setup: Setup, out: Path | None = None) -> int:
    """Number of sets side by side: from the config, else from an earlier start of the run, else the
    number that fits. It must not change when a run is continued, or the last bits would change.
    All processes call this together."""
    if setup.config.sets.chunk is not None:
        return setup.config.sets.chunk
    return hosts.first(_fitting(setup, out))


def recorded(out: Path) -> int:
    """Number of sets side by side in a run that was started. One process can ask alone."""
    return int(runs.read_json(out / "model.json")["chunk"])


def _fitting(setup: Setup, out: Path | None) -> int:
    if out is not None and (out / "model.json").is_file():
        return recorded(out)
    parallel = setup.config.parallel
    shared = parallel.fsdp * parallel.tensor
    along, *_ = meshes.axis_sizes(parallel, jax.device_count(), jax.device_count())
    fitting = max(shared * memory() // bytes_of_set(setup), 1)
    return max(1, min(MOST * along, fitting * along, len(sets.unique(setup.config))))


def bases(config: Relearning, largest: int) -> tuple[tuple[ConceptSet, ...], ...]:
    """Chunks of base models, one model for each seed, given as the first set with this seed."""
    members = sets.product(config)
    firsts = [
        next(concept_set for concept_set in members if concept_set.seed == seed)
        for seed in config.seeds
    ]
    return sets.chunks(firsts, largest, lambda concept_set: 0)


def untaught(config: Relearning, largest: int) -> tuple[tuple[ConceptSet, ...], ...]:
    """Chunks of the models that oracles start from; the models of a chunk share a target."""
    oracles = [concept_set for concept_set in sets.unique(config) if concept_set.arm == "oracle"]
    firsts = {sets.start_name(concept_set): concept_set for concept_set in reversed(oracles)}
    return sets.chunks(
        [*reversed(firsts.values())], largest, lambda concept_set: concept_set.group.target
    )


def members(config: Relearning, texts: Texts, largest: int) -> tuple[tuple[ConceptSet, ...], ...]:
    """Chunks of all sets; the sets of a chunk share a retraining text, and oracles are apart."""

    def of(concept_set: ConceptSet) -> tuple[str, bool]:
        digest = retraining(config, texts, concept_set).corpus.digest
        return digest, concept_set.arm == "oracle"

    return sets.chunks(sets.unique(config), largest, of)


def grids(config: Relearning, texts: Texts, largest: int) -> dict[int, Mesh]:
    """The mesh for every number of sets that are trained side by side, the largest number first.

    Args:
      config: the config.
      texts: the texts of the run.
      largest: from `size`.

    Raises:
      UserError: a mesh cannot be made, or the driver cannot use its axes.
    """
    parallel = config.parallel
    chunks = (
        *bases(config, largest), *untaught(config, largest), *members(config, texts, largest)
    )  # fmt: skip
    numbers = sorted({len(chunk) for chunk in chunks}, reverse=True)
    grids = {number: meshes.make(parallel, number) for number in numbers}
    for grid in grids.values():
        drivers.check(parallel.driver, grid)
    return grids


def idle(grids: dict[int, Mesh]) -> str:
    """A line on devices that are unused or only repeat sets; empty if there are none."""
    devices, notes = jax.device_count(), []
    for number, grid in grids.items():
        trained, label = meshes.padded(number, grid), f"for {number} set{'s' * (number > 1)}"
        if grid.size < devices:
            notes.append(f"{label} side by side {grid.size} of {devices} in use")
        if trained > number:
            notes.append(f"{label} side by side the work of {trained}")
    why = "parallel.sets, parallel.data and sets.chunk decide"
    return f"  devices      {'; '.join(notes)} ({why})" if notes else ""


def summary(setup: Setup, out: Path | None = None) -> list[str]:
    """Lines on the number of sets side by side, and on unused devices."""
    largest = size(setup, out)
    line = idle(grids(setup.config, setup.texts, largest))
    return [
        f"  side by side up to {largest} of {len(sets.unique(setup.config))} sets; about "
        f"{bytes_of_set(setup) / 2**30:.2f} GiB each, {memory() / 2**30:.1f} GiB on each of "
        f"{jax.device_count()} devices for them",
        *([line] if line else []),
    ]


def memory() -> int:
    """Bytes that may be used on each device."""
    device = jax.local_devices()[0]
    limit = (device.memory_stats() or {}).get("bytes_limit")
    if limit:
        return int(SHARE_DEVICE * limit)
    host = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return int(SHARE_HOST * host / jax.local_device_count())


def bytes_of_set(setup: Setup) -> int:
    """Bytes that a set takes on one device while it is trained or tracked, whichever is larger.

    Training: parameters, their copy, two moments and gradients in float32, and activations.
    Tracking: parameters, and twice the score of every word type for every neuron.
    """
    config, parameters = setup.config, setup.pretrained.parameters
    rows, channels = setup.shape
    types = 2 * 4 * len(setup.probed.concepts.types) * rows * channels
    batch = max(config.training.batch_size, config.retraining.batch_size)
    training = 20 * parameters + activation_bytes(
        setup.pretrained.model,
        batch // config.training.accumulate or 1,
        max(config.data.buckets),
    )
    return max(training, 4 * parameters + types)


def masks_side_by_side(setup: Setup) -> int:
    """Number of masks of one model to score side by side: as many as fit, and at most `MOST`.

    On a CPU it is one a device: the activations of several fall out of its cache. On one core 16
    took 1.6 to 2 times as long a mask.
    """
    config, parallel = setup.config, setup.config.parallel
    along, *_ = meshes.axis_sizes(parallel, jax.device_count(), jax.device_count())
    shape, rows = setup.pretrained.model.config, config.tracking.batch_size
    length = max(config.data.buckets)
    # What is alive at once in a forward pass: the widest layer twice, states and attention.
    block = length * (2 * shape.mlp_width + 6 * shape.width) + shape.heads * length**2
    fitting = max((memory() - 4 * setup.pretrained.parameters) // (4 * rows * block), 1)
    return along * (1 if jax.default_backend() == "cpu" else min(MOST, fitting))


def activation_bytes(model: Model, rows: int, length: int) -> int:
    """Estimated bytes of stored activations in a training step, from the sizes of a block."""
    c = model.config
    stored = 1 if model.remat else c.layers
    width = 4 if model.dtype == "float32" else 2
    block = length * (12 * c.width + 4 * c.mlp_width) * width + c.heads * length**2 * (8 + width)
    return rows * (stored * block + c.layers * length * c.width * width)
