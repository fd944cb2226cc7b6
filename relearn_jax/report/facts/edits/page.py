"""The page of an editing run, section by section."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from relearn_jax.evaluation import removal
from relearn_jax.report import html, provenance, section
from relearn_jax.report.facts import page as localization
from relearn_jax.report.facts import protocol
from relearn_jax.report.facts.edits import figures, masks, reading, tables
from relearn_jax.report.facts.edits.reading import EditRun
from relearn_jax.report.facts.edits.words import ORIGINAL, VERDICTS, arm_label, format_label
from relearn_jax.report.html import Drawn, details, prose, table
from relearn_jax.report.page import Page
from relearn_jax.report.provenance import Work
from relearn_jax.report.section import Section
from relearn_jax.report.sentences import fact, listed, over_seeds
from relearn_jax.report.tables import Sentence, Table

Tables = Mapping[str, Table]
TITLE = "Is the fact gone?"
SHOWN = 10
"""Facts whose answers are listed."""
WORK = (
    *protocol.WORK[:2],
    Work("edits_s", "edits", lambda stage: "-edit-" in stage),
    Work("attacks_s", "attacks", lambda stage: "-attack-" in stage),
)


def build(folder: Path) -> list[Page]:
    """The page of a run directory.

    Raises:
      UserError: see `reading.read`.
    """
    run = reading.read(folder)
    results = section.tables(SECTIONS, run)
    text, plots = page(run, results)
    names = (*localization.reading.COLUMNS, *reading.COLUMNS)
    return [Page(run, text, plots, tuple(results.values()), names)]


def page(run: EditRun, results: Tables) -> Drawn:
    """The page's HTML and its plots."""
    notice = provenance.unfinished(run.gaps) if run.gaps else ""
    facts = (
        ("Model", provenance.model(run)),
        ("Facts", html.text(protocol.sources(run.localized))),
        ("Edit", html.text((run.config.get("edit") or {}).get("forget", "not named"))),
        ("Arms", str(max(len(run.arms) - 1, 0))),
        ("Seeds", ", ".join(map(str, run.seeds or run.localized.seeds))),
    )
    masked = len(run.edits["weight_masks"])
    shown = [part for part in SECTIONS if masked or part.anchor != "weights"]
    sections = section.made(shown, run, results)
    return provenance.document(
        run, TITLE, headline(results), facts, sections, localization.PROTOCOL, notice
    )


def headline(results: Tables) -> Sentence:
    """Which arms removed the facts, hid them, or damaged the model."""
    frame = results["verdicts"].frame
    by_verdict: dict[str, list[str]] = {}
    for arm, verdict in zip(frame["arm"], frame["verdict"], strict=True):
        by_verdict.setdefault(verdict, []).append(arm_label(arm))
    if not by_verdict:
        return ("No arm has been edited yet.",)
    order = sorted(by_verdict, key=lambda v: VERDICTS.index(v) if v in VERDICTS else len(VERDICTS))
    clauses = [f"{verdict}: {listed(by_verdict[verdict], 6)}" for verdict in order]
    text = "; ".join(clauses)
    return (f"{text[:1].upper()}{text[1:]}.",)


def verdict(run: EditRun, results: Tables) -> Drawn:
    """The verdict on every arm, with its rule and how often it is right."""
    rule = (
        "<p>The rule, by what a model answers, in this order. Shares are over what the model "
        "before the edit answers; those of forgotten facts are beyond what the oracle answers "
        "(chance, for the oracle itself).</p>"
    )
    rule += "<ul>" + "".join(f"<li>{html.text(words)}</li>" for words in removal.rule()) + "</ul>"
    body = table(results["verdicts"]) + _disagree(run) + _calibrated(results) + rule
    return body, ()


def _calibrated(results: Tables) -> str:
    """How often the rule is right where the truth is known."""
    known = results["calibration"]
    if known.frame.empty:
        return ""
    right = int((known.frame["truth"] == known.frame["verdict"]).sum())
    words = f"<p>Of {len(known.frame)} arms whose truth is known, the rule is right on {right}.</p>"
    return words + details("As a table", table(known))


