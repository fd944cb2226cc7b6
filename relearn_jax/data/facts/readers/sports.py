"""Reader of Sports Facts: athletes and their sports (specs: mechanistic unlearning 2.1)."""

from __future__ import annotations

from pathlib import Path

from relearn_jax.data.facts.fact import Fact
from relearn_jax.data.facts.readers.rows import read_rows, text
from relearn_jax.errors import UserError

RELATION = "plays the sport of"


def sports(path: Path) -> tuple[Fact, ...]:
    """The athletes of a CSV file with columns `athlete` and `sport`, in its order, each once.

    Other columns are ignored: templates make prompts, `inject` draws wrong answers, and the numbers
    of tokens are from another tokenizer. Raises UserError for an athlete with two sports.
    """
    sport_of: dict[str, str] = {}
    for row in read_rows(path, ("athlete", "sport")):
        athlete, sport = text(row, "athlete"), text(row, "sport")
        if sport_of.setdefault(athlete, sport) != sport:
            raise UserError(
                f"{row[0]}: {athlete} plays {sport}, but an earlier row says {sport_of[athlete]}. "
                "Correct one of them."
            )
    return tuple(Fact(athlete, RELATION, sport) for athlete, sport in sport_of.items())
