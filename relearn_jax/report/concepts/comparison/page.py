"""The page that compares the groups of a run."""

from __future__ import annotations

from relearn_jax.report import html, provenance, section
from relearn_jax.report.concepts import dose, protocol
from relearn_jax.report.concepts.arms import ARM_NAMES
from relearn_jax.report.concepts.comparison import figures, sentences
from relearn_jax.report.concepts.comparison import tables as of
from relearn_jax.report.concepts.comparison.reading import Sets, size
from relearn_jax.report.concepts.comparison.sentences import Tables
from relearn_jax.report.concepts.reading import main_arm, stage_name, tracked_arms
from relearn_jax.report.html import Drawn, details, figure, prose, table
from relearn_jax.report.section import Section
from relearn_jax.report.sentences import fact, listed, over_seeds, plural
from relearn_jax.report.tables import Sentence, Table


def tables(sets: Sets) -> dict[str, Table]:
    """Every table of the comparison, by name; without their files they are empty."""
    return section.tables(SECTIONS, sets)


def page(sets: Sets, tables: Tables) -> Drawn:
    """The comparison's HTML and its plots."""
    targets = tuple(dict.fromkeys(g.target for g in sets.groups))
    if len(targets) > 1:
        title = f"{listed(targets, 4)} were pruned from the model. Do they come back?"
    else:
        title = f"The concept {targets[0]} was pruned in several ways. Does it come back?"
    pruned = (("Concepts pruned", ", ".join(targets)), ("Pruned", ", ".join(_sizes(sets))))
    run = sets.run
    facts = protocol.glance(run, pruned)
    unfinished = bool(sets.gaps) or not run.manifest.get("finished")
    notice = provenance.unfinished(sets.gaps) if unfinished else ""
    sections = section.made(SECTIONS, sets, tables)
    said = sentences.headline(sets, tables)
    return provenance.document(run, title, said, facts, sections, protocol.PAPER, notice)


def _said(*paragraphs: Sentence) -> str:
    return "".join(f"<p>{prose(text)}</p>" for text in paragraphs if text)


def _sizes(sets: Sets) -> tuple[str, ...]:
    return tuple(dict.fromkeys(size(g) for g in sets.groups))


def done(sets: Sets, tables: Tables) -> Drawn:
    """What was run: the sets, the model, the texts."""
    run = sets.run
    regrowths = tuple(dict.fromkeys(g.regrowth for g in sets.groups))
    texts = tuple(dict.fromkeys(g.text or protocol.default_text(run) for g in sets.groups))
    kinds = {
        "seed": map(str, run.seeds),
        "concept": dict.fromkeys(g.target for g in sets.groups),
        "share": _sizes(sets),
        "regrowth": regrowths,
        "ranking": dict.fromkeys(g.ranking for g in sets.groups if g.ranking),
        "retraining text": map(str, texts),
        "arm": (ARM_NAMES[a] for a in run.arms),
    }
    named = {kind: ", ".join(values) for kind, values in kinds.items()}
    product = " × ".join(f"<b>{k}</b> ({html.text(v)})" for k, v in named.items() if v)
    names = ("count", "chunk", "devices")
    count, chunk, devices = (fact(run, f"sets.{name}", "manifest") for name in names)
    steps = (
        protocol.based(run),
        f"{prose((count,))} concept sets were pruned, each in a copy of the base model of its "
        f"seed: {product}. They ran {prose((chunk,))} at a time on {prose((devices,))} "
        f"{plural(devices, 'device')}. A group is all sets that differ in seed and arm only.",
        f"To prune a neuron means: {protocol.pruning(run)}. The arms differ in which neurons: "
        f"{protocol.arms(run, 'the concept')}.",
        protocol.retrained(run, regrowths, texts),
    )
    body = provenance.steps(run, steps) + links(sets) + table(tables["groups"])
    return body + protocol.texts(run), ()


def links(sets: Sets) -> str:
    """Links to the pages of the groups."""
    items = " · ".join(
        f'<a href="groups/{html.text(name)}/report.html">{html.text(sets.labels[name])}</a>'
        for name in sets.runs
    )
    return f"<p>Each group has a page of its own, with all its stages and neurons: {items}.</p>"


def pruned(sets: Sets, tables: Tables) -> Drawn:
    """What pruning alone took from every group, and the dose curves of every concept."""
    body, plots = _said(sentences.damage(sets)), ()
    firsts = {run.target: run for run in reversed(sets.runs.values())}
    curves = {target: run for target, run in firsts.items() if len(run.tables["selectivity"])}
    if curves:
        panels = [
            panel for target, run in curves.items() for panel in dose.panels(run, name=target)
        ]
        plots = (dose.plot(next(iter(curves.values())))._replace(panels=tuple(panels)),)
        body += figure(
            plots[0],
            "Share of its F1 that a type keeps, by the share of neurons pruned: thick lines are "
            "means over seeds, thin lines single seeds.",
            html.data(["tables/selectivity.csv", "tables/dose.csv"], "damage_sets"),
        )
    return body + table(tables["damage_sets"], note=over_seeds(sets.run.seeds)), plots


