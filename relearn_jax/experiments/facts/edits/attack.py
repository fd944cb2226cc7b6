"""The relearning attack: half of the forgotten facts is taught again, the other half is scored.

After Deeb, Roger (2024), "Do Unlearning Methods Remove Information from Language Model Weights?".
Learning rates x seeds x halves are C attackers side by side, one program. Their adapters are
trained; the attacked model is shared by all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from itertools import product
from typing import Any, Literal, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Bool, Int

from relearn_jax import config, loading, runs
from relearn_jax.data.facts.splits import Split
from relearn_jax.editing import adapters, rounding
from relearn_jax.editing.objectives import FORGET, PLAIN, RETAIN
from relearn_jax.evaluation.probes import Probe
from relearn_jax.experiments import rounds
from relearn_jax.experiments.facts.edits import inside, texts
from relearn_jax.experiments.facts.edits.asked import answered, answered_side_by_side
from relearn_jax.experiments.facts.edits.setup import EditSetup
from relearn_jax.experiments.facts.edits.sweep import chunks, training
from relearn_jax.experiments.rounds import Plan, Trainer
from relearn_jax.localize import selection
from relearn_jax.models.masks import Mask
from relearn_jax.models.transformer import Model
from relearn_jax.parallel import mesh as meshes
from relearn_jax.parallel import sharding, stacking
from relearn_jax.training import losses
from relearn_jax.training.losses import Terms, Texts
from relearn_jax.training.step import Batches

PyTree = Any
HALVES, NOTHING, ALL = 2, -1, -1
Kind = Literal["relearn", "unrelated", "layer"]
"""Relearns one half; sees none of the facts; relearns one half through a single layer."""


class Attacker(NamedTuple):
    """One of the C attackers."""

    learning_rate: float
    seed: int
    half: int
    """The half that it relearns, 0 or 1; it is scored on the other. `NOTHING`: it sees no fact."""
    layer: int = ALL
    """The only layer that it may change; `ALL`: every layer."""

    @property
    def kind(self) -> Kind:
        """What it may see and change."""
        if self.half == NOTHING:
            return "unrelated"
        return "relearn" if self.layer == ALL else "layer"


class Attacked(NamedTuple):
    """Answers of C attackers to Q prompts at P numbers of steps."""

    right: Bool[np.ndarray, "C P Q"]
    """Whether the right answer is given."""
    injected: Bool[np.ndarray, "C P Q"]
    """Whether the first alternative is given."""
    inside: Bool[np.ndarray, "R P 2 L1 F"]
    """Whether the original's probes read the right answer to each forgotten fact off the states at
    two positions; of the R attackers that relearn through all layers."""
    carriers: dict[str, np.ndarray]
    """What carries the facts that these attackers did not see, at the end: `0/index`, ..."""
    wall_s: float


class Rounded(NamedTuple):
    """Answers of a model to Q prompts after its matrices were rounded."""

    right: Bool[np.ndarray, " Q"]
    injected: Bool[np.ndarray, " Q"]


def attackers(attack: config.Attack, layers: int) -> tuple[Attacker, ...]:
    """All attackers of a model with so many layers, by kind.

    Within a kind learning rates, or layers, are outermost, and halves innermost.
    """
    rates, seeds, halves = attack.learning_rates, attack.seeds, range(HALVES)
    found = [Attacker(*values) for values in product(rates, seeds, halves)]
    if attack.unrelated:
        found += [Attacker(*values) for values in product(rates, seeds, (NOTHING,))]
    if attack.layers:
        single = product(range(layers), seeds, halves)
        found += [Attacker(rates[-1], seed, half, layer) for layer, seed, half in single]
    return tuple(found)


def attackers_of(setup: EditSetup) -> tuple[Attacker, ...]:
    """All attackers of a run."""
    return attackers(setup.config.attack, setup.model.config.layers)


def points(attack: config.Attack) -> tuple[int, ...]:
    """Numbers of steps at which attackers are scored, without 0."""
    return (*sorted(set(attack.scored_steps)), attack.steps)


def half_of(split: Split, attacker: Attacker) -> Int[np.ndarray, " h"]:
    """The facts that an attacker relearns: half of all forgotten facts, drawn by its seed."""
    facts = split.forgotten
    if attacker.half == NOTHING:
        return facts[:0]
    order = np.random.default_rng((attacker.seed, 3)).permutation(len(facts))
    middle = len(facts) // HALVES
    rows = order[:middle] if attacker.half == 0 else order[middle:]
    return facts[np.sort(rows)]


def _shown(split: Split, attacker: Attacker) -> Int[np.ndarray, " h"]:
    """The facts in an attacker's batches. Where they have no weight, any will do."""
    return half_of(split, attacker._replace(half=max(attacker.half, 0)))


