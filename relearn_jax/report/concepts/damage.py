"""What pruning did to the model: whether the damage is specific to the target, and its numbers."""

from __future__ import annotations

import pandas as pd

from relearn_jax.evaluation.selectivity import sentence
from relearn_jax.report.concepts.arms import ARM
from relearn_jax.report.concepts.findings import Findings
from relearn_jax.report.concepts.reading import Run, main_arm
from relearn_jax.report.reading import finite
from relearn_jax.report.sentences import fact, say
from relearn_jax.report.tables import Column, Row, Sentence, Table, averaged, in_order, show

OUTSIDE = "words outside entities"


def table(run: Run) -> Table:
    """The damage by arm, mean over seeds; the intervals are those of the means, over sentences."""
    frame = in_order(run.tables["damage"], arm=run.arms)
    sentences = frame["sentences"].max() if "sentences" in frame else float("nan")
    target, others = f"F1 on {_named(frame)}", of_others(frame)
    on = f"on {sentences:.0f} sentences" if sentences == sentences else ""
    columns = (
        Column("kind", "verdict", "text"),
        Column("base", "base", "f3", target),
        Column("pruned", "pruned", "f3", target),
        Column("target_loss", "lost", "percent", target),
        Column("control_pruned", "control", "f3", target),
        Column("others_base", "base", "f3", others),
        Column("others_pruned", "pruned", "f3", others),
        Column("others_loss", "lost", "percent", others),
        Column("base_accuracy", "base", "f3", "word accuracy"),
        Column("accuracy", "pruned", "f3", "word accuracy"),
        Column("most_frequent", "top label", "percent"),
        Column("selectivity", "selectivity", "f2", on),
        Column("interval", "95 %", "text", on),
        Column("against", "above control", "f2", on),
        Column("against_interval", "95 %", "text", on),
    )
    by_seed, means = frame[frame["seed"].notna()], frame[frame["seed"].isna()].set_index("arm")
    caption = "What pruning did, before any retraining"
    sources = ("tables/damage.csv", "tables/selectivity.csv")
    item = averaged("damage", caption, by_seed, (ARM,), columns, sources)
    shown = {"kind": means["kind"]}
    for name in ("", "against_"):
        low, high = (means.get(f"{name}{end}", pd.Series(dtype=float)) for end in ("low", "high"))
        shown[f"{name}interval"] = pd.Series(
            {arm: interval(low.get(arm), high.get(arm)) for arm in means.index}, dtype=object
        )
    for name, values in shown.items():
        item.frame[name] = item.frame["arm"].map(values)
    return item


def of_others(frame: pd.DataFrame) -> str:
    """What is measured on the others: F1 on types or, where there are none, accuracy on words."""
    types = not len(frame) or frame["others"].iloc[0] != OUTSIDE
    return "F1 on the others" if types else "accuracy outside entities"


def _named(frame: pd.DataFrame) -> str:
    """The entity type that stands for the target in a table of damage."""
    return frame["target"].iloc[0] if len(frame) else "the target"


def interval(low: float | None, high: float | None) -> str | None:
    """An interval in words; None without one."""
    return f"{show(low, 'f2')} to {show(high, 'f2')}" if finite(low) and finite(high) else None


def row(run: Run, results: Findings) -> Row:
    """The damage of the main arm."""
    return results.tables["damage"].row(main_arm(run))


def kind(run: Run, results: Findings) -> str | None:
    """The verdict on the main arm; None where nothing has been pruned, or in an older run."""
    return row(run, results).raw("kind")


def said(run: Run, results: Findings) -> Sentence:
    """The verdict and its numbers in a sentence; empty without one."""
    verdict, of_arm = kind(run, results), row(run, results)
    if verdict is None or not of_arm.has("base", "pruned"):
        return ()
    frame = run.tables["damage"].set_index("arm").loc[[main_arm(run)]]
    target, others = frame["target"].iloc[0], frame["others"].iloc[0]
    text = "{verdict}: F1 on {target} went from {base} to {pruned}{count}, "
    text += "accuracy on {others} " if others == OUTSIDE else "on the others ({others}) "
    text += "from {others_base} to {others_pruned}"
    if of_arm.has("control_pruned"):
        text += ", and on {target} with as many random neurons pruned to {control_pruned}"
    text += "; accuracy over words went from {base_accuracy} to {accuracy}."
    named = target if target != "all" else "F1 over all types"
    parts = {"verdict": sentence(verdict, named), "target": named, "others": others}
    return say(text, of_arm, count=counted(run), **parts)


def counted(run: Run) -> Sentence:
    """How many neurons were pruned; empty where that is not known."""
    if not all(finite((run.manifest.get("prune") or {}).get(k)) for k in ("pruned", "of")):
        return ()
    counts = {key: fact(run, f"prune.{key}", "manifest") for key in ("pruned", "of")}
    return say(" when {pruned} of {of} neurons were pruned", **counts)


def selective(run: Run, results: Findings) -> Sentence:
    """Selectivity with its interval; empty without a dose curve."""
    of_arm = row(run, results)
    if not of_arm.has("selectivity"):
        return ()
    text = (
        "{target} lost {target_loss} of its F1 and the others {others_loss}. On the text of the "
        "dose curve, selectivity is {selectivity} (95 % interval over sentences {interval})"
    )
    if of_arm.has("against"):
        text += ", and {against} above its control ({against_interval})"
    target = run.tables["damage"]["target"].iloc[0]
    return say(f"{text}.", of_arm, target=target if target != "all" else "The whole task")


def title(run: Run, results: Findings) -> str | None:
    """The title of the page by the verdict; None without one."""
    target = run.target
    return {
        "unlearned": f"The base model never learned {target}",
        "collapsed": f"The model collapsed when neurons of {target} were pruned. Does it recover?",
        "slight": f"Pruning hardly touched {target}",
        "unspecific": f"Pruning damaged more than {target}. What comes back?",
        "partial": f"{target} was partly removed from the model. Does it come back?",
        "removed": f"{target} was removed from the model, and the rest left. Does it come back?",
    }.get(kind(run, results))
