"""The built-in world of athletes: facts, vocabulary, training text and checks of the design."""

from relearn_jax.data.facts.world.athletes import Phase, World, make
from relearn_jax.data.facts.world.baseline import additive_baseline
from relearn_jax.data.facts.world.batches import Batch, text_batch, training_batch
from relearn_jax.data.facts.world.profiles import Profile, profile

__all__ = [
    "Batch",
    "Phase",
    "Profile",
    "World",
    "additive_baseline",
    "make",
    "profile",
    "text_batch",
    "training_batch",
]
