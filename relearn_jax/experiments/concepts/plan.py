"""Summary of a relearning run before it starts: texts, sets, steps, memory and disk."""

from __future__ import annotations

from pathlib import Path

from jax.sharding import Mesh

from relearn_jax.config import Relearning
from relearn_jax.experiments import memory
from relearn_jax.experiments.concepts import chunks, sets
from relearn_jax.experiments.concepts.dose import points
from relearn_jax.experiments.concepts.setup import Setup
from relearn_jax.experiments.concepts.texts import (
    Text,
    repeated,
    retraining,
    retraining_settings,
    steps_per_epoch,
)
from relearn_jax.experiments.memory import GIB
from relearn_jax.parallel import mesh as meshes


def steps(setup: Setup) -> int:
    """Number of steps of a run, counted for each set."""
    config, texts = setup.config, setup.texts
    base = config.training.epochs * steps_per_epoch(
        texts.train, config.training.batch_size, config.data.buckets
    )
    untaught = sum(map(len, chunks.untaught(config, 1)))
    return (len(config.seeds) + untaught) * base + config.retrain.rounds * sum(
        round_steps(config, retraining(config, texts, concept_set))
        for concept_set in sets.unique(config)
    )


def round_steps(config: Relearning, text: Text) -> int:
    """Number of steps of a retraining round on a text."""
    settings = retraining_settings(config, text)
    return settings.epochs * steps_per_epoch(text, settings.batch_size, config.data.buckets)


def summary(setup: Setup, out: Path | None = None) -> list[str]:
    """Lines to show before a run starts."""
    config, model = setup.config, setup.pretrained.model
    train, evaluation = setup.texts.train.corpus, setup.texts.evaluation.corpus
    rows, channels = setup.shape
    groups, members = sets.groups(config), sets.unique(config)
    data = setup.probed.concepts
    words = sum(len(kinds) for kinds in data.kind)
    counts = sum(member.sum(axis=0) for member in data.member)
    of_targets = ", ".join(
        f"{counts[data.names.index(target)]} of them {target}" for target in sets.targets(config)
    )
    numbers = [sets.requested(config, group, setup.shape) for group in groups]
    chosen = "the smallest number that takes 90 % of F1 on the concept text"
    pruned = "; ".join(dict.fromkeys(chosen if n is None else str(n) for n in numbers))
    rankings = ", ".join(
        dict.fromkeys(sets.prune_settings(config, group).ranking for group in groups)
    )
    return [
        f"  model        {setup.pretrained.checkpoint.origin} ({model.family.name}, "
        f"{model.config.layers} layers, {model.config.width} wide), compute {model.dtype}",
        f"  train        {len(train.words)} sentences, {train.source}",
        f"  evaluation   {len(evaluation.words)} sentences, {evaluation.source} "
        f"({repeated(train, evaluation)} also in train)",
        f"  concepts     {len(data.words)} sentences, {words} words ({len(data.types)} types), "
        f"{of_targets}",
        f"  neurons      {rows} x {channels} = {rows * channels}, to prune: {pruned} "
        f"({config.prune.target}, {rankings})",
        _training_line(setup),
        f"  concept sets {len(config.seeds)} seeds x {len(groups)} x {len(sets.arms(config))} arms "
        f"({', '.join(sets.arms(config))}) = {len(members)}; {steps(setup)} steps of one set",
        *_curve_line(setup),
        *chunks.summary(setup, out),
    ]


def _curve_line(setup: Setup) -> list[str]:
    """A line on the size of the curve, before a run starts."""
    settings, text = setup.config, setup.texts.dose
    wanted = points.points(settings, setup.pretrained.model)
    if not wanted:
        return []
    shares = sorted({point.fraction for point in wanted})
    left_out = sorted(set(points.fractions(settings, setup.pretrained.model)) - set(shares))
    low, high = (f"{100 * share:.3g}" for share in (shares[0], shares[-1]))
    line = (
        f"  dose curve   {len(shares)} shares from {low} to {high} %, "
        f"at most {len(wanted)} masks a seed, on {len(text.corpus.words)} of "
        f"{len(setup.texts.evaluation.corpus.words)} evaluation sentences"
    )
    named = ", ".join(f"{100 * share:g} %" for share in left_out)
    return [f"{line}; {named} would prune no neuron" if left_out else line]


def _training_line(setup: Setup) -> str:
    config, texts = setup.config, setup.texts
    buckets, train = config.data.buckets, texts.train
    base = config.training.epochs * steps_per_epoch(train, config.training.batch_size, buckets)
    line = f"  training     {config.training.epochs} epochs, {base} steps"
    if not config.retrain.rounds:
        return f"{line}; no retraining"
    first = retraining(config, texts, sets.unique(config)[0])
    settings = retraining_settings(config, first)
    epochs = config.retrain.rounds * settings.epochs
    share = len(first.corpus.words) / len(train.corpus.words)
    return (
        f"{line}; then for a set {config.retrain.rounds} rounds x {settings.epochs} epochs, "
        f"{config.retrain.rounds * round_steps(config, first)} steps; "
        f"{config.training.epochs + epochs * share:g} effective epochs of the training text"
    )


def memory_and_disk(setup: Setup) -> list[str]:
    """Lines on the memory of the training step and of the statistics, and on disk space."""
    config, members = setup.config, sets.unique(setup.config)
    parameters = setup.pretrained.parameters
    grids = chunks.grids(config, setup.texts, chunks.size(setup))
    count, mesh = next(iter(grids.items()))
    longest = max(map(len, setup.texts.train.encoded.ids))
    length = min(bucket for bucket in config.data.buckets if bucket >= longest)
    step = memory.step_bytes(setup.pretrained.model, config.training, length, mesh, count)
    sets_each = meshes.padded(count, mesh) // mesh.shape[meshes.SETS]
    rows, channels = setup.shape
    types = sets_each * len(setup.probed.concepts.types) * rows * channels * 4
    rounds = config.retrain.rounds if config.keep == "all" else min(config.retrain.rounds, 1)
    bases = len(config.seeds) + sum(map(len, chunks.untaught(config, 1)))
    kept_bytes = (bases + len(members) * rounds) * parameters * 4
    params, moments, temporary, total = (f"{n / GIB:.2f}" for n in (*step, sum(step)))
    return [
        f"  memory       {total} GiB for a training step on {_named(mesh)}, "
        f"sets there: {sets_each}",
        f"               parameters {params}, moments {moments}, gradients and batch "
        f"{config.training.batch_size} x {length} {temporary}",
        f"               {types / GIB:.2f} GiB for the statistics of the word types",
        f"  disk         {kept_bytes / GIB:.2f} GiB of kept weights",
    ]


def _named(mesh: Mesh) -> str:
    axes = " x ".join(f"{axis} {size}" for axis, size in mesh.shape.items() if size > 1)
    return f"each of {mesh.size} devices ({axes})" if axes else "one device"
