"""What the page says in words; every number is a cell of its tables (`tables.cite`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from relearn_jax.report.facts import truth
from relearn_jax.report.facts.methods import METHODS, label
from relearn_jax.report.facts.reading import Localized
from relearn_jax.report.facts.tables import EVERY_GATE
from relearn_jax.report.sentences import fact, joined, listed
from relearn_jax.report.tables import Number, Piece, Sentence, Table, cite, value_of

Tables = Mapping[str, Table]
AP, IG, TRACING = (label(n) for n in ("attribution", "attribution_path", "tracing"))
RANDOM = label(truth.CHANCE)


def headline(run: Localized, tables: Tables) -> Sentence:
    """Who finds the planted layers, or what comes first where none are planted."""
    text = _finders(tables["truth"]) or _first(tables["leading"])
    if not text:
        text = ("No localizer has scored the feed-forward layers yet.",)
    gates = tables["gates"]
    passed, of = (value_of(gates, (EVERY_GATE,), c) for c in ("passed", "of"))
    if passed < of:
        gates = cite(gates, (EVERY_GATE,), "passed"), " of ", cite(gates, (EVERY_GATE,), "of")
        text = ("Only ", *gates, " gates are passed, so nothing here can be relied on. ", *text)
    return text


def _finders(table: Table) -> Sentence:
    """Localizers by whether they rank exactly the planted layers first."""
    rows = [m for m in table.frame["method"] if m != RANDOM]
    if not rows:
        return ()
    some: dict[str, list[str]] = {"always": [], "at times": [], "never": []}
    for row in rows:
        exact, of = (value_of(table, (row,), c) for c in ("exact", "of"))
        some["always" if exact == of else "at times" if exact else "never"].append(row)
    several = any(value_of(table, (row,), "of") > 1 for row in rows)
    clauses = []
    if some["always"]:
        verb = "ranks" if len(some["always"]) == 1 else "rank"
        ending = " in every seed" if several else " in the one seed"
        clauses.append(f"{listed(some['always'])} {verb} exactly that first{ending}")
    if some["at times"]:
        what = "" if some["always"] else f" {_do(some['at times'])}"
        ending = "" if some["always"] else " rank exactly that first"
        clauses.append(f"only in some seeds{what} {listed(some['at times'])}{ending}")
    if some["never"]:
        verb = _do(some["never"])
        ending = " in any seed" if several else ""
        what = "" if clauses else " rank exactly that first"
        clauses.append(f"{listed(some['never'])} {verb} not{what}{ending}")
    said = "; ".join(clauses)
    planted = layers(cite(table, (rows[0],), "planted"))
    return ("Facts were planted in ", *planted, f". {said[:1].upper()}{said[1:]}.")


def _do(names: Sequence[str]) -> str:
    return "does" if len(names) == 1 else "do"


def layers(number: Number) -> Sentence:
    """Feed-forward layers with the number of the noun."""
    several = "," in number.text or "|" in number.text
    return (f"feed-forward layer{'s' if several else ''} ", number)


def _first(table: Table) -> Sentence:
    """Which feed-forward layer comes first, and for which localizers."""
    by_layer: dict[int, list[str]] = {}
    for row in table.frame["method"]:
        by_layer.setdefault(int(value_of(table, (row,), "first")), []).append(row)
    order = sorted(by_layer, key=lambda layer: (-len(by_layer[layer]), layer))
    text: list[Piece] = []
    for place, layer in enumerate(order):
        rows = by_layer[layer]
        text += ["; " if place else "", "MLP ", cite(table, (rows[0],), "first")]
        text.append(" comes first for " if not place else " for ")
        text += joined([(row, *_seeds(table, row)) for row in rows])
    return (*text, ".") if text else ()


def _seeds(table: Table, row: str) -> Sentence:
    """In how many of several seeds."""
    if value_of(table, (row,), "of") == 1:
        return ()
    return (" (", cite(table, (row,), "seeds"), " of ", cite(table, (row,), "of"), " seeds)")


def verdict(run: Localized, tables: Tables) -> tuple[tuple[str, Sentence], ...]:
    """Paragraphs as (heading, sentence); those whose numbers are not there are left out."""
    found = (
        ("Gates", _gates(tables["gates"])),
        ("First layers", _first(tables["leading"])),
        ("Null", _null(run, tables)),
        ("Planted layers", _planted(tables["truth"])),
        ("Agreement", _agreement(run, tables["agreement"])),
        ("Hypothesis H4", _gradients(run, tables["lookup"], tables["leading"])),
        ("Hypothesis H5", _tracing(run, tables["lookup"])),
    )
    return tuple((head, text) for head, text in found if text)


def _gates(table: Table) -> Sentence:
    if table.frame.empty:
        return (
            "There are none: gates are for models that are taught the built-in world. Whether this "
            "model knows the facts is seen from its answers to the clean prompts below.",
        )
    every = (EVERY_GATE,)
    text: list[Piece] = [cite(table, every, "passed"), " of ", cite(table, every, "of"), " checks"]
    text.append(" are passed")
    for record in table.frame.to_dict("records"):
        row = (record["name"],)
        if record["name"] != EVERY_GATE and record["passed"] < record["of"]:
            worst = "worst" if "worst" in [c.key for c in table.columns] else "value"
            text += ["; not passed: ", record["name"], ", ", cite(table, row, worst)]
            text += [f", should be {record['rule']} ", cite(table, row, "limit")]
    return (*text, ".")


def _null(run: Localized, tables: Tables) -> Sentence:
    """For each localizer the largest effect between two runs without the fact, and its score."""
    leading = tables["leading"]
    text: list[Piece] = []
    for row in leading.frame.loc[leading.frame["null"].notna(), "method"]:
        key = (row,)
        text += ["; " if text else "", f"{row}: ", cite(leading, key, "null_component"), ", "]
        text += [cite(leading, key, "null"), " beside a score of "]
        text.append(cite(leading, key, "null_score"))
    if not text:
        return ()
    return (
        "Between two runs that both lack the fact a localizer should find nothing, and probes of "
        "shuffled answers should gain nothing. The largest that each finds there: ",
        *text,
        ".",
    )


def _planted(table: Table) -> Sentence:
    """Precision, recall and area for each localizer, the best first, beside one random draw."""
    rows = [m for m in table.frame["method"] if m != RANDOM]
    if not rows:
        return ()
    rows.sort(key=lambda m: -value_of(table, (m,), "area"))
    rows += [RANDOM] if RANDOM in set(table.frame["method"]) else []
    text: list[Piece] = ["Precision, recall and area under the ROC of finding "]
    text += [*layers(cite(table, (rows[0],), "planted")), ": "]
    for place, row in enumerate(rows):
        text += ["; " if place else "", row, " "]
        for at, column in enumerate(("precision", "recall", "area")):
            text += [", " if at else "", cite(table, (row,), column)]
        if "low" in [c.key for c in table.columns]:
            text += [" (", cite(table, (row,), "low"), " to ", cite(table, (row,), "high"), ")"]
    several = any(c.key == "low" for c in table.columns)
    end = ". Means over seeds, in brackets the range of the area. " if several else ". "
    note = (
        "As many layers are chosen as were planted; a ranking without knowledge has an area of a "
        "half on average."
    )
    return (*text, end, note)


def _agreement(run: Localized, table: Table) -> Sentence:
    frame = table.frame.dropna(subset="spearman")
    if len(frame) < 2:
        return ()
    text: list[Piece] = []
    ends = (
        ("most", frame.loc[frame["spearman"].idxmax()]),
        ("least", frame.loc[frame["spearman"].idxmin()]),
    )
    for word, record in ends:
        row = (record["method"], record["other"])
        text += ["; " if text else "The order of the feed-forward layers is alike ", word, " for "]
        text += [f"{row[0]} and {row[1]} (rank correlation ", cite(table, row, "spearman")]
        text += [", shared choice ", cite(table, row, "jaccard"), ")"]
    count = fact(run, "model.layers", "manifest")
    return (*text, ". The model has ", count, " layers: the fewer, the less an order can say.")


def _named(run: Localized) -> str:
    planted, wanted = truth.reference(run)
    if planted:
        return "planted layers"
    return "layers that the probe rule chooses" if wanted else ""


def _unknown(run: Localized) -> Sentence:
    """Why a hypothesis on lookup layers cannot be judged, or what stands in for the truth."""
    if truth.reference(run)[0]:
        return ()
    if not truth.reference(run)[1]:
        return ("No facts were planted here and no probes were fitted, so this cannot be judged. ",)
    return (
        "No facts were planted here, so this is no test; the layers that the probe rule chooses "
        "stand in for the lookup layers. ",
    )


def _holds(table: Table, row: str, column: str) -> Sentence:
    if value_of(table, (row,), "of") == 1:
        return ("holds" if value_of(table, (row,), column) else "does not hold",)
    return ("holds in ", cite(table, (row,), column), " of ", cite(table, (row,), "of"), " seeds")


def _over(run: Localized) -> str:
    """What a mean place is a mean over."""
    wanted = truth.reference(run)[1]
    over = ["layers"] * (max(map(len, wanted.values())) > 1) + ["seeds"] * (len(wanted) > 1)
    return f" (mean over {' and '.join(over)})" if over else ""


def _place(table: Table, row: str, among: str, what: str) -> Sentence:
    place, count = cite(table, (row,), f"{among}_place"), cite(table, (row,), among)
    return ("place ", place, " of ", count, f" {what}")


def _gradients(run: Localized, table: Table, leading: Table) -> Sentence:
    """H4: what AP and AP-IG make of the lookup layers."""
    shown, named = set(table.frame["method"]), _named(run)
    if not {AP, IG} & set(leading.frame["method"]):
        return ()
    text: list[Piece] = [
        "Expected: AP ranks the lookup MLPs at or below the median of all components; AP-IG puts "
        "one of them first of all and all of them among the first four. ",
        *_unknown(run),
    ]
    if AP in shown:
        text += ["Found: the first half ", *_holds(table, AP, "low"), f"; AP puts the {named} on "]
        text += [*_place(table, AP, "sites", "components"), f"{_over(run)}. "]
    if IG in shown:
        text += ["The second half ", *_holds(table, IG, "top"), f"; AP-IG puts the {named} on "]
        text += [*_place(table, IG, "mlps", "MLPs"), " and "]
        text += [*_place(table, IG, "sites", "components"), f"{_over(run)}. "]
    if IG in set(leading.frame["method"]):
        text += ["Its first MLP is MLP ", cite(leading, (IG,), "first")]
        text += [*_seeds(leading, IG), "."]
    return tuple(text)


def _tracing(run: Localized, table: Table) -> Sentence:
    """H5: whether causal tracing restricted to feed-forward layers finds the lookup layers."""
    if "tracing" not in set(run.tables["scores"]["method"]):
        return ()
    text = (
        "Expected: causal tracing with paired noise, restricted to MLPs, puts the lookup layers "
        "before all others. ",
        *_unknown(run),
    )
    if TRACING not in set(table.frame["method"]):
        return text
    return (
        *(*text, "Found: it ", *_holds(table, TRACING, "all_first")),
        *(f"; causal tracing puts the {_named(run)} on ", *_place(table, TRACING, "mlps", "MLPs")),
        f"{_over(run)}.",
    )


def methods_of(run: Localized) -> list[str]:
    """Localizers with results, in the order of the page."""
    known = {m for name in ("scores", "heads") for m in run.tables[name]["method"]}
    return [name for name in METHODS if name in known]
