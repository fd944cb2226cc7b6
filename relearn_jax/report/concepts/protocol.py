"""What was done in a run of relearning, in plain words: the protocol, the arms, the texts."""

from __future__ import annotations

from collections.abc import Collection

from relearn_jax.neurons import ranking
from relearn_jax.report import html, provenance
from relearn_jax.report.concepts.arms import ARM_NAMES
from relearn_jax.report.concepts.reading import Run, main_arm, stage_name
from relearn_jax.report.html import Drawn
from relearn_jax.report.provenance import Work, model, unfinished
from relearn_jax.report.sentences import fact, listed, plural

GENERATED = '<span class="badge">GENERATED</span>'
ARMS = {
    "concept": "the neurons that rank first for {target}",
    "random": "as many neurons drawn at random",
    "layer_matched": "as many random neurons, the same number from each layer",
    "bottom": "as many neurons from the end of the ranking",
    "oracle": "no neuron, in a model trained without labels on words of {target}",
}
TARGETS = {
    "ln_gain": "the LayerNorm gain of the neuron is set to 0; its constant offset stays",
    "ln_gain_bias": "the LayerNorm gain and bias of the neuron are set to 0",
    "state_mask": "the neuron is multiplied by 0 in every forward pass",
    "mlp_unit": "the unit's incoming and outgoing weights are set to 0",
}
REGROWTH = {"free": "free to grow back", "frozen": "held at 0"}
RETRAIN = {
    "full": "on the full training text, which holds the concept",
    "without_concept": "on the training sentences without the concept",
    "other": "on other text (retrain.source)",
}
FEW = "on {number} training sentences with the concept, drawn by each seed"


WORK = (
    Work("work_s", "training and evaluation", lambda stage: not stage.endswith("-neurons")),
    Work("neurons_s", "statistics of neurons", lambda stage: stage.endswith("-neurons")),
)


def what(run: Run) -> Drawn:
    """What was done, in plain words."""
    target, prune = html.text(run.target), run.config.get("prune") or {}
    ranked = run.group.ranking or prune.get("ranking", "probeless"), prune.get("contrast", "rest")
    sizes = {k: html.prose((fact(run, f"prune.{k}", "manifest"),)) for k in ("pruned", "of")}
    items = (
        based(run),
        f"Its neurons were ranked by {ranking.goes_by(*ranked, target)} ({ranked[0]} ranking).",
        f"{sizes['pruned']} of {sizes['of']} neurons were pruned: {pruning(run)}.",
        retrained(run, {run.group.regrowth}, [run.group.text or default_text(run)]),
        "At every stage the task was scored on held-out text, and every neuron's saliency and top "
        "tokens were written down.",
        f"The same was done for each arm: {arms(run, target)}."
        if len(run.arms) > 1
        else "There is no control arm in this run.",
    )
    return provenance.steps(run, items) + texts(run), ()


def based(run: Run) -> str:
    """What the base model is."""
    model = run.manifest.get("model") or {}
    return (
        f"A pretrained model ({html.text(model.get('source', 'not named'))}) was fine-tuned to "
        "mark entities in text: the <b>base</b> model."
    )


def default_text(run: Run) -> str | int:
    """The retraining text of groups that name none."""
    return (run.config.get("retrain") or {}).get("data", "full")


def pruning(run: Run) -> str:
    """What pruning does to a neuron."""
    target = (run.config.get("prune") or {}).get("target")
    return TARGETS.get(target, html.text(target))


def retrained(run: Run, regrowths: Collection[str], texts: Collection[str | int]) -> str:
    """What the pruned models were retrained on and for how long, and what could grow back."""
    retrain = run.config.get("retrain") or {}
    if not retrain.get("rounds"):
        return "The pruned models were not retrained."
    rounds = _count(run, "round")
    length = "about " + _count(run, "step") if retrain.get("steps") else _count(run, "epoch")
    kept = [word for name, word in REGROWTH.items() if name in regrowths]
    return (
        f"The model was retrained {' or '.join(map(trained_on, texts))}, in {rounds} of {length}, "
        f"each with a fresh optimizer; pruned entries were {' or '.join(kept)}."
    )


