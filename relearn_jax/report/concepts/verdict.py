"""The verdict in plain words; every number in it is a cell of a page table (`tables.cite`)."""

from __future__ import annotations

from collections.abc import Sequence

from relearn_jax.report.concepts.arms import ARM_NAMES
from relearn_jax.report.concepts.findings import Findings
from relearn_jax.report.concepts.layer_tables import EVERY
from relearn_jax.report.concepts.reading import Run, last_stage, main_arm, stage_name
from relearn_jax.report.concepts.task_tables import target_type, types
from relearn_jax.report.sentences import complete, fact, joined, plural
from relearn_jax.report.tables import Piece, Sentence, Table, cite, value_of

SMALL = 0.02
"""F1 losses below this are too small for a share of them to mean anything. The recovery table
holds no share of a smaller loss (`experiments.tables.SMALLEST_LOSS`, the same value)."""
LEARNED = 0.1
"""An entity type with less F1 than this in the base model has not been learned."""
TIE = 0.01
"""Differences of F1 (and of shares of F1) up to this are called none: the published runs differ by
as much between repeats (protocol 8.2)."""


def headline(run: Run, found: Findings) -> Sentence:
    """The run in one sentence."""
    arm, kind = main_arm(run), target_type(run)
    last = last_stage(run, arm)
    task, row = found.tables["task"], (kind, arm)
    what = f"F1 on {kind}" if kind != "all" else "F1"
    base = cite(task, row, "base")
    if not complete(task, row, ("base", "pruned")):
        return (f"{what} of the base model is ", base, "; nothing has been pruned yet.")
    before = value_of(task, row, "base")
    lost = before - value_of(task, row, "pruned")
    if before < SMALL:
        return (f"The base model has not learned the task ({what} is ", base, "): nothing to lose.")
    verb = " fell from " if lost >= SMALL else " hardly changed, from "
    fall = (what, verb, base, " to ", cite(task, row, "pruned"), *_count(run))
    if last == "pruned":
        return (*fall, "; no retraining round has finished.")
    back = (", and stood at ", cite(task, row, last), f" after {stage_name(last)}")
    share = found.tables["recovery"]
    if lost < SMALL or not complete(share, row, (last,)):
        return (*fall, *back, ".")
    word = returned(value_of(share, row, last))
    return (*fall, *back, " (", cite(share, row, last), f" of the loss regained): {word}.")


def _count(run: Run) -> Sentence:
    prune = run.manifest.get("prune") or {}
    if not {"pruned", "of"} <= set(prune):
        return (" when the neurons were pruned",)
    pruned, of = (fact(run, f"prune.{key}", "manifest") for key in ("pruned", "of"))
    return (" when ", pruned, " of ", of, " neurons were pruned")


def returned(share: float) -> str:
    """A regained share of the loss in words."""
    if share >= 0.9:
        return "it came back"
    if share >= 0.5:
        return "most of it came back"
    return "some of it came back" if share >= 0.1 else "it did not come back"


def verdict(run: Run, found: Findings) -> tuple[tuple[str, Sentence], ...]:
    """Paragraphs as (heading, sentence); those whose numbers are not there are left out."""
    makers = (_damage, _specific, _return, _controls, _where, _scale_free, _tokens)
    return tuple(item for maker in makers if (item := maker(run, found)) is not None)


def _damage(run: Run, found: Findings):
    arm, task = main_arm(run), found.tables["task"]
    if not complete(task, ("all", arm), ("base", "pruned")):
        return None
    text = (
        "Pruning took F1 over all entity types from ",
        *(cite(task, ("all", arm), "base"), " to ", cite(task, ("all", arm), "pruned"), "."),
    )
    return "Damage", text


