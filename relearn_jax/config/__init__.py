"""The schema of a run: frozen dataclasses, and nothing else, say what a config may hold.

Files are YAML; `--a.b=c` on the command line overrides one value. Unknown keys and values of the
wrong type are refused with the nearest valid name (`loading.load`).
"""

from relearn_jax.config.facts import Facts, FactSplit, World
from relearn_jax.config.localization import Localization, Localize, Method, Teaching
from relearn_jax.config.relearning import (
    Arm,
    Concepts,
    Config,
    Data,
    Prune,
    Regrowth,
    Retrain,
    Sets,
    Site,
    Source,
    Tracking,
)
from relearn_jax.config.shared import Checkpoint, Model, Parallel, Training

__all__ = [
    "Arm",
    "Checkpoint",
    "Concepts",
    "Config",
    "Data",
    "FactSplit",
    "Facts",
    "Localization",
    "Localize",
    "Method",
    "Model",
    "Parallel",
    "Prune",
    "Regrowth",
    "Retrain",
    "Sets",
    "Site",
    "Source",
    "Teaching",
    "Tracking",
    "Training",
    "World",
]
