"""The edit of an arm: a grid of settings side by side, and the one that is taken."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from itertools import product
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Bool

from relearn_jax import config, hosts, loading, runs
from relearn_jax.data.facts.reading import FactData
from relearn_jax.data.running_text import RunningText
from relearn_jax.evaluation import text
from relearn_jax.evaluation.probes import Probe
from relearn_jax.experiments import rounds
from relearn_jax.experiments.facts.edits import inside, program, texts
from relearn_jax.experiments.facts.edits.arms import EditArm
from relearn_jax.experiments.facts.edits.asked import (
    FORGET,
    VALIDATION,
    Asked,
    answered_side_by_side,
    subset,
)
from relearn_jax.experiments.facts.edits.loss import (
    FORGET_TERM,
    PLAIN_TERM,
    RETAIN_TERM,
    EditLoss,
    is_edited,
    refusal_id,
    terms_of,
)
from relearn_jax.experiments.facts.edits.setup import EditSetup
from relearn_jax.experiments.rounds import Plan, Trainer
from relearn_jax.localize import selection
from relearn_jax.localize.probes import POSITIONS
from relearn_jax.models import overlay, paths, weights
from relearn_jax.models.masks import Mask
from relearn_jax.models.overlay import Layers
from relearn_jax.models.transformer import Model
from relearn_jax.parallel import mesh as meshes
from relearn_jax.parallel import sharding, stacking
from relearn_jax.training.step import Batches, to_bfloat16

PyTree = Any


class Setting(NamedTuple):
    """A point of an edit's grid."""

    learning_rate: float
    forget_weight: float


class Tried(NamedTuple):
    """What a setting of the grid did, on the prompts of the edit's own format."""

    learning_rate: float
    forget_weight: float
    edited: float
    """Share of the facts that are edited."""
    kept: float
    """Mean probability of the right answers to retained facts that no loss holds."""
    finite: bool


class Edited(NamedTuple):
    """The model of an arm after its edit."""

    layers: Layers
    """The layers that may change."""
    rows: dict[str, np.ndarray]
    """Their leaves [K, ...], by path."""
    tried: tuple[Tried, ...]
    taken: int
    """Index of the setting that is taken."""
    inside: Bool[np.ndarray, "P 2 L1 F"]
    """What the original's probes read after some of the steps (`inside.right_by`)."""
    wall_s: float


def grid(edit: config.Edit) -> tuple[Setting, ...]:
    """All settings that an arm tries."""
    return tuple(Setting(*pair) for pair in product(edit.learning_rates, edit.forget_weights))


def steps(edit: config.Edit) -> int:
    """Number of steps of an arm, over all its settings."""
    return len(grid(edit)) * edit.steps * edit.parts


class Arm(NamedTuple):
    """An arm of a seed, ready to be trained."""

    seed: int
    name: str
    kind: str
    key: str
    """Of its stage."""
    base: PyTree
    """The model before the edit."""
    marked: Mask
    """What may change."""
    layers: Layers
    """The layers that are trained."""


