"""Names of the stages of a localization."""

from __future__ import annotations

from relearn_jax.config import Localization

MODEL, EFFECTS, CHOICE = "model", "effects", "choice"
"""A taught decoder; what every localizer measures; what each chooses."""


def stage(seed: int, kind: str) -> str:
    """The folder of a stage: `seed0-effects`."""
    return f"seed{seed}-{kind}"


def stages(config: Localization) -> list[str]:
    """All stages of a config, in the order in which they are made."""
    models = [stage(seed, MODEL) for seed in config.seeds] if config.taught else []
    rest = [stage(seed, kind) for seed in config.seeds for kind in (EFFECTS, CHOICE)]
    return [*models, *rest]
