"""Reader of CounterFact's published tables (specs: mechanistic unlearning 2.2)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from relearn_jax.data.facts.fact import Fact
from relearn_jax.data.facts.readers.rows import Row, number, read_rows, strings, text
from relearn_jax.errors import UserError

NEEDED = ("prompt", "subject", "relation_id", "target_true", "target_false")
PROBABILITY = "prob_of_correct_answer"


def counterfact(
    path: Path, min_probability: float = 0.5, questions: Path | None = None
) -> tuple[Fact, ...]:
    """Facts of a table with probabilities (Parquet), or of a table with all texts (CSV), in order.

    Args:
      path: table with the columns `NEEDED`; `paraphrase_prompts` and `neighborhood_prompts` are
        read if present.
      min_probability: smallest probability of the right answer; facts below are left out. With 0 no
        such column is needed.
      questions: Parquet with `prompt_id`, `question`, `target_true`, `targets_false`. A question
        belongs to the fact with its `prompt_id` (without this column: with this row, counted from
        0) and the same right answer; its wrong answers are added after `target_false`.

    Raises:
      UserError: missing columns, a prompt without its subject, questions that fit no fact, no facts
        left.
    """
    needed = (*NEEDED, PROBABILITY) if min_probability > 0 else NEEDED
    rows = read_rows(path, needed)
    questions_by_id = _questions(questions) if questions else {}
    facts = []
    for place, row in enumerate(rows):
        # A probability that is not a number is not at least anything.
        if min_probability > 0 and not number(row, PROBABILITY) >= min_probability:
            continue
        ident = int(number(row, "prompt_id")) if "prompt_id" in row[1] else place
        facts.append(_fact(row, questions_by_id.get(ident)))
    if not facts:
        raise UserError(
            f"{path}: none of {len(rows)} facts has a `{PROBABILITY}` of {min_probability} or "
            "more. Lower `facts.min_probability`."
        )
    if questions_by_id and not any("mcq" in fact.prompts for fact in facts):
        raise UserError(
            f"{questions}: no question has the `prompt_id` and the answer of a fact in {path}; "
            "these are tables of different data."
        )
    return tuple(facts)


def _fact(row: Row, question: Row | None) -> Fact:
    prompt, subject = text(row, "prompt"), text(row, "subject")
    if subject not in prompt:
        raise UserError(f"{row[0]}: the prompt {prompt!r} does not hold the subject {subject!r}.")
    target, wrong = text(row, "target_true"), (text(row, "target_false"),)
    texts = {
        "standard": (prompt,),
        "paraphrase": strings(row, "paraphrase_prompts"),
        "neighborhood": strings(row, "neighborhood_prompts"),
    }
    if question and text(question, "target_true") == target:
        texts["mcq"] = (text(question, "question"),)
        wrong = (*wrong, *(a for a in strings(question, "targets_false") if a not in wrong))
    return Fact(subject, text(row, "relation_id"), target, wrong, _filled(texts))


def _filled(texts: Mapping[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
    return {name: values for name, values in texts.items() if values}


def _questions(path: Path) -> dict[int, Row]:
    rows = read_rows(path, ("prompt_id", "question", "target_true", "targets_false"))
    return {int(number(row, "prompt_id")): row for row in rows}
