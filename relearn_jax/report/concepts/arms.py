"""The arms of a run of relearning: their names, and the columns of page tables that name rows."""

from __future__ import annotations

from relearn_jax.report.concepts.reading import stage_name
from relearn_jax.report.tables import Column

ARM_NAMES = {
    "base": "base model",
    "concept": "concept",
    "random": "random",
    "layer_matched": "layer-matched random",
    "bottom": "bottom-ranked",
    "oracle": "never learned",
}
ARM = Column("arm", "arm", "text", words=lambda arm: ARM_NAMES.get(arm, arm))
STAGE = Column("stage", "stage", "text", words=stage_name)
TYPE = Column("type", "entity type", "text")