def _specific(run: Run, found: Findings):
    """Did the other entity types fall as well?"""
    arm, task, target = main_arm(run), found.tables["task"], target_type(run)
    others = [
        k
        for k in types(run)
        if k not in ("all", target)
        and complete(task, (k, arm), ("base", "pruned"))
        and value_of(task, (k, arm), "base") > LEARNED
    ]
    if target == "all" or not others or not complete(task, (target, arm), ("base", "pruned")):
        return None
    if value_of(task, (target, arm), "base") <= LEARNED:
        return None
    kept = {k: _kept(task, k, arm) for k in (target, *others)}
    falls = joined(
        [
            (f"on {k} from ", cite(task, (k, arm), "base"), " to ", cite(task, (k, arm), "pruned"))
            for k in others
        ]
    )
    spared = [k for k in others if kept[k] > kept[target] + 0.25]
    end = (
        f". The damage is specific to {target} only as far as {', '.join(spared)} kept more."
        if spared
        else f". At the level of the task, the damage is not specific to {target}."
    )
    return f"Not only {target}" if not spared else "Other types", ("F1 went ", *falls, end)


def _kept(task, kind: str, arm: str) -> float:
    return value_of(task, (kind, arm), "pruned") / value_of(task, (kind, arm), "base")


def _return(run: Run, found: Findings):
    arm, task, share = main_arm(run), found.tables["task"], found.tables["recovery"]
    last, row = last_stage(run, arm), ("all", arm)
    if last == "pruned" or not complete(task, row, ("base", "round1", last)):
        return None
    lost = value_of(share, row, "lost")
    epochs = fact(run, "retrain.epochs")
    text = ["After round 1 (", epochs, plural(epochs, " epoch"), ") F1 over all types was "]
    for stage in dict.fromkeys(("round1", last)):
        text += [f", after {stage_name(stage)} "] if stage != "round1" else []
        text.append(cite(task, row, stage))
        if lost >= SMALL and complete(share, row, (stage,)):
            text += [" (", cite(share, row, stage), " of the loss regained)"]
    if value_of(task, row, last) > value_of(task, row, "base") + TIE:
        text.append(
            ". It ends above the base model: retraining is also more training, "
            "so a recovery beyond 100 % says that the base model was not fully trained"
        )
    return "Return", (*text, ".")


def _controls(run: Run, found: Findings):
    arm, task, share = main_arm(run), found.tables["task"], found.tables["recovery"]
    last = last_stage(run, arm)
    controls = [
        a for a in run.arms if a != arm and complete(task, ("all", a), ("pruned", "round1", last))
    ]
    if len(run.arms) == 1:
        text = "This run has no control arm, so nothing in it can be called special to the concept"
        return "Controls", (f"{text}'s neurons: other neurons might behave alike.",)
    if not controls or last == "pruned":
        return None
    text: list[Piece] = ["With the same number of other neurons pruned, F1 went to "]
    for place, control in enumerate(controls):
        row = ("all", control)
        text += [" and to " if place else "", cite(task, row, "pruned")]
        text += [f" ({ARM_NAMES[control]}) and back to ", cite(task, row, last)]
        text.append("," if place < len(controls) - 1 else ". ")
    lost = value_of(share, ("all", arm), "lost")
    if lost < SMALL:
        text += [
            f"The {ARM_NAMES[arm]} arm lost too little F1 (",
            cite(share, ("all", arm), "lost"),
        ]
        return "Controls", (*text, ") to compare how far the arms come back.")
    if not complete(share, ("all", arm), ("lost", last)):
        return "Controls", tuple(text)
    text.append(_compared(share, arm, controls, last))
    return "Controls", (*text, ".", *_target_shares(run, found, (arm, *controls), last))


def _compared(share: Table, arm: str, controls: Sequence[str], last: str) -> str:
    """What the controls regained beside the main arm; those that lost too little are left out."""
    own = value_of(share, ("all", arm), last)
    others = [
        value_of(share, ("all", a), last)
        for a in controls
        if value_of(share, ("all", a), "lost") >= SMALL and complete(share, ("all", a), (last,))
    ]
    if not others:
        return "No control lost enough F1 to compare how far the arms come back"
    if min(own, *others) >= 0.9:
        return "All of them come back, so coming back is no property of the concept's neurons"
    if max(others) - own <= TIE:
        return "No control comes back further than the concept's own neurons"
    return "The arms differ in how far they come back; see the recovery table"


