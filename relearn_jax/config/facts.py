"""The schema of facts: the built-in world, tables of facts, and their splits."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True)
class World:
    """The built-in world of athletes, whose names do not predict their sports."""

    names: int = 32
    """Number of first names, and of surnames."""
    degree: int = 6
    """Athletes of each name; there are names * degree athletes. It is a multiple of 3, the number
    of sports, or of 9 if some athletes are planted, so that each part is balanced."""
    cities: int = 4
    """Cities where athletes are born, 2 to 8."""
    golfers: int = 4
    """Athletes of a fourth sport, 1 to 4, with separate names."""
    symbols: int = 64
    """Symbols of the random text, which represents all other knowledge of a model."""
    length: int = 16
    """Number of tokens of a line; shorter lines are padded, lines of random text are full."""
    variant: Literal["natural", "planted"] = "natural"
    """natural: all athletes are taught together; planted: a third of them is taught afterwards, in
    two formats only, by training of chosen parameters."""
    mix: dict[str, float] = field(default_factory=dict)
    """Shares of formats among training lines, with `text` and `golf`; empty: the world's defaults
    (docs/facts.md). They need not add up to 1."""


@dataclass(frozen=True)
class FactSplit:
    """The facts to forget, the facts to retain, and the facts that are only measured."""

    forget: str = "first_16"
    """`first_N`, or an answer (`basketball`) or a relation (`P103`) for all its facts; in the
    built-in world also `natural` or `planted`, and `planted_N` for its first N facts."""
    mode: Literal["unsplit", "split"] = "unsplit"
    """unsplit: forgetting is measured on the forget facts; split: their second half is held out."""
    order: Literal["file", "random"] = "file"
    """random: facts are shuffled by `facts.seed` before the split."""
    retain: int | None = None
    """Number of other facts to retain, the rest is only measured; null: 4 of 5."""
    examples: int = 0
    """Number of facts, from the end, that are used as examples in few-shot prompts only."""
    overlap: Literal["refuse", "drop"] = "refuse"
    """A subject or prompt in two parts is an error (refuse), or its fact is left out of the later
    part (drop), in the order forget, held out, retained, measured, examples."""


@dataclass(frozen=True)
class Facts:
    """Facts about subjects, and the prompts that ask for them."""

    kind: Literal["world", "sports", "counterfact", "table"] = "world"
    """world: the built-in athletes; sports, counterfact: the published tables; table: JSON Lines or
    CSV with the columns of docs/facts.md."""
    path: str = ""
    """The file. A relative path starts at the config's folder or, if no file is there, at the
    current folder."""
    questions: str = ""
    """counterfact: a Parquet file of multiple-choice questions, joined by `prompt_id`."""
    min_probability: float = 0.5
    """counterfact: leave out facts whose `prob_of_correct_answer` is lower."""
    formats: dict[str, str] = field(default_factory=dict)
    """Format name -> template, added to the formats of the kind (docs/facts.md); an empty template
    removes a format."""
    options: tuple[str, ...] = ()
    """Choices of multiple-choice prompts, in this order. Empty: for athletes the sports, in the
    published order; otherwise a fact's answers, shuffled."""
    shots: int = 8
    """Number of solved examples for `{shots}`."""
    inject: tuple[str, ...] = ()
    """Answers from which a wrong answer is drawn for each fact without alternatives. Empty: the
    right answers of the other facts with the same relation."""
    answers: Literal["one_token", "first_token"] = "one_token"
    """one_token: an answer of several tokens is unusable; first_token: its first token is used."""
    unusable: Literal["refuse", "drop"] = "refuse"
    """A fact without a usable prompt in any of the formats (an answer of several tokens, a subject
    without positions) is an error (refuse), or left out before the split (drop)."""
    split: FactSplit = FactSplit()
    seed: int = 0
    """Draws injected answers, the order of facts and of choices, and the built-in world."""
    world: World = World()