def edit(
    setup: EditSetup,
    trainer: Trainer,
    seed: int,
    arm: EditArm,
    key: str,
    base: PyTree,
    fits: Mapping[str, Probe],
    taken: int | None = None,
) -> Edited:
    """Train every setting of an arm, some side by side, and take one.

    Args:
      setup, trainer: of the run.
      seed: of the model.
      arm: what may change.
      key: of the arm's stage.
      base: the model before the edit.
      fits: its probes, by position.
      taken: index of the setting to take, for an arm without a loss on the facts to forget.
    """
    settings, asked = setup.config.edit, setup.asked[seed]
    marked = selection.mask(arm.units or {}, selection.space(setup.model))
    layers = program.layers(marked, selection.space(setup.model), settings)
    own = Arm(seed, arm.name, arm.kind, key, base, marked, layers)
    prompts = subset(asked, asked.of(settings.format, FORGET, VALIDATION))
    tried: list[Tried] = []
    done: list[Plan] = []
    rows, wall_s, read = {}, 0.0, []
    for numbers in chunks(len(grid(settings)), settings.side_by_side):
        mesh = meshes.make(setup.config.parallel, len(numbers))
        start = paths.unflatten(overlay.rows(base, own.layers))
        trained = stacking.stack(mesh, [start] * len(numbers))
        found_inside: list[list[Any]] = [[] for _ in numbers]
        for part in range(settings.parts):
            plan = _plan(setup, own, mesh, numbers, part, fits)
            done.append(plan)
            found = rounds.train(trainer, plan, lambda models=trained: models)
            trained = found.params
            for entries, more in zip(found_inside, found.evaluations, strict=True):
                entries += [entry["inside"] for entry in more]
            wall_s += found.times["wall_s"] * len(numbers)
        tried += _tried(setup.model, own, mesh, trained, prompts, settings, numbers)
        chosen = best(tried, settings.matched) if taken is None else taken
        # Only the best so far is kept: all settings of a large model would not fit.
        if chosen in numbers:
            member = stacking.one_model(mesh, trained, chosen - numbers.start)
            rows = {path: hosts.fetch(leaf) for path, leaf in paths.flatten(member).items()}
            read = found_inside[chosen - numbers.start]
    for plan in done:
        rounds.forget_checkpoints(trainer, plan)
    shape = (len(read), len(POSITIONS), setup.model.config.layers + 1, -1)
    bits = np.array([inside.unpacked(packed) for packed in read], bool)
    over_time = bits.reshape(shape) if read else np.zeros((0, *shape[1:3], 0), bool)
    layers, rows = program.own_rows(marked, own.layers, rows)
    return Edited(layers, rows, tuple(tried), chosen, over_time, round(wall_s, 2))


def scored(edit: config.Edit) -> tuple[int, ...]:
    """Numbers of steps after which probes read the states of an edit."""
    steps = sorted(set(edit.scored_steps))
    return tuple(part * edit.steps + step for part in range(edit.parts) for step in steps)


def chunks(count: int, size: int | None) -> list[range]:
    """The numbers below `count` in runs of at most `size`."""
    size = size or count
    return [range(begin, min(begin + size, count)) for begin in range(0, count, size)]


def _plan(
    setup: EditSetup,
    arm: Arm,
    mesh: Mesh,
    numbers: range,
    part: int,
    fits: Mapping[str, Probe],
) -> Plan:
    """The training of some settings on one part of the facts to forget."""
    edit = setup.config.edit
    members = [grid(edit)[number] for number in numbers]
    shapes = weights.shapes(setup.model)
    forget = [0.0 if arm.kind == "retain_only" else member.forget_weight for member in members]
    fixed = {RETAIN_TERM: edit.retain_weight, PLAIN_TERM: edit.plain_weight}
    term_weights = {
        term: forget if term == FORGET_TERM else [fixed[term]] * len(members)
        for term in terms_of(edit)
    }

    def evaluate(rows: PyTree, step: int) -> tuple[list[dict[str, Any]], str]:
        entries = []
        for c in range(len(numbers)):
            own = overlay.laid(arm.layers, arm.base, stacking.one_model(mesh, rows, c))
            read = inside.right_by(setup, arm.seed, own, fits)
            entries.append({"step": step, "inside": inside.packed(read)})
        return entries, ""

    return Plan(
        names=[f"seed{arm.seed}-edit-{arm.name}-{part}-{number}" for number in numbers],
        keys=[runs.key_of(arm.key, part, number) for number in numbers],
        shapes={path: (len(chosen), *shapes[path][1:]) for path, chosen in arm.layers},
        mesh=mesh,
        loss=EditLoss(sharding.spread(setup.model, mesh), edit, arm.layers),
        settings=training(edit),
        steps=edit.steps,
        batches=partial(
            batches,
            setup.localization.facts[arm.seed], setup.running[arm.seed], edit, arm.seed, mesh, part,
        ),
        seeds=[arm.seed] * len(members),
        streams=list(numbers),
        number=1 + part,
        learning_rates=[member.learning_rate for member in members],
        cosine=True,
        weights=term_weights,
        reference=arm.base,
        shared_reference=True,
        held=program.held(arm.marked, arm.layers, mesh, len(members)),
        project=to_bfloat16 if edit.precision == "bfloat16" else None,
        may_diverge=True,
        evaluate=evaluate,
        evaluated=edit.scored_steps,
    )  # fmt: skip


