"""Tidy tables of an editing run: one row for each seed, arm and what was measured."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from relearn_jax.evaluation import recovery, removal
from relearn_jax.experiments.facts import tables as localization
from relearn_jax.experiments.facts import teaching
from relearn_jax.experiments.facts.edits import attack, inside_tables, judging, mask_tables
from relearn_jax.experiments.facts.edits.arms import ORIGINAL
from relearn_jax.experiments.facts.edits.asked import RETAIN_TEST
from relearn_jax.experiments.facts.edits.judging import Judged
from relearn_jax.experiments.facts.edits.results import EditResult, results
from relearn_jax.experiments.facts.edits.setup import EditSetup
from relearn_jax.localize import selection

Row = dict[str, Any]


def write(setup: EditSetup, out: Path) -> None:
    """Write the tables of the localization, and of the arms that are finished."""
    localization.write(setup.localization, out)
    finished = list(results(setup, out))
    makers = {
        "answers": answer_rows, "arms": arm_rows, "grid": grid_rows, "attacks": attack_rows,
        "attacked_answers": attacked_rows,
        "layers_attacked": layer_rows, "questions": question_rows,
        "inside": inside_tables.inside_rows, "lens": inside_tables.lens_rows,
        "inside_over_time": inside_tables.over_time_rows,
        "carriers": inside_tables.carrier_rows, "lineage": inside_tables.lineage_rows,
        "heirs": inside_tables.heir_rows,
    }  # fmt: skip
    for name, rows_of in makers.items():
        rows = [{"seed": result.seed, **row} for result in finished for row in rows_of(result)]
        pd.DataFrame(rows).to_parquet(out / "tables" / f"{name}.parquet", index=False)
    verdicts = pd.DataFrame(verdict_rows(finished))
    verdicts.to_parquet(out / "tables/verdicts.parquet", index=False)
    zeroed = pd.DataFrame(mask_tables.mask_rows(finished))
    zeroed.to_parquet(out / "tables/weight_masks.parquet", index=False)


def answer_rows(result: EditResult) -> Iterator[Row]:
    """Every answer of every arm's model: one row for each fact and format."""
    data, asked = result.setup.localization.facts[result.seed], result.asked
    words = data.tokenizer.convert_ids_to_tokens
    facts = {name: data.others.get(name, data.facts) for name in data.formats}
    subjects = [facts[f][i].subject for f, i in zip(asked.format, asked.fact, strict=True)]
    target, injected = words(asked.target.tolist()), words(np.maximum(asked.injected, 0).tolist())
    for name, edited in result.edited.items():
        answers = edited.answers
        says = words(answers.says.tolist())
        for row in range(len(asked.fact)):
            yield {
                "arm": name, "format": asked.format[row], "group": asked.group[row],
                "fact": int(asked.fact[row]), "subject": subjects[row], "target": target[row],
                "injected": injected[row], "says": says[row],
                "right": says[row] == target[row], "says_injected": says[row] == injected[row],
                "p_target": float(answers.target[row]), "p_injected": float(answers.injected[row]),
                "share": float(answers.share[row]),
            }  # fmt: skip


def arm_rows(result: EditResult) -> Iterator[Row]:
    """What each arm changed, what an attack brings back, and the verdict with its reasons."""
    config, model = result.setup.config, result.setup.model
    truth, attackers = teaching.planted(model, config.teaching), config.attack
    points = attack.points(attackers)
    for name, edited in result.edited.items():
        units, best = edited.arm.units, judging.best_of(result, edited)
        layers = [] if units is None else np.flatnonzero(
            selection.counts(units, result.space)["mlp"]
        ).tolist()  # fmt: skip
        tried = edited.record["tried"]
        taken = tried[edited.record["taken"]] if tried else {}
        judged = judging.judged([result], name)
        way = None if best is None else judging.ways(result)[best.rate]
        yield {
            "arm": name, "kind": edited.arm.kind, "same_as": edited.leader,
            "parameters": 0 if units is None else selection.parameter_count(units, result.space),
            "mlps": layers,
            "overlap": np.nan if units is None or truth is None
            else selection.overlap(units, truth, result.space),
            "learning_rate": taken.get("learning_rate", np.nan),
            "forget_weight": taken.get("forget_weight", np.nan),
            "edited": taken.get("edited", np.nan),
            "matched": bool(taken and taken["edited"] >= config.edit.matched),
            "text": edited.record["text"],
            "questions": np.nan if edited.questions is None else float(edited.questions.mean()),
            "questions_asked": 0 if edited.questions is None else len(edited.questions),
            **_judged(judged, name),
            "attacked": best is not None,
            "void": bool(best is not None and best.void),
            "best_learning_rate": np.nan if way is None else way.learning_rate,
            "best_layer": attack.ALL if way is None else way.layer,
            "best_steps": -1 if best is None else points[best.point],
            "best_accuracy": np.nan if best is None else best.accuracy,
            **_speed(result, name),
            "wall_s": edited.record["wall_s"],
        }  # fmt: skip


