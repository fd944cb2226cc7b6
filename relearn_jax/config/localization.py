"""The schema of localization, which finds where a decoder looks facts up."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from relearn_jax.config.facts import Facts
from relearn_jax.config.shared import (
    Checkpoint,
    Model,
    Parallel,
    device_problems,
    repeated,
    seed_problems,
)

Method = Literal[
    "patching", "tracing", "attribution", "attribution_path", "paths", "probes",
    "tracing_published", "attribution_published",
]  # fmt: skip
"""The last two are computed as in the code of Guo et al. 2025, with its defects."""


@dataclass(frozen=True)
class Teaching:
    """Teaching of the built-in world to a decoder of random weights, by AdamW."""

    scale: float = 1.0
    """Factor of the random matrices, as their deviation of 0.02 is meant for wide models."""
    steps: int = 600
    batch_size: int = 96
    learning_rate: float = 3e-3
    weight_decay: float = 0.01
    clip_norm: float = 1.0
    warmup: float = 0.1
    """Share of the steps with a rising learning rate; then linear decay to 0."""
    plant_layers: tuple[int, ...] = ()
    """Layers that hold the planted facts: only their feed-forward matrices are trained on them."""
    plant_steps: int = 300
    plant_learning_rate: float = 3e-3


@dataclass(frozen=True)
class Localize:
    """The localizers, and the pairs of prompts."""

    methods: tuple[Method, ...] = (
        "patching", "tracing", "attribution", "attribution_path", "paths", "probes",
    )  # fmt: skip
    format: str = "standard"
    """Format of the prompts to localize (docs/facts.md)."""
    corrupt: Literal["swapped", "random"] = "swapped"
    """The partner of a prompt. swapped: the prompt of another subject with another answer; random:
    random tokens in place of the subject (as published)."""
    pairs: int = 64
    """Largest number of pairs: the first facts to forget that have a partner."""
    batch: int = 16
    """Number of pairs computed at a time."""
    groups: int = 4
    """Number of programs for the positions of a prompt: more compile longer and compute less."""
    draws: int = 10
    """Causal tracing: number of draws of the noise."""
    noise: float = 3.0
    """Causal tracing: size of the noise in standard deviations of the subjects' embeddings."""
    path_steps: int = 8
    """Number of points on the path of attribution_path."""
    heads: int = 10
    """Fact lookup by paths: number of extraction heads."""
    threshold: float = 0.02
    """Fact lookup by paths: threshold of the effect of a feed-forward layer."""
    sign: Literal["either", "positive"] = "either"
    """Fact lookup by paths: sign of the effects that count. either: as published."""
    probed: int = 500
    """Fact lookup by probes: number of facts for fits and tests of probes."""
    window: float = 0.95
    """Fact lookup by probes: share of the gain in accuracy that the chosen layers must hold.
    Accuracy below that of the most common answer, and gains below the largest gain of probes of
    shuffled answers, do not count."""
    granularity: Literal["component", "head", "matrix"] = "component"
    """Units that localizers choose. component: attention blocks and feed-forward layers; head:
    single heads and feed-forward layers (by localizers that score heads); matrix: single matrices,
    each with the score of its part."""
    less_null: Literal["better", "all", "none"] = "better"
    """Which scores of components are taken less their nulls before they are ranked. better: those
    that then find planted layers more often, noising and denoising (docs/results_localization.md).
    Scores of single heads have no null."""
    budget: float | None = None
    """Share of all attention and feed-forward matrices that every localizer may choose; null: as
    many parameters as fact lookup by probes chooses. What has score 0 is not chosen, so a localizer
    may choose less."""


@dataclass(frozen=True)
class Localization:
    """The config of a localization of facts."""

    experiment: Literal["localization"] = "localization"
    name: str = "localization"
    description: str = ""
    out: str = ""
    """Run directory; empty: `runs/NAME`."""
    seeds: tuple[int, ...] = (0,)
    """Each seed has its own model (of random weights), world, noise and random baselines."""
    model: Model = field(default_factory=Model)
    facts: Facts = field(default_factory=Facts)
    teaching: Teaching = Teaching()
    """For a model of random weights."""
    gates: Literal["enforce", "report"] = "enforce"
    """A taught model that does not pass its gates is an error (enforce), or has a line in the
    report (report)."""
    localize: Localize = Localize()
    parallel: Parallel = field(default_factory=Parallel)
    checkpoint: Checkpoint = field(default_factory=Checkpoint)
    """Checkpoints during teaching."""
    expected_minutes: float | None = None
    """Printed before the run starts."""

    @property
    def taught(self) -> bool:
        """Whether a decoder of random weights is taught the facts of the built-in world."""
        return self.facts.kind == "world"

    def problems(self) -> list[str]:
        """Invalid values and combinations, as one sentence each."""
        return [
            *seed_problems(self.seeds),
            *_model_problems(self),
            *_teaching_problems(self),
            *_method_problems(self.localize),
            *device_problems(self.parallel, self.checkpoint),
        ]


def _model_problems(config: Localization) -> list[str]:
    kind, source, problems = config.facts.kind, config.model.source, []
    drawn = source == "random"
    if config.taught and not drawn:
        problems.append(
            "facts.kind world is taught to random weights: set model.source: random, not "
            f"{source!r}"
        )
    if drawn and not config.taught and config.teaching.steps:
        problems.append(
            f"model.source random does not know facts.kind {kind!r}; name weights "
            "that do, or set teaching.steps: 0 to measure time and memory on random weights"
        )
    if drawn and not config.taught and not config.model.tokenizer:
        problems.append("model.source random has no tokenizer: name one in model.tokenizer")
    return problems


def _teaching_problems(config: Localization) -> list[str]:
    localize, teaching, problems = config.localize, config.teaching, []
    gated = localize.corrupt == "swapped" and {"patching", "probes"} <= set(localize.methods)
    if config.taught and config.gates == "enforce" and not gated:
        problems.append(
            "the gates of facts.kind world need localize.corrupt: swapped, and patching and probes "
            "among localize.methods; or set gates: report"
        )
    if (config.facts.world.variant == "planted") != bool(teaching.plant_layers):
        problems.append("teaching.plant_layers goes with facts.world.variant planted")
    if teaching.steps < config.taught or teaching.plant_steps < 0 or teaching.batch_size < 2:
        problems.append("teaching: steps and batch_size must be positive, plant_steps at least 0")
    return problems


def _method_problems(localize: Localize) -> list[str]:
    problems = repeated("localize.methods", localize.methods)
    problems += [
        f"localize.{name} must be at least 1"
        for name in ("pairs", "batch", "groups", "draws", "path_steps", "heads")
        if getattr(localize, name) < 1
    ]
    if localize.probed < 10:
        problems.append("localize.probed must be at least 10")
    if localize.budget is not None and not 0 < localize.budget <= 1:
        problems.append(f"localize.budget = {localize.budget}: should be in (0, 1]")
    if not 0 < localize.window <= 1:
        problems.append(f"localize.window = {localize.window}: should be in (0, 1]")
    if not localize.methods:
        problems.append("localize.methods is empty")
    return problems
