"""The verdict in plain words; every number in it is a cell of a page table."""

from __future__ import annotations

from collections.abc import Sequence

from relearn_jax.evaluation.entities import SMALLEST_LOSS
from relearn_jax.evaluation.selectivity import LEARNED
from relearn_jax.report.concepts import damage
from relearn_jax.report.concepts.arms import ARM_NAMES
from relearn_jax.report.concepts.findings import Findings
from relearn_jax.report.concepts.layer_tables import EVERY
from relearn_jax.report.concepts.reading import Run, last_stage, main_arm, stage_name, tracked_arms
from relearn_jax.report.concepts.task_tables import target_type, types
from relearn_jax.report.sentences import fact, joined, plural, say
from relearn_jax.report.tables import Row, Sentence

WON_BACK = 0.02
"""Mean saliencies by rank that differ by no more than this are called equal."""
TIE = 0.01
"""Differences of F1 (and of shares of F1) up to this are called none: the published runs differ by
as much between repeats (specs: relearning 8.2)."""


def headline(run: Run, results: Findings) -> Sentence:
    """The run in a few sentences: first whether the damage is specific, then what came back."""
    first = damage.said(run, results)
    if damage.kind(run, results) == "unlearned":
        return first
    return (*first, *_return_in_short(run, results)) if first else _course(run, results)


def _return_in_short(run: Run, results: Findings) -> Sentence:
    """What retraining brought back; empty without a round."""
    arm, kind = main_arm(run), target_type(run)
    last = last_stage(run, arm)
    task, share = (results.tables[name].row(kind, arm) for name in ("task", "recovery"))
    if last == "pruned" or not task.has(last):
        return () if len(run.stages) == 2 else (" No retraining round has finished.",)
    parts = {"what": f"F1 on {kind}" if kind != "all" else "F1", "stage": stage_name(last)}
    text = f" After {{stage}} {{what}} stood at {{{last}}}"
    if not share.has(last) or share.value("lost") < SMALLEST_LOSS:
        return say(f"{text}.", task, **parts)
    parts |= {"regained": share.cite(last), "back": returned(share.value(last))}
    return say(f"{text} ({{regained}} of the loss regained): {{back}}.", task, **parts)


def _course(run: Run, results: Findings) -> Sentence:
    """How F1 on the target went from stage to stage, in runs that have no verdict on the damage."""
    arm, kind = main_arm(run), target_type(run)
    last = last_stage(run, arm)
    task, share = (results.tables[name].row(kind, arm) for name in ("task", "recovery"))
    what = f"F1 on {kind}" if kind != "all" else "F1"
    if not task.has("base", "pruned"):
        return say(
            "{what} of the base model is {base}; nothing has been pruned yet.", task, what=what
        )
    lost = task.value("base") - task.value("pruned")
    if task.value("base") < SMALLEST_LOSS:
        text = "The base model has not learned the task ({what} is {base}): nothing to lose."
        return say(text, task, what=what)
    verb = "fell" if lost >= SMALLEST_LOSS else "hardly changed,"
    parts = {"what": what, "verb": verb, "count": damage.counted(run), "stage": stage_name(last)}
    text = "{what} {verb} from {base} to {pruned}{count}"
    if last == "pruned":
        return say(f"{text}; no retraining round has finished.", task, **parts)
    text += f", and stood at {{{last}}} after {{stage}}"
    if lost < SMALLEST_LOSS or not share.has(last):
        return say(f"{text}.", task, **parts)
    parts |= {"regained": share.cite(last), "back": returned(share.value(last))}
    return say(f"{text} ({{regained}} of the loss regained): {{back}}.", task, **parts)


def returned(share: float) -> str:
    """A regained share of the loss in words."""
    if share >= 0.9:
        return "it came back"
    if share >= 0.5:
        return "most of it came back"
    return "some of it came back" if share >= 0.1 else "it did not come back"


def verdict(run: Run, results: Findings) -> tuple[tuple[str, Sentence], ...]:
    """Paragraphs as (heading, sentence); those whose numbers are not there are left out."""
    if damage.kind(run, results) == "unlearned":
        said = _damage(run, results)
        return (said,) if said else ()
    makers = (
        _damage,
        _selective,
        _specific,
        _return,
        _speed,
        _controls,
        _where,
        _scale_free,
        _tokens,
    )
    return tuple(item for maker in makers if (item := maker(run, results)) is not None)


