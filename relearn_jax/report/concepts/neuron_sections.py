"""Sections of a group's page about its neurons: where saliency sits, and what tokens they have."""

from __future__ import annotations

from collections.abc import Mapping

from relearn_jax.neurons import saliency
from relearn_jax.neurons.saliency import SALIENCIES, SHOWN
from relearn_jax.report import html
from relearn_jax.report.concepts import (
    figures,
    layer_figures,
    layer_tables,
    token_tables,
)
from relearn_jax.report.concepts.arms import ARM_NAMES
from relearn_jax.report.concepts.findings import Findings, map_seed, maps, points
from relearn_jax.report.concepts.layer_figures import Measure
from relearn_jax.report.concepts.layer_tables import EVERY
from relearn_jax.report.concepts.reading import Run, last_stage, main_arm, stage_name
from relearn_jax.report.concepts.snapshots import At, Snapshot, Tokens
from relearn_jax.report.draw import Plot
from relearn_jax.report.html import Drawn, details, figure, files, prose, table
from relearn_jax.report.sentences import over_seeds, say
from relearn_jax.report.tables import Table

Neurons, Words = Mapping[At, Snapshot], Mapping[At, Tokens]


def heat(run: Run, results: Findings) -> Drawn:
    """Saliency of every neuron at every stage; all measures but the first are folded away."""
    stages = {name: maps(run, results, name) for name in SHOWN}
    if not any(stages.values()):
        return html.absent("saliency of every neuron (tables/concepts.parquet)"), ()
    arm, seed = main_arm(run), map_seed(run, results)
    cut = next((s.pruned for p, s in results.neurons.items() if p[:2] == (seed, arm)), None)
    who = f"{ARM_NAMES[arm]} arm, seed {seed} (one seed, since every seed prunes its own neurons)"
    body, plots, bars = "", [], []
    for name, words in SHOWN.items():
        top = figures.scale_top(stages[name], SALIENCIES[name].top)
        plots.append(figures.heat_maps(run, stages[name], cut, f"heat_{name}", top))
        bars.append(figures.colour_bar(f"scale_{name}", top, words.scale))
        about = (
            f"The same neurons on the {words.short} measure{words.unit and f', in {words.unit}'}"
            if body
            else f"Each pixel is a neuron ({figures.row_word(run)} by channel): bright ones stand "
            f"for {html.text(run.target)} more than most, dark ones less, equal scores stand in "
            "the order of their ids"
        )
        data = files(["tables/concepts.parquet"])
        drawn = figure(plots[-1], f"{about}; {who}.", data, wide=True, above=_scale(bars[-1]))
        fold = f"The same maps on the {words.short} measure"
        body += details(fold, drawn) if body else drawn
    return body, (*plots, *bars)


def _scale(bar: Plot) -> str:
    return f'<div class="scale panel">{html.panel(bar, 0)}</div>'


def redistribution(run: Run, results: Findings) -> Drawn:
    """Saliency by layer, pruned and unpruned apart, and what ranks alone would do."""
    tables, arm = results.tables, main_arm(run)
    if run.tables["layers"].empty:
        notice = html.absent("saliency by layer (tables/layers.parquet)")
        return notice + _shift_tables(run, results), ()
    measures = [
        Measure(tables[f"layers_{name}"], saliency.column(name), words.label, f", {words.short}")
        for name, words in SHOWN.items()
    ]
    plot = layer_figures.by_layer(run, measures, "layers")
    names = {f"layers_{name}": words.short for name, words in SHOWN.items()}
    places = " and below ".join(words.place for words in SHOWN.values())
    data = html.data(["tables/layers.csv"], names)
    body = figure(
        plot,
        f"Mean saliency for {html.text(run.target)} by {figures.row_word(run)} in the "
        f"{ARM_NAMES[arm]} arm, above {places}; base values are those of "
        "the same neurons before pruning, bars the 95 % interval over neurons, and where all "
        "pruned neurons are tied (constant outputs) they are left out by rank.",
        data,
    )
    body += _rank_note(run, results)
    change = layer_figures.change_by_arm(run, measures, "change")
    body += figure(
        change,
        "Last stage minus base for every arm: where a control moves like the concept arm, the "
        "change says nothing about the concept's own neurons.",
        data,
    )
    body += _shift_tables(run, results)
    more = "".join(table(item.table, arm, over_seeds(run.seeds, "")) for item in measures)
    return body + details("Saliency by layer and stage, as tables", more), (plot, change)


def _shift_tables(run: Run, results: Findings) -> str:
    return "".join(
        table(results.tables[name], main_arm(run), over_seeds(run.seeds, ""))
        for name in ("centres", "redistribution")
    )


