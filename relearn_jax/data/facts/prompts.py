"""Prompts as token ids, with the positions of subject and answer, and the answer's token."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
from jaxtyping import Bool, Int

from relearn_jax.data.facts.fact import Fact
from relearn_jax.data.facts.formats import Texts, as_texts
from relearn_jax.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

Answers = Literal["one_token", "first_token"]
SHOWN = 3
"""Number of examples in a message."""


class Prompts(NamedTuple):
    """B prompts of at most T tokens, padded on the right, with at most A alternatives."""

    ids: Int[np.ndarray, "B T"]
    mask: Bool[np.ndarray, "B T"]
    subject: Bool[np.ndarray, "B T"]
    """The subject's tokens."""
    last: Int[np.ndarray, " B"]
    """Position of the prompt's last token, whose logits are the answer."""
    target: Int[np.ndarray, " B"]
    """Token id of the right answer."""
    others: Int[np.ndarray, "B A"]
    """Token ids of the alternatives, with the injected answer first; padded with -1."""


class _Problem(NamedTuple):
    """Unusable prompts, with an error message and a remedy."""

    rows: Bool[np.ndarray, " B"]
    shown: Callable[[int], str]
    """Gives the description of a row for the message."""
    remedy: str


def encode(
    facts: Sequence[Fact],
    texts: Texts | Sequence[str],
    tokenizer: PreTrainedTokenizerFast,
    *,
    answers: Answers = "one_token",
    positions: bool = True,
    length: int | None = None,
) -> Prompts:
    """Token ids of prompts and of their answers; all integers int32.

    Prompt and answer are encoded as one text, and the answer's tokens are those after the prompt's,
    so the tokenizer handles blanks and special tokens. The subject is its last occurrence in the
    prompt; a token shared with adjacent punctuation belongs to the subject.

    Args:
      facts: the facts that `texts.fact` refers to.
      texts: from `formats.render`; or a prompt for each fact, whose answer is the target.
      tokenizer: a fast one (with offsets), loaded with `words=False`.
      answers: `one_token` refuses answers of several tokens; `first_token` uses their first token.
      positions: whether to find subjects. Pass False for prompts about other subjects
        (neighbourhood); `subject` is then False everywhere.
      length: T; None: length of the longest prompt.

    Raises:
      UserError: an answer of several tokens or none, an alternative with the answer's first token,
        a subject that is not in its prompt, shares a token with an adjacent word, or has no token
        or an unknown token, a prompt longer than `length`.
    """
    prompts, problems = _encoded(facts, texts, tokenizer, answers, positions)
    for problem in problems:
        if count := problem.rows.sum():
            shown = "; ".join(problem.shown(int(i)) for i in np.flatnonzero(problem.rows)[:SHOWN])
            raise UserError(f"{count} of {len(problem.rows)} prompts: {problem.remedy} {shown}")
    return _widened(prompts, length, tokenizer.pad_token_id)


def usable(
    facts: Sequence[Fact],
    texts: Texts | Sequence[str],
    tokenizer: PreTrainedTokenizerFast,
    *,
    answers: Answers = "one_token",
    positions: bool = True,
) -> Bool[np.ndarray, " B"]:
    """Which prompts `encode` accepts."""
    _, problems = _encoded(facts, texts, tokenizer, answers, positions)
    return ~np.any([problem.rows for problem in problems], axis=0)


def take(prompts: Prompts, rows: Int[np.ndarray, " b"] | Bool[np.ndarray, " B"]) -> Prompts:
    """Select rows of prompts; T and A do not change."""
    return Prompts(*(part[rows] for part in prompts))


def last_of_subject(prompts: Prompts) -> Int[np.ndarray, " B"]:
    """The position of each subject's last token."""
    width = prompts.subject.shape[1]
    return width - 1 - np.argmax(prompts.subject[:, ::-1], axis=1)


def _encoded(
    facts: Sequence[Fact],
    texts: Texts | Sequence[str],
    tokenizer: PreTrainedTokenizerFast,
    answers: Answers,
    positions: bool,
) -> tuple[Prompts, list[_Problem]]:
    if not isinstance(texts, Texts):
        texts = as_texts(facts, texts)
    encoded = tokenizer(list(texts.prompt), return_offsets_mapping=True)
    rows = encoded["input_ids"]
    mask = np.arange(max(map(len, rows))) < np.array([len(row) for row in rows])[:, None]
    ids = np.full(mask.shape, tokenizer.pad_token_id, np.int32)
    ids[mask] = np.concatenate(rows)
    subject, problems = np.zeros_like(mask), []
    if positions:
        subjects = [facts[i].subject for i in texts.fact]
        offsets = np.zeros((*mask.shape, 2), np.int64)
        offsets[mask] = np.concatenate(encoded["offset_mapping"])
        subject, problems = _subjects(texts.prompt, subjects, offsets)
        problems.append(
            _Problem(
                (subject & (ids == tokenizer.unk_token_id)).any(1),
                lambda row: repr(subjects[row]),
                "the tokenizer does not know a part of the subject, so it cannot tell it from "
                "others. Use another tokenizer, or set `facts.unusable: drop`. Subjects:",
            )
        )
    target, wrong_answers = _answers(texts.prompt, texts.answer, rows, tokenizer, answers)
    others, wrong_others = _others(texts, rows, tokenizer, answers)
    same_token = _Problem(
        (others == target[:, None]).any(1) & (target >= 0),
        lambda row: f"{texts.answer[row]!r} and {', '.join(map(repr, texts.others[row]))}",
        "an alternative starts with the same token as the right answer. Correct the alternatives, "
        "or set `facts.unusable: drop`:",
    )
    last = mask.sum(1, dtype=np.int32) - 1
    prompts = Prompts(ids, mask, subject, last, target, others)
    return prompts, [*problems, wrong_answers, wrong_others, same_token]


