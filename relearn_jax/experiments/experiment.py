"""What the driver and the commands need to know of an experiment."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from relearn_jax.config import Config
from relearn_jax.experiments.watcher import Watcher
from relearn_jax.models.transformer import Model

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

PyTree = Any
Setup = Any
"""What an experiment reads and checks before it computes: a dataclass of its own."""


class StageName(NamedTuple):
    """A stage as the options of `relearn export` name it."""

    stage: str
    """`base`, `round1`, `model`, or the whole name of a folder under `stages/`."""
    seed: int | None = None
    """None: the first."""
    arm: str = "concept"
    group: str | None = None
    """None: the first."""


class Exported(NamedTuple):
    """A model to be written as a Hugging Face folder."""

    model: Model
    params: PyTree
    settings: Mapping[str, Any]
    """What `config.json` says."""
    tokenizer: PreTrainedTokenizerBase


@dataclass(frozen=True)
class Experiment:
    """An experiment, as functions of its setup and its run directory.

    To add one, write its schema (`config/`), a folder with an `EXPERIMENT` beside the others, and
    name it in `registry.py`.
    """

    setup: Callable[[Config, Path], Setup]
    """Reads and checks all that a config names. Relative paths start at the given folder."""
    summary: Callable[[Setup, Path | None], list[str]]
    """Lines that a run shows before it starts. The run directory is None for a dry run."""
    plan: Callable[[Setup], list[str]]
    """Lines on memory and work, for a dry run."""
    steps: Callable[[Setup], int]
    """Steps of the progress bar."""
    run: Callable[[Setup, Path, Watcher], None]
    """Computes every stage that is missing."""
    stages: Callable[[Setup], list[str]]
    """Names of all stages of the config, in the order in which they are made."""
    meshes: Callable[[Setup, Path], dict[str, dict[str, int]]]
    """Sizes of the mesh axes, by the number of models side by side on the mesh."""
    sources: Callable[[Setup], dict[str, str]]
    """SHA-256 of everything that was read, by a name that a message can use."""
    reportable: Callable[[Setup, Path], bool]
    """Whether the finished stages are enough for tables and a report."""
    tables: Callable[[Setup, Path], None]
    """Writes `tables/*.parquet` from the finished stages."""
    manifest: Callable[[Setup, Path], dict[str, Any]]
    """What the manifest says besides what every experiment's says."""
    headline: Callable[[Setup, Path], str]
    """The result in one line, from the tables."""
    exported: Callable[[Config, Path, StageName], Exported]
    """A stage with parameters, for `relearn export`."""
    many_processes: bool = True
    """Whether several processes may run it together."""