def _rank_note(run: Run, results: Findings) -> str:
    arm = main_arm(run)
    ranks, free = (results.tables[f"layers_{n}"].row(arm, 0) for n in ("rank", "standardized"))
    text = (
        "<p>Saliency by rank is a place in a queue, so it sums to the same total whatever happens: "
        "when pruned neurons lose their scale and go to the end, all others move up, whether or "
        "not they learned anything. The dotted line shows how far they would move if they kept "
        "their order. The scale-free measure (difference of the means in standard deviations) "
        "is computed from one neuron at a time and cannot be moved by others; what it leaves out "
        "is how strongly a neuron speaks to the next layer. Trust what both show.</p>"
    )
    now = f"{last_stage(run, arm, 'layers')}_unpruned"
    if figures.row_word(run) == "state" and ranks.has("base_unpruned", now):
        case = (
            "A telling case is state 0, the embedding, which is never pruned and hardly trained: "
            f"its mean goes from {{base_unpruned}} to {{{now}}} by rank, and from "
            f"{{free.base_unpruned}} to {{free.{now}}} free of scale."
        )
        text += f"<p>{prose(say(case, ranks, free=free))}</p>"
    return f"<aside><h3>What ranks do on their own</h3>{text}</aside>"


def similarity(run: Run, results: Findings) -> Drawn:
    """How alike the top tokens are to those of the base model, beside the null."""
    item = results.tables["similarity"]
    if run.tables["layers"].empty or item.frame.empty:
        return html.absent("similarity by layer (tables/layers.parquet)"), ()
    arm = main_arm(run)
    arms = (arm, "random") if arm != "random" and "random" in run.arms else (arm,)
    plot = layer_figures.similarity(run, item, arms)
    data = html.data(item.sources, "similarity")
    body = figure(
        plot,
        "Cosine between the mean word vectors of a neuron's top tokens before pruning and after "
        "retraining; the band is what pairs of unrelated neurons of the same layer give, so only "
        "what lies above it is memory.",
        data,
    )
    target = html.text(run.target)
    tokens = (
        Measure(
            results.tables["token_jaccard"], "token_jaccard", "overlap with base", ", token overlap"
        ),
        Measure(
            *(results.tables["target_share"], "target_share"),
            *(f"share of {run.target} words", f", {run.target} words"),
        ),
    )
    second = layer_figures.by_layer(run, tokens, "tokens")
    body += figure(
        second,
        f"Above: overlap of the top tokens with those of the base model (1: the same words). "
        f"Below: share of top tokens that occur as {target} in the probed text.",
        html.data(["tables/layers.csv"], {"token_jaccard": "overlap", "target_share": "share"}),
    )
    body += table(item, arm, over_seeds(run.seeds, ""))
    listed = (*(t.table for t in tokens), results.tables["null_neurons"])
    more = "".join(table(t, arm, over_seeds(run.seeds, "")) for t in listed)
    return body + details("Token overlap, target words and null neurons", more), (plot, second)


def relation(run: Run, results: Findings) -> Drawn:
    """Saliency against similarity."""
    item, clouds = results.tables["relation"], points(run, results)
    if not clouds or item.frame.empty:
        return html.absent("saliency against similarity (tables/neurons.parquet)"), ()
    arm = main_arm(run)
    plot = figures.density(clouds)
    stage = stage_name(last_stage(run, arm, "neurons"))
    body = figure(
        plot,
        f"Neurons of the {ARM_NAMES[arm]} arm after {stage}, all seeds: the stronger the colour, "
        "the more neurons have this similarity (across) and this saliency (up); neurons whose top "
        "tokens did not change are left out.",
        html.data(item.sources, "relation"),
    )
    text = (
        "Over all neurons the correlation is {all}, among the unpruned {unpruned} and among the "
        "pruned {pruned}. A pooled correlation mixes groups and layers that differ in both "
        "measures; within a layer it can have another sign."
    )
    note = "Chance: 95 % of the correlations of unrelated values are nearer to 0. "
    body += f"<p>{prose(say(text, item.row(arm, EVERY)))}</p>"
    body += table(item, arm, over_seeds(run.seeds, "") + note)
    return body, (plot,)


def redistribution_tables(run: Run, neurons: Neurons, words: Words) -> tuple[Table, ...]:
    """Saliency by layer, the layers of high-saliency neurons, and their mean."""
    measures = (saliency.column(name) for name in SHOWN)
    return (
        *(layer_tables.layers(run, measure, neurons) for measure in measures),
        layer_tables.redistribution(run, neurons),
        layer_tables.centres(run, neurons, words),
    )


def similarity_tables(run: Run, neurons: Neurons, words: Words) -> tuple[Table, ...]:
    """Similarity and other measures of top tokens by layer, and neurons without tokens."""
    return (
        layer_tables.similarity(run),
        *(layer_tables.layers(run, measure, neurons) for measure in layer_tables.TOKENS),
        token_tables.null_neurons(run, neurons, words),
    )
