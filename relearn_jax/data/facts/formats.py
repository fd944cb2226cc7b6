"""Prompt formats: templates that turn facts into prompts with their answers.

A template ends with its answer: `{target}`, `{Target}` (first letter raised) or `{letter}` (among
the choices). What comes before is the prompt; blanks in between belong to the answer, as in most
vocabularies. Other places:

    {subject}                   the subject
    {choices}                   lines `A: Football`, `B: Baseball`, ...
    {A}, {B}, ...               one choice, as it is written
    {shots}                     solved examples of the same format, with a blank line after each
    {standard}, {mcq}, ...      the texts that the data bring under this name, each its own prompt
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
"""In the order in which published multiple-choice prompts offer them."""

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
"""Specs: mechanistic unlearning 5.2. `standard` is the training prompt. Of `capitalized` and the
stem of `mcq_plain` the protocol gives no full text; these follow its description."""

DATA_FORMATS = {
    "standard": "{standard} {target}",
    "paraphrase": "{paraphrase} {target}",
    "neighborhood": "{neighborhood} {target}",
    "mcq": "{shots}Help me answer the following multiple choice question:\n\n{mcq}\n\n"
    "A. {A}\nB. {B}\nC. {C}\nD. {D}\n\n"
    "Please respond with the letter of the correct answer, A, B, C, or D. Answer: {letter}",
}
"""Of texts that the data bring, the published CounterFact formats."""

OTHER_SUBJECTS = ("neighborhood",)
"""Texts about other subjects than the fact's own: there is no position to find."""

_ANSWER = re.compile(r"( *)\{(target|Target|letter)\}\Z")
_SPELLING = {"target": str, "Target": lambda answer: answer[:1].upper() + answer[1:]}