def _widened(prompts: Prompts, length: int | None, pad: int) -> Prompts:
    missing = (length or prompts.ids.shape[1]) - prompts.ids.shape[1]
    if missing < 0:
        raise UserError(
            f"a prompt has {prompts.ids.shape[1]} tokens and only {length} fit: raise the length "
            "(`facts.world.length` in the built-in world) or shorten the template."
        )
    ids, mask, subject = (
        np.pad(part, ((0, 0), (0, missing)), constant_values=fill)
        for part, fill in zip(prompts[:3], (pad, False, False), strict=True)
    )
    return prompts._replace(ids=ids, mask=mask, subject=subject)


def _subjects(
    prompts: Sequence[str], subjects: Sequence[str], offsets: Int[np.ndarray, "B T 2"]
) -> tuple[Bool[np.ndarray, "B T"], list[_Problem]]:
    """The subjects' tokens, which overlap with the characters of the subject; and the problems."""
    start = np.array([_place(p, s) for p, s in zip(prompts, subjects, strict=True)])
    end = start + np.array([len(subject) for subject in subjects])
    tokens = (offsets[..., 0] < end[:, None]) & (offsets[..., 1] > start[:, None])
    tokens &= (start >= 0)[:, None]
    uncovered = [
        a >= 0 and not _covers(prompt, a, b, row[hit])
        for prompt, a, b, row, hit in zip(prompts, start, end, offsets, tokens, strict=True)
    ]

    def shown(row: int) -> str:
        return f"{subjects[row]!r} in {prompts[row]!r}"

    return tokens, [
        _Problem(
            start < 0,
            shown,
            "the subject does not occur as it is written. Correct the data or the template (it "
            "needs {subject}, or a text that holds it), or set `facts.unusable: drop`:",
        ),
        _Problem(
            np.array(uncovered, bool),
            shown,
            "the tokenizer leaves out a part of the subject or joins it to the word beside it, so "
            "its positions are lost. Change the words around {subject}, or set "
            "`facts.unusable: drop`:",
        ),
    ]


def _place(prompt: str, subject: str) -> int:
    """The last start of the subject in a prompt, -1 if absent; separate words are preferred."""
    starts, position = [], prompt.find(subject)
    while position >= 0:
        starts.append(position)
        position = prompt.find(subject, position + 1)
    separate = [
        a
        for a in starts
        if not prompt[:a][-1:].isalnum() and not prompt[a + len(subject) :][:1].isalnum()
    ]
    return (separate or starts or [-1])[-1]


def _covers(prompt: str, start: int, end: int, spans: Int[np.ndarray, "t 2"]) -> bool:
    """Whether the spans cover the subject, except its blanks, and nothing of another word."""
    held = {at for a, b in spans for at in range(a, b)}
    inside = {at for at in range(start, end) if not prompt[at].isspace()}
    return inside <= held and not any(prompt[at].isalnum() for at in held - set(range(start, end)))


def _following(
    prompts: Sequence[str],
    answers: Sequence[str],
    rows: Sequence[Sequence[int]],
    tokenizer: PreTrainedTokenizerFast,
) -> list[list[int]]:
    """The tokens of each answer after its prompt; empty if it changes the prompt's tokens."""
    if not prompts:
        return []
    both = tokenizer([p + a for p, a in zip(prompts, answers, strict=True)])["input_ids"]
    return [
        ids[len(row) :] if ids[: len(row)] == row else []
        for ids, row in zip(both, rows, strict=True)
    ]


def _answers(
    prompts: Sequence[str],
    answers: Sequence[str],
    rows: Sequence[Sequence[int]],
    tokenizer: PreTrainedTokenizerFast,
    kind: Answers,
) -> tuple[Int[np.ndarray, " B"], _Problem]:
    """The first token of each answer (-1 if it has no token), and the problem of other numbers."""
    answer_tokens = _following(prompts, answers, rows, tokenizer)
    limit = 1 if kind == "one_token" else np.inf

    def shown(row: int) -> str:
        tokens = tokenizer.convert_ids_to_tokens(answer_tokens[row])
        return f"{answers[row]!r} after {prompts[row][-30:]!r} is {tokens}"

    problem = _Problem(
        np.array([not 1 <= len(tokens) <= limit for tokens in answer_tokens], bool),
        shown,
        "an answer is not one token of this tokenizer. Set `facts.answers: first_token` or "
        "`facts.unusable: drop`; where there is no token at all, put a blank before the answer in "
        "the template:",
    )
    return np.array([tokens[0] if tokens else -1 for tokens in answer_tokens], np.int32), problem


def _others(
    texts: Texts,
    rows: Sequence[Sequence[int]],
    tokenizer: PreTrainedTokenizerFast,
    kind: Answers,
) -> tuple[Int[np.ndarray, "B A"], _Problem]:
    """The first token of each alternative, and the prompts with an unusable alternative."""
    count = np.array([len(answers) for answers in texts.others])
    row = np.repeat(np.arange(len(count)), count)
    flat = [answer for answers in texts.others for answer in answers]
    prompts, before = [texts.prompt[i] for i in row], [rows[i] for i in row]
    first_tokens, problem = _answers(prompts, flat, before, tokenizer, kind)
    filled = np.arange(count.max(initial=0)) < count[:, None]
    others = np.full(filled.shape, -1, np.int32)
    others[filled] = first_tokens
    unusable_rows = np.zeros(len(count), bool)
    unusable_rows[row[problem.rows]] = True
    first_problem = dict(zip(row[problem.rows], np.flatnonzero(problem.rows), strict=True))
    return others, problem._replace(
        rows=unusable_rows, shown=lambda row: problem.shown(first_problem[row])
    )
