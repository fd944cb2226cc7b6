"""The registry of experiments, by the value of a config's key `experiment`."""

from __future__ import annotations

from relearn_jax.config import Config
from relearn_jax.experiments.concepts import relearning
from relearn_jax.experiments.experiment import Experiment
from relearn_jax.experiments.facts import editing, localization

EXPERIMENTS: dict[str, Experiment] = {
    "relearning": relearning.EXPERIMENT,
    "localization": localization.EXPERIMENT,
    "editing": editing.EXPERIMENT,
}


def experiment_of(config: Config) -> Experiment:
    """The experiment of a config."""
    return EXPERIMENTS[config.experiment]
