"""What names alone tell: the best model that adds up what first name and surname say."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Int
from scipy.optimize import minimize
from scipy.special import log_softmax

from relearn_jax.data.facts.world.athletes import World

GRADIENT = 1e-7
DECIMALS = 3
"""Logits are compared to so many, as what is left of the gradient must not break ties."""


class Baseline(NamedTuple):
    """Of the athletes it was fitted to."""

    accuracy: float
    """Ties count as shares: 1/3 if nothing is known."""
    loss: float
    """Mean cross-entropy in nats; log 3 if nothing is known."""


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
    right = np.eye(sports)[sport]

    def logits(flat: np.ndarray) -> np.ndarray:
        weights = flat.reshape(2, names, sports)
        return weights[0, first] + weights[1, surname]

    def loss(flat: np.ndarray) -> tuple[float, np.ndarray]:
        logp = log_softmax(logits(flat), axis=1)
        error = (np.exp(logp) - right) / len(rows)
        gradient = np.zeros((2, names, sports))
        np.add.at(gradient[0], first, error)
        np.add.at(gradient[1], surname, error)
        return float(-(logp * right).sum() / len(rows)), gradient.reshape(-1)

    start = np.random.default_rng(seed).normal(size=2 * names * sports)
    options = {"maxiter": 10_000, "maxfun": 20_000, "gtol": GRADIENT, "ftol": 0}
    fit = minimize(loss, start, jac=True, method="L-BFGS-B", options=options)
    found = log_softmax(logits(fit.x), axis=1).round(DECIMALS)
    best = found == found.max(1, keepdims=True)
    accuracy = float((best / best.sum(1, keepdims=True) * right).sum(1).mean())
    return Baseline(accuracy, float(fit.fun))
