"""The schema of concept relearning."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal

from relearn_jax.config.shared import (
    Checkpoint,
    Model,
    Parallel,
    Training,
    device_problems,
    repeated,
    seed_problems,
    training_problems,
)

Site = Literal["states", "mlp"]
Arm = Literal["concept", "random", "layer_matched", "bottom", "oracle"]
Retrained = Literal["full", "without_concept", "other"]
Regrowth = Literal["free", "frozen"]
Ranking = Literal["probeless", "linear_probe", "mean_difference"]
Contrast = Literal["rest", "pairwise"]
Zeroed = Literal["ln_gain", "ln_gain_bias", "state_mask", "mlp_unit"]
Auto = Literal["auto"]


@dataclass(frozen=True)
class Source:
    """A source of annotated sentences."""

    kind: Literal["world", "conll", "parallel", "hub", "table"] = "world"
    """world: the built-in generator; conll: columns; parallel: a word file and a label file; hub: a
    Hugging Face dataset by name; table: JSON, JSON Lines or Parquet with one sentence a row."""
    path: str = ""
    """The file, or the dataset's name. A relative path starts at the config's folder or, if no file
    is there, at the current folder."""
    labels_path: str = ""
    """parallel: the label file, with a label for every word of `path`."""
    split: str = "train"
    """hub and world: the split."""
    word_column: str = "1"
    """Column of the words. conll: its number, counted from 0 (negative: from the right). hub and
    table: its name."""
    tag_column: str = "2"
    """Column of the tags, given as `word_column`."""
    tag_map: dict[str, str] = field(default_factory=dict)
    """Entity types to rename, e.g. `{person: PER}`; types renamed to `O` are dropped."""
    limit: int | None = None
    """Largest number of sentences, drawn without replacement by `limit_seed`."""
    limit_seed: int = 0
    sentences: int = 1000
    """world: number of sentences to generate."""
    note: str = ""
    """Shown in the report beside the data's name (provenance, caveats)."""


@dataclass(frozen=True)
class Data:
    """The task: named entity recognition."""

    train: Source = Source()
    evaluation: Source = Source(split="test")
    continuation: Literal["inside", "ignore"] = "inside"
    """Label of the later sub-words of a word. inside: the word's label with B- turned into I- (as
    published); ignore: none ("first sub-word only")."""
    buckets: tuple[int, ...] = (16, 32, 64, 128)
    """Padded lengths. Every batch has one of these lengths, so each length is compiled once."""


@dataclass(frozen=True)
class Concepts:
    """The probed text, and the concepts of its words."""

    data: Source = Source(split="dev")
    labels: Literal["spans", "words", "list"] = "spans"
    """spans: the label of a word is its entity type (without B-/I-); words: the tags themselves are
    concept labels; list: words in `word_list` belong to `target`."""
    word_list: str = ""
    """A file with a word on each line, for `labels: list`."""
    other: str = "O"
    """The label of words without a concept (`N/A` in the paper's files)."""
    separator: str = ""
    """Separator in composite labels such as `origin,origin:america`; empty: one label a word."""
    target: str = "LOC"
    """The concept to remove."""
    track: tuple[str, ...] = ()
    """Concepts to track; empty: all that occur."""
    sentences: int | None = 2500
    """Number of sentences to use, from the start."""
    site: Site = "states"
    """Neurons: all (L+1)*D hidden-state coordinates, or the L*F feed-forward units."""
    drop_unmappable: bool = False
    """Leave out words without tokens; otherwise they have a zero vector, as published."""


@dataclass(frozen=True)
class Prune:
    """The neurons to prune, and the parameters or states that are set to 0."""

    ranking: Ranking = "probeless"
    contrast: Contrast = "rest"
    """For probeless. rest: a concept against all other words (the paper's two classes); pairwise:
    the sum over all other labels."""
    fraction: float | Auto = 0.5
    """Share of all (L+1)*D (or L*F) neurons, in (0, 1]. auto: for each seed the smallest of
    `dose.fractions` at which the target has lost 90 % of its F1 on the concept text."""
    count: int | None = None
    """A number of neurons instead of a fraction."""
    scope: Literal["pooled", "per_layer"] = "pooled"
    """pooled: rank all layers together; per_layer: prune the same number in each layer."""
    embedding_state: Literal["exclude", "faithful"] = "exclude"
    """exclude: state 0 is ranked and tracked but not pruned. faithful: its neurons are pruned in
    the last block instead, as in the published code by an index of -1."""
    target: Zeroed = "ln_gain"
    """What is set to 0. ln_gain: the LayerNorm gain (as published); ln_gain_bias: its bias too;
    state_mask: the hidden state, in every forward pass; mlp_unit: the row and column of a
    feed-forward neuron."""
    regrowth: Regrowth = "free"
    """free: retraining may change pruned entries (as published); frozen: they stay 0."""