def _target_shares(run: Run, found: Findings, arms: tuple[str, ...], last: str) -> Sentence:
    """What each arm regained of the target's own F1."""
    share, kind = found.tables["recovery"], target_type(run)
    arms = tuple(
        a
        for a in arms
        if complete(share, (kind, a), (last,)) and value_of(share, (kind, a), "lost") >= SMALL
    )
    if kind == "all" or len(arms) < 2:
        return ()
    shares = [
        (
            f"the {ARM_NAMES[name]} arm ",
            "" if place else "regained ",
            cite(share, (kind, name), last),
        )
        for place, name in enumerate(arms)
    ]
    return (f" Of the F1 on {kind} that it lost, ", *joined(shares), ".")


def _where(run: Run, found: Findings):
    arm, table = main_arm(run), found.tables["layers_rank"]
    last, row = last_stage(run, arm, "layers"), (arm, EVERY)
    needed = ("base_unpruned", f"{last}_unpruned", "arithmetic_unpruned", f"{last}_pruned")
    if last == "pruned" or not complete(table, row, needed):
        return None
    gap = value_of(table, row, needed[2]) - value_of(table, row, needed[1])
    reading = (
        "They are below it: some pruned neurons have won ranks back"
        if gap > SMALL
        else "So the rise as such is no sign of learning"
    )
    return "By rank", (
        *("Unpruned neurons rose in saliency from ", cite(table, row, needed[0]), " to "),
        *(cite(table, row, needed[1]), ". They would stand at ", cite(table, row, needed[2])),
        " if the pruned ones had gone to the end of the ranking and nothing else had happened. ",
        *(f"{reading}. Pruned neurons went from ", cite(table, row, "base_pruned"), " to "),
        *(cite(table, row, needed[3]), "."),
    )


def _scale_free(run: Run, found: Findings):
    arm, table = main_arm(run), found.tables["layers_standardized"]
    last, row = last_stage(run, arm, "layers"), (arm, EVERY)
    needed = ("base_unpruned", f"{last}_unpruned", "base_pruned", f"{last}_pruned")
    if last == "pruned" or not complete(table, row, needed):
        return None
    before, now = (value_of(table, row, c) for c in needed[:2])
    change = now / before - 1
    word = "rose" if change > 0.05 else "fell" if change < -0.05 else "stayed about the same"
    pruned_now, pruned_before = (value_of(table, row, c) for c in (needed[3], needed[2]))
    kept = pruned_now / pruned_before
    tail = (
        "so the pruned neurons still tell the concept apart, however small their scale"
        if kept > 0.5
        else "so the pruned neurons lost most of what told the concept apart"
    )
    return "Free of scale", (
        *(f"On the measure that ranks cannot move, unpruned neurons {word}: ",),
        *(cite(table, row, needed[0]), " to ", cite(table, row, needed[1]), "; pruned ones went "),
        *("from ", cite(table, row, needed[2]), " to ", cite(table, row, needed[3]), f", {tail}."),
    )


def _tokens(run: Run, found: Findings):
    arm, table = main_arm(run), found.tables["similarity"]
    rows = [r for r in table.frame["layer"] if r not in (EVERY,)] if len(table.frame) else []
    final = max(rows, default=None)
    needed = ("last_unpruned", "low_unpruned", "high_unpruned")
    if final is None or not complete(table, (arm, final), needed):
        return None
    value, low, high = (value_of(table, (arm, final), c) for c in needed)
    word = (
        "above what two unrelated neurons of that layer share"
        if value > high
        else "no more than two unrelated neurons of that layer share"
        if value >= low
        else "below what two unrelated neurons of that layer share"
    )
    place = (arm, final)
    return "Tokens", (
        "In the last layer, the top tokens of unpruned neurons resemble their old ones with ",
        *(cite(table, place, needed[0]), f", {word} (null "),
        *(cite(table, place, needed[1]), " to ", cite(table, place, needed[2]), ")."),
    )
