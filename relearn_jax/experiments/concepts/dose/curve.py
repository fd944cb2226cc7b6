"""The dose curve of a seed: its base model scored at every point, before any retraining."""

from __future__ import annotations

import time

import numpy as np

from relearn_jax import loading, runs
from relearn_jax.experiments import rounds
from relearn_jax.experiments.concepts import pruning
from relearn_jax.experiments.concepts.dose import points, scoring
from relearn_jax.experiments.concepts.pruning import Scores
from relearn_jax.experiments.concepts.side_by_side import Run
from relearn_jax.neurons import statistics


def stage_name(seed: int) -> str:
    """Folder of the curve of a seed."""
    return f"seed{seed}-dose"


def score(run: Run, seed: int, base_key: str, scores: Scores) -> None:
    """Score the base model of a seed at all points, and save the counts, unless that is done."""
    settings, setup, out = run.setup.config, run.setup, run.trainer.out
    text, name = setup.texts.dose, stage_name(seed)
    wanted = points.points(settings, setup.pretrained.model)
    if not wanted:
        return
    key = runs.key_of(
        base_key, [*map(list, wanted)], loading.plain(settings.prune), text.corpus.digest,
        setup.probed.concepts.digest, settings.concepts.drop_unmappable, settings.data.buckets,
        settings.tracking.batch_size,
    )  # fmt: skip
    if rounds.all_finished(out, [name], [key]):
        return
    began, concepts = time.perf_counter(), setup.probed.concepts.names
    records, arrays, total = [], {}, 0
    for zeroed in dict.fromkeys(point.zeroed for point in wanted):
        site = pruning.site_of(zeroed)
        nothing = np.zeros(statistics.neuron_shape(setup.pretrained.model, site), bool)
        rows = {nothing.tobytes(): 0}
        unique = [nothing]
        for point in (p for p in wanted if p.zeroed == zeroed):
            pruned = points.mask(settings, seed, point, scores, concepts)
            row = rows.setdefault(pruned.tobytes(), len(unique))
            if row == len(unique):
                unique.append(pruned)
            parameters = pruning.parameter_count(setup.pretrained.model, zeroed, site, pruned)
            records.append(
                point._asdict()
                | {"row": row, "neurons": int(pruned.sum()), "parameters": parameters}
            )
        counts, most_frequent = scoring.counted(
            run, seed, zeroed, unique, text, f"seed{seed}, dose curve"
        )
        arrays |= {
            f"{zeroed}/entities": counts.entities,
            f"{zeroed}/words": counts.words,
            f"{zeroed}/most_frequent": most_frequent,
        }
        total += len(unique)
    wall = round(time.perf_counter() - began, 2)
    sentences = len(text.corpus.words)
    record = {"points": records, "masks": total, "sentences": sentences, "wall_s": wall}
    rounds.save_stage(out, name, key, record, {"counts": arrays})
    run.trainer.watch.say(
        f"dose curve of seed {seed}: {total} masks on {sentences} sentences in {wall:.0f} s"
    )