class Attach(NamedTuple):
    """Puts an attacker's adapters into the attacked model. Equal values share programs."""

    scale: float

    def __call__(self, base: PyTree, adapted: PyTree) -> PyTree:
        return adapters.attached(self.scale, base, adapted)


def attach_of(attack: config.Attack) -> Attach:
    """How a config's adapters are attached."""
    return Attach(attack.alpha / attack.rank)


class AttackLoss(NamedTuple):
    """The loss of attackers. Equal losses share a compiled step."""

    model: Model
    attach: Attach
    plain: bool
    """Whether there is running text."""

    def __call__(self, adapted: PyTree, base: PyTree, of_step: Texts) -> Terms:
        params, asked = self.attach(base, adapted), texts.answered_once(of_step)
        names = (FORGET, RETAIN) + (PLAIN,) * self.plain
        return {name: losses.cross_entropy(self.model, params, asked[name]) for name in names}


def run(
    setup: EditSetup,
    trainer: Trainer,
    seed: int,
    name: str,
    key: str,
    base: PyTree,
    fits: Mapping[str, Probe],
) -> Attacked:
    """Attack a model with all attackers, some side by side.

    Args:
      setup, trainer: of the run.
      seed: of the model.
      name, key: of the attack's stage.
      base: the attacked model.
      fits: the original's probes, by position.
    """
    parts = [
        _run(setup, trainer, seed, name, key, base, fits, numbers)
        for numbers in chunks(len(attackers_of(setup)), setup.config.attack.side_by_side)
    ]
    right, injected, read, carried, wall_s = zip(*parts, strict=True)
    return Attacked(
        *(np.concatenate(values) for values in (right, injected, read)),
        {path: leaf for part in carried for path, leaf in part.items()},
        round(sum(wall_s), 2),
    )


def _run(
    setup: EditSetup,
    trainer: Trainer,
    seed: int,
    name: str,
    key: str,
    base: PyTree,
    fits: Mapping[str, Probe],
    numbers: range,
) -> Attacked:
    attack, asked = setup.config.attack, setup.attacked[seed]
    members = attackers_of(setup)[numbers.start : numbers.stop]
    mesh = meshes.make(setup.config.parallel, len(members))
    attach = attach_of(attack)
    relearning = [c for c, member in enumerate(members) if member.kind == "relearn"]

    def read(adapted: PyTree, c: int) -> np.ndarray:
        own = attach(base, stacking.one_model(mesh, adapted, c))
        return inside.right_by(setup, seed, own, fits)

    def evaluate(adapted: PyTree, step: int) -> tuple[list[Any], str]:
        answers = answered_side_by_side(setup.model, attach, mesh, base, adapted, asked)
        right, injected = answers.says == asked.target, answers.says == asked.injected
        entries = [
            {
                "step": step, "right": inside.packed(right[c]),
                "injected": inside.packed(injected[c]),
                **({"inside": inside.packed(read(adapted, c))} if c in relearning else {}),
            }
            for c in range(len(members))
        ]  # fmt: skip
        return entries, ""

    shapes = adapters.shapes(
        selection.space(setup.model).shapes, attack.rank if attack.adapter == "lora" else None
    )
    plan = Plan(
        names=[f"{name}-{n}" for n in numbers],
        keys=[runs.key_of(key, n) for n in numbers],
        shapes=shapes,
        mesh=mesh,
        loss=AttackLoss(sharding.spread(setup.model, mesh), attach, bool(attack.plain_weight)),
        settings=training(attack),
        steps=attack.steps,
        batches=partial(_batches, setup, seed, mesh, members),
        seeds=[attacker.seed for attacker in members],
        streams=list(numbers),
        number=2,
        learning_rates=[attacker.learning_rate for attacker in members],
        cosine=True,
        weights=_weights(attack, members),
        reference=base,
        shared_reference=True,
        held=_held(mesh, members, shapes) if attack.layers else None,
        may_diverge=True,
        evaluate=evaluate,
        evaluated=points(attack),
    )
    trained = rounds.train(trainer, plan, _drawn(mesh, members, shapes))
    rounds.forget_checkpoints(trainer, plan)

    def entries(kind: str, members: Iterable[int]) -> np.ndarray:
        found = [[inside.unpacked(e[kind]) for e in trained.evaluations[c]] for c in members]
        return np.array(found, bool)

    everyone = range(len(members))
    split = setup.localization.facts[seed].split
    states = (len(points(attack)), 2, setup.model.config.layers + 1, len(split.forgotten))
    carried = {}
    for c in relearning:
        own = attach(base, stacking.one_model(mesh, trained.params, c))
        found = inside.carried(setup, seed, own, held_out(split, members[c]))
        carried |= {f"{numbers[c]}/{kind}": values for kind, values in found._asdict().items()}
    return Attacked(
        entries("right", everyone),
        entries("injected", everyone),
        entries("inside", relearning).reshape(len(relearning), *states),
        carried,
        trained.times["wall_s"] * len(members),
    )


