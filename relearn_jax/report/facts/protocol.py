"""What was done: model, facts, pairs, and every method in one line."""

from __future__ import annotations

from collections.abc import Mapping
from string import Formatter

from relearn_jax.report import html, provenance
from relearn_jax.report.facts import truth
from relearn_jax.report.facts.methods import METHODS
from relearn_jax.report.facts.reading import Localized
from relearn_jax.report.facts.sentences import Tables, methods_of
from relearn_jax.report.html import Drawn, prose, table
from relearn_jax.report.provenance import Work
from relearn_jax.report.sentences import fact
from relearn_jax.report.tables import Sentence

CORRUPT = {
    "swapped": "another subject with another answer, whose name has as many tokens",
    "random": "the subject's tokens replaced by random ones",
}
AGAIN = {
    "swapped": "a third subject with the corrupt one's answer",
    "random": "other random tokens",
}
WORK = (
    Work("teaching_s", "teaching", lambda stage: stage.endswith(("-pretrained", "-model"))),
    Work("effects_s", "effects", lambda stage: stage.endswith("-effects")),
    Work("choice_s", "choices", lambda stage: stage.endswith("-choice")),
)
ASKED = {"swapped": "the corrupt partner's", "random": "the alternatives"}


def sources(run: Localized) -> str:
    """Where the facts are from; of worlds that differ by seed, the first."""
    facts = (run.manifest.get("facts") or {}).values()
    names = list(dict.fromkeys(str(f.get("source", "not named")) for f in facts)) or ["not named"]
    return names[0] + (" (and so on, one world for each seed)" if len(names) > 1 else "")


def done(run: Localized, tables: Tables) -> Drawn:
    """Model, facts, pairs, and each method in one line."""
    about = run.manifest.get("model") or {}
    config = run.config.get("localize") or {}
    layers, heads, parameters, pairs, tokens = (
        prose((fact(run, key, "manifest"),))
        for key in ("model.layers", "model.heads", "model.parameters", "pairs", "tokens")
    )
    drawn = about.get("source") == "random"
    taught = drawn and (run.config.get("facts") or {}).get("kind", "world") == "world"
    steps = (
        f"The model: a decoder of the family {html.text(about.get('family', 'not named'))}, "
        f"{'random weights' if drawn else html.text(about.get('source', 'weights not named'))}, "
        f"{layers} layers of {heads} heads, {parameters} parameters"
        + (", taught a built-in world of athletes and sports" if taught else "")
        + _planting(run),
        f"The facts: {html.text(sources(run))}.",
        f"The pairs: {pairs} prompts of {tokens} tokens in the format "
        f"“{html.text(config.get('format', 'not named'))}”, each with a corrupt partner: "
        f"{CORRUPT.get(config.get('corrupt'), html.text(config.get('corrupt')))}. For the null "
        "the corrupt run has a partner of its own, "
        f"{AGAIN.get(config.get('corrupt'), 'not named')}; tracing takes a second draw of the "
        "noise.",
        f"Scores of patching and attribution are shares of a change: of what the whole corruption "
        f"does to the difference of logits between the right answer and "
        f"{ASKED.get(config.get('corrupt'), 'the others')}. Those of tracing are shares of the "
        "probability that noise takes from the right answer.",
        f"Chosen components: the highest scores, either sign, until "
        f"{_budget(config)} are spent; the one that crosses the limit is taken too. Path patching "
        "and probes choose by rules of their own: a least effect, and the shortest run of layers "
        "that holds most of the gain.",
    )
    return provenance.steps(run, steps) + _methods(run) + table(tables["accuracy"]), ()


def _planting(run: Localized) -> str:
    if not truth.layers(run):
        return "."
    return (
        "; then the facts that are localized were taught into the planted feed-forward layers "
        "alone."
    )


def _budget(config: Mapping) -> str:
    if config.get("budget") is None:
        return "as many parameters as the probe rule chooses"
    return f"{html.show(config['budget'], 'percent')} of all attention and MLP parameters"


def _methods(run: Localized) -> str:
    methods = [METHODS[name] for name in methods_of(run)]
    if not methods:
        return html.absent("methods (tables/scores.parquet)")
    rows = (
        (html.text(method.label), f'<td class="words">{prose(filled(run, method.about))}</td>',
         f'<td class="words">{html.text(method.source)}</td>')
        for method in methods
    )  # fmt: skip
    return html.listing("tokens", "Methods", ("method", "what it asks", "from"), rows)


def filled(run: Localized, template: str) -> Sentence:
    """A sentence whose fields are settings of the run."""
    pieces = []
    for text, key, _, _ in Formatter().parse(template):
        pieces.append(text)
        if key:
            pieces.append(fact(run, key))
    return tuple(pieces)
