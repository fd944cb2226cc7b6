"""Gates: conditions that a taught model must meet for results to mean anything.

Specs: mechanistic unlearning 9.4.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from relearn_jax.data import running_text
from relearn_jax.data.facts.prompts import Prompts, last_of_subject
from relearn_jax.data.facts.world import World, additive_baseline
from relearn_jax.errors import UserError
from relearn_jax.evaluation import facts, text
from relearn_jax.localize import probes
from relearn_jax.localize.effects import Effect, Effects
from relearn_jax.localize.localizer import Arrays
from relearn_jax.localize.probes import Readable
from relearn_jax.models.transformer import Model

PyTree = Any
ACCURACY = {"standard": 0.99, "qa": 0.98, "capitalized": 0.98, "mcq": 0.95}
PLANTED = {"standard": 0.99, "qa": 0.98, "capitalized": 0.9, "mcq": 0.9, "paraphrase": 0.9}
"""Minimum accuracy on planted facts; they are taught in the first two formats only."""
INTERCHANGE = Effect("interchange", "states", "position")
PROBES = probes.LOCALIZER.name
TEXT = 0.05
"""Largest loss above the entropy of the random text, in nats a token."""


class Gate(NamedTuple):
    """A condition: `value` must be at least, or at most, `limit`."""

    name: str
    value: float
    limit: float
    at_least: bool = True

    @property
    def passed(self) -> bool:
        return self.value >= self.limit if self.at_least else self.value <= self.limit

    def plain(self) -> dict[str, Any]:
        """Plain data, for a record."""
        return self._asdict() | {"value": float(self.value), "limit": float(self.limit)}


def knowledge(model: Model, params: PyTree, world: World, seed: int) -> list[Gate]:
    """Gates on accuracy by format, on the text loss, and on names: none may predict a sport."""
    correct = {name: facts.correct(model, params, world.lines[name]) for name in world.templates}
    natural = world.groups["natural"]
    gates = [
        Gate(f"{name}, natural facts", float(correct[name][natural].mean()), limit)
        for name, limit in ACCURACY.items()
        if name in correct
    ]
    if "planted" in world.groups:
        planted = world.groups["planted"]
        gates += [
            Gate(f"{name}, planted facts", float(correct[name][planted].mean()), limit)
            for name, limit in PLANTED.items()
            if name in correct
        ]
    above = text.loss(model, params, running_text.of_world(world, seed).test) - world.entropy
    gates.append(Gate("text: nats above the entropy", above, TEXT, at_least=False))
    chance = 1 / len(np.unique(world.sport))
    additive = additive_baseline(world).accuracy
    gates.append(Gate("additive baseline above chance", additive - chance, 1e-3, at_least=False))
    return gates


def localization(measured: Effects, readings: Mapping[str, Arrays], clean: Prompts) -> list[Gate]:
    """Gates on the effects and on the probes of a taught model."""
    gates: list[Gate] = []
    if INTERCHANGE in measured.values:
        # Prompts of one template share these positions.
        subject, last = int(last_of_subject(clean)[0]), int(clean.last[0])
        gates += interchange(measured.values[INTERCHANGE], subject, last)
    if PROBES in readings:
        gates.append(shuffled_probes(probes.from_arrays(readings[PROBES])["subject"]))
    return gates


def interchange(turned: Float[np.ndarray, "L1 T B"], subject: int, last: int) -> tuple[Gate, Gate]:
    """Gates on where a donor's state changes the answer to the donor's.

    In the lower half of the layers it does so at the subject's last token, and late at the prompt's
    last token. The last state is the answer itself, so the second gate means that the donors' facts
    are known as well.
    """
    share = turned.mean(-1, dtype=np.float64)
    half = (len(share) - 1) // 2
    early = share[1 : half + 1, subject].max()
    return (
        Gate("interchange at the subject's end, lower half", early, 0.8),
        Gate("interchange at the last token, last state", share[-1, last], 0.9),
    )


def shuffled_probes(readable: Readable) -> Gate:
    """Gate: the mean accuracy over states of probes of shuffled answers is at most three standard
    errors above chance (specs: mechanistic unlearning 9.4)."""
    chance = readable.chance
    error = np.sqrt(chance * (1 - chance) / readable.facts)
    above = readable.shuffled.mean() - chance
    return Gate("probes of shuffled answers above chance", above, 3 * error, at_least=False)


def enforce(gates: list[Gate], where: str) -> None:
    """Raise a UserError that names all failed gates, if any."""
    failed = [gate for gate in gates if not gate.passed]
    if failed:
        failures = "; ".join(
            f"{g.name} {g.value:.3f}, should be {'≥' if g.at_least else '≤'} {g.limit:.3g}"
            for g in failed
        )
        raise UserError(
            f"{where}: the model does not pass the gates, so no result on it would mean anything: "
            f"{failures}. Raise teaching.steps, or set gates: report to continue anyway."
        )
