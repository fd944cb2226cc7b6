"""Arms, formats and groups in words."""

from __future__ import annotations

from relearn_jax.report.facts.methods import label, short

ORIGINAL = "original"
CONTROLS = {
    ORIGINAL: "before the edit",
    "planted": "planted layers",
    "sham": "sham: random update",
    "sham_scaled": "scaled sham",
    "masked": "masked: layers above",
    "retain_only": "retained facts only",
    "oracle": "oracle: never taught",
}
FORMATS = {"standard": "fact", "qa": "question", "mcq": "multiple choice"}
VERDICTS = ("removed", "hidden", "damaged", "not edited", "unclear")


def arm_label(name: str) -> str:
    """An arm in words, for tables."""
    return _named(name, label)


def arm_short(name: str) -> str:
    """An arm in words, for axes."""
    return _named(name, short)


def _named(name: str, of_choice: object) -> str:
    if name in CONTROLS:
        return CONTROLS[name]
    base, _, draw = name.rpartition("_")
    if draw.isdigit() and base == "random_mlps":
        return f"random MLPs, draw {draw}"
    return of_choice(name)


def format_label(name: str) -> str:
    """A prompt format in words."""
    return FORMATS.get(name, name)