def _judged(judged: Judged, name: str) -> Row:
    """Verdicts, and every share that they rest on with its interval."""
    shares = judged.behaviour._asdict() | {"readable": judged.readable}
    row: Row = {"text_rise": shares.pop("text")}
    for of, share in shares.items():
        row |= {of: share.value, f"{of}_low": share.low, f"{of}_high": share.high}
    readings = {"": judged.verdict, "answers_": judged.answers, "inside_": judged.inside}
    for prefix, reading in readings.items():
        said = ("", "") if name == ORIGINAL else reading
        row |= {f"{prefix}verdict": said[0], f"{prefix}reason": said[1]}
    return row


def verdict_rows(finished: list[EditResult]) -> Iterator[Row]:
    """The verdict on each arm by the facts of all seeds together, with its truth where known."""
    for name in judging.arms_of(finished):
        own = [result for result in finished if name in result.edited]
        verdicts = [judging.judged([result], name).verdict.verdict for result in own]
        judged = judging.judged(finished, name)
        yield {
            "arm": name,
            **_judged(judged, name),
            "truth": removal.TRUTHS.get(name, ""),
            "seeds": len(own),
            "agree": verdicts.count(judged.verdict.verdict),
            "by_seed": verdicts,
            "forgotten": sum(len(judging.split_of(r).forgotten) for r in own),
            "retained": sum(
                len(np.unique(r.asked.fact[r.asked.of(r.setup.config.edit.format, RETAIN_TEST)]))
                for r in own
            ),
        }  # fmt: skip


def _speed(result: EditResult, name: str) -> Row:
    """How fast an attack brings facts back in the attacker's best way.

    Steps until it has 90 % of what it gets from the original (NaN: never), the area under its
    curve, and the standard deviation of its best accuracy over attack seeds.
    """
    settings = result.setup.config.attack
    points = attack.points(settings)
    best, of_original = (
        judging.best_of(result, result.edited[n]) for n in (name, ORIGINAL)
    )  # fmt: skip
    if best is None or of_original is None:
        return {"steps_to_90": np.nan, "area": np.nan, "attack_seeds_sd": np.nan}
    curves = judging.all_curves(result, result.edited[name])
    curve = curves.held_out[best.rate].mean(-1)
    start = judging.accuracy(result, name, settings.formats[0], *judging.FORGOTTEN)
    steps = recovery.steps_to(curve, points, 0.9 * of_original.accuracy)
    return {
        "steps_to_90": np.nan if steps is None or best.void else float(steps),
        "area": recovery.area(curve, points, start),
        "attack_seeds_sd": judging.spread_over_attack_seeds(result, name, best),
    }


def grid_rows(result: EditResult) -> Iterator[Row]:
    """Every setting that an arm was tuned over."""
    for name, edited in result.edited.items():
        for number, tried in enumerate(edited.record["tried"]):
            yield {"arm": name, **tried, "taken": number == edited.record["taken"]}


def attack_rows(result: EditResult) -> Iterator[Row]:
    """Accuracy under attack by way and number of steps, a mean over attack seeds."""
    settings = result.setup.config.attack
    for name, edited in result.edited.items():
        curves = judging.all_curves(result, edited)
        if curves is None:
            continue
        start = judging.accuracy(result, name, settings.formats[0], *judging.FORGOTTEN)
        kept = judging.accuracy(result, name, settings.formats[0], RETAIN_TEST)
        for a, (rate, layer) in enumerate(judging.ways(result)):
            way = {"arm": name, "learning_rate": rate, "layer": layer}
            yield {**way, "step": 0, "held_out": start, "shown": start, "retained": kept}
            for p, step in enumerate(attack.points(settings)):
                yield {
                    **way, "step": step,
                    "held_out": float(curves.held_out[a, p].mean()),
                    "shown": float(curves.shown[a, p]), "retained": float(curves.retained[a, p]),
                }  # fmt: skip


def attacked_rows(result: EditResult) -> Iterator[Row]:
    """Each forgotten fact at the attacker's best: in which share of the attack seeds its answer is
    right while it is held out."""
    facts = np.sort(judging.split_of(result).forgotten)
    for name, edited in result.edited.items():
        best = judging.best_of(result, edited)
        if best is not None:
            for fact, right in zip(facts.tolist(), best.facts.tolist(), strict=True):
                yield {"arm": name, "fact": fact, "right": right, "void": best.void}


def layer_rows(result: EditResult) -> Iterator[Row]:
    """What relearning through each single layer brings back, at its best number of steps."""
    truth = teaching.planted(result.setup.model, result.setup.config.teaching)
    for name, edited in result.edited.items():
        curves = judging.curves(result, edited, "layer")
        if curves is None:
            continue
        for layer, accuracy in enumerate(curves.held_out.mean(-1)):
            best = int(accuracy.argmax())
            yield {
                "arm": name, "layer": layer, "held_out": float(accuracy[best]),
                "shown": float(curves.shown[layer, best]),
                "retained": float(curves.retained[layer, best]),
                "step": attack.points(result.setup.config.attack)[best],
                "planted": truth is not None and bool(truth["mlp"][layer]),
            }  # fmt: skip


def question_rows(result: EditResult) -> Iterator[Row]:
    """Answers to questions about other things: one row for each subject."""
    for name, edited in result.edited.items():
        if edited.questions is None:
            continue
        subjects = np.array(result.setup.questions.subjects)
        for subject in dict.fromkeys(subjects.tolist()):
            own = edited.questions[subjects == subject]
            yield {"arm": name, "subject": subject, "right": int(own.sum()), "asked": len(own)}
