"""The built-in text: generated sentences with persons, places, organisations and the rest."""

from relearn_jax.data.world.generator import SPLITS, generate

__all__ = ["SPLITS", "generate"]
