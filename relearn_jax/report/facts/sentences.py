"""What the page says in words; every number is a cell of its tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from relearn_jax.localize.arms import RANDOM_MLPS
from relearn_jax.report.facts import truth
from relearn_jax.report.facts.methods import METHODS, label
from relearn_jax.report.facts.reading import Localized
from relearn_jax.report.facts.tables import EVERY_GATE
from relearn_jax.report.sentences import fact, joined, listed, say
from relearn_jax.report.tables import Number, Row, Sentence, Table

Tables = Mapping[str, Table]
AP, IG, TRACING = (label(n) for n in ("attribution", "attribution_path", "tracing"))
RANDOM = label(RANDOM_MLPS.name)


def headline(tables: Tables) -> Sentence:
    """Who finds the planted layers, or what comes first where none are planted."""
    text = _finders(tables["truth"]) or _first(tables["leading"])
    text = text or ("No localizer has scored the feed-forward layers yet.",)
    gates = tables["gates"].row(EVERY_GATE)
    if gates.value("passed") < gates.value("of"):
        lead = "Only {passed} of {of} gates are passed, so nothing here can be relied on. {text}"
        return say(lead, gates, text=text)
    return text


def _localizers(table: Table) -> dict[str, Row]:
    """Rows by method, without random draws."""
    rows = {row.keys[0]: row for row in table.rows()}
    return {method: row for method, row in rows.items() if method != RANDOM}


def _finders(table: Table) -> Sentence:
    """Localizers by whether they rank exactly the planted layers first."""
    rows = _localizers(table)
    if not rows:
        return ()
    kinds: dict[str, list[str]] = {"always": [], "at times": [], "never": []}
    for method, row in rows.items():
        exact, of = row.value("exact"), row.value("of")
        kinds["always" if exact == of else "at times" if exact else "never"].append(method)
    several = any(row.value("of") > 1 for row in rows.values())
    clauses = []
    if methods := kinds["always"]:
        verb = "ranks" if len(methods) == 1 else "rank"
        ending = " in every seed" if several else " in the one seed"
        clauses.append(f"{listed(methods)} {verb} exactly that first{ending}")
    if methods := kinds["at times"]:
        verb, ending = ("", "") if clauses else (f" {_do(methods)}", " rank exactly that first")
        clauses.append(f"only in some seeds{verb} {listed(methods)}{ending}")
    if methods := kinds["never"]:
        ending = "" if clauses else " rank exactly that first"
        ending += " in any seed" if several else ""
        clauses.append(f"{listed(methods)} {_do(methods)} not{ending}")
    clause = "; ".join(clauses)
    planted = layers(next(iter(rows.values())).cite("planted"))
    clause = f"{clause[:1].upper()}{clause[1:]}"
    return say("Facts were planted in {planted}. {clause}.", planted=planted, clause=clause)


def _do(names: Sequence[str]) -> str:
    return "does" if len(names) == 1 else "do"


def layers(number: Number) -> Sentence:
    """`feed-forward layer 3`, or `feed-forward layers` before several numbers."""
    several = "," in number.text or "|" in number.text
    return (f"feed-forward layer{'s' if several else ''} ", number)


def _first(table: Table) -> Sentence:
    """Which feed-forward layer comes first, and for which localizers."""
    by_layer: dict[int, list[Row]] = {}
    for row in table.rows():
        by_layer.setdefault(int(row.value("first")), []).append(row)
    order = sorted(by_layer, key=lambda layer: (-len(by_layer[layer]), layer))
    items = []
    for place, layer in enumerate(order):
        methods = joined([(row.keys[0], *_seeds(row)) for row in by_layer[layer]])
        verb = "for" if place else "comes first for"
        items.append(say(f"MLP {{first}} {verb} {{methods}}", by_layer[layer][0], methods=methods))
    return (*joined(items, "; ", "; "), ".") if items else ()


def _seeds(row: Row) -> Sentence:
    """In how many seeds, if there are several."""
    return () if row.value("of") == 1 else say(" ({seeds} of {of} seeds)", row)


def verdict(run: Localized, tables: Tables) -> tuple[tuple[str, Sentence], ...]:
    """Paragraphs as (heading, sentence); those whose numbers are not there are left out."""
    paragraphs = (
        ("Gates", _gates(tables["gates"])),
        ("First layers", _first(tables["leading"])),
        ("Null", _null(tables["leading"])),
        ("Planted layers", _planted(tables["truth"])),
        ("Agreement", _agreement(run, tables["agreement"])),
        ("Hypothesis H4", _gradients(run, tables["lookup"], tables["leading"])),
        ("Hypothesis H5", _tracing(run, tables["lookup"])),
    )
    return tuple((head, text) for head, text in paragraphs if text)


def _gates(table: Table) -> Sentence:
    if table.frame.empty:
        return (
            "There are none: gates are for models that are taught the built-in world. Whether this "
            "model knows the facts is seen from its answers to the clean prompts below.",
        )
    worst = "worst" if "worst" in [c.key for c in table.columns] else "value"
    failed = [
        say(
            f"; not passed: {{name}}, {{{worst}}}, should be {{rule}} {{limit}}",
            row, name=row.keys[0], rule=row.raw("rule"),
        )
        for row in table.rows()
        if row.keys != (EVERY_GATE,) and row.value("passed") < row.value("of")
    ]  # fmt: skip
    text = "{passed} of {of} checks are passed{failed}."
    return say(text, table.row(EVERY_GATE), failed=joined(failed, "", ""))


def _null(table: Table) -> Sentence:
    """For each localizer the largest effect between two runs without the fact, and its score."""
    items = [
        say("{method}: {null_component}, {null} beside a score of {null_score}", row,
            method=row.keys[0])
        for row in table.rows() if row.has("null")
    ]  # fmt: skip
    text = (
        "Between two runs that both lack the fact a localizer should find nothing, and probes of "
        "shuffled answers should gain nothing. The largest that each finds there: {items}."
    )
    return say(text, items=joined(items, "; ", "; ")) if items else ()


def _planted(table: Table) -> Sentence:
    """Precision, recall and area for each localizer, the best first, beside one random draw."""
    rows = sorted(_localizers(table).values(), key=lambda row: -row.value("area"))
    if not rows:
        return ()
    several = any(c.key == "low" for c in table.columns)
    text = "{method} {precision}, {recall}, {area}" + " ({low} to {high})" * several
    random = [row for row in table.rows() if row.keys == (RANDOM,)]
    items = [say(text, row, method=row.keys[0]) for row in rows + random]
    end = ". Means over seeds, in brackets the range of the area" if several else ""
    text = (
        f"Precision, recall and area under the ROC of finding {{planted}}: {{items}}{end}. As many "
        "layers are chosen as were planted; a ranking without knowledge has an area of a half on "
        "average."
    )
    planted = layers(rows[0].cite("planted"))
    return say(text, planted=planted, items=joined(items, "; ", "; "))


def _agreement(run: Localized, table: Table) -> Sentence:
    rows = [row for row in table.rows() if row.has("spearman")]
    if len(rows) < 2:
        return ()
    text = "{a} and {b} (rank correlation {spearman}, shared choice {jaccard})"
    pairs = {
        name: say(text, row, a=row.keys[0], b=row.keys[1])
        for name, choose in (("most", max), ("least", min))
        for row in (choose(rows, key=lambda r: r.value("spearman")),)
    }
    return say(
        "The order of the feed-forward layers is alike most for {most}; least for {least}. The "
        "model has {count} layers: the fewer, the less an order can say.",
        count=fact(run, "model.layers", "manifest"), **pairs,
    )  # fmt: skip


def _named(run: Localized) -> str:
    planted, targets = truth.reference(run)
    if planted:
        return "planted layers"
    return "layers that the probe rule chooses" if targets else ""


def _unknown(run: Localized) -> str:
    """Why a hypothesis on lookup layers cannot be judged. Or what stands in for planted layers."""
    planted, targets = truth.reference(run)
    if planted:
        return ""
    if not targets:
        return " No facts were planted here and no probes were fitted, so this cannot be judged."
    return (
        " No facts were planted here, so this is no test; the layers that the probe rule chooses "
        "stand in for the lookup layers."
    )


def _holds(row: Row, column: str) -> Sentence:
    if row.value("of") == 1:
        return ("holds" if row.value(column) else "does not hold",)
    return say(f"holds in {{{column}}} of {{of}} seeds", row)


def _over(run: Localized) -> str:
    """Whether a mean place is a mean over layers, seeds or both."""
    targets = truth.reference(run)[1]
    over = ["layers"] * (max(map(len, targets.values())) > 1) + ["seeds"] * (len(targets) > 1)
    return f" (mean over {' and '.join(over)})" if over else ""


def _gradients(run: Localized, table: Table, leading: Table) -> Sentence:
    """H4: what AP and AP-IG make of the lookup layers."""
    shown, first = _localizers(table), _localizers(leading)
    if not {AP, IG} & set(first):
        return ()
    text = (
        "Expected: AP ranks the lookup MLPs at or below the median of all components; AP-IG puts "
        f"one of them first of all and all of them among the first four.{_unknown(run)} "
    )
    parts = {}
    if AP in shown:
        parts |= {"ap": shown[AP], "low": _holds(shown[AP], "low")}
        text += (
            f"Found: the first half {{low}}; AP puts the {_named(run)} on place {{ap.sites_place}} "
            f"of {{ap.sites}} components{_over(run)}. "
        )
    if IG in shown:
        parts |= {"ig": shown[IG], "top": _holds(shown[IG], "top")}
        text += (
            f"The second half {{top}}; AP-IG puts the {_named(run)} on place {{ig.mlps_place}} of "
            "{ig.mlps} MLPs and place {ig.sites_place} of {ig.sites} components"
            f"{_over(run)}. "
        )
    if IG in first:
        parts |= {"leading": first[IG], "seeds": _seeds(first[IG])}
        text += "Its first MLP is MLP {leading.first}{seeds}."
    return say(text, **parts)


def _tracing(run: Localized, table: Table) -> Sentence:
    """H5: whether causal tracing restricted to feed-forward layers finds the lookup layers."""
    if "tracing" not in set(run.tables["scores"]["method"]):
        return ()
    text = (
        "Expected: causal tracing with paired noise, restricted to MLPs, puts the lookup layers "
        f"before all others.{_unknown(run)} "
    )
    row = _localizers(table).get(TRACING)
    if row is None:
        return (text,)
    text += (
        f"Found: it {{holds}}; causal tracing puts the {_named(run)} on place {{mlps_place}} of "
        f"{{mlps}} MLPs{_over(run)}."
    )
    return say(text, row, holds=_holds(row, "all_first"))


def methods_of(run: Localized) -> list[str]:
    """Localizers with results, in the order of the page."""
    known = {m for name in ("scores", "heads") for m in run.tables[name]["method"]}
    return [name for name in METHODS if name in known]
