"""Reading of a config's `Source` in any format, as a `Corpus`."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from relearn_jax import config
from relearn_jax.data.corpus import Corpus, Sentences, make_corpus
from relearn_jax.data.readers.conll import read_conll
from relearn_jax.data.readers.hub import read_hub
from relearn_jax.data.readers.parallel import read_parallel
from relearn_jax.data.readers.table import read_table
from relearn_jax.data.readers.tags import check_map, iob2
from relearn_jax.errors import UserError


def read(source: config.Source, base: Path) -> Corpus:
    """The corpus that `source` describes; relative paths start at `base`.

    With `limit`, that many sentences are drawn without replacement by `limit_seed` and kept in
    order, so a source gives the same corpus everywhere. Raises UserError as the readers do.
    """
    check_map(source.tag_map)
    if source.limit is not None and source.limit < 1:
        raise UserError(f"`limit: {source.limit}`: give a positive number, or leave it out.")
    readers = {
        "world": _read_world,
        "conll": read_conll,
        "parallel": read_parallel,
        "hub": read_hub,
        "table": read_table,
    }
    words, tags = readers[source.kind](source, base)
    rows = draw(len(words), source.limit, source.limit_seed)
    return make_corpus(
        [words[i] for i in rows],
        [tags[i] for i in rows],
        source=_describe(source, len(words), len(rows)),
        generated=source.kind == "world",
    )


def draw(total: int, limit: int | None, seed: int) -> np.ndarray:
    """Ascending indices of at most `limit` out of `total` sentences, drawn uniformly."""
    if limit is None or limit >= total:
        return np.arange(total)
    return np.sort(np.random.default_rng(seed).choice(total, size=limit, replace=False))


def _read_world(source: config.Source, base: Path) -> tuple[Sentences, Sentences]:
    from relearn_jax.data import world

    if source.sentences < 1:
        raise UserError(f"`sentences: {source.sentences}`: give a positive number.")
    words, tags = world.generate(source.sentences, source.split, source.limit_seed)
    return tuple(map(tuple, words)), tuple(iob2(sentence, source.tag_map) for sentence in tags)


def _describe(source: config.Source, total: int, used: int) -> str:
    what = {
        "world": f"generated sentences, split {source.split}, seed {source.limit_seed}",
        "hub": f"dataset {source.path}, split {source.split}",
        "parallel": f"{source.path} with labels {source.labels_path}",
    }.get(source.kind, source.path)
    count = f"{used} sentences"
    if used < total:
        count = f"{used} of {total} sentences, drawn with seed {source.limit_seed}"
    renamed = ", ".join(f"{old} as {new}" for old, new in source.tag_map.items())
    return f"{what}: {count}" + (f"; tags read {renamed}" if renamed else "")