def _disagree(run: EditRun) -> str:
    """A sentence on arms whose two readings differ."""
    arms = run.edits["verdicts"]
    differ = arms[(arms["answers_verdict"] == "removed") & (arms["inside_verdict"] == "hidden")][
        "arm"
    ]
    other = arms[(arms["answers_verdict"] == "hidden") & (arms["inside_verdict"] == "removed")][
        "arm"
    ]
    text = ""
    if len(differ):
        names = listed(dict.fromkeys(map(arm_label, differ)))
        text += f"<p>Gone from the answers, and still read by probes: {html.text(names)}.</p>"
    if len(other):
        names = listed(dict.fromkeys(map(arm_label, other)))
        text += f"<p>No longer read by probes, and back in the answers: {html.text(names)}.</p>"
    return text


def picture(run: EditRun, results: Tables) -> Drawn:
    """Arms by format, and recovery under attack."""
    seeds = len(run.seeds)
    over = f"facts of {seeds} seeds" if seeds > 1 else "facts"
    parts = (
        _figure(
            figures.formats(run),
            "Forgotten facts: how often each arm gives the right answer, and how often the one "
            f"that was put in. Lines are 95 % intervals of a bootstrap over {over}. Only the first "
            "format was edited.",
            html.data(["tables/answers.csv"], "formats"), "answers (tables/answers.parquet)",
        ),
        _figure(
            figures.recovery(run),
            "Left: half of the forgotten facts is taught again; the other half is asked, at the "
            "attacker's best learning rate. Right: what comes back, as a share of what the same "
            "attack gets from the model before the edit (1), beyond what it gets from the oracle "
            f"(0). Lines are 95 % intervals of a bootstrap over {over}.",
            html.data(["tables/attacks.csv", "tables/arms.csv"], "attacks"),
            "attacks (tables/attacks.parquet)",
        ),
    )  # fmt: skip
    if run.edits["layers_attacked"].size:
        parts += (
            _figure(
                figures.through_layers(run),
                "Through which layer does it come back? Half of the facts is relearned by a single "
                "layer; the share of the other half that is answered right, at its best number of "
                "steps.",
                html.data(["tables/layers_attacked.csv"]), "tables/layers_attacked.parquet",
            ),
        )  # fmt: skip
    body = "".join(text for text, _ in parts)
    body += details("As tables", table(results["formats"]) + table(results["attacks"]))
    return body, tuple(plot for _, plots in parts for plot in plots)


def _figure(plot: Any, caption: str, data: str, missing: str) -> Drawn:
    if plot is None:
        return html.absent(missing), ()
    return html.figure(plot, caption, data), (plot,)


def sentences(run: EditRun, results: Tables) -> Drawn:
    """What each arm's model says about ten facts."""
    frame = run.edits["answers"]
    if frame.empty:
        return html.absent("answers (tables/answers.parquet)"), ()
    seed = run.seeds[0]
    own = frame[(frame["seed"] == seed) & frame["group"].isin(figures.FORGOTTEN)]
    own = own[own["format"] == run.format]
    facts = list(dict.fromkeys(own["fact"]))[:SHOWN]
    formats = list(dict.fromkeys(frame["format"]))
    about = frame[(frame["seed"] == seed) & frame["fact"].isin(facts)]
    about = about[about["group"].isin(figures.FORGOTTEN)]
    attacked = run.edits["attacked_answers"]
    attacked = attacked[attacked["seed"] == seed]
    listings = []
    for arm in run.arms:
        back = attacked[attacked["arm"] == arm].set_index("fact")["right"]
        text = _listing(about[about["arm"] == arm], facts, formats, arm, back)
        listings.append(text if arm == ORIGINAL else details(arm_label(arm), text))
    rule = (
        f"<p>The first {len(facts)} facts to forget of seed {seed}, and what each model says in "
        "every format: the right answer (✓), the wrong one that was put in (→) or another. Last: "
        "whether the answer is right after the other half of the facts was relearned, at the "
        "attacker's best.</p>"
    )
    return rule + "".join(listings), ()


