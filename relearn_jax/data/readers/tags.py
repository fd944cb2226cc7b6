"""Entity tags: valid forms, and conversion to the scheme used internally, IOB2.

IOB2: an entity of type X is `B-X` and then `I-X` for each further word; every other word is `O`. In
IO the first word is always `I-X`; in IOB1 it is `I-X` unless the entity before is adjacent and of
the same type. Conversion turns each `I-X` that continues no entity into `B-X`, without loss.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from relearn_jax.errors import UserError

OUTSIDE = "O"
_PREFIXED = re.compile(r"([BI])-(.+)", re.DOTALL)


def entity_type(tag: str) -> str | None:
    """`B-LOC` or `I-LOC` -> `LOC`; `O` -> None. Raises ValueError for anything else."""
    if tag == OUTSIDE:
        return None
    match = _PREFIXED.fullmatch(tag)
    if match is None:
        raise ValueError(f"malformed tag {tag!r}")
    return match[2]


def problem(tag: str, tag_map: Mapping[str, str]) -> str | None:
    """What is wrong with a tag in a file, and how to correct it; None for a valid tag.

    A bare type (`LOC`, as in some IO files) is valid only if `tag_map` names it: otherwise another
    column, such as parts of speech, would be read as entities.
    """
    if tag == OUTSIDE or tag in tag_map:
        return None
    match = _PREFIXED.fullmatch(tag)
    if match is None:
        return (
            f"malformed tag {tag!r}: expected O, B-TYPE or I-TYPE. Is `tag_column` right? Bare "
            f"types are read if tag_map lists them, e.g. tag_map: {{{tag}: {tag}}}."
        )
    if match[2] == OUTSIDE and OUTSIDE not in tag_map:
        return (
            f"tag {tag!r} is an entity whose type is literally O. Drop these entities with "
            f"tag_map: {{O: O}}, or give them another name."
        )
    return None


def iob2(tags: Sequence[str], tag_map: Mapping[str, str]) -> tuple[str, ...]:
    """Convert the tags of a sentence (IO, IOB1 or IOB2) to IOB2, with types renamed by `tag_map`.

    Types that map to `O` are dropped. Borders of entities are found before renaming, so that two
    adjacent entities of different types stay apart if they get the same name.
    """
    out = []
    previous = None
    for tag in tags:
        match = _PREFIXED.fullmatch(tag)
        prefix, kind = (match[1], match[2]) if match else ("I", None if tag == OUTSIDE else tag)
        if kind is None:
            out.append(OUTSIDE)
        else:
            begins = prefix == "B" or kind != previous
            name = tag_map.get(kind, kind)
            out.append(OUTSIDE if name == OUTSIDE else ("B-" if begins else "I-") + name)
        previous = kind
    return tuple(out)


def is_scheme(tags: Iterable[Sequence[str]]) -> bool:
    """Whether every tag is `O`, `B-X` or `I-X`, and not all of them are `O`."""
    kinds = {tag for sentence in tags for tag in sentence}
    return kinds != {OUTSIDE} and all(
        tag == OUTSIDE or _PREFIXED.fullmatch(tag) is not None for tag in kinds
    )


def check_map(tag_map: Mapping[str, str]) -> None:
    """Raise UserError for a `tag_map` with an empty name."""
    for old, new in tag_map.items():
        if not old or not new:
            raise UserError(f"tag_map: {old!r} -> {new!r}: neither may be empty; `O` drops a type.")
