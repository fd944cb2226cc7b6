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
    texts,
    tracking,
    training,
)
from relearn_jax.experiments.concepts.dose import choice, curve
from relearn_jax.experiments.concepts.dose.choice import Choices
from relearn_jax.experiments.concepts.pruning import Scores
from relearn_jax.experiments.concepts.sets import ConceptSet
from relearn_jax.experiments.concepts.setup import Setup
from relearn_jax.experiments.concepts.side_by_side import Keys, Models, Run, sites
from relearn_jax.experiments.concepts.texts import Text
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
    keys: Keys = {}
    for chunk in chunks.bases(config, size):
        base = _base(run_, chunk)
        keys |= dict(zip(base.names, base.keys, strict=True))
        tracking.track(run_, base, None)
        scores |= rankings.scores(run_, base)
    for seed in config.seeds:
        curve.score(run_, seed, keys[f"seed{seed}-base"], scores[seed])
    choices: Choices = {}
    for seed in config.seeds:
        choices |= choice.chosen(run_, seed, keys[f"seed{seed}-base"], scores[seed])
    for chunk in chunks.untaught(config, size):
        model = _untaught(run_, chunk)
        keys |= dict(zip(model.names, model.keys, strict=True))
    for chunk in chunks.members(config, setup.texts, size):
        _relearn(run_, chunk, _pruned(run_, chunk, scores, choices), keys)


def _pruned(
    run: Run, chunk: tuple[ConceptSet, ...], scores: dict[int, Scores], choices: Choices
) -> np.ndarray:
    """The neurons that the sets of a chunk prune, [C, S, D]."""
    config, names = run.setup.config, run.setup.probed.concepts.names
    pruned = []
    for concept_set in chunk:
        numbered = choice.resolved(config, choices, concept_set)
        settings = sets.prune_settings(config, numbered.group)
        ranked = scores[concept_set.seed][config.concepts.site, settings.ranking]
        target = names.index(concept_set.group.target)
        pruned.append(pruning.choose(settings, config.concepts.site, numbered, ranked, target))
    return np.stack(pruned)


def _base(run: Run, chunk: tuple[ConceptSet, ...]) -> Models:
    """Fine-tune the pretrained model for the task, once for each seed."""
    return _fine_tuned(run, chunk, "base", run.setup.texts.train, ())


def _untaught(run: Run, chunk: tuple[ConceptSet, ...]) -> Models:
    """The same on a text without labels on words of the target, for oracles."""
    target, tags = chunk[0].group.target, run.setup.pretrained.model.labels
    text = texts.untaught(run.setup.texts.train, target, tags)
    return _fine_tuned(run, chunk, "untaught", text, (target,))


def _fine_tuned(
    run: Run, chunk: tuple[ConceptSet, ...], stage: str, text: Text, hidden: tuple[str, ...]
) -> Models:
    config, pretrained = run.setup.config, run.setup.pretrained
    model, mesh = pretrained.model, meshes.make(config.parallel, len(chunk))
    keys = tuple(
        runs.key_of(
            "base", concept_set.seed, pretrained.sha256, config.model.tokenizer, model.labels,
            model.dtype, config.model.max_length, config.data.continuation,
            config.data.buckets, loading.plain(config.training), text.corpus.digest,
            run.setup.texts.evaluation.corpus.digest, config.tracking.batch_size, *hidden,
        )
        for concept_set in chunk
    )  # fmt: skip

    def start() -> PyTree:
        seeds = np.uint32([concept_set.seed for concept_set in stacking.filled(mesh, chunk)])
        heads = jax.vmap(lambda seed: jax.random.fold_in(jax.random.key(seed), 0))(seeds)
        place, stacked = sharding.placer(mesh), sharding.placer(mesh, sets_axis=True)
        return checkpoint.load_stacked(pretrained.checkpoint, model, heads, place, stacked)

    models = Models(chunk, stage, keys, mesh, start)
    return training.trained(run, models, text, config.training, 0)


def _relearn(run: Run, chunk: tuple[ConceptSet, ...], pruned: np.ndarray, starts: Keys) -> None:
    """Prune, then retrain in rounds, each with a fresh optimizer (specs: relearning 5)."""
    config, model = run.setup.config, run.setup.pretrained.model
    mesh = meshes.make(config.parallel, len(chunk))
    names = [sets.start_name(concept_set) for concept_set in chunk]
    keys = tuple(
        runs.key_of(
            starts[name], loading.plain(sets.prune_settings(config, concept_set.group)),
            config.concepts.site, sets.number(concept_set), np.packbits(~neurons).tolist(),
        )
        for name, concept_set, neurons in zip(names, chunk, pruned, strict=True)
    )  # fmt: skip

    def params() -> PyTree:
        base = rounds.from_disk(run.trainer.out, mesh, names)
        if config.prune.target == "state_mask":
            return base
        neurons = stacking.per_set(mesh, list(pruned))
        return pruning.remove(model, mesh, config.prune.target, config.concepts.site, base, neurons)

    tracked = chunk[0].arm != "oracle"
    models = Models(chunk, "pruned", keys, mesh, params, pruned)
    _score_pruned(run, models)
    if tracked:
        tracking.track(run, models, starts)

    text = texts.retraining(config, run.setup.texts, chunk[0])
    settings = texts.retraining_settings(config, text)
    for number in range(1, config.retrain.rounds + 1):
        keys = tuple(
            runs.key_of(
                key, number, loading.plain(settings), config.retrain.scored_steps,
                text.corpus.digest, concept_set.group.regrowth,
            )
            for concept_set, key in zip(chunk, models.keys, strict=True)
        )  # fmt: skip
        models = models._replace(stage=f"round{number}", keys=keys)
        models = training.trained(run, models, text, settings, number)
        if tracked:
            tracking.track(run, models, starts)
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
            "scores": [{"epoch": 0, "step": 0, "records": records}], "wall_s": wall,
            "evaluation_s": wall, "target": config.prune.target, "site": config.concepts.site,
        }  # fmt: skip
        rounds.save_stage(run.trainer.out, name, key, record, {"mask": {"keep": ~neurons}})


def _stages(setup: Setup) -> list[str]:
    """All stages: those of the base models, of the dose curves, and of the sets."""
    config = setup.config
    between = [rankings.stage_name]
    between += [curve.stage_name] if config.dose.fractions else []
    between += [choice.stage_name] if choice.automatic(config) else []
    bases = [f"seed{seed}-base{part}" for seed in config.seeds for part in ("", "-neurons")]
    untaught = [sets.start_name(s) for chunk in chunks.untaught(config, 1) for s in chunk]
    names = [name for name in snapshots.stage_names(config) if name not in bases]
    return [*bases, *(name(seed) for name in between for seed in config.seeds), *untaught, *names]


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