@dataclass(frozen=True)
class Dose:
    """The dose curve: scores by the share of neurons that are pruned, before any retraining."""

    fractions: tuple[float, ...] = (
        *(0.0025, 0.005, 0.01, 0.015, 0.02, 0.03, 0.04, 0.06),
        *(0.08, 0.1, 0.125, 0.15, 0.2, 0.3, 0.45, 0.6),
    )
    """Fractions of the curve, beside those that are pruned; those of less than one neuron are left
    out. Empty: no curve."""
    rankings: tuple[Ranking, ...] = ("probeless", "mean_difference")
    """Rankings of the curve, beside `prune.ranking`."""
    targets: tuple[Zeroed, ...] = ()
    """What is set to 0 in the curve, beside `prune.target`."""
    arms: tuple[Arm, ...] = ()
    """Arms of the curve, with concept among them; empty: `arms`."""
    sentences: int | None = 400
    """Largest number of evaluation sentences, spread evenly over the text; null: all."""
    draws: int = 1000
    """Draws of the bootstrap over sentences, for intervals."""
    seed: int = 0
    """Seed of the bootstrap."""


@dataclass(frozen=True)
class Retrain:
    """Relearning: rounds of training, each with a fresh optimizer and schedule."""

    rounds: int = 4
    """0: the models are pruned, and their dose curves drawn, but not retrained."""
    epochs: int = 2
    steps: int | None = None
    """Number of steps of a round instead of `epochs`, to the nearest whole epoch, but at least one.
    Texts of any size then take as many; the task is scored at the end of a round only."""
    scored_steps: tuple[int, ...] = (5, 10, 20, 50, 100, 200, 500)
    """Steps of the first round after which the task is scored, beside the end of each epoch."""
    data: Retrained | int = "full"
    """full: the training text (as published); without_concept: its sentences without the target
    concept; other: `source`; a number: so many of its sentences with the concept, drawn by the
    seed of the set."""
    source: Source = Source()
    learning_rate: float | None = None
    """None, here and below: the value in `training`."""
    batch_size: int | None = None
    weight_decay: float | None = None
    warmup: float | None = None


@dataclass(frozen=True)
class Tracking:
    """Statistics of every neuron at every stage."""

    top_k: int = 5
    signed: bool = False
    """False: words with a high |z| (as published); True: with a high z."""
    min_count: int = 1
    """Ignore word types that occur less often."""
    min_score: float = 0.1
    """Ignore words below this share of a neuron's highest score."""
    vectors: str = "model"
    """Word vectors for the similarity: `model` (the base model's input embeddings) or the path of a
    text file with a word and its numbers on each line."""
    batch_size: int = 32


@dataclass(frozen=True)
class Sets:
    """Concept sets: the product of these lists with `seeds` and `arms`."""

    concepts: tuple[str, ...] = ()
    """Concepts to remove, each in separate sets; empty: `concepts.target`."""
    fractions: tuple[float | Auto, ...] = ()
    """Fractions to prune; empty: `prune.fraction` (or `prune.count`)."""
    rankings: tuple[Ranking, ...] = ()
    """Rankings to prune by; empty: `prune.ranking`."""
    regrowth: tuple[Regrowth, ...] = ()
    """Kinds of regrowth; empty: `prune.regrowth`."""
    texts: tuple[Retrained | int, ...] = ()
    """Retraining texts, as in `retrain.data`, which holds if this is empty."""
    chunk: int | None = None
    """Number of sets side by side in one program; null: as many as fit into memory, up to 16."""


@dataclass(frozen=True)
class Relearning:
    """The config of a concept relearning."""

    experiment: Literal["relearning"] = "relearning"
    name: str = "relearning"
    description: str = ""
    out: str = ""
    """Run directory; empty: `runs/NAME`."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Each seed has its own base model; a seed draws the task head, the order of the data, dropout
    and the random masks."""
    arms: tuple[Arm, ...] = ("concept", "random", "layer_matched", "bottom")
    """concept: the neurons that rank first; random, layer_matched, bottom: as many others; oracle:
    no neuron, in a model that was trained without labels on words of the target, so that it never
    learned it. Its neurons are not tracked."""
    model: Model = field(default_factory=Model)
    data: Data = Data()
    concepts: Concepts = Concepts()
    training: Training = field(default_factory=Training)
    prune: Prune = Prune()
    dose: Dose = Dose()
    retrain: Retrain = Retrain()
    tracking: Tracking = Tracking()
    sets: Sets = Sets()
    parallel: Parallel = field(default_factory=Parallel)
    checkpoint: Checkpoint = field(default_factory=Checkpoint)
    keep: Literal["last", "all"] = "last"
    """Weights to keep on disk. last: of base models and last rounds; all: of every round too."""
    expected_minutes: float | None = None
    """Printed before the run starts."""

    @property
    def retraining(self) -> Training:
        """The training settings of a retraining round."""
        changes = {
            name: value
            for name in ("learning_rate", "batch_size", "weight_decay", "warmup")
            if (value := getattr(self.retrain, name)) is not None
        }
        return replace(self.training, epochs=self.retrain.epochs, **changes)

    def problems(self) -> list[str]:
        """Invalid values and combinations, as one sentence each."""
        return [
            *seed_problems(self.seeds),
            *repeated("arms", self.arms),
            *_prune_problems(self.prune, self.concepts),
            *_set_problems(self),
            *_dose_problems(self),
            *training_problems("training", self.training),
            *training_problems("retrain", self.retraining),
            *_text_problems(self),
            *device_problems(self.parallel, self.checkpoint),
        ]