def _listing(rows: Any, facts: list, formats: list[str], arm: str, back: Any) -> str:
    def cells(fact: int) -> list[str]:
        of_fact = rows[rows["fact"] == fact]
        out = [html.text(of_fact.iloc[0]["subject"])]
        for name in formats:
            said = of_fact[of_fact["format"] == name]
            words = []
            for _, row in said.iterrows():
                mark = "✓ " if row["right"] else "→ " if row["says_injected"] else ""
                words.append(mark + str(row["says"]))
            out.append(_cell("; ".join(words)))
        return [*out, _cell(("✓" if back[fact] > 0.5 else "✗") if fact in back else "")]

    return html.listing(
        "tokens", f"Answers: {arm_label(arm)}",
        ("subject", *map(format_label, formats), "after the attack"), map(cells, facts),
    )  # fmt: skip


def _cell(words: str) -> str:
    return f'<td class="words">{html.text(words)}</td>'


def depth(run: EditRun, results: Tables) -> Drawn:
    """What probes read by depth."""
    parts = []
    for position, words in (("subject", "the subject's end"), ("last", "the prompt's last token")):
        parts.append(
            _figure(
                figures.inside(run, position),
                "A logistic regression was fitted to the retained facts, on the states of the "
                "model before the edit. The share of forgotten facts of which it reads the right "
                f"answer (left) and the injected one (right), at {words}. In a layer where the "
                "right answer is still read, the fact is still there.",
                html.data(["tables/inside.csv"]), "probes (tables/inside.parquet)",
            )
        )  # fmt: skip
    parts.append(
        _figure(
            figures.lens(run),
            "The logit lens at the prompt's last token: the probability of the right and of the "
            "injected answer if a state were the last. It shows where an answer is made, which may "
            "be later than where the fact is.",
            html.data(["tables/lens.csv"]), "the logit lens (tables/lens.parquet)",
        )
    )  # fmt: skip
    timed = _figure(
        figures.over_time(run),
        "Depth over time, at the subject's end: the share of facts of which the probe of the model "
        "before the edit reads the right answer. Rows: before the edit, after so many of its "
        "steps, after all, and after so many steps of the attack, then only for the facts that the "
        "attacker does not see.",
        html.data(["tables/inside.csv", "tables/inside_over_time.csv"]),
        "probes under attack (tables/inside_over_time.parquet)",
    )
    parts.append(timed)
    body = "".join(t for t, _ in parts) + table(results["crossed"])
    return body, tuple(p for _, plots in parts for p in plots)


def taken_over(run: EditRun, results: Tables) -> Drawn:
    """Which layers and neurons carry the facts after the edit and after the attack."""
    shown = _figure(
        figures.carriers(run),
        "The effect of each feed-forward layer on the margin of the right answer over the injected "
        "one, to first order, as a share of that of all layers before the edit. Below 0 a layer "
        "writes the injected answer. After the attack: for the facts that the attacker does not "
        "see.",
        html.data(["tables/carriers.csv"], "lineage"), "carriers (tables/carriers.parquet)",
    )  # fmt: skip
    words = (
        "<p>Carriers are the 2 % of feed-forward neurons with the largest such effect (at least "
        "16). Each one is matched with one of those before the edit, so that their effects go "
        "together over facts as closely as possible. The sham says what matching finds where "
        "nothing was removed, shuffled facts what it finds in noise.</p>"
    )
    body = shown[0] + words + table(results["lineage"])
    return body + details("The first carriers of each arm", _heirs(run)), shown[1]


def _heirs(run: EditRun) -> str:
    frame = run.edits["heirs"]
    if frame.empty:
        return html.absent("carriers (tables/heirs.parquet)")
    frame = frame[frame["seed"] == run.seeds[0]]

    def row(arm: str, stage: str, rows: Any) -> list[str]:
        marks = [
            f"{r['layer']}.{r['neuron']}{'' if r['carried_before'] else ' (new)'}"
            for r in rows.sort_values("place").to_dict("records")
        ]
        cells = (stage, ", ".join(marks))
        return [
            html.text(arm_label(arm)),
            *(f'<td class="words">{html.text(c)}</td>' for c in cells),
        ]

    groups = frame.groupby(["arm", "stage"], sort=False)
    return html.listing(
        "tokens", f"The first carriers, as layer.neuron; seed {run.seeds[0]}",
        ("arm", "after", "neurons"), (row(*key, rows) for key, rows in groups),
    )  # fmt: skip


