"""The page of a run of localization, section by section."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from relearn_jax.report import html, provenance, section
from relearn_jax.report.draw import Plot
from relearn_jax.report.facts import figures, maps, protocol, reading, sentences, truth
from relearn_jax.report.facts import tables as of
from relearn_jax.report.facts.methods import METHODS
from relearn_jax.report.facts.reading import Localized
from relearn_jax.report.html import Drawn, details, table
from relearn_jax.report.page import Page
from relearn_jax.report.section import Section
from relearn_jax.report.sentences import over_seeds
from relearn_jax.report.tables import Table

Tables = Mapping[str, Table]
PROTOCOL = (
    "Guo, Syed, Sheshadri, Ewart, Dziugaite, Mechanistic Unlearning: Robust Knowledge Unlearning "
    "and Editing via Mechanistic Localization (ICML 2025)"
)
TITLE = "Where does the model look its facts up?"


def build(folder: Path) -> list[Page]:
    """The page of a run directory.

    Raises:
      UserError: see `reading.read`.
    """
    run = reading.read(folder)
    tables = page_tables(run)
    text, plots = page(run, tables)
    return [Page(run, text, plots, tuple(tables.values()), tuple(reading.COLUMNS))]


def page_tables(run: Localized) -> dict[str, Table]:
    """Every table of the page, by name; without their files they are empty."""
    return section.tables(SECTIONS, run)


def page(run: Localized, tables: Tables) -> Drawn:
    """The page's HTML and its plots."""
    notice = provenance.unfinished(run.gaps) if run.gaps else ""
    facts = (
        ("Model", provenance.model(run)),
        ("Facts", html.text(protocol.sources(run))),
        (
            "Methods",
            html.text(", ".join(METHODS[m].label for m in sentences.methods_of(run))),
        ),
        ("Seeds", ", ".join(map(str, run.seeds))),
    )
    sections = section.made(SECTIONS, run, tables)
    said = sentences.headline(tables)
    return provenance.document(run, TITLE, said, facts, sections, PROTOCOL, notice)


def _figure(plot: Plot | None, caption: str, data: str, missing: str) -> Drawn:
    if plot is None:
        return html.absent(missing), ()
    return html.figure(plot, caption, data), (plot,)


def _table(run: Localized, item: Table, note: str = "") -> str:
    return table(item, note=over_seeds(run.done) + note)


def _data(name: str, anchor: str = "") -> str:
    return html.data([f"tables/{name}.csv"], anchor)


def _finer(run: Localized) -> bool:
    """Whether anything less than a whole component is chosen."""
    return bool(run.tables["selections"]["share"].between(0, 1, inclusive="neither").any())


def _seeds(run: Localized) -> str:
    """How a figure shows several seeds."""
    return f"mean over {len(run.done)} seeds" if len(run.done) > 1 else "one seed"


def answer(run: Localized, tables: Tables) -> Drawn:
    """The verdict, paragraph by paragraph, with the table of first layers."""
    answers = html.answers(sentences.verdict(run, tables))
    return answers + "<h3>What comes first</h3>" + _table(run, tables["leading"]), ()


def gates(run: Localized, tables: Tables) -> Drawn:
    """Every gate beside its limit."""
    if tables["gates"].frame.empty and "tables/gates.parquet" not in run.gaps:
        return (
            "<p>There are none: gates are for models that are taught the built-in world. This one "
            "was read as it is.</p>",
            (),
        )
    about = (
        "<p>A localizer can only be judged on a model that knows the facts by looking them up. The "
        "additive baseline shows that no single name gives an answer away; interchange, that a "
        "state decides the answer where it should.</p>"
    )
    return about + _table(run, tables["gates"]), ()


def localized(run: Localized, tables: Tables) -> Drawn:
    """Maps of all localizers: components, positions, heads, interchange."""
    seeds = len(run.done)
    dots = f"; bars are means over {seeds} seeds, dots the single seeds" if seeds > 1 else ""
    mean = "intervals averaged over seeds" if seeds > 1 else "one seed"
    parts = (
        _figure(
            figures.components(run, truth.layers(run)),
            "Each row is a localizer, at the left its scores of attention blocks, at the right of "
            "feed-forward layers (MLPs), on one scale within a row and not between rows. Lines are "
            f"95 % intervals of a bootstrap over pairs ({mean}){dots}. Crosses are the null: the "
            "same method between two runs that both lack the fact, or probes of shuffled answers. "
            "A score that does not leave its null says little.",
            _data("scores", "components"), "scores by layer (tables/scores.parquet)",
        ),
        _figure(
            maps.positions(run),
            "Layer (down) by position (across): the share of the change by one place alone; blue "
            f"in its direction, orange against it, {_seeds(run)}. Below each map its null, on the "
            "same scale: the same method between two runs that both lack the fact. Each map has a "
            "scale at its right, which differs between maps: compare two maps by where they are "
            "strong, and read from their scales how strong. Dotted lines part the roles of "
            "positions. “State that enters” is the stream before a block.",
            _data("maps"), "maps by position (tables/maps.parquet)",
        ),
        _figure(
            maps.states(run),
            "Whole states by layer and position. Tracing: share of the lost probability that "
            "restoring one state brings back. Interchange: share of answers that become the "
            "corrupt partner's when one state is replaced by its (state 0: embedding; the last: "
            "the output). Where the subject's end fades and the last position grows, the answer is "
            "handed over. At the right of each its null. "
            f"{_seeds(run).capitalize()}.",
            _data("maps"), "causal tracing and interchange (tables/maps.parquet)",
        ),
        _figure(
            maps.heads(run),
            "Layer (down) by attention head (across): the share of the whole change by one head "
            f"at all positions, {_seeds(run)}; path patching counts the direct way to the answer "
            "only. At the right of each map its null, on the same scale.",
            _data("heads", "heads"), "maps by head (tables/heads.parquet)",
        ),
    )  # fmt: skip
    body = "".join(text for text, _ in parts)
    body += details(
        "Scores and heads as tables",
        _table(run, tables["components"]) + _table(run, tables["heads"]),
    )
    return body, tuple(plot for _, plots in parts for plot in plots)


