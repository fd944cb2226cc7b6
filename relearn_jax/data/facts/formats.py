"""Prompt formats: templates that turn facts into prompts with their answers.

A template ends with its answer: `{target}`, `{Target}` (capitalized) or `{letter}` (of the choice).
The text before it is the prompt; blanks between the two belong to the answer, as in most
vocabularies. Other placeholders:

    {subject}                   the subject
    {choices}                   lines `A: Football`, `B: Baseball`, ...
    {A}, {B}, ...               a single choice, unchanged
    {shots}                     solved examples of the same format, with a blank line after each
    {standard}, {mcq}, ...      the data's texts of this name; each makes a separate prompt
"""

from __future__ import annotations

import difflib
import re
import string
import zlib
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Int

from relearn_jax import config
from relearn_jax.data.facts.fact import Fact
from relearn_jax.errors import UserError

LETTERS = string.ascii_uppercase
SPORTS = ("football", "baseball", "basketball", "golf")
"""The sports, in the order of choices in the published multiple-choice prompts."""

_SYSTEM = (
    "You are a helpful chatbot that answers questions about athletes. Please be maximally helpful "
    "and factually correct."
)
_CHOICES = "A: Football\nB: Baseball\nC: Basketball\nD: Golf\n\nAnswer:"

SPORTS_FORMATS = {
    "standard": "Fact: Tiger Woods plays the sport of golf\n"
    "Fact: {subject} plays the sport of {target}",
    "qa": f"{_SYSTEM} Question: What sport does Tiger Woods play? Answer: golf\n"
    "Question: What sport does {subject} play? Answer: {target}",
    "mcq": f"{_SYSTEM}\nQuestion: What sport does Tiger Woods play?\n{_CHOICES} D\n\n"
    f"Question: What sport does {{subject}} play?\n{_CHOICES} {{letter}}",
    "mcq_plain": f"Fact: Tiger Woods plays the sport of\n{_CHOICES} D\n\n"
    f"Fact: {{subject}} plays the sport of\n{_CHOICES} {{letter}}",
    "capitalized": "Fact: Tiger Woods plays the sport of Golf\n"
    "Fact: {subject} plays the sport of {Target}",
}
"""Specs: mechanistic unlearning 5.2. `standard` is the training prompt. The protocol does not give
the full text of `capitalized` and of the stem of `mcq_plain`; these follow its description."""

DATA_FORMATS = {
    "standard": "{standard} {target}",
    "paraphrase": "{paraphrase} {target}",
    "neighborhood": "{neighborhood} {target}",
    "mcq": "{shots}Help me answer the following multiple choice question:\n\n{mcq}\n\n"
    "A. {A}\nB. {B}\nC. {C}\nD. {D}\n\n"
    "Please respond with the letter of the correct answer, A, B, C, or D. Answer: {letter}",
}
"""Formats of texts from the data: the published CounterFact formats."""

OTHER_SUBJECTS = ("neighborhood",)
"""Texts about other subjects than the fact's, so the subject has no position."""

_ANSWER = re.compile(r"( *)\{(target|Target|letter)\}\Z")
_SPELLING = {"target": str, "Target": lambda answer: answer[:1].upper() + answer[1:]}


class Texts(NamedTuple):
    """B prompts, and the answers that may follow them."""

    prompt: tuple[str, ...]
    answer: tuple[str, ...]
    """The right answer with the blank before it, such as ` football`."""
    others: tuple[tuple[str, ...], ...]
    """The alternatives in the same form, with the injected answer first."""
    fact: Int[np.ndarray, " B"]
    """Index of the fact of each prompt; a format may have several prompts for a fact."""


def render(
    facts: Sequence[Fact],
    template: str,
    options: Sequence[str] = (),
    examples: Sequence[Fact] = (),
    seed: int = 0,
    name: str = "template",
) -> Texts:
    """Prompts of all facts in one format.

    Args:
      facts: in any order. A fact without the text that the template names has no prompt.
      template: see the module.
      options: the choices, in order; empty: each fact's target and alternatives, shuffled by (seed,
        subject, relation).
      examples: facts for the solved examples in `{shots}`; none may be among `facts`.
      seed: seed of the order of choices.
      name: name of the format in messages.

    Raises:
      UserError: an unknown placeholder, a template that does not end with the answer, choices
        without the answer, no fact with the text, `{shots}` without examples.
    """
    stem, blank, answer = _parsed(template, facts, name)
    if "{shots}" in stem:
        if not examples:
            raise UserError(
                f"format `{name}`: {{shots}} needs examples: set `facts.split.examples` to a "
                "number of facts to use as examples, and `facts.shots` to at least 1."
            )
        solved = render(examples, template.replace("{shots}", ""), options, (), seed + 1, name)
        first_rows = np.unique(solved.fact, return_index=True)[1]
        shots = "".join(f"{solved.prompt[i]}{solved.answer[i]}\n\n" for i in first_rows)
        stem = stem.replace("{shots}", shots.replace("{", "{{").replace("}", "}}"))
    places = {field for _, field, _, _ in string.Formatter().parse(stem) if field}
    source = next((place for place in places if _is_text(place, facts)), None)
    choosing = answer == "letter" or places & {"choices", *LETTERS}
    rows = []
    for index, fact in enumerate(facts):
        texts = fact.prompts.get(source, ()) if source else ("",)
        if not texts:
            continue
        choices = _choices(fact, options, seed, places, name) if choosing else ()
        values = {"subject": fact.subject, **dict(zip(LETTERS, choices, strict=False))}
        values["choices"] = "\n".join(
            f"{letter}: {_SPELLING['Target'](option)}"
            for letter, option in zip(LETTERS, choices, strict=False)
        )
        spelled = _spelled_answers(fact, answer, choices, blank)
        rows += [(stem.format_map(values | {source: t}), *spelled, index) for t in texts]
    if not rows:
        raise UserError(f"format `{name}`: no fact has a text for it.")
    prompt, answer_texts, others, index = zip(*rows, strict=True)
    return Texts(prompt, answer_texts, others, np.array(index, np.int32))


