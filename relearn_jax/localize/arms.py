"""Arms: who chooses parts of a model, and among which parts."""

from __future__ import annotations

from typing import Literal, NamedTuple

_MLPS = "_mlps"


class Arm(NamedTuple):
    """A localizer's score or a baseline, and what it chooses among."""

    method: str
    among: Literal["all", "mlps"] = "all"
    """All parts, or feed-forward layers only."""

    @property
    def name(self) -> str:
        """The name in files and tables: `noising`, `noising_mlps`."""
        return self.method + _MLPS * (self.among == "mlps")

    @classmethod
    def from_name(cls, name: str) -> Arm:
        """The arm of a name."""
        method = name.removesuffix(_MLPS)
        return cls(method, "all" if method == name else "mlps")


RANDOM, RANDOM_MLPS = Arm("random"), Arm("random", "mlps")
ALL_MLPS, EVERYTHING = Arm("all", "mlps"), Arm("nonlocalized")
BASELINES = {
    RANDOM: "random components",
    RANDOM_MLPS: "random MLPs",
    ALL_MLPS: "all MLPs",
    EVERYTHING: "everything",
}
"""Labels of the baselines, in the order of tables and pages."""
