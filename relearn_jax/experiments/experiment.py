"""The interface of an experiment to the driver and the commands."""

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
"""All that an experiment reads and checks before it computes; each has its own dataclass."""


class StageName(NamedTuple):
    """Name of a stage by the options of `relearn export`."""

    stage: str
    """`base`, `round1`, `model`, or the full name of a folder under `stages/`."""
    seed: int | None = None
    """None: the first seed."""
    arm: str | None = None
    """None: the first arm. Experiments without arms or groups refuse any other value."""
    group: str | None = None
    """None: the first group."""


class Exported(NamedTuple):
    """A model to write as a Hugging Face folder."""

    model: Model
    params: PyTree
    settings: Mapping[str, Any]
    """Content of `config.json`."""
    tokenizer: PreTrainedTokenizerBase


@dataclass(frozen=True)
class Experiment:
    """An experiment, as functions of its setup and its run directory.

    To add an experiment, write its schema (`config/`), a folder with an `EXPERIMENT` beside the
    others, and name it in `registry.py`.
    """

    setup: Callable[[Config, Path], Setup]
    """Reads and checks all that a config names. Relative paths start at the folder."""
    summary: Callable[[Setup, Path | None], list[str]]
    """Lines to show before a run starts. The run directory is None for a dry run."""
    plan: Callable[[Setup], list[str]]
    """Lines on memory and work, for a dry run."""
    steps: Callable[[Setup], int]
    """Number of steps of the progress bar."""
    run: Callable[[Setup, Path, Watcher], None]
    """Computes all missing stages."""
    stages: Callable[[Setup], list[str]]
    """Names of all stages of the config, in the order of computation."""
    meshes: Callable[[Setup, Path], dict[str, dict[str, int]]]
    """Sizes of the mesh axes, by the number of models side by side on the mesh."""
    sources: Callable[[Setup], dict[str, str]]
    """SHA-256 of everything that was read, by a name for messages."""
    reportable: Callable[[Setup, Path], bool]
    """Whether the finished stages are enough for tables and a report."""
    tables: Callable[[Setup, Path], None]
    """Writes `tables/*.parquet` from the finished stages."""
    manifest: Callable[[Setup, Path], dict[str, Any]]
    """Entries of the manifest that only this experiment has."""
    headline: Callable[[Setup, Path], str]
    """The result in one line."""
    exported: Callable[[Config, Path, StageName], Exported]
    """The model of a stage with parameters, for `relearn export`."""
    memory_remedy: str
    """Sentences on the settings that take less memory, for an out-of-memory error."""
    many_processes: bool = True
    """Whether several processes may run the experiment together."""
