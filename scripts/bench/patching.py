"""The full patching grid of a GPT-2 small: TransformerLens against relearn_jax, in one run.

In an environment with torch, transformer-lens and relearn_jax:

    python scripts/bench/patching.py                    # 8 pairs of 16 tokens, subject at token 4
    python scripts/bench/patching.py --subject 1        # nothing before the subject to leave out

Random weights in the shape of GPT-2 small, the same for both sides. Clean states, attention outputs
and feed-forward outputs are patched into the corrupt run at every layer and position, and every
head's output at all positions; what is compared is the difference of two logits, pair by pair. Each
side has a process of its own on the same cores, one after the other. A machine that does something
else at the same time spoils the figures.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from importlib import metadata
from pathlib import Path

import common
import numpy as np

HERE = Path(__file__).resolve().parent
SWEEPS = ("states", "attention", "mlp_out", "heads")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=8)
    parser.add_argument("--tokens", type=int, default=16)
    parser.add_argument("--subject", type=int, default=4, help="first of its three tokens")
    parser.add_argument("--groups", type=int, default=4, help="programs for our positions")
    parser.add_argument("--repeats", type=int, default=3, help="warm passes of ours")
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--cores", type=int, default=2)
    parser.add_argument("--out", type=Path, help="write all figures there as JSON")
    return parser.parse_args()


def questions(args: argparse.Namespace, work: Path) -> None:
    """Clean and corrupt prompts that differ in the subject, and two words for each pair."""
    rng = np.random.default_rng(0)
    clean = rng.integers(0, 50257, (args.pairs, args.tokens))
    corrupt = clean.copy()
    subject = slice(args.subject, args.subject + 3)
    corrupt[:, subject] = rng.integers(0, 50257, corrupt[:, subject].shape)
    words = rng.integers(0, 50257, (args.pairs, 2))
    np.savez(work / "questions.npz", clean=clean, corrupt=corrupt, words=words)


def main() -> None:
    args = parse()
    cores = common.pin(args.cores)
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        questions(args, work)
        found = {}
        for side in ("lens", "ours"):
            result = work / f"{side}.json"
            command = [sys.executable, str(HERE / f"patching_{side}.py"), str(work), str(result)]
            command += ["--layers", str(args.layers), "--groups", str(args.groups)]
            found[side] = common.measured([*command, "--repeats", str(args.repeats)], result)
        grids = [np.load(work / f"{side}.npz") for side in ("lens", "ours")]
    lens, ours = found["lens"], found["ours"]
    off = {name: float(np.abs(grids[0][name] - grids[1][name]).max()) for name in SWEEPS}
    size = {name: float(np.abs(grids[0][name] - grids[0]["corrupt"]).max()) for name in SWEEPS}
    rows = [
        [
            *(name, str(lens["runs"][name]), common.number(lens["seconds"][name])),
            *(common.number(ours[kind][name]) for kind in ("cold", "warm")),
            *(common.ratio(lens["seconds"][name], ours[kind][name]) for kind in ("cold", "warm")),
            *(f"{off[name]:.0e}", common.number(size[name])),
        ]
        for name in SWEEPS
    ]
    total = [sum(some.values()) for some in (lens["seconds"], ours["cold"], ours["warm"])]
    rows.append(
        [
            *("all", str(sum(lens["runs"].values())), *map(common.number, total)),
            *(common.ratio(total[0], own) for own in total[1:]),
            *(f"{max(off.values()):.0e}", ""),
        ]
    )
    head = ("patched place", "patches", "TransformerLens s", "ours cold s", "ours warm s")
    head += ("ratio cold", "ratio warm", "largest difference", "largest effect")
    print(f"{common.machine(cores)}; TransformerLens {metadata.version('transformer-lens')}, ")
    print(
        f"torch {metadata.version('torch')}, jax {metadata.version('jax')}; {args.pairs} pairs of"
    )
    print(f"{args.tokens} tokens, subject at {args.subject}, {args.layers} layers\n")
    print(common.table(head, rows))
    print(f"\nPeak memory: {lens['peak_mb']:.0f} MB and {ours['peak_mb']:.0f} MB")
    common.write(args.out, {"lens": lens, "ours": ours, "off": off, "effect": size})


if __name__ == "__main__":
    main()
