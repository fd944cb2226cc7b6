"""Sports Facts: athletes and the sport that each plays (specs: mechanistic unlearning 2.1)."""

from __future__ import annotations

from pathlib import Path

from relearn_jax.data.facts.fact import Fact
from relearn_jax.data.facts.readers.rows import read_rows, text
from relearn_jax.errors import UserError

RELATION = "plays the sport of"


def sports(path: Path) -> tuple[Fact, ...]:
    """The athletes of a CSV file with columns `athlete` and `sport`, in its order, each once.

    Other columns are not used: prompts are made by templates, wrong answers are drawn by `inject`,
    and the numbers of tokens are another tokenizer's. Raises UserError for an athlete with two
    sports.
    """
    found: dict[str, str] = {}
    for row in read_rows(path, ("athlete", "sport")):
        athlete, sport = text(row, "athlete"), text(row, "sport")
        if found.setdefault(athlete, sport) != sport:
            raise UserError(
                f"{row[0]}: {athlete} plays {sport}, but an earlier row says {found[athlete]}. "
                "Correct one of them."
            )
    return tuple(Fact(athlete, RELATION, sport) for athlete, sport in found.items())
