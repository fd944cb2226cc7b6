"""Reader of a word file and a label file: a sentence on each line, with one label for each word.

This is the format of the published concept data (`specs/relearning.md` section 2.2). Blanks
separate words and labels.
"""

from __future__ import annotations

from pathlib import Path

from relearn_jax import config
from relearn_jax.data.corpus import Sentences
from relearn_jax.data.readers.files import locate, read_lines, words_of
from relearn_jax.data.readers.tags import iob2, is_scheme, problem
from relearn_jax.errors import UserError


def read_parallel(source: config.Source, base: Path) -> tuple[Sentences, Sentences]:
    """Words of `source.path` and labels of `source.labels_path`.

    Labels are kept, or renamed by `tag_map`. But a file with only `O`, `B-X` and `I-X` is read as
    entity tags and returned as IOB2. Lines that are blank in both files are left out.

    Raises UserError with the line number if the files differ in the number of words, and for files
    of different length.
    """
    word_path = locate(source.path, base, "path")
    label_path = locate(source.labels_path, base, "labels_path")
    word_lines = [words_of(line) for line in read_lines(word_path)]
    label_lines = [words_of(line) for line in read_lines(label_path)]
    # Blank lines at the end of a file are not sentences, and need no partner.
    for lines in (word_lines, label_lines):
        while not lines[-1]:
            lines.pop()
    for number, (words, labels) in enumerate(zip(word_lines, label_lines, strict=False), start=1):
        if len(words) != len(labels):
            raise UserError(
                f"{word_path}:{number}: {len(words)} words, but {label_path}:{number} has "
                f"{len(labels)} labels. Every word needs one label; both files are split at blanks."
            )
    if len(word_lines) != len(label_lines):
        raise UserError(
            f"{word_path} has {len(word_lines)} lines and {label_path} has {len(label_lines)}: "
            f"line {min(len(word_lines), len(label_lines)) + 1} is missing in the shorter one. "
            "Both need one line for every sentence."
        )
    sentences = [pair for pair in zip(word_lines, label_lines, strict=True) if pair[0]]
    words = tuple(tuple(sentence) for sentence, _ in sentences)
    return words, _labels([labels for _, labels in sentences], source, label_path)


def _labels(labels: list[list[str]], source: config.Source, path: Path) -> Sentences:
    if not is_scheme(labels):
        return tuple(tuple(source.tag_map.get(x, x) for x in sentence) for sentence in labels)
    for sentence in labels:
        for label in sentence:
            if error := problem(label, source.tag_map):
                raise UserError(f"{path}: {error}")
    return tuple(iob2(sentence, source.tag_map) for sentence in labels)
