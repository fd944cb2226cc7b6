"""Lo, Barez, Cohen 2024: remove a concept's neurons, retrain, watch the concept return.

The protocol from top to bottom (specs: relearning 0.1), for many concept sets side by side: a chunk
of C sets is pruned, retrained, scored and tracked in one program. Each stage of a set is saved
before the next begins, and reused when the same command is run again.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from relearn_jax import hosts, loading, runs
from relearn_jax.experiments import rounds
from relearn_jax.experiments.concepts import (
    chunks,
    exporting,
    plan,
    pruning,
    rankings,
    results,
    sets,
    setup,
    snapshots,
    tables,
    tracking,
    training,
)
from relearn_jax.experiments.concepts.dose import choice, curve
from relearn_jax.experiments.concepts.dose.choice import Choices
from relearn_jax.experiments.concepts.rankings import Scores
from relearn_jax.experiments.concepts.sets import ConceptSet
from relearn_jax.experiments.concepts.setup import Setup
from relearn_jax.experiments.concepts.side_by_side import Keys, Models, Run, sites
from relearn_jax.experiments.experiment import Experiment
from relearn_jax.experiments.rounds import Trainer
from relearn_jax.experiments.watcher import Watcher
from relearn_jax.models import checkpoint
from relearn_jax.parallel import mesh as meshes
from relearn_jax.parallel import sharding, stacking

PyTree = Any


def run(setup: Setup, out: Path, watch: Watcher) -> None:
    """Run every concept set of a config, and save the stages in a run directory."""
    config = setup.config
    size = chunks.size(setup, out)
    folder = setup.pretrained.checkpoint.folder
    record = {
        "folder": folder and str(folder.resolve()),
        "labels": setup.pretrained.model.labels,
        "chunk": size,
    }
    hosts.once(lambda: runs.write_json(out / "model.json", record), "model.json")
    run_ = Run(setup, Trainer(out, config, watch, {}), {})

    scores: dict[int, Scores] = {}
    base_keys: Keys = {}
    for chunk in chunks.bases(config, size):
        base = _base(run_, chunk)
        base_keys |= {
            concept_set.seed: key for concept_set, key in zip(chunk, base.keys, strict=True)
        }
        tracking.track(run_, base, None)
        scores |= rankings.scores(run_, base)
    choices: Choices = {}
    for seed in config.seeds:
        curve.score(run_, seed, base_keys[seed], scores[seed])
    for seed in config.seeds:
        choices |= choice.chosen(run_, seed, base_keys[seed], scores[seed])

    names = setup.probed.concepts.names
    for chunk in chunks.members(config, setup.texts.retrain, size):
        pruned = []
        for concept_set in chunk:
            numbered = choice.resolved(config, choices, concept_set)
            settings = sets.prune_settings(config, numbered.group)
            ranked = scores[concept_set.seed][config.concepts.site, settings.ranking]
            target = names.index(concept_set.group.target)
            pruned.append(pruning.choose(settings, config.concepts.site, numbered, ranked, target))
        _relearn(run_, chunk, np.stack(pruned), base_keys)


def _base(run: Run, chunk: tuple[ConceptSet, ...]) -> Models:
    """Fine-tune the pretrained model for the task, once for each seed."""
    config, pretrained, texts = run.setup.config, run.setup.pretrained, run.setup.texts
    model, mesh = pretrained.model, meshes.make(config.parallel, len(chunk))
    keys = tuple(
        runs.key_of(
            "base", concept_set.seed, pretrained.sha256, config.model.tokenizer, model.labels,
            model.dtype, config.model.max_length, config.data.continuation,
            config.data.buckets, loading.plain(config.training), texts.train.corpus.digest,
            texts.evaluation.corpus.digest, config.tracking.batch_size,
        )
        for concept_set in chunk
    )  # fmt: skip

    def start() -> PyTree:
        seeds = np.uint32([concept_set.seed for concept_set in stacking.filled(mesh, chunk)])
        heads = jax.vmap(lambda seed: jax.random.fold_in(jax.random.key(seed), 0))(seeds)
        place, stacked = sharding.placer(mesh), sharding.placer(mesh, sets_axis=True)
        return checkpoint.load_stacked(pretrained.checkpoint, model, heads, place, stacked)

    models = Models(chunk, "base", keys, mesh, start)
    return training.trained(run, models, texts.train, config.training, 0)


def _relearn(run: Run, chunk: tuple[ConceptSet, ...], pruned: np.ndarray, base_keys: Keys) -> None:
    """Prune, then retrain in rounds, each with a fresh optimizer (specs: relearning 5)."""
    config, model = run.setup.config, run.setup.pretrained.model
    mesh = meshes.make(config.parallel, len(chunk))
    bases = [sets.stage_name(concept_set, "base") for concept_set in chunk]
    keys = tuple(
        runs.key_of(
            base_keys[concept_set.seed],
            loading.plain(sets.prune_settings(config, concept_set.group)),
            config.concepts.site, sets.number(concept_set), np.packbits(~neurons).tolist(),
        )
        for concept_set, neurons in zip(chunk, pruned, strict=True)
    )  # fmt: skip

    def params() -> PyTree:
        base = rounds.from_disk(run.trainer.out, mesh, bases)
        if config.prune.target == "state_mask":
            return base
        neurons = stacking.per_set(mesh, list(pruned))
        return pruning.remove(model, mesh, config.prune.target, config.concepts.site, base, neurons)

    models = Models(chunk, "pruned", keys, mesh, params, pruned)
    _score_pruned(run, models)
    tracking.track(run, models, base_keys)

    settings = config.retraining
    text = run.setup.texts.retrain[chunk[0].group.target]
    for number in range(1, config.retrain.rounds + 1):
        keys = tuple(
            runs.key_of(
                key, number, loading.plain(settings), text.corpus.digest, concept_set.group.regrowth
            )
            for concept_set, key in zip(chunk, models.keys, strict=True)
        )
        models = models._replace(stage=f"round{number}", keys=keys)
        models = training.trained(run, models, text, settings, number)
        tracking.track(run, models, base_keys)
        if config.keep == "last" and number > 1:
            _drop_weights(run.trainer.out, chunk, f"round{number - 1}")


def _drop_weights(out: Path, chunk: Sequence[ConceptSet], stage: str) -> None:
    names = [sets.stage_name(concept_set, stage) for concept_set in chunk]
    hosts.once(lambda: runs.drop_arrays(out, names, "params"), "dropped")


def _score_pruned(run: Run, models: Models) -> None:
    """Score the pruned models before any retraining."""
    config = run.setup.config
    if rounds.all_finished(run.trainer.out, models.names, models.keys):
        return
    params, interventions = models.params(), sites(models, config.prune.target)
    began, count = time.perf_counter(), len(models.sets)
    scores = training.scores(run, models.mesh, params, interventions, count)
    wall = round((time.perf_counter() - began) / count, 2)
    for name, key, records, neurons in zip(
        models.names, models.keys, scores, models.pruned, strict=True
    ):
        record = {
            "scores": [{"epoch": 0, "records": records}], "wall_s": wall, "evaluation_s": wall,
            "target": config.prune.target, "site": config.concepts.site,
        }  # fmt: skip
        rounds.save_stage(run.trainer.out, name, key, record, {"mask": {"keep": ~neurons}})


def _stages(setup: Setup) -> list[str]:
    """All stages: those of the base models, of the dose curves, and of the sets."""
    config = setup.config
    between = [rankings.stage_name]
    between += [curve.stage_name] if config.dose.fractions else []
    between += [choice.stage_name] if choice.automatic(config) else []
    bases = [f"seed{seed}-base{part}" for seed in config.seeds for part in ("", "-neurons")]
    names = [name for name in snapshots.stage_names(config) if name not in bases]
    return [*bases, *(name(seed) for name in between for seed in config.seeds), *names]


EXPERIMENT = Experiment(
    setup=setup.prepare,
    summary=plan.summary,
    plan=plan.memory_and_disk,
    steps=plan.steps,
    run=run,
    stages=_stages,
    meshes=results.meshes,
    sources=results.sources,
    reportable=lambda setup, out: snapshots.begun(setup.config, out),
    tables=tables.write,
    manifest=results.manifest,
    headline=results.headline,
    exported=exporting.exported,
    memory_remedy=(
        "Lower sets.chunk (shown at the start of the run), set model.remat: true or, on several "
        "devices, raise parallel.fsdp, and continue with --reuse. These also help, but start again "
        "from the base models: a higher training.accumulate, a lower training.batch_size, "
        "model.dtype: bfloat16."
    ),
)