def _damage(run: Run, results: Findings):
    task = results.tables["task"].row("all", main_arm(run))
    if not task.has("base", "pruned"):
        return None
    return "Damage", say("Pruning took F1 over all entity types from {base} to {pruned}.", task)


def _selective(run: Run, results: Findings):
    said = damage.selective(run, results)
    return ("Selectivity", said) if said else None


def _specific(run: Run, results: Findings):
    """Did the other entity types fall as well? For runs without a dose curve."""
    arm, target = main_arm(run), target_type(run)
    if damage.row(run, results).has("selectivity"):
        return None
    rows = {kind: results.tables["task"].row(kind, arm) for kind in types(run) if kind != "all"}
    learned = {
        kind: row
        for kind, row in rows.items()
        if row.has("base", "pruned") and row.value("base") > LEARNED
    }
    others = [kind for kind in learned if kind != target]
    if target not in learned or not others:
        return None
    left = {kind: row.value("pruned") / row.value("base") for kind, row in learned.items()}
    falls = joined([say("on {type} from {base} to {pruned}", learned[k], type=k) for k in others])
    spared = [k for k in others if left[k] > left[target] + 0.25]
    end = (
        f"The damage is specific to {target} only as far as {', '.join(spared)} kept more."
        if spared
        else f"At the level of the task, the damage is not specific to {target}."
    )
    heading = "Other types" if spared else f"Not only {target}"
    return heading, say("F1 went {falls}. {end}", falls=falls, end=end)


def _return(run: Run, results: Findings):
    arm = main_arm(run)
    task, share = (results.tables[name].row("all", arm) for name in ("task", "recovery"))
    last = last_stage(run, arm)
    if last == "pruned" or not task.has("base", "round1", last):
        return None
    unit = "step" if (run.config.get("retrain") or {}).get("steps") else "epoch"
    length = fact(run, f"retrain.{unit}s")
    text = "After round 1 ({length} {word}) F1 over all types was "
    for stage in dict.fromkeys(("round1", last)):
        text += f", after {stage_name(stage)} " if stage != "round1" else ""
        text += f"{{{stage}}}"
        if share.value("lost") >= SMALLEST_LOSS and share.has(stage):
            text += f" ({{share.{stage}}} of the loss regained)"
    if task.value(last) > task.value("base") + TIE:
        text += (
            ". It ends above the base model: retraining is also more training, "
            "so a recovery beyond 100 % says that the base model was not fully trained"
        )
    parts = {"length": length, "word": plural(length, unit), "share": share}
    return "Return", say(f"{text}.", task, **parts)


def _speed(run: Run, results: Findings):
    """How many steps it took, beside a model that never learned the target."""
    kind, table = target_type(run), results.tables["recovery"]
    own, oracle = (table.row(kind, arm) for arm in (main_arm(run), "oracle"))
    if not own.has("steps_to_50"):
        return None
    text = f"Half of the lost F1 on {kind} was back after {{steps_to_50}} steps"
    text += ", 90 % of it after {steps_to_90}" if own.has("steps_to_90") else ""
    if oracle.has("steps_to_50"):
        text += "; a model that never learned it came as far in {oracle.steps_to_50} steps"
        text += " and {oracle.steps_to_90}" if oracle.has("steps_to_90") else ""
    elif oracle.has("lost"):
        text += "; a model that never learned it did not come as far"
    return "Speed", say(f"{text}.", own, oracle=oracle)


def _controls(run: Run, results: Findings):
    arm, task = main_arm(run), results.tables["task"]
    share, last = results.tables["recovery"].row("all", arm), last_stage(run, arm)
    if len(tracked_arms(run)) == 1:
        text = "This run has no control arm, so nothing in it can be called special to the concept"
        return "Controls", (f"{text}'s neurons: other neurons might behave alike.",)
    rows = {a: task.row("all", a) for a in tracked_arms(run) if a != arm}
    rows = {a: row for a, row in rows.items() if row.has("pruned", "round1", last)}
    if not rows or last == "pruned":
        return None
    went = [
        say(f"to {{pruned}} ({ARM_NAMES[control]}) and back to {{{last}}}", row)
        for control, row in rows.items()
    ]
    went = joined(went, ", and ", ", and ")
    if share.value("lost") < SMALLEST_LOSS:
        end = f"The {ARM_NAMES[arm]} arm lost too little F1 ({{lost}}) to compare how far the arms "
        end += "come back."
    elif not share.has("lost", last):
        end = ""
    else:
        end = f"{_compared(results, arm, tuple(rows), last)}.{{shares}}"
    shares = _target_shares(run, results, (arm, *rows), last)
    text = f"With the same number of other neurons pruned, F1 went {{went}}. {end}"
    return "Controls", say(text, share, went=went, shares=shares)


