"""The registry of localizers."""

from __future__ import annotations

from relearn_jax.localize import attribution, patching, paths, probes, tracing
from relearn_jax.localize.localizer import Localizer
from relearn_jax.localize.scores import Score

LOCALIZERS: dict[str, Localizer] = {
    localizer.name: localizer
    for localizer in (
        patching.LOCALIZER,
        tracing.LOCALIZER,
        attribution.ATTRIBUTION,
        attribution.ATTRIBUTION_PATH,
        paths.LOCALIZER,
        probes.LOCALIZER,
    )
}
"""Localizers by name in a config, in the order of tables and pages."""
SCORES: dict[str, Score] = {
    method: score for localizer in LOCALIZERS.values() for method, score in localizer.scores.items()
}
"""Scores by name in the tables. Activation patching has two, `noising` and `denoising`."""