def _prune_problems(prune: Prune, concepts: Concepts) -> list[str]:
    problems = []
    if prune.count is None and not _is_share(prune.fraction):
        problems.append(f"prune.fraction = {prune.fraction}: should be in (0, 1], or auto")
    if prune.count is not None and prune.count < 1:
        problems.append(f"prune.count = {prune.count}: should be at least 1")
    if (prune.target == "mlp_unit") != (concepts.site == "mlp"):
        problems.append(
            "prune.target mlp_unit goes with concepts.site mlp, and the other targets with states"
        )
    if prune.target == "state_mask" and prune.regrowth == "free":
        problems.append(
            "prune.target state_mask removes a neuron in every forward pass, so nothing can "
            "regrow: set prune.regrowth: frozen"
        )
    if prune.embedding_state == "faithful" and prune.target in ("state_mask", "mlp_unit"):
        problems.append("prune.embedding_state faithful goes with the ln_gain targets only")
    return problems


def _set_problems(config: Relearning) -> list[str]:
    sets, problems = config.sets, []
    if "concept" not in config.arms:
        problems.append("arms must contain concept; the others are its controls")
    for name in ("concepts", "fractions", "rankings", "regrowth", "texts"):
        problems += repeated(f"sets.{name}", getattr(sets, name))
    problems += [
        f"sets.fractions: {fraction} should be in (0, 1], or auto"
        for fraction in sets.fractions
        if not _is_share(fraction)
    ]
    if sets.fractions and config.prune.count is not None:
        problems.append("sets.fractions and prune.count cannot both say how many are pruned")
    if config.prune.target == "state_mask" and "free" in sets.regrowth:
        problems.append("sets.regrowth: with prune.target state_mask nothing can regrow freely")
    if config.concepts.labels == "list" and set(sets.concepts) - {config.concepts.target}:
        problems.append("sets.concepts: a word list has one concept, concepts.target")
    problems += [
        f"{number} sentences to retrain on: should be at least 1"
        for number in (*sets.texts, config.retrain.data)
        if isinstance(number, int) and number < 1
    ]
    if "oracle" in config.arms and config.concepts.labels != "spans":
        problems.append("arms: oracle needs the task's tags as concepts, concepts.labels: spans")
    if sets.chunk is not None and sets.chunk < 1:
        problems.append("sets.chunk must be at least 1")
    return problems


def _is_share(fraction: float | Auto) -> bool:
    return fraction == "auto" or 0 < fraction <= 1


def _dose_problems(config: Relearning) -> list[str]:
    dose, problems = config.dose, []
    for name in ("fractions", "rankings", "targets", "arms"):
        problems += repeated(f"dose.{name}", getattr(dose, name))
    problems += [
        f"dose.fractions: {fraction} should be in (0, 1]"
        for fraction in dose.fractions
        if not 0 < fraction <= 1
    ]
    if "auto" in (config.sets.fractions or (config.prune.fraction,)):
        if not dose.fractions:
            problems.append("prune.fraction auto chooses from dose.fractions, which is empty")
        if config.concepts.labels != "spans":
            problems.append(
                "prune.fraction auto scores the concept text, which needs the task's tags: "
                "concepts.labels: spans"
            )
    if "oracle" in dose.arms:
        problems.append("dose.arms: oracle prunes nothing, so it has no curve")
    if dose.arms and "concept" not in dose.arms:
        problems.append("dose.arms must contain concept; the others are its controls")
    if dose.sentences is not None and dose.sentences < 1:
        problems.append("dose.sentences must be at least 1, or null for all")
    if dose.draws < 1:
        problems.append("dose.draws must be at least 1")
    return problems


def _text_problems(config: Relearning) -> list[str]:
    data, problems = config.data, []
    if max(data.buckets, default=0) < config.model.max_length:
        problems.append("data.buckets: the largest must reach model.max_length")
    if min(data.buckets, default=1) < 1:
        problems.append("data.buckets must be positive")
    if config.tracking.batch_size < 1 or config.tracking.top_k < 1:
        problems.append("tracking.batch_size and tracking.top_k must be positive")
    dropout = config.training.dropout
    if dropout is not None and not 0 <= dropout < 1:
        problems.append(f"training.dropout = {dropout}: should be in [0, 1)")
    if config.retrain.rounds < 0:
        problems.append("retrain.rounds must be at least 0")
    if config.retrain.steps is not None and config.retrain.steps < 1:
        problems.append("retrain.steps must be at least 1")
    if min(config.retrain.scored_steps, default=1) < 1:
        problems.append("retrain.scored_steps must be positive; step 0 is always scored")
    if config.concepts.labels == "list" and not config.concepts.word_list:
        problems.append("concepts.labels list needs concepts.word_list")
    if (config.model.source == "random") != bool(config.model.settings):
        problems.append("model.settings goes with model.source random, and that needs it")
    if config.model.source == "random" and not config.model.tokenizer:
        problems.append("model.source random needs model.tokenizer")
    return problems
