"""The prompts to localize, each with partners that lack its fact."""

from __future__ import annotations

import numpy as np

from relearn_jax import config
from relearn_jax.data.facts import corruption, prompts, reading
from relearn_jax.data.facts.prompts import Prompts
from relearn_jax.data.facts.reading import FactData
from relearn_jax.errors import UserError
from relearn_jax.localize.batch import Pairs


def make(data: FactData, settings: config.Localize, seed: int) -> Pairs:
    """Pairs of the facts to forget, at most `settings.pairs`; partners are drawn by `seed`.

    Raises:
      UserError: no fact has partners.
    """
    rows = data.split.forget
    clean, fact = reading.ask(data, rows, settings.format)
    pool, _ = reading.ask(data, _peers(data, rows), settings.format)
    has_partner = np.ones(len(rows), bool)
    if settings.corrupt == "swapped":
        # For the null, each partner needs a partner with the same answer.
        pool = prompts.take(pool, np.flatnonzero(corruption.partnered(pool, same_answer=True)))
        has_partner = corruption.partnered(clean, pool)
    with_partner = np.flatnonzero(has_partner)[: settings.pairs]
    if not len(with_partner):
        raise UserError(
            f"localize: none of the {len(rows)} facts to be forgotten has a partner whose subject "
            "has as many tokens and another answer that a third subject shares; take more facts, "
            "or set localize.corrupt: random"
        )
    clean = prompts.take(clean, with_partner)
    if settings.corrupt == "swapped":
        corrupt = corruption.swapped(clean, seed, pool)
        null = corruption.swapped(corrupt, (seed, 1), pool, same_answer=True)
    else:
        corrupt = corruption.randomized(clean, data.tokenizer, seed)
        null = corruption.randomized(corrupt, data.tokenizer, (seed, 1))
    for partner in (corrupt, null):
        corruption.check_pair(clean, partner)
    return Pairs(fact[with_partner], clean, corrupt, null)


def _peers(data: FactData, rows: np.ndarray) -> np.ndarray:
    """Indices of the facts to draw partners from.

    Planted facts have planted partners only: other partners would be looked up in other layers.
    """
    everything = np.arange(len(data.facts))
    groups = data.world.groups.values() if data.world is not None else ()
    return next((group for group in groups if np.isin(rows, group).all()), everything)


def probed(data: FactData, settings: config.Localize) -> Prompts:
    """The prompts for fits and tests of probes: those of planted facts, if there are any."""
    rows = np.arange(len(data.facts))
    if data.world is not None and "planted" in data.world.groups:
        rows = data.world.groups["planted"]
    prompts, _ = reading.ask(data, rows[: settings.probed], settings.format)
    return prompts
