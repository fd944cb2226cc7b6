"""The schema of concept relearning."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from relearn_jax.config.shared import Checkpoint, Model, Parallel, Training

Site = Literal["states", "mlp"]
Arm = Literal["concept", "random", "layer_matched", "bottom"]
Regrowth = Literal["free", "frozen"]


@dataclass(frozen=True)
class Source:
    """Where annotated sentences come from."""

    kind: Literal["world", "conll", "parallel", "hub", "table"] = "world"
    """world: the built-in generator; conll: columns; parallel: a word file and a label file; hub: a
    Hugging Face dataset by name; table: JSON, JSON Lines or Parquet with one sentence a row."""
    path: str = ""
    """The file, or the dataset's name. A relative path starts at the config's folder or, if there
    is nothing, at the current one."""
    labels_path: str = ""
    """parallel: the label file, one label for every word of `path`."""
    split: str = "train"
    """hub and world: which split."""
    word_column: str = "1"
    """conll: the number of the column that holds the word, counted from 0 (negative: from the
    right). hub and table: the column's name."""
    tag_column: str = "2"
    """The same for the tag."""
    tag_map: dict[str, str] = field(default_factory=dict)
    """Entity types to rename, e.g. `{person: PER}`; renamed to `O` they are dropped."""
    limit: int | None = None
    """Take at most this many sentences, drawn without replacement by `limit_seed`."""
    limit_seed: int = 0
    sentences: int = 1000
    """world: how many sentences to generate."""
    note: str = ""
    """Shown in the report beside the data's name (provenance, caveats)."""


@dataclass(frozen=True)
class Data:
    """The task: named entity recognition."""

    train: Source = Source()
    evaluation: Source = Source(split="test")
    continuation: Literal["inside", "ignore"] = "inside"
    """Label of the second and further sub-words of a word: its own with B- turned into I- (as
    published), or none ("first sub-word only")."""
    buckets: tuple[int, ...] = (16, 32, 64, 128)
    """Padded lengths. Every batch has one of these lengths, so there is one compilation each."""


@dataclass(frozen=True)
class Concepts:
    """The probed text, and which of its words belong to which concept."""

    data: Source = Source(split="dev")
    labels: Literal["spans", "words", "list"] = "spans"
    """spans: the entity type of each word (B-/I- dropped); words: the tags are concept labels as
    they stand; list: words of `word_list` belong to `target`."""
    word_list: str = ""
    """A file with one word a line, for `labels: list`."""
    other: str = "O"
    """The label of words that belong to no concept (`N/A` in the paper's files)."""
    separator: str = ""
    """Splits composite labels such as `origin,origin:america`; empty: one label a word."""
    target: str = "LOC"
    """The concept that is removed."""
    track: tuple[str, ...] = ()
    """Concepts to follow; empty: all that occur."""
    sentences: int | None = 2500
    """Use the first so many."""
    site: Site = "states"
    """Neurons: all (L+1)*D hidden-state coordinates, or the L*F feed-forward units."""
    drop_unmappable: bool = False
    """Leave out words for which the tokenizer yields nothing, instead of the published zero
    vector."""


@dataclass(frozen=True)
class Prune:
    """Which neurons are removed, and what removing means."""

    ranking: Literal["probeless", "linear_probe", "mean_difference"] = "probeless"
    contrast: Literal["rest", "pairwise"] = "rest"
    """probeless: a concept against all other words (the paper's two classes), or the sum over every
    other label (any number of labels)."""
    fraction: float = 0.5
    """Share of all (L+1)*D (or L*F) neurons, in (0, 1]."""
    count: int | None = None
    """A number of neurons instead of a fraction."""
    scope: Literal["pooled", "per_layer"] = "pooled"
    """Rank all layers together, or take the same number from each layer."""
    embedding_state: Literal["exclude", "faithful"] = "exclude"
    """exclude: state 0 is ranked and tracked but not pruned. faithful: its neurons are mapped to
    the last block, as the published code does by an index of -1."""
    target: Literal["ln_gain", "ln_gain_bias", "state_mask", "mlp_unit"] = "ln_gain"
    """ln_gain: the LayerNorm gain becomes 0 (as published); ln_gain_bias: its bias too; state_mask:
    the hidden state is multiplied by 0 in every forward pass; mlp_unit: a feed-forward neuron's
    row and column."""
    regrowth: Regrowth = "free"
    """free: retraining may move pruned entries (as published); frozen: they stay pruned."""


@dataclass(frozen=True)
class Retrain:
    """Relearning: rounds of training, each with a fresh optimizer and schedule."""

    rounds: int = 4
    epochs: int = 2
    data: Literal["full", "without_concept", "other"] = "full"
    """The training text (as published), its sentences without the target concept, or `source`."""
    source: Source = Source()
    learning_rate: float | None = None
    """This and what follows: None for the value of `training`."""
    batch_size: int | None = None
    weight_decay: float | None = None
    warmup: float | None = None


@dataclass(frozen=True)
class Tracking:
    """What is written down about every neuron, at every stage."""

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
    """Concept sets: the run is the product of these lists with `seeds` and `arms`."""

    concepts: tuple[str, ...] = ()
    """Concepts to remove, each on its own; empty: `concepts.target`."""
    fractions: tuple[float, ...] = ()
    """Empty: `prune.fraction` (or `prune.count`)."""
    regrowth: tuple[Regrowth, ...] = ()
    """Empty: `prune.regrowth`."""
    chunk: int | None = None
    """Sets that are trained side by side in one program; null: as many as memory holds, up to 16.
    """


@dataclass(frozen=True)
class Config:
    """One experiment of concept relearning."""

    experiment: Literal["relearning"] = "relearning"
    name: str = "relearning"
    description: str = ""
    out: str = ""
    """Run directory; empty: `runs/NAME`."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """One base model each; a seed draws the task head, the order of the data, dropout and the
    random masks."""
    arms: tuple[Arm, ...] = ("concept", "random", "layer_matched", "bottom")
    model: Model = field(default_factory=Model)
    data: Data = Data()
    concepts: Concepts = Concepts()
    training: Training = field(default_factory=Training)
    prune: Prune = Prune()
    retrain: Retrain = Retrain()
    tracking: Tracking = Tracking()
    sets: Sets = Sets()
    parallel: Parallel = field(default_factory=Parallel)
    checkpoint: Checkpoint = field(default_factory=Checkpoint)
    keep: Literal["last", "all"] = "last"
    """Weights on disk: of the base models and the last rounds, or of every round."""
    expected_minutes: float | None = None
    """Printed before the run starts."""