def recovery(sets: Sets, tables: Tables) -> Drawn:
    """F1 on the target concept, by group and arm."""
    item, arm = tables["sets"], main_arm(sets.run)
    plot = figures.recovery(sets)
    data = html.data(item.sources[:1], item.name)
    controls = [a for a in tracked_arms(sets.run) if a != arm]
    body = _said(*(sentences.beside(sets, item, a) for a in controls))
    body += figure(
        plot,
        "F1 on the target concept after pruning and after each epoch of retraining, one panel a "
        "group: thick lines are means over seeds, thin lines single seeds, the dashed level is the "
        "base model before pruning, vertical rules end a round.",
        data,
    )
    note = (
        "The share regained is (F1 now − F1 when pruned) / (F1 of the base model − F1 when pruned)."
    )
    return body + table(item, note=over_seeds(sets.run.seeds) + note), (plot,)


def layers(sets: Sets, tables: Tables) -> Drawn:
    """Where the concept sits, by layer."""
    item, arm = tables["by_layer"], main_arm(sets.run)
    if item.frame.empty:
        return html.absent("saliency by layer (tables/layers.parquet)"), ()
    plot = figures.by_layer(sets, item)
    body = (
        "<p>Scale-free saliency is the distance between a neuron's mean over words of the concept "
        "and over other words, in standard deviations. It is computed from one neuron at a time, "
        "so pruning others cannot move it.</p>"
    ) + _said(sentences.moved(sets, tables["centre"]))
    body += figure(
        plot,
        f"Mean scale-free saliency of the target concept over all neurons of a layer, "
        f"{ARM_NAMES[arm]} arm; "
        "bars are the standard deviation over seeds.",
        html.data(item.sources, item.name),
    )
    body += table(tables["centre"], arm, over_seeds(sets.run.seeds))
    return body + details(item.caption, table(item, note=over_seeds(sets.run.seeds))), (plot,)


def takeover(sets: Sets, tables: Tables) -> Drawn:
    """Which concepts the pruned neurons stand for."""
    item, arm = tables["takeover"], main_arm(sets.run)
    if item.frame.empty:
        return html.absent("concepts of the pruned neurons (tables/takeover.parquet)"), ()
    plot = figures.takeover(sets, item)
    body = (
        "<p>A neuron stands for a concept here if it is among as many first neurons of its ranking "
        "as were pruned. Neurons that rank high for one concept often do for others, so each count "
        "is shown beside the same count before pruning, and beside chance: as many neurons drawn "
        "from all that may be pruned.</p>"
    ) + _said(sentences.taken(sets, item))
    body += figure(
        plot,
        "Pruned neurons (rows: the concept they were pruned for) among the first neurons of each "
        "concept (columns), minus chance, in percent of the first neurons; blue is more than "
        f"chance, orange less. Before pruning and after {stage_name(sets.last)}.",
        html.data(item.sources, item.name),
    )
    note = "At the end: above or below chance if every seed lies outside its 95 % range. "
    return body + table(item, arm, over_seeds(sets.run.seeds) + note), (plot,)


def overlap(sets: Sets, tables: Tables) -> Drawn:
    """Overlap of the first neurons of different concepts."""
    item = tables["overlap"]
    if item.frame.empty:
        return html.absent("overlap of two concepts' first neurons (tables/overlap.parquet)"), ()
    body = (
        "<p>Before anything is pruned, how many neurons are among the first of two concepts? "
        "Chance draws both from all candidates alike. Rankings that prefer the same layers share "
        "more than that without sharing anything else, so a second range is that of draws with as "
        "many neurons from each layer as the two concepts have. A pair is above or below chance if "
        "it is so in every seed.</p>"
    )
    for verdict, text in sentences.overlaps(item):
        body += f"<p><b>{verdict.capitalize()}.</b> {prose(text)}</p>"
    return body + table(item, note=over_seeds(sets.run.seeds)), ()


def repeated(sets: Sets, tables: Tables) -> Drawn:
    """Everything needed to repeat the run."""
    body, plots = provenance.settings(sets.run, protocol.WORK)
    return links(sets) + body, plots


SECTIONS = (
    Section("done", "What was done", done, lambda sets: (of.groups(sets),)),
    Section(
        *("pruned", "Dose: what pruning alone takes", pruned),
        lambda sets: (of.damage_by_group(sets),),
    ),
    Section("recovery", "Recovery", recovery, lambda sets: (of.recovery(sets),)),
    Section("layers", "Recovery by layer", layers, of.layers),
    Section(
        *("takeover", "What the pruned neurons stand for now", takeover),
        lambda sets: (of.takeover(sets),),
    ),
    Section(
        *("overlap", "Do concepts share their first neurons?", overlap),
        lambda sets: (of.overlap(sets),),
    ),
    Section("settings", "Settings and provenance", repeated),
)
"""In the order of the page, each with the tables it brings."""
