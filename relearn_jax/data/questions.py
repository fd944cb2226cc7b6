"""Multiple-choice questions from CSV files, such as MMLU's, as prompts with solved examples.

The prompt is that of Hendrycks et al. (2021): a line with the subject, the solved examples of the
subject, then the question; the answer is a letter.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd

from relearn_jax.data.corpus import digest
from relearn_jax.data.facts.fact import Fact
from relearn_jax.data.facts.prompts import Prompts, encode
from relearn_jax.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

LETTERS = "ABCD"
BUCKET = 256
"""Prompts are padded to a multiple of this many tokens."""


class Question(NamedTuple):
    """A question with four choices."""

    subject: str
    """The file's name without `_test`, `_dev` or `_val`, in words."""
    text: str
    choices: tuple[str, ...]
    answer: int
    """Index of the right choice."""


class Questions(NamedTuple):
    """Q questions as prompts, in groups of equal length."""

    prompts: tuple[Prompts, ...]
    subjects: tuple[str, ...]
    """The subject of each question, [Q]."""
    too_long: int
    """Number of drawn questions that were left out, as their prompts are too long."""
    digest: str
    """SHA-256 (hex) of prompts and answers."""


def read(path: Path) -> list[Question]:
    """The questions of a CSV file, or of all CSV files of a folder.

    Columns are question, four choices, answer: an index from 0 or a letter. A header is recognised
    by its last cell, `answer`.

    Raises:
      UserError: no file, a row without six cells, or an answer that is none of the choices.
    """
    files = sorted(path.glob("*.csv")) if path.is_dir() else [path]
    if not files or not files[0].is_file():
        raise UserError(f"{path}: there is no CSV file of questions")
    return [question for file in files for question in _read(file)]


def _read(file: Path) -> list[Question]:
    try:
        table = pd.read_csv(file, header=None, dtype=str, keep_default_na=False)
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise UserError(f"{file}: cannot be read as CSV: {error}") from error
    if table.shape[1] != 2 + len(LETTERS):
        raise UserError(
            f"{file}: {table.shape[1]} columns; question, four choices and answer are 6"
        )
    rows = table.to_numpy().tolist()
    first = 1 if rows[0][-1].strip().lower() == "answer" else 0
    subject = re.sub(r"_(test|dev|val)$", "", file.stem).replace("_", " ")
    return [
        Question(subject, text, tuple(choices), _answer(answer, f"{file}, row {number}"))
        for number, (text, *choices, answer) in enumerate(rows[first:], start=first + 1)
    ]


def _answer(cell: str, place: str) -> int:
    names = [*LETTERS, *map(str, range(len(LETTERS)))]
    if cell.strip() not in names:
        raise UserError(f"{place}: the answer {cell!r} is none of {', '.join(names)}")
    return names.index(cell.strip()) % len(LETTERS)


def prompts(
    questions: Sequence[Question],
    examples: Sequence[Question],
    shots: int,
    count: int,
    seed: int,
    tokenizer: PreTrainedTokenizerFast,
    longest: int,
) -> Questions:
    """Prompts of `count` random questions, each after `shots` examples of its subject.

    Args:
      questions: all questions.
      examples: solved examples; the first of each subject are shown.
      shots: number of examples.
      count: number of questions to draw; all, if there are fewer.
      seed: of the draw.
      tokenizer: of the model, loaded with `words=False`.
      longest: longer prompts are left out.

    Raises:
      UserError: a subject has fewer examples than `shots`, or no prompt is short enough.
    """
    chosen = np.random.default_rng((seed, 5)).permutation(len(questions))[:count]
    drawn = [questions[i] for i in np.sort(chosen)]
    before = {subject: _examples(subject, examples, shots) for subject in _subjects(drawn)}
    texts = [before[question.subject] + _asked(question) for question in drawn]
    lengths = np.array([len(ids) for ids in tokenizer(texts)["input_ids"]])
    fits = lengths <= longest
    if not fits.any():
        raise UserError(
            f"all {len(drawn)} questions are longer than {longest} tokens with {shots} examples; "
            "lower side_effects.shots, or raise side_effects.longest"
        )
    size = -(-lengths // BUCKET) * BUCKET
    parts, subjects = [], []
    for length in sorted(set(size[fits].tolist())):
        rows = np.flatnonzero(fits & (size == length))
        facts = [_fact(drawn[row]) for row in rows]
        parts.append(
            encode(
                facts, [texts[row] for row in rows], tokenizer, positions=False,
                length=min(length, longest),
            )
        )  # fmt: skip
        subjects += [drawn[row].subject for row in rows]
    asked = digest([[text, question.answer] for text, question in zip(texts, drawn, strict=True)])
    return Questions(tuple(parts), tuple(subjects), int((~fits).sum()), asked)


def _subjects(questions: Sequence[Question]) -> list[str]:
    return list(dict.fromkeys(question.subject for question in questions))


def _examples(subject: str, examples: Sequence[Question], shots: int) -> str:
    own = [example for example in examples if example.subject == subject][:shots]
    if len(own) < shots:
        raise UserError(
            f"side_effects.shots = {shots}: there are {len(own)} solved examples of {subject}; "
            "name more in side_effects.examples, or lower it"
        )
    head = f"The following are multiple choice questions (with answers) about {subject}.\n\n"
    return head + "".join(f"{_asked(example)} {LETTERS[example.answer]}\n\n" for example in own)


def _asked(question: Question) -> str:
    choices = "".join(
        f"\n{letter}. {choice}" for letter, choice in zip(LETTERS, question.choices, strict=True)
    )
    return f"{question.text}{choices}\nAnswer:"


def _fact(question: Question) -> Fact:
    right = LETTERS[question.answer]
    return Fact(question.subject, "is answered by", right, tuple(LETTERS.replace(right, "")))
