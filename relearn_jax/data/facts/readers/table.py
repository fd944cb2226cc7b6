"""Reader of a user's table of facts: JSON Lines, CSV or Parquet (docs/facts.md)."""

from __future__ import annotations

from pathlib import Path

from relearn_jax.data.facts.fact import Fact
from relearn_jax.data.facts.readers.rows import Row, read_rows, strings, text
from relearn_jax.errors import UserError


def table(path: Path) -> tuple[Fact, ...]:
    """Facts of a table with columns `subject` and `target`, and any of these:

    `relation`; `alternatives`, wrong answers with the one to inject first; `prompt`, a text that
    has the subject and ends before the answer; `paraphrase`, `neighborhood`, `mcq`. All columns
    except `subject`, `target`, `relation` and `prompt` may have several texts (see `rows.strings`).

    Raises UserError with file and line for empty cells, a prompt without its subject, and an
    alternative that is the right answer.
    """
    return tuple(_fact(row) for row in read_rows(path, ("subject", "target")))


def _fact(row: Row) -> Fact:
    place, cells = row
    subject, target = text(row, "subject"), text(row, "target")
    wrong = strings(row, "alternatives")
    if target in wrong:
        raise UserError(f"{place}: {target!r} is the target and among the alternatives.")
    texts = {}
    if cells.get("prompt"):
        texts["standard"] = (text(row, "prompt"),)
    for column in ("paraphrase", "neighborhood", "mcq"):
        if values := strings(row, column):
            texts[column] = values
    for name in ("standard", "paraphrase"):
        for prompt in texts.get(name, ()):
            if subject not in prompt:
                raise UserError(
                    f"{place}: the text {prompt!r} does not hold the subject {subject!r} as it is "
                    "written."
                )
    relation = text(row, "relation") if cells.get("relation") else ""
    return Fact(subject, relation, target, wrong, texts)