def done(run: EditRun, results: Tables) -> Drawn:
    """Edit, controls and attack in words."""
    edit, attack = run.config.get("edit") or {}, run.config.get("attack") or {}
    number = {
        key: prose((fact(run, key),))
        for key in ("edit.steps", "edit.batch_size", "attack.steps", "attack.rank")
    }
    sizes = {
        key: prose((fact(run, f"edit.{key}", "manifest"),))
        for key in ("forget", "held_out", "retain", "retain_test")
    }
    steps = (
        "First the localization; it is at the end of this page.",
        f"The edit: {html.text(edit.get('forget'))} on {sizes['forget']} facts in the format "
        f"“{html.text(edit.get('format'))}”, with {sizes['retain']} facts retained and running "
        f"text, for {number['edit.steps']} steps of {number['edit.batch_size']} rows of each. Only "
        "the parts that an arm chose change. Every arm is tuned by itself: each learning rate "
        f"({html.text(_plain(edit.get('learning_rates')))}) with each weight of the forget loss "
        f"({html.text(_plain(edit.get('forget_weights')))}). It takes the setting that keeps most "
        "of the retained facts among those that edit "
        f"{float(edit.get('matched', np.nan)):.0%} of the facts.",
        "Controls. Sham: a random update as large in every matrix as that of the first arm. "
        "Retained facts only: everything is trained, without the loss on the facts to forget. "
        "Oracle: a model from the same seed that was never taught them. Masked: only layers above "
        "the planted ones are edited, so the facts are still there. Scaled sham: the sham, doubled "
        "until half of the retained facts are lost.",
        f"The attack: half of the forgotten facts is taught again for {number['attack.steps']} "
        f"steps by adapters ({html.text(attack.get('adapter'))}, rank {number['attack.rank']}), "
        "with retained facts and running text; the other half is asked. Halves rotate, so that "
        "every fact is held out once for each attack seed. The attacker's best learning rate and "
        "number of steps counts, among those that fit their own half and keep the retained facts; "
        "if none does, the attack is void.",
    )
    body = provenance.steps(run, steps)
    return body + table(results["settings"], note=over_seeds(run.seeds)), ()


def _plain(values: Any) -> str:
    return ", ".join(f"{value:g}" for value in values or ())


def _localization(part: Section) -> Section:
    """A section of the localization in this page, behind a fold."""

    def make(run: EditRun, results: Tables) -> Drawn:
        body, plots = part.make(run.localized, results)
        return details("Show", body), plots

    return part._replace(
        heading=f"Localization: {part.heading[:1].lower()}{part.heading[1:]}",
        anchor=f"localization-{part.anchor}",
        make=make,
        tables=lambda run: part.tables(run.localized),
    )


SECTIONS = (
    Section(
        *("picture", "Arms, formats and relearning", picture),
        lambda run: (tables.formats(run), tables.attacks(run)),
    ),
    Section("facts", "Ten facts", sentences),
    Section(
        "verdict", "Verdict", verdict, lambda run: (tables.verdicts(run), tables.calibration(run))
    ),
    Section("inside", "What is left inside", depth, lambda run: (tables.crossed(run),)),
    Section("carriers", "Who carries the facts", taken_over, lambda run: (tables.lineage(run),)),
    Section(
        "weights", "Which weights hold the facts", masks.section, lambda run: (masks.rows(run),)
    ),
    Section("done", "What was done", done, lambda run: (tables.settings(run),)),
    *(_localization(part) for part in localization.SECTIONS if part.anchor != "settings"),
    Section(
        "settings",
        "Settings and provenance",
        lambda run, _: provenance.settings(run, WORK),
    ),
)
"""In the order of the page, each with the tables it brings."""
