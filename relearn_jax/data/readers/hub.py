"""Reader of Hugging Face datasets, by name."""

from __future__ import annotations

import re
from pathlib import Path

from relearn_jax import config
from relearn_jax.data.corpus import Sentences
from relearn_jax.data.readers.table import column_names, sentences_of_rows
from relearn_jax.errors import UserError

_CONVERTED = "refs/convert/parquet"
"""The hub's branch with a Parquet copy of a dataset that is published as a script (scripts are
remote code, and never run)."""


def read_hub(source: config.Source, base: Path) -> tuple[Sentences, Sentences]:
    """Words and IOB2 tags of one split of a dataset.

    `source.path` is `NAME`, `NAME:SUBSET`, `NAME@REVISION` or `NAME:SUBSET@REVISION`, or a local
    folder that `datasets` can load. Integer tags are looked up in the column's ClassLabel names.
    Raises UserError if the dataset cannot be loaded; its message names alternatives.
    """
    name, subset, revision = _parse(source.path, base)
    rows = _load(name, subset, revision, source.split)
    where = f"dataset {source.path}, split {source.split}"
    word_column, tag_column = column_names(source)
    for column in (word_column, tag_column):
        if column not in rows.column_names:
            raise UserError(
                f"{where}: no column {column!r}; it has {', '.join(map(repr, rows.column_names))}. "
                "Set `word_column` and `tag_column`."
            )
    names = _class_names(rows.features[tag_column])
    columns = rows.select_columns([word_column, tag_column])[:]
    return sentences_of_rows(
        columns[word_column], columns[tag_column], names, source.tag_map, where
    )


def _parse(path: str, base: Path) -> tuple[str, str | None, str | None]:
    if not path:
        raise UserError("`path` is empty: for `kind: hub` give the dataset's name.")
    folder = base / path
    if folder.is_dir():
        return str(folder), None, None
    match = re.fullmatch(r"([^:@]+)(?::([^:@]+))?(?:@(.+))?", path)
    if match is None:
        raise UserError(f"`path: {path}`: expected NAME, NAME:SUBSET or NAME:SUBSET@REVISION.")
    return match[1], match[2], match[3]


def _load(name: str, subset: str | None, revision: str | None, split: str):
    """A split of a dataset; for a dataset that is a script, from the hub's Parquet copy."""
    import datasets

    def load(revision):
        return datasets.load_dataset(name, subset, split=split, revision=revision)

    try:
        try:
            return load(revision)
        except RuntimeError as error:
            if revision is not None or "scripts are no longer supported" not in str(error):
                raise
            return load(_CONVERTED)
    except Exception as error:  # `datasets` raises whatever its file systems and parsers raise
        raise UserError(
            f"dataset {name!r} (subset {subset or 'default'}, split {split!r}) could not be "
            f"loaded: {type(error).__name__}: {str(error).strip()[:300]}\n"
            "Check name, subset and split. Without a network, run once on a connected machine with "
            "the same cache (HF_HOME; HF_HUB_OFFLINE=1 then skips the waiting), or fetch the "
            "dataset's Parquet file there and use `kind: table` with its path."
        ) from error


def _class_names(feature: object) -> list[str] | None:
    """Class names of a ClassLabel feature, or of a list of ClassLabels."""
    inner = feature[0] if isinstance(feature, list) else getattr(feature, "feature", feature)
    return getattr(inner, "names", None)
