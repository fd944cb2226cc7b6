"""The sections of a group's page, in reading order. Each makes its HTML from the findings."""

from __future__ import annotations

from relearn_jax.report import html, provenance
from relearn_jax.report.concepts import (
    damage,
    dose,
    figures,
    layer_tables,
    neuron_list,
    protocol,
    task_tables,
    token_tables,
)
from relearn_jax.report.concepts import neuron_sections as neurons
from relearn_jax.report.concepts.claims import EXPLAINED, FAILS, HOLDS, OPEN, PART, claims
from relearn_jax.report.concepts.findings import Findings
from relearn_jax.report.concepts.reading import Run
from relearn_jax.report.concepts.task_tables import target_type, types
from relearn_jax.report.concepts.verdict import verdict
from relearn_jax.report.html import Drawn, details, figure, prose, table
from relearn_jax.report.section import Section
from relearn_jax.report.sentences import over_seeds
from relearn_jax.report.tables import Table

SIGNS = {HOLDS: "✓", PART: "◐", EXPLAINED: "≈", FAILS: "✗", OPEN: "?"}


def answer(run: Run, results: Findings) -> Drawn:
    """The verdict, paragraph by paragraph."""
    return html.answers(verdict(run, results)), ()


def performance(run: Run, results: Findings) -> Drawn:
    """F1 over the stages, by arm."""
    kinds = types(run)
    lead = tuple(dict.fromkeys(("all", target_type(run))))
    rest = tuple(k for k in kinds if k not in lead)
    plots = [figures.task(run, lead, "task", (420, 285))]
    seeds = len(run.seeds)
    spread = (
        f"thick lines are means over {seeds} seeds, thin lines the single seeds"
        if seeds > 1
        else "one seed, so no spread"
    )
    data = html.data(["tables/scores.csv"], "task")
    body = figure(
        plots[0],
        f"F1 on held-out text after pruning and after each epoch of retraining: {spread}; the "
        "dashed level is the base model before pruning, vertical rules end a round.",
        data,
    )
    if rest:
        plots.append(
            figures.task(run, rest, "task_types", (340, 240) if len(rest) > 2 else (420, 285))
        )
        body += figure(
            plots[1], "The same for the other entity types, none of which was aimed at.", data
        )
    body += table(results.tables["task"], note=over_seeds(run.seeds, ""))
    more = table(results.tables["task_subword"]) + table(results.tables["detail"])
    return body + details("Scored on sub-words; precision, recall and accuracy", more), tuple(plots)


def recovery(run: Run, results: Findings) -> Drawn:
    """Share of the loss regained."""
    text = (
        "<p>The share regained is (F1 now − F1 when pruned) / (F1 of the base model − F1 when "
        "pruned). It is above 100 % where a model ends above its base, and means little where "
        "hardly any F1 was lost.</p>"
    )
    plots = ()
    if figures.stepwise(run):
        plots = (figures.first_steps(run, target_type(run)),)
        text += figure(
            plots[0],
            f"F1 on {html.text(run.target)} in the first round of retraining, step by step: thick "
            "lines are means over seeds, thin lines the single seeds; the dashed level is the base "
            "model before pruning.",
            html.data(["tables/scores.csv"], "recovery"),
        )
    return text + table(results.tables["recovery"], note=over_seeds(run.seeds, "")), plots


def judged(run: Run, results: Findings) -> Drawn:
    """The paper's claims."""
    items = []
    for claim in claims(run, results):
        source = html.sources(claim.text)
        items.append(
            f'<li><div class="status"><span aria-hidden="true">{SIGNS[claim.status]}</span>'
            f"{claim.status}</div><div><h3>{html.text(claim.title)}</h3>"
            f'<p>{prose(claim.text)} <span class="data">{source}</span></p>'
            f'<p class="rule-text">{html.text(claim.rule)}</p></div></li>'
        )
    limits = (
        "<p>The paper names limits of its own, and they hold here too: one task, one ranking "
        "method at a time, and the model named above; the relation of saliency to similarity "
        "stays open.</p>"
    )
    intro = (
        "<p>Lo, Barez and Cohen (2024) make these claims. Each is judged by a rule that is part "
        "of the program, printed under it."
        + (" One seed tells nothing about chance." if len(run.seeds) == 1 else "")
        + "</p>"
    )
    return intro + f'<ul class="claims">{"".join(items)}</ul>' + limits, ()


def _task_tables(run: Run, *_: object) -> tuple[Table, ...]:
    return task_tables.task(run), task_tables.task(run, "subword"), task_tables.detail(run)


SECTIONS = (
    Section("verdict", "Verdict", answer),
    Section(
        *("dose", "Dose: what pruning alone takes", dose.section),
        lambda run, *_: (damage.table(run), dose.curve(run), dose.choices(run)),
    ),
    Section("done", "What was done", lambda run, _: protocol.what(run)),
    Section("task", "Task performance", performance, _task_tables),
    Section("recovery", "Recovery", recovery, lambda run, *_: (task_tables.recovery(run),)),
    Section("maps", "Where the concept sits, neuron by neuron", neurons.heat),
    Section(
        "layers", "Redistribution by layer", neurons.redistribution, neurons.redistribution_tables
    ),
    Section(
        "similarity",
        "Are they still the same neurons?",
        neurons.similarity,
        neurons.similarity_tables,
    ),
    Section(
        *("neurons", "Neurons that took the concept over", neuron_list.taken_over),
        lambda *read: (token_tables.takers(*read),),
    ),
    Section(
        *("relation", "Saliency and similarity", neurons.relation),
        lambda *read: (layer_tables.relation(*read),),
    ),
    Section("claims", "The paper's claims", judged),
    Section(
        "settings",
        "Settings and provenance",
        lambda run, _: provenance.settings(run, protocol.WORK),
    ),
)
"""In the order of the page, each with the tables it brings."""
