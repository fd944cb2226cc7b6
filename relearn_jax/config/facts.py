"""The schema of facts: the built-in world, tables of facts, and their splits."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True)
class World:
    """The built-in world of athletes, each with a sport that no name gives away."""

    names: int = 32
    """First names, and as many surnames."""
    degree: int = 6
    """Athletes of each name, so that there are names * degree of them: a multiple of 3, the number
    of sports; of 9 if some are planted, so that each part is balanced by itself."""
    cities: int = 4
    """Cities where athletes are born, 2 to 8."""
    golfers: int = 4
    """Exemplars of a fourth sport, 1 to 4, with names of their own."""
    symbols: int = 64
    """Symbols of the random text that stands for everything else a model knows."""
    length: int = 16
    """Tokens that every line is padded to; lines of random text fill it."""
    variant: Literal["natural", "planted"] = "natural"
    """natural: all athletes are taught at once; planted: a third of them afterwards, in two formats
    only, for training that is confined to chosen parameters."""
    mix: dict[str, float] = field(default_factory=dict)
    """Shares of the formats among training lines, `text` and `golf` included; empty: the world's
    own (docs/facts.md). They need not add up to 1."""


@dataclass(frozen=True)
class FactSplit:
    """Which facts are to be forgotten, which retained, and which only measured."""

    forget: str = "first_16"
    """`first_N`; an answer (`basketball`) or a relation (`P103`): all its facts; in the built-in
    world also `natural` or `planted`."""
    mode: Literal["unsplit", "split"] = "unsplit"
    """unsplit: what is forgotten is also measured; split: the second half is held out."""
    order: Literal["file", "random"] = "file"
    """random: facts are shuffled by `facts.seed` before anything is cut."""
    retain: int | None = None
    """So many of the other facts are retained, the rest are only measured; null: 4 of 5."""
    examples: int = 0
    """The last so many facts are examples for few-shot prompts and nothing else."""
    overlap: Literal["refuse", "drop"] = "refuse"
    """A subject or prompt that occurs in two parts is an error, or its fact is left out of the
    later part (in the order forget, held out, retained, measured, examples)."""


@dataclass(frozen=True)
class Facts:
    """Facts about subjects, and the prompts that ask for them."""

    kind: Literal["world", "sports", "counterfact", "table"] = "world"
    """world: the built-in athletes; sports, counterfact: the published tables; table: JSON Lines or
    CSV with the columns of docs/facts.md."""
    path: str = ""
    """The file. A relative path starts at the config's folder or, if there is nothing, at the
    current one."""
    questions: str = ""
    """counterfact: a Parquet file of multiple-choice questions, joined by `prompt_id`."""
    min_probability: float = 0.5
    """counterfact: leave out facts whose `prob_of_correct_answer` is lower."""
    formats: dict[str, str] = field(default_factory=dict)
    """Format name -> template, beside those of the kind (docs/facts.md); an empty one removes the
    format."""
    options: tuple[str, ...] = ()
    """Answers that multiple choice offers, in this order. Empty: for athletes the sports, in the
    published order; otherwise a fact's own answers, shuffled."""
    shots: int = 8
    """Solved examples in place of `{shots}`."""
    inject: tuple[str, ...] = ()
    """Answers of which a wrong one is drawn for each fact that has none. Empty: the right answers
    of the other facts with this relation."""
    answers: Literal["one_token", "first_token"] = "one_token"
    """one_token: an answer of several tokens is unusable; first_token: its first stands for it."""
    unusable: Literal["refuse", "drop"] = "refuse"
    """A fact that the tokenizer cannot ask for in one of the formats (an answer of several tokens,
    a subject whose positions are lost) is an error, or left out before anything is split."""
    split: FactSplit = FactSplit()
    seed: int = 0
    """Draws what is injected, the order of facts and of choices, and the built-in world."""
    world: World = World()