def trained_on(text: str | int) -> str:
    """The retraining text in words."""
    return FEW.format(number=text) if isinstance(text, int) else RETRAIN.get(text, "")


def _count(run: Run, word: str) -> str:
    """A number of the config under `retrain`, with its word: `3 rounds`."""
    number = fact(run, f"retrain.{word}s")
    return html.prose((number, plural(number, f" {word}")))


def arms(run: Run, target: str) -> str:
    """What each arm prunes."""
    return "; ".join(f"<b>{ARM_NAMES[a]}</b>, {ARMS[a].format(target=target)}" for a in run.arms)


def texts(run: Run) -> str:
    """The texts that were used."""
    data = run.manifest.get("data") or {}
    heads = ("used for", "text", "sentences", "words", "word types", "SHA-256")
    order = ("train", "evaluation", "retrain", "concepts")
    rows = []
    for role, facts in sorted(data.items(), key=lambda item: (*order, item[0]).index(item[0])):
        mark = f" {GENERATED}" if facts.get("generated") else ""
        note = f"<br><small>{html.text(facts['note'])}</small>" if facts.get("note") else ""
        digest = html.text(facts.get("sha256", ""))
        cells = (
            f"{html.text(facts.get('source', ''))}{mark}{note}",
            *(html.show(facts.get(k), "int") for k in ("sentences", "words", "types")),
            f'<code title="{digest}">{digest[:16]}…</code>',
        )
        rows.append((html.text(role), *(f"<td>{cell}</td>" for cell in cells)))
    generated = any(facts.get("generated") for facts in data.values())
    notice = (
        "<p>Text marked GENERATED was written by a seeded program, not by people: it shows that "
        "the machinery works, and says little about language.</p>"
    )
    texts = html.listing("texts", "Text", heads, rows, "manifest.json")
    return (notice if generated else "") + texts


def glance(run: Run, named: tuple[tuple[str, str], ...]) -> tuple[tuple[str, str], ...]:
    """The facts of a run of relearning, as (name, HTML)."""
    data = run.manifest.get("data") or {}
    mark = f" {GENERATED}" if any(d.get("generated") for d in data.values()) else ""
    train = data.get("train") or {}
    return (
        ("Model", model(run)),
        ("Text", f"{html.text(train.get('source', 'not named'))}{mark}"),
        *((name, html.text(value)) for name, value in named),
        ("Arms", " · ".join(ARM_NAMES[a] for a in run.arms)),
        ("Seeds", ", ".join(map(str, run.seeds))),
    )


def above(run: Run) -> str:
    """The way back from a group's page, for a run of several groups."""
    if run.home == run.folder:
        return ""
    return (
        '<p class="kicker up"><a href="../../report.html">All groups compared</a> · '
        f"{html.text(run.group.name)} · settings and times are those of the whole run</p>"
    )


PAPER = "Lo, Barez, Cohen, Large Language Models Relearn Removed Concepts (Findings of ACL 2024)"


def notice(run: Run) -> str:
    """What an unfinished run lacks."""
    if not run.missing and not run.absent and run.manifest.get("finished"):
        return ""
    return unfinished([*gaps(run), *(f"tables/{name}.parquet" for name in run.absent)])


def gaps(run: Run) -> list[str]:
    """Missing stages, one line for all seeds and arms that lack the same ones."""
    seeds: dict[tuple, list[int]] = {}
    for gap in run.missing:
        seeds.setdefault((gap.stages, gap.arm), []).append(gap.seed)
    arms: dict[tuple, list[str]] = {}
    for (stages, arm), numbers in seeds.items():
        arms.setdefault((stages, tuple(numbers)), []).append(ARM_NAMES[arm])
    return [
        f"{', '.join(map(stage_name, stages))} of seed{'s' * (len(numbers) > 1)} "
        f"{', '.join(map(str, numbers))}, {listed(names)}"
        for (stages, numbers), names in arms.items()
    ]


def title(run: Run) -> str:
    """The question that this run answers."""
    if main_arm(run) != "concept":
        return f"Pruned neurons ({ARM_NAMES[main_arm(run)]}): does the model recover?"
    return f"The concept {run.target} was pruned from the model. Does it come back?"
