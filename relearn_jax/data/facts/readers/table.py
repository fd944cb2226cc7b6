"""Facts in a table of one's own: JSON Lines, CSV or Parquet (docs/facts.md)."""

from __future__ import annotations

from pathlib import Path

from relearn_jax.data.facts.fact import Fact
from relearn_jax.data.facts.readers.rows import Row, read_rows, strings, text
from relearn_jax.errors import UserError


def table(path: Path) -> tuple[Fact, ...]:
    """Facts with columns `subject` and `target`, and whichever of the others there are.

    `relation`; `alternatives`, wrong answers, the one to inject first; `prompt`, a text that holds
    the subject and ends where the answer begins; `paraphrase`, `neighborhood`, `mcq`. All but
    `subject`, `target`, `relation` and `prompt` may hold several texts (see `rows.strings`).

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
        if found := strings(row, column):
            texts[column] = found
    for name in ("standard", "paraphrase"):
        for prompt in texts.get(name, ()):
            if subject not in prompt:
                raise UserError(
                    f"{place}: the text {prompt!r} does not hold the subject {subject!r} as it is "
                    "written."
                )
    relation = text(row, "relation") if cells.get("relation") else ""
    return Fact(subject, relation, target, wrong, texts)