def _compared(results: Findings, arm: str, controls: Sequence[str], last: str) -> str:
    """What the controls regained beside the main arm; those that lost too little are left out."""
    rows = [results.tables["recovery"].row("all", control) for control in controls]
    others = [r.value(last) for r in rows if r.value("lost") >= SMALLEST_LOSS and r.has(last)]
    own = results.tables["recovery"].row("all", arm).value(last)
    if not others:
        return "No control lost enough F1 to compare how far the arms come back"
    if min(own, *others) >= 0.9:
        return "All of them come back, so coming back is no property of the concept's neurons"
    if max(others) - own <= TIE:
        return "No control comes back further than the concept's own neurons"
    return "The arms differ in how far they come back; see the recovery table"


def _target_shares(run: Run, results: Findings, arms: Sequence[str], last: str) -> Sentence:
    """What each arm regained of the target's own F1."""
    kind = target_type(run)
    rows = {arm: results.tables["recovery"].row(kind, arm) for arm in arms}
    rows = {
        a: row for a, row in rows.items() if row.has(last) and row.value("lost") >= SMALLEST_LOSS
    }
    if kind == "all" or len(rows) < 2:
        return ()
    shares = joined(
        [
            say(f"the {ARM_NAMES[arm]} arm {'' if place else 'regained '}{{{last}}}", row)
            for place, (arm, row) in enumerate(rows.items())
        ]
    )
    return say(" Of the F1 on {type} that it lost, {shares}.", type=kind, shares=shares)


def _layer_row(run: Run, results: Findings, name: str) -> tuple[str, Row]:
    arm = main_arm(run)
    return last_stage(run, arm, "layers"), results.tables[name].row(arm, EVERY)


def _where(run: Run, results: Findings):
    last, row = _layer_row(run, results, "layers_rank")
    now, pruned = f"{last}_unpruned", f"{last}_pruned"
    if last == "pruned" or not row.has("base_unpruned", now, "arithmetic_unpruned", pruned):
        return None
    reading = (
        "They are below it: some pruned neurons have won ranks back"
        if row.value("arithmetic_unpruned") - row.value(now) > WON_BACK
        else "So the rise as such is no sign of learning"
    )
    text = (
        f"Unpruned neurons rose in saliency from {{base_unpruned}} to {{{now}}}. They would stand "
        "at {arithmetic_unpruned} if the pruned ones had gone to the end of the ranking and "
        f"nothing else had happened. {reading}. Pruned neurons went from {{base_pruned}} to "
        f"{{{pruned}}}."
    )
    return "By rank", say(text, row)


def _scale_free(run: Run, results: Findings):
    last, row = _layer_row(run, results, "layers_standardized")
    now, pruned = f"{last}_unpruned", f"{last}_pruned"
    if last == "pruned" or not row.has("base_unpruned", now, "base_pruned", pruned):
        return None
    change = row.value(now) / row.value("base_unpruned") - 1
    word = "rose" if change > 0.05 else "fell" if change < -0.05 else "stayed about the same"
    tail = (
        "so the pruned neurons still tell the concept apart, however small their scale"
        if row.value(pruned) > 0.5 * row.value("base_pruned")
        else "so the pruned neurons lost most of what told the concept apart"
    )
    text = (
        f"On the measure that ranks cannot move, unpruned neurons {word}: {{base_unpruned}} to "
        f"{{{now}}}; pruned ones went from {{base_pruned}} to {{{pruned}}}, {tail}."
    )
    return "Free of scale", say(text, row)


def _tokens(run: Run, results: Findings):
    table = results.tables["similarity"]
    row = table.row(main_arm(run), table.frame["layer"].max())
    if not row.has("last_unpruned", "low_unpruned", "high_unpruned"):
        return None
    value, low, high = (row.value(f"{c}_unpruned") for c in ("last", "low", "high"))
    word = "above what" if value > high else "no more than" if value >= low else "below what"
    text = (
        "In the last layer, the top tokens of unpruned neurons resemble their old ones with "
        f"{{last_unpruned}}, {word} two unrelated neurons of that layer share (null "
        "{low_unpruned} to {high_unpruned})."
    )
    return "Tokens", say(text, row)
