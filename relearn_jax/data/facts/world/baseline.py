"""The additive baseline: the best model that adds evidence from first name and surname."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Int
from scipy.optimize import minimize
from scipy.special import log_softmax

from relearn_jax.data.facts.world.athletes import World

GRADIENT = 1e-7
DECIMALS = 3
"""Decimals of compared logits, as the remaining gradient must not break ties."""


class Baseline(NamedTuple):
    """Accuracy and loss on the athletes of the fit."""

    accuracy: float
    """Ties count as shares: 1/3 at chance."""
    loss: float
    """Mean cross-entropy in nats; log 3 at chance."""


def additive_baseline(
    world: World, athletes: Int[np.ndarray, " n"] | None = None, seed: int = 0
) -> Baseline:
    """Multinomial logistic regression on first name and surname, fitted to `athletes` (None: all).

    The loss is convex, so the optimum found from a random start by L-BFGS is the best additive
    model. In a balanced world its gradient vanishes at 0 (specs: mechanistic unlearning 9.1).
    """
    rows = np.arange(len(world.sport)) if athletes is None else np.asarray(athletes)
    first, surname, sport = world.first[rows], world.surname[rows], world.sport[rows]
    names, sports = world.settings.names, int(world.sport.max()) + 1
    labels = np.eye(sports)[sport]

    def logits(flat: np.ndarray) -> np.ndarray:
        weights = flat.reshape(2, names, sports)
        return weights[0, first] + weights[1, surname]

    def loss(flat: np.ndarray) -> tuple[float, np.ndarray]:
        logp = log_softmax(logits(flat), axis=1)
        error = (np.exp(logp) - labels) / len(rows)
        gradient = np.zeros((2, names, sports))
        np.add.at(gradient[0], first, error)
        np.add.at(gradient[1], surname, error)
        return float(-(logp * labels).sum() / len(rows)), gradient.reshape(-1)

    start = np.random.default_rng(seed).normal(size=2 * names * sports)
    options = {"maxiter": 10_000, "maxfun": 20_000, "gtol": GRADIENT, "ftol": 0}
    fit = minimize(loss, start, jac=True, method="L-BFGS-B", options=options)
    log_probabilities = log_softmax(logits(fit.x), axis=1).round(DECIMALS)
    predicted = log_probabilities == log_probabilities.max(1, keepdims=True)
    accuracy = float((predicted / predicted.sum(1, keepdims=True) * labels).sum(1).mean())
    return Baseline(accuracy, float(fit.fun))