def formats(settings: config.Facts, defaults: Mapping[str, str], facts: Sequence[Fact]) -> dict:
    """Templates by format name: the kind's defaults with texts, then the config's formats."""
    texts = {name for fact in facts for name in fact.prompts}
    defaults_with_texts = {
        name: template
        for name, template in defaults.items()
        if not {p for p in DATA_FORMATS if f"{{{p}}}" in template} - texts
    }
    templates = {**defaults_with_texts, **settings.formats}
    return {name: template for name, template in templates.items() if template}


def as_texts(facts: Sequence[Fact], prompts: Sequence[str]) -> Texts:
    """A prompt for each fact; the answer is its target after a blank."""
    if len(prompts) != len(facts):
        raise ValueError(f"{len(prompts)} prompts for {len(facts)} facts")
    return Texts(
        tuple(prompts),
        tuple(f" {fact.target}" for fact in facts),
        tuple(tuple(f" {other}" for other in fact.alternatives) for fact in facts),
        np.arange(len(facts), dtype=np.int32),
    )


def _parsed(template: str, facts: Sequence[Fact], name: str) -> tuple[str, str, str]:
    """A template's text before the answer, the blanks before the answer, and the kind of answer."""
    match = _ANSWER.search(template)
    if match is None:
        raise UserError(
            f"format `{name}`: a template ends with its answer, {{target}}, {{Target}} or "
            f"{{letter}}; this one ends with {template[-30:]!r}."
        )
    stem = template[: match.start()]
    known = {"subject", "choices", "shots", *LETTERS, *(n for f in facts for n in f.prompts)}
    try:
        places = [field for _, field, _, _ in string.Formatter().parse(stem) if field is not None]
    except ValueError as error:
        raise UserError(
            f"format `{name}`: {error}. Write literal braces as {{{{ and }}}}."
        ) from None
    for place in places:
        if place in ("target", "Target", "letter"):
            raise UserError(f"format `{name}`: {{{place}}} may stand at the end only.")
        if place not in known:
            near = difflib.get_close_matches(place, known, 1)
            hint = f"did you mean {{{near[0]}}}?" if near else ""
            listed = ", ".join(sorted(known - set(LETTERS)))
            raise UserError(
                f"format `{name}`: there is no placeholder or text {{{place}}}; {hint or listed}"
            )
    if len({place for place in places if _is_text(place, facts)}) > 1:
        raise UserError(f"format `{name}`: a template can hold one text of the data, not several.")
    return stem, match[1], match[2]


def _is_text(place: str, facts: Sequence[Fact]) -> bool:
    return any(place in fact.prompts for fact in facts)


def _choices(
    fact: Fact, options: Sequence[str], seed: int, places: set[str], name: str
) -> Sequence[str]:
    """The choices of a fact, in order."""
    choices, letters = tuple(options), places & set(LETTERS)
    if not choices:
        # Seeded by the fact and not by its index, so that a subset has the same prompts.
        rng = np.random.default_rng((seed, zlib.crc32(f"{fact.relation} {fact.subject}".encode())))
        answers = (fact.target, *fact.alternatives)[: len(letters) or len(LETTERS)]
        choices = tuple(answers[i] for i in rng.permutation(len(answers)))
    if fact.target not in choices or letters & set(LETTERS[len(choices) :]):
        raise UserError(
            f"format `{name}`: the choices of the fact about {fact.subject!r} are "
            f"{', '.join(choices)}; they must hold its answer {fact.target!r} and one answer for "
            "each letter of the template. Set `facts.options`, or its `alternatives`."
        )
    return choices


def _spelled_answers(
    fact: Fact, answer: str, choices: Sequence[str], blank: str
) -> tuple[str, tuple[str, ...]]:
    """The right answer and the alternatives, spelled as in the format."""
    if answer == "letter":
        letter = dict(zip(choices, LETTERS, strict=False))
        others = tuple(blank + letter[a] for a in fact.alternatives if a in letter)
        return blank + letter[fact.target], others
    spell = _SPELLING[answer]
    return blank + spell(fact.target), tuple(blank + spell(a) for a in fact.alternatives)
