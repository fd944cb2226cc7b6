"""Names of the stages of a localization."""

from __future__ import annotations

from relearn_jax.config import Localization

PRETRAINED, MODEL, EFFECTS, CHOICE = "pretrained", "model", "effects", "choice"
"""A decoder before planting; a taught decoder; measurements and choices of all localizers."""


def stage(seed: int, kind: str) -> str:
    """The folder of a stage: `seed0-effects`."""
    return f"seed{seed}-{kind}"


def stages(config: Localization) -> list[str]:
    """All stages of a config, in the order of computation."""
    return [
        *(stage(seed, kind) for kind in taught_stages(config) for seed in config.seeds),
        *(stage(seed, kind) for seed in config.seeds for kind in (EFFECTS, CHOICE)),
    ]


def taught_stages(config: Localization) -> tuple[str, ...]:
    """The stages of teaching, in order; none if the decoder is pretrained."""
    planted = bool(config.teaching.plant_layers and config.teaching.plant_steps)
    return (PRETRAINED,) * (config.taught and planted) + (MODEL,) * config.taught


def edit_stage(seed: int, arm: str) -> str:
    """The folder of an edited model: `seed0-edit-probes`."""
    return stage(seed, f"edit-{arm}")


def mask_stage(seed: int, arm: str) -> str:
    """The folder of a choice's weight mask: `seed0-weights-probes`."""
    return stage(seed, f"weights-{arm}")


def attack_stage(seed: int, arm: str) -> str:
    """The folder of an attack: `seed0-attack-probes`."""
    return stage(seed, f"attack-{arm}")