def held_out(split: Split, attacker: Attacker) -> Int[np.ndarray, " h"]:
    """Numbers, among all forgotten facts, of those that an attacker does not see."""
    return np.flatnonzero(~np.isin(split.forgotten, half_of(split, attacker)))


def _held(mesh: Mesh, members: tuple[Attacker, ...], shapes: adapters.Shapes) -> Mask:
    """The layers whose adapters do not change, for each attacker."""
    marked = {}
    for path, (layers, *_) in shapes.items():
        others = [
            np.where(member.layer == ALL, False, np.arange(layers) != member.layer)
            for member in members
        ]
        marked[path] = stacking.per_set(mesh, [rows[:, None, None] for rows in others])
    return Mask(marked)


def _weights(attack: config.Attack, members: tuple[Attacker, ...]) -> dict[str, list[float]]:
    """Weights of the loss's terms for each attacker."""
    sees = [attacker.half != NOTHING for attacker in members]
    alone = not attack.plain_weight
    weights = {
        FORGET: [float(sees_facts) for sees_facts in sees],
        RETAIN: [attack.retain_weight * (sees_facts or alone) for sees_facts in sees],
    }
    if attack.plain_weight:
        weights[PLAIN] = [attack.plain_weight] * len(members)
    return weights


def rounded(setup: EditSetup, seed: int, params: PyTree, bits: int) -> Rounded:
    """Answers after the matrices of all blocks are rounded to a number of bits."""
    asked, matrices = setup.attacked[seed], selection.space(setup.model).shapes
    answers = answered(setup.model, rounding.rounded(params, matrices, bits), asked)
    return Rounded(answers.says == asked.target, answers.says == asked.injected)


def _drawn(mesh: Mesh, members: tuple[Attacker, ...], shapes: adapters.Shapes) -> Callable:
    """A function that draws the adapters of all attackers, [C, ...]."""

    def draw() -> PyTree:
        trees = [adapters.draw(jax.random.key(attacker.seed), shapes) for attacker in members]
        return stacking.stack(mesh, trees)

    return draw


def _batches(
    setup: EditSetup,
    seed: int,
    mesh: Mesh,
    members: tuple[Attacker, ...],
    epoch: int,
    skip: int,
) -> Iterator[Batches]:
    attack, data = setup.config.attack, setup.localization.facts[seed]
    steps = texts.attack_batches(
        data,
        attack.formats[0],
        [_shown(data.split, attacker) for attacker in members],
        [attacker.seed for attacker in members],
        attack.batch_size,
        attack.steps,
        setup.running[seed] if attack.plain_weight else None,
        attack.labels,
    )
    rows = meshes.rows_of(mesh, attack.batch_size, attack.accumulate).total
    for step, of_members in enumerate(steps):
        if step >= skip:
            each = [texts.filled(batches, rows) for batches in of_members]
            yield jax.tree.map(lambda *x: np.stack(x), *stacking.filled(mesh, each))


def plain(attack: config.Attack) -> dict[str, Any]:
    """Settings that the answers of attackers depend on."""
    outside = ("kept", "fitted", "side_by_side")
    return {name: value for name, value in loading.plain(attack).items() if name not in outside}