def probes(run: Localized, tables: Tables) -> Drawn:
    """Where the answer can be read."""
    if "probes" not in (run.manifest.get("methods") or ["probes"]):
        return "<p>This run fitted no probes.</p>", ()
    chances = of.chance(run)
    level = (
        "the dotted level is that of always giving the most common answer"
        if chances
        else "the level of chance is not in the tables of this run"
    )
    text, plots = _figure(
        figures.probes(run, chances),
        "How often a logistic regression, tested on facts it was not fitted to, reads the answer "
        "off the stream. A rise from a triangle to the next circle is an MLP's work, from a circle "
        "to the next triangle attention's. Dashed: probes fitted to shuffled answers, which should "
        f"stay near chance; {level}. {_seeds(run).capitalize()}"
        + (", thin lines are single seeds." if len(run.done) > 1 else "."),
        _data("probes", "probes"),
        "accuracy of probes (tables/probes.parquet)",
    )
    return text + (details("As a table", _table(run, tables["probes"])) if plots else ""), plots


def chosen(run: Localized, tables: Tables) -> Drawn:
    """Components under equal budget."""
    text, plots = _figure(
        maps.selections(run, truth.layers(run)),
        "Rows are methods, columns layers; filled components were chosen"
        + (", the paler the fewer seeds chose them" if len(run.done) > 1 else "")
        + (", or the less of them" if _finer(run) else "")
        + ". “MLPs” after a method's name: the same scores with attention left out. The last rows "
        "are baselines: drawn at random, or everything.",
        _data("selections", "selections"),
        "chosen components (tables/selections.parquet)",
    )
    note = (
        over_seeds(run.done) + "The unit that crosses the budget is taken whole, so counts differ. "
    )
    note += "Overlap: shared parameters over those in either. "
    return text + (table(tables["selections"], note=note) if plots else ""), plots


def agreement(run: Localized, tables: Tables) -> Drawn:
    """How far methods agree."""
    text, plots = _figure(
        maps.agreement(run),
        "Every two methods. Left: rank correlation of the sizes of their scores over feed-forward "
        "layers (1 the same order, 0 unrelated, −1 reversed); right: shared MLPs over those that "
        f"either chooses. {_seeds(run).capitalize()}. "
        "Empty off the diagonal: a method gives all layers one rank.",
        _data("agreement", "agreement"),
        "agreement of methods (tables/agreement.parquet); it needs two methods",
    )
    return text + (details("As a table", _table(run, tables["agreement"])) if plots else ""), plots


def planted(run: Localized, tables: Tables) -> Drawn:
    """Against the layers that facts were planted in."""
    if "tables/truth.parquet" in run.gaps:
        body = html.absent(f"{tables['truth'].caption} (tables/truth.parquet)")
    elif tables["truth"].frame.empty:
        body = (
            "<p>No facts were planted in this run, so nobody knows which layers are right. The "
            "table compares the localizers with the probe rule, which is another method and no "
            "truth.</p>"
        )
    else:
        body = (
            "<p>The facts were written into known feed-forward layers. Each method chooses as many "
            "MLPs as were planted; the mean of many random draws stands beside them. The area "
            "under the ROC is the chance that a planted layer scores higher than another: 0.5 "
            "without knowledge. "
            "Planting decides which layers were trained on the facts; layers before and after "
            "carry them on, so an effect elsewhere need not be wrong.</p>"
        ) + _table(run, tables["truth"])
    return body + _table(run, tables["lookup"]), ()


SECTIONS = (
    Section("verdict", "Verdict", answer, lambda run: (of.leading(run),)),
    Section("done", "What was done", protocol.done, lambda run: (of.accuracy(run),)),
    Section("gates", "Gates", gates, lambda run: (of.gates(run),)),
    Section(
        *("maps", "Localization maps side by side", localized),
        lambda run: (of.components(run), of.heads(run)),
    ),
    Section("probes", "Where the answer can be read", probes, lambda run: (of.probes(run),)),
    Section(
        *("chosen", "Chosen components under equal budget", chosen),
        lambda run: (of.selections(run),),
    ),
    Section("agreement", "Do the methods agree?", agreement, lambda run: (of.agreement(run),)),
    Section(
        *("truth", "Against planted truth", planted),
        lambda run: (truth.finding(run), truth.lookup(run)),
    ),
    Section(
        "settings",
        "Settings and provenance",
        lambda run, _: provenance.settings(run, protocol.WORK),
    ),
)
"""In the order of the page, each with the tables it brings."""
