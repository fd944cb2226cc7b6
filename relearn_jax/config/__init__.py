"""The schema of configs, defined by frozen dataclasses only.

Files are YAML; `--a.b=c` on the command line overrides one value. Unknown keys and values of a
wrong type raise a UserError with the nearest valid name (`loading.load`).
"""

from relearn_jax.config.editing import Attack, Edit, Editing, SideEffects
from relearn_jax.config.facts import Facts, FactSplit, World
from relearn_jax.config.localization import Localization, Localize, Method, Teaching
from relearn_jax.config.relearning import (
    Arm,
    Auto,
    Concepts,
    Contrast,
    Data,
    Dose,
    Prune,
    Ranking,
    Regrowth,
    Relearning,
    Retrain,
    Retrained,
    Sets,
    Site,
    Source,
    Tracking,
    Zeroed,
)
from relearn_jax.config.shared import Checkpoint, Model, Parallel, Training

Config = Relearning | Localization | Editing
"""The config of any experiment."""
SCHEMAS = {schema().experiment: schema for schema in (Relearning, Localization, Editing)}
"""The schema of each experiment, by the value of its key `experiment`."""

__all__ = [
    "SCHEMAS",
    "Arm",
    "Attack",
    "Auto",
    "Checkpoint",
    "Concepts",
    "Config",
    "Contrast",
    "Data",
    "Dose",
    "Edit",
    "Editing",
    "FactSplit",
    "Facts",
    "Localization",
    "Localize",
    "Method",
    "Model",
    "Parallel",
    "Prune",
    "Ranking",
    "Regrowth",
    "Relearning",
    "Retrain",
    "Retrained",
    "Sets",
    "SideEffects",
    "Site",
    "Source",
    "Teaching",
    "Tracking",
    "Training",
    "World",
    "Zeroed",
]
