"""Tidy tables of what is left inside edited and attacked models."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from relearn_jax.experiments.facts import teaching
from relearn_jax.experiments.facts.edits import attack, judging, sweep
from relearn_jax.experiments.facts.edits.arms import ORIGINAL
from relearn_jax.experiments.facts.edits.attack import Attacker
from relearn_jax.experiments.facts.edits.inside import READINGS
from relearn_jax.experiments.facts.edits.results import EditResult
from relearn_jax.localize import carriers
from relearn_jax.localize.carriers import Carriers, Lineage
from relearn_jax.localize.probes import POSITIONS

Row = dict[str, Any]
HEIRS = 10
"""Carriers that are listed for each arm."""


def inside_rows(result: EditResult) -> Iterator[Row]:
    """What probes read off the states about the forgotten facts."""
    for name, edited in result.edited.items():
        for reader in READINGS:
            right, injected = edited.right[reader], edited.injected[reader]
            for p, position in enumerate(POSITIONS):
                for state in range(right.shape[1]):
                    yield {
                        "arm": name, "probe": reader, "position": position, "state": state,
                        "right": float(right[p, state].mean()),
                        "injected": float(injected[p, state].mean()),
                        "facts": right.shape[2],
                    }  # fmt: skip


def over_time_rows(result: EditResult) -> Iterator[Row]:
    """What the original's probes read after some steps of the edit and of the attack.

    Of an attack, about the facts that the attacker does not see, at its best learning rate through
    all layers.
    """
    config = result.setup.config
    for name, edited in result.edited.items():
        if edited.over_time is not None:
            steps = sweep.scored(config.edit)
            yield from _read_rows(name, "edit", steps, [edited.over_time])
        best = judging.best_of(result, edited, "all")
        if best is not None:
            own = judging.relearning(result, judging.ways(result)[best.rate])
            read = [
                edited.attacked["inside"][number][
                    ..., attack.held_out(judging.split_of(result), member)
                ]
                for number, member in own
            ]
            yield from _read_rows(name, "attack", attack.points(config.attack), read)


def _read_rows(
    name: str, stage: str, steps: tuple[int, ...], read: list[np.ndarray]
) -> Iterator[Row]:
    if not steps:
        return
    means = np.mean([part.mean(-1) for part in read], axis=0)
    facts = sum(part.shape[-1] for part in read)
    for (point, p, state), right in np.ndenumerate(means):
        yield {
            "arm": name, "stage": stage, "step": steps[point], "position": POSITIONS[p],
            "state": state, "right": float(right), "facts": facts,
        }  # fmt: skip


def carrier_rows(result: EditResult) -> Iterator[Row]:
    """The first-order effect of each feed-forward layer on the margin of the right answer over the
    injected one, a mean over forgotten facts: after the edit, and after the attack (over the facts
    that the attackers did not see, at the best learning rate)."""
    truth = teaching.planted(result.setup.model, result.setup.config.teaching)
    for name, edited in result.edited.items():
        stages = {"edit": [edited.carriers.by_layer]}
        stages["attack"] = [found.by_layer for _, found in _attacked_carriers(result, name)]
        for stage, found in stages.items():
            if not found:
                continue
            for layer, effect in enumerate(np.concatenate(found, axis=1)):
                yield {
                    "arm": name, "stage": stage, "layer": layer, "effect": float(effect.mean()),
                    "planted": truth is not None and bool(truth["mlp"][layer]),
                    "facts": len(effect),
                }  # fmt: skip


def lineage_rows(result: EditResult) -> Iterator[Row]:
    """How the carriers after the edit and after the attack descend from those of the original.

    The sham says what a change that removes nothing does.
    """
    truth = teaching.planted(result.setup.model, result.setup.config.teaching)
    width = result.setup.model.config.mlp_width
    for name, stage, found, lines in _lineages(result):
        held = np.nan if truth is None else float(truth["mlp"][found.index // width].mean())
        yield {
            "arm": name, "stage": stage, "carriers": len(found.index), "same": lines.same,
            "matched": lines.matched, "shuffled": lines.shuffled, "planted": held,
            "facts": found.effect.shape[1],
        }  # fmt: skip


def heir_rows(result: EditResult) -> Iterator[Row]:
    """The first carriers after an edit and after an attack, each with the carrier of the original
    that it was matched to."""
    width = result.setup.model.config.mlp_width
    for name, stage, found, lines in _lineages(result):
        before = result.edited[ORIGINAL].carriers.index
        for place in range(min(HEIRS, len(found.index))):
            neuron, ancestor = found.index[place], before[lines.ancestor[place]]
            yield {
                "arm": name, "stage": stage, "place": place, "layer": int(neuron // width),
                "neuron": int(neuron % width), "effect": float(found.effect[place].mean()),
                "carried_before": bool(neuron in before),
                "ancestor_layer": int(ancestor // width), "ancestor_neuron": int(ancestor % width),
                "correlation": float(lines.correlation[place]),
            }  # fmt: skip


def _lineages(result: EditResult) -> Iterator[tuple[str, str, Carriers, Lineage]]:
    """Every arm and stage, with its carriers and their lineage; of an attack, those of its first
    attacker at the best learning rate."""
    original = result.edited[ORIGINAL].carriers
    for name, edited in result.edited.items():
        everyone = np.arange(edited.carriers.effect.shape[1])
        stages = {} if name == ORIGINAL else {"edit": (everyone, edited.carriers)}
        for member, found in _attacked_carriers(result, name)[:1]:
            stages["attack"] = (attack.held_out(judging.split_of(result), member), found)
        for stage, (facts, found) in stages.items():
            yield name, stage, found, carriers.lineage(original, found, facts, result.seed)


def _attacked_carriers(result: EditResult, name: str) -> list[tuple[Attacker, Carriers]]:
    """The carriers after relearning, at the attacker's best learning rate through all layers."""
    edited = result.edited[name]
    best = judging.best_of(result, edited, "all")
    if best is None:
        return []
    return [
        (member, edited.attacked_carriers[number])
        for number, member in judging.relearning(result, judging.ways(result)[best.rate])
    ]


def lens_rows(result: EditResult) -> Iterator[Row]:
    """Probability of the right and of the injected answer by the logit lens, means over facts."""
    for name, edited in result.edited.items():
        pairs = zip(edited.lens["target"], edited.lens["injected"], strict=True)
        for state, (target, injected) in enumerate(pairs):
            yield {
                "arm": name, "state": state, "p_target": float(target.mean()),
                "p_injected": float(injected.mean()), "facts": len(target),
            }  # fmt: skip
