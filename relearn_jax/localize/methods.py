"""The registry of localizers."""

from __future__ import annotations

from relearn_jax.localize import attribution, patching, paths, probes, published, tracing
from relearn_jax.localize.localizer import Localizer, Rule
from relearn_jax.localize.scores import Score

LOCALIZERS: dict[str, Localizer] = {
    localizer.name: localizer
    for localizer in (
        patching.LOCALIZER,
        tracing.LOCALIZER,
        published.PUBLISHED_TRACING,
        attribution.ATTRIBUTION,
        attribution.ATTRIBUTION_PATH,
        published.PUBLISHED_ATTRIBUTION,
        paths.LOCALIZER,
        probes.LOCALIZER,
    )
}
"""Localizers by name in a config, in the order of tables and pages."""
SCORES: dict[str, Score] = {
    method: score for localizer in LOCALIZERS.values() for method, score in localizer.scores.items()
}
"""Scores by name in the tables. Activation patching has two, `noising` and `denoising`."""
RULES: dict[str, Rule] = {
    method: localizer.rule
    for localizer in LOCALIZERS.values()
    if localizer.rule is not None
    for method in localizer.scores
}
"""Rules of the scores that are not chosen from by size."""
SETS_BUDGET: tuple[str, ...] = tuple(
    method
    for localizer in LOCALIZERS.values()
    if localizer.sets_budget
    for method in localizer.scores
)
"""Scores whose choice is the budget of all others; see `Localizer.sets_budget`."""
CHOOSING: tuple[str, ...] = (
    "budget",
    "granularity",
    "less_null",
    *(setting for localizer in LOCALIZERS.values() for setting in localizer.choosing),
)
"""Settings of `config.Localize` that affect only the choice of components."""