class Texts(NamedTuple):
    """B prompts, and what may follow them."""

    prompt: tuple[str, ...]
    answer: tuple[str, ...]
    """The right answer with the blank before it: ` football`."""
    others: tuple[tuple[str, ...], ...]
    """The alternatives in the same form, the injected one first."""
    fact: Int[np.ndarray, " B"]
    """Index of the fact that is asked for: a format may ask for one fact in several ways."""


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
      facts: in any order. Those that lack the text which the template names give no prompt.
      template: see the module.
      options: the choices, in their order; empty: each fact's target and alternatives, shuffled by
        (seed, subject, relation).
      examples: facts that `{shots}` shows solved; none may be among `facts`.
      seed: of the order of choices.
      name: what messages call the format.

    Raises:
      UserError: a place that does not exist, a template that does not end with the answer, choices
        that lack the answer, no fact with the text, `{shots}` without examples.
    """
    stem, blank, answer = _parsed(template, facts, name)
    if "{shots}" in stem:
        if not examples:
            raise UserError(
                f"format `{name}`: {{shots}} needs examples: set `facts.split.examples` to as many "
                "facts as may be spared, and `facts.shots` to at least 1."
            )
        solved = render(examples, template.replace("{shots}", ""), options, (), seed + 1, name)
        one_each = np.unique(solved.fact, return_index=True)[1]
        shots = "".join(f"{solved.prompt[i]}{solved.answer[i]}\n\n" for i in one_each)
        stem = stem.replace("{shots}", shots.replace("{", "{{").replace("}", "}}"))
    places = {field for _, field, _, _ in string.Formatter().parse(stem) if field}
    source = next((place for place in places if _is_text(place, facts)), None)
    choosing = answer == "letter" or places & {"choices", *LETTERS}
    rows = []
    for index, fact in enumerate(facts):
        texts = fact.prompts.get(source, ()) if source else ("",)
        if not texts:
            continue
        offered = _offered(fact, options, seed, places, name) if choosing else ()
        values = {"subject": fact.subject, **dict(zip(LETTERS, offered, strict=False))}
        values["choices"] = "\n".join(
            f"{letter}: {_SPELLING['Target'](option)}"
            for letter, option in zip(LETTERS, offered, strict=False)
        )
        said = _said(fact, answer, offered, blank)
        rows += [(stem.format_map(values | {source: t}), *said, index) for t in texts]
    if not rows:
        raise UserError(f"format `{name}`: there is no fact to ask for.")
    prompt, right, others, index = zip(*rows, strict=True)
    return Texts(prompt, right, others, np.array(index, np.int32))


def formats(settings: config.Facts, defaults: Mapping[str, str], facts: Sequence[Fact]) -> dict:
    """Format name -> template: the kind's own for which there is text, then the config's."""
    texts = {name for fact in facts for name in fact.prompts}
    usable = {
        name: template
        for name, template in defaults.items()
        if not {p for p in DATA_FORMATS if f"{{{p}}}" in template} - texts
    }
    both = {**usable, **settings.formats}
    return {name: template for name, template in both.items() if template}


def as_texts(facts: Sequence[Fact], prompts: Sequence[str]) -> Texts:
    """One prompt for each fact, answered by its target after a blank."""
    if len(prompts) != len(facts):
        raise ValueError(f"{len(prompts)} prompts for {len(facts)} facts")
    return Texts(
        tuple(prompts),
        tuple(f" {fact.target}" for fact in facts),
        tuple(tuple(f" {other}" for other in fact.alternatives) for fact in facts),
        np.arange(len(facts), dtype=np.int32),
    )


def _parsed(template: str, facts: Sequence[Fact], name: str) -> tuple[str, str, str]:
    """What comes before the answer, the blanks before it, and which kind of answer it is."""
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
            f"format `{name}`: {error}. Braces that are meant as such are written {{{{ and }}}}."
        ) from None
    for place in places:
        if place in ("target", "Target", "letter"):
            raise UserError(f"format `{name}`: {{{place}}} may stand at the end only.")
        if place not in known:
            near = difflib.get_close_matches(place, known, 1)
            hint = f"did you mean {{{near[0]}}}?" if near else ""
            listed = ", ".join(sorted(known - set(LETTERS)))
            raise UserError(
                f"format `{name}`: no place or text is called {{{place}}}; {hint or listed}"
            )
    if len({place for place in places if _is_text(place, facts)}) > 1:
        raise UserError(f"format `{name}`: a template can hold one text of the data, not several.")
    return stem, match[1], match[2]


def _is_text(place: str, facts: Sequence[Fact]) -> bool:
    return any(place in fact.prompts for fact in facts)


def _offered(
    fact: Fact, options: Sequence[str], seed: int, places: set[str], name: str
) -> Sequence[str]:
    """The choices of a fact, in their order."""
    offered, letters = tuple(options), places & set(LETTERS)
    if not offered:
        # By the fact itself and not by its place, so that a subset is asked the same.
        rng = np.random.default_rng((seed, zlib.crc32(f"{fact.relation} {fact.subject}".encode())))
        own = (fact.target, *fact.alternatives)[: len(letters) or len(LETTERS)]
        offered = tuple(own[i] for i in rng.permutation(len(own)))
    if fact.target not in offered or letters & set(LETTERS[len(offered) :]):
        raise UserError(
            f"format `{name}`: the choices of the fact about {fact.subject!r} are "
            f"{', '.join(offered)}; they must hold its answer {fact.target!r} and one answer for "
            "each letter of the template. Set `facts.options`, or its `alternatives`."
        )
    return offered


def _said(
    fact: Fact, answer: str, offered: Sequence[str], blank: str
) -> tuple[str, tuple[str, ...]]:
    """The right answer and the alternatives as the format spells them."""
    if answer == "letter":
        letter = dict(zip(offered, LETTERS, strict=False))
        others = tuple(blank + letter[a] for a in fact.alternatives if a in letter)
        return blank + letter[fact.target], others
    spell = _SPELLING[answer]
    return blank + spell(fact.target), tuple(blank + spell(a) for a in fact.alternatives)
