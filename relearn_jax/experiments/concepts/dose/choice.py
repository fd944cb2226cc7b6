"""The automatic dose: the smallest share at which the target is gone, on the concept text."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np

from relearn_jax import config, loading, runs
from relearn_jax.config import Relearning
from relearn_jax.errors import UserError
from relearn_jax.evaluation import entities, selectivity
from relearn_jax.experiments import rounds
from relearn_jax.experiments.concepts import sets
from relearn_jax.experiments.concepts.dose import points, scoring
from relearn_jax.experiments.concepts.dose.points import Point
from relearn_jax.experiments.concepts.pruning import Scores
from relearn_jax.experiments.concepts.sets import ConceptSet
from relearn_jax.experiments.concepts.side_by_side import Run
from relearn_jax.experiments.concepts.texts import Text

Choices = dict[tuple[int, str, config.Ranking], float]
"""The fraction that `auto` stands for, by seed, target and ranking."""


def stage_name(seed: int) -> str:
    """Folder of the fractions that a seed's `auto` stands for."""
    return f"seed{seed}-auto"


def automatic(settings: Relearning) -> tuple[Point, ...]:
    """The targets and rankings whose groups have the fraction `auto`; the points' own is 0."""
    groups = [group for group in sets.groups(settings) if group.fraction == "auto"]
    return tuple(
        dict.fromkeys(
            Point(
                group.target,
                sets.prune_settings(settings, group).ranking,
                settings.prune.target,
                "concept",
                0.0,
            )
            for group in groups
        )
    )


def chosen(run: Run, seed: int, base_key: str, scores: Scores) -> Choices:
    """The fraction that `auto` stands for in each group of a seed, by the concept text.

    It is the smallest of `dose.fractions` at which the target has lost 90 % of its F1.

    Raises:
      UserError: there is none, or the base model has not learned the target.
    """
    settings, setup, out = run.setup.config, run.setup, run.trainer.out
    wanted, text, name = automatic(settings), setup.texts.choice, stage_name(seed)
    if not wanted:
        return {}
    key = runs.key_of(
        base_key, [*map(list, wanted)], list(settings.dose.fractions),
        loading.plain(settings.prune), text.corpus.digest, setup.probed.concepts.digest,
        settings.concepts.drop_unmappable, settings.data.buckets, settings.tracking.batch_size,
    )  # fmt: skip
    if not rounds.all_finished(out, [name], [key]):
        began = time.perf_counter()
        records = [_chosen(run, seed, point, scores, text) for point in wanted]
        record = {"choices": records, "wall_s": round(time.perf_counter() - began, 2)}
        rounds.save_stage(out, name, key, record, {})
    records = runs.read_json(runs.record_file(out, name))["choices"]
    missing = [record for record in records if record["fraction"] is None]
    if missing:
        raise UserError("; ".join(_no_dose(seed, record) for record in missing))
    return {(seed, r["target"], r["ranking"]): r["fraction"] for r in records}


def _chosen(run: Run, seed: int, point: Point, scores: Scores, text: Text) -> dict[str, Any]:
    """The record of a choice, with the curve that it was made by."""
    settings, setup = run.setup.config, run.setup
    model, concepts = setup.pretrained.model, setup.probed.concepts.names
    tried = [
        point._replace(fraction=fraction)
        for fraction in sorted(settings.dose.fractions)
        if points.neurons(settings, model, point._replace(fraction=fraction))
    ]
    masks = [points.mask(settings, seed, p, scores, concepts) for p in tried]
    work = f"seed{seed}, dose of {point.target}"
    counts, _ = scoring.counted(
        run, seed, point.zeroed, [np.zeros_like(masks[0]), *masks], text, work
    )
    base, *pruned = selectivity.scores(counts)
    target = entities.tag_types(model.labels).index(point.target)
    lost = selectivity.losses(np.array(pruned), base, target, selectivity.others(base, target))
    enough = np.flatnonzero(lost.target >= selectivity.GONE)
    learned = base[target] >= selectivity.LEARNED
    return {
        "target": point.target,
        "ranking": point.ranking,
        "fraction": tried[enough[0]].fraction if learned and len(enough) else None,
        "base_f1": float(base[target]),
        "fractions": [p.fraction for p in tried],
        "target_loss": [float(loss) for loss in lost.target],
        "others_loss": [float(loss) for loss in lost.others],
    }


def _no_dose(seed: int, record: dict[str, Any]) -> str:
    where = f"prune.fraction auto, {record['target']} by {record['ranking']}, seed {seed}"
    if record["base_f1"] < selectivity.LEARNED:
        return (
            f"{where}: the base model has not learned {record['target']} (F1 "
            f"{record['base_f1']:.2f} on the concept text), so there is nothing to remove"
        )
    most = int(np.nanargmax(record["target_loss"]))
    return (
        f"{where}: none of dose.fractions takes 90 % of its F1; "
        f"{100 * record['fractions'][most]:g} % takes the most, "
        f"{100 * record['target_loss'][most]:.0f} %. Add higher fractions, or give prune.fraction "
        "a number"
    )


def resolved(settings: Relearning, choices: Choices, concept_set: ConceptSet) -> ConceptSet:
    """The set with a number for `auto`."""
    group = concept_set.group
    if group.fraction != "auto":
        return concept_set
    ranking = sets.prune_settings(settings, group).ranking
    return sets.resolved(concept_set, choices[concept_set.seed, group.target, ranking])


def saved(settings: Relearning, out: Path) -> Choices:
    """The choices of the seeds that are finished."""
    choices = {}
    for seed in settings.seeds:
        path = runs.record_file(out, stage_name(seed))
        if path.is_file():
            for record in runs.read_json(path)["choices"]:
                choices[seed, record["target"], record["ranking"]] = record["fraction"]
    return choices