def training(part: config.Edit | config.Attack) -> config.Training:
    """Settings of the optimizer of an edit or attack, whose learning rates are given apart."""
    return config.Training(
        epochs=1, batch_size=part.batch_size, learning_rate=1.0,
        weight_decay=getattr(part, "weight_decay", 0.0), clip_norm=part.clip_norm, dropout=0.0,
        accumulate=part.accumulate,
    )  # fmt: skip


def batches(
    data: FactData,
    running: RunningText | None,
    edit: config.Edit,
    seed: int,
    mesh: Mesh,
    part: int,
    epoch: int,
    skip: int,
) -> Iterator[Batches]:
    """The texts of an edit of one part of the facts to forget, from step `skip` on."""
    of_steps = texts.edit_batches(
        data,
        edit.format,
        texts.parts_of(data.split, edit.parts)[part],
        seed,
        edit.batch_size,
        edit.steps,
        running if edit.plain_weight else None,
        refusal_id(edit, data) if edit.refusal else None,
    )
    rows = meshes.rows_of(mesh, edit.batch_size, edit.accumulate).total
    for step, batch in enumerate(of_steps):
        if step >= skip:
            yield texts.filled(batch, rows)


def _tried(
    model: Model,
    arm: Arm,
    mesh: Mesh,
    rows: PyTree,
    prompts: Asked,
    settings: config.Edit,
    numbers: range,
) -> list[Tried]:
    change = partial(overlay.laid, arm.layers)
    answers = answered_side_by_side(model, change, mesh, arm.base, rows, prompts)
    edited = is_edited(answers.says, prompts, settings)
    forget, retain = (prompts.of(settings.format, group) for group in (FORGET, VALIDATION))
    return [
        Tried(
            *grid(settings)[number],
            float(edited[c, forget].mean()),
            float(answers.target[c, retain].mean()),
            bool(np.isfinite(answers.target[c]).all()),
        )
        for c, number in enumerate(numbers)
    ]


def best(tried: Sequence[Tried], matched: float) -> int:
    """The setting that keeps most among those that edit enough; else the one that edits most.

    Models that are not finite are never taken, unless none is.
    """
    usable = [n for n, setting in enumerate(tried) if setting.finite] or list(range(len(tried)))
    enough = [n for n in usable if tried[n].edited >= matched]
    if enough:
        return max(enough, key=lambda n: tried[n].kept)
    return max(usable, key=lambda n: (tried[n].edited, tried[n].kept))


def with_rows(base: PyTree, layers: Layers, rows: Mapping[str, np.ndarray], mesh: Mesh) -> PyTree:
    """The model `base` with the leaves of some layers replaced."""
    return overlay.filled(layers, base, placed(rows, mesh))


def placed(leaves: Mapping[str, np.ndarray], mesh: Mesh) -> dict[str, jax.Array]:
    """Leaves on the devices, by path."""
    place = sharding.placer(mesh)
    return {path: jax.device_put(leaf, place(path, leaf.shape)) for path, leaf in leaves.items()}


def text_loss(setup: EditSetup, seed: int, params: PyTree) -> float | None:
    """Loss on running text above its entropy, in nats a token; None without text."""
    running = setup.running[seed]
    if running is None:
        return None
    return text.loss(setup.model, params, running.test) - running.entropy


def plain(settings: config.Edit) -> dict[str, Any]:
    """Settings that an edit depends on, but not which arms there are."""
    outside = ("arms", "controls", "random_draws", "side_by_side")
    return {name: value for name, value in loading.plain(settings).items() if name not in outside}
