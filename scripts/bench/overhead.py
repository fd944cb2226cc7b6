"""Where the wall time of a finished run went: training, evaluation, neuron statistics, the rest.

    python scripts/bench/overhead.py RUN

Reads what the run wrote about itself (`manifest.json`, `stages/*/stage.json`) and nothing else; no
clock runs here. A time that the run did not record is named, and stays in the row that contains it.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import common

AFTER = ("tables_s", "report_s")
"""Of the manifest: work after `total_s` was taken."""


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, help="run directory")
    parser.add_argument("--out", type=Path, help="write all figures there as JSON")
    return parser.parse_args()


def added(records: Iterable[dict[str, Any]], name: str) -> float:
    """Sum of a time over stages; 0 where it was not recorded."""
    return sum(record.get(name) or 0.0 for record in records)


def account(run: Path) -> dict[str, Any]:
    """Seconds by what they went into; rows without leading dots add up to `total`."""
    manifest = json.loads((run / "manifest.json").read_text())
    stages = {p.parent.name: json.loads(p.read_text()) for p in run.glob("stages/*/stage.json")}
    neurons = [s for name, s in stages.items() if name.endswith("-neurons")]
    pruned = [s for name, s in stages.items() if name.endswith("-pruned")]
    fitted = [s for name, s in stages.items() if not name.endswith(("-neurons", "-pruned"))]

    fit, evaluation = added(fitted, "wall_s"), added(fitted, "evaluation_s")
    seconds = {
        "training": fit - evaluation,
        "evaluation": evaluation + added(pruned, "wall_s"),
        "neuron statistics": added(neurons, "wall_s"),
    }
    after = {name: manifest[name] for name in AFTER if name in manifest}
    total = manifest["total_s"] + sum(after.values())
    continued = sum(seconds.values()) > total
    if continued:
        total = sum(seconds.values()) + sum(after.values())
    seconds["everything else"] = total - sum(seconds.values())
    details = {"prepare_s": manifest.get("prepare_s"), **after}
    return {
        "run": manifest["name"],
        "devices": manifest["devices"],
        "seconds": seconds,
        "details": {name: value for name, value in details.items() if value is not None},
        "total": total,
        "compile": manifest["compile_s"],
        "continued": continued,
        "notes": list(notes(manifest, fitted, pruned, continued)),
    }


def notes(manifest: dict, fitted: list, pruned: list, continued: bool) -> Iterable[str]:
    """What the run did not record, and what that does to the table."""
    if continued:
        yield (
            "the stages took longer than the last start of the run, which reused some of them: "
            "'everything else' is unknown, and compilation is that of the last start"
        )
    if not all("evaluation_s" in record for record in fitted):
        yield "stages without evaluation_s: their evaluations are counted as training"
    if not all("wall_s" in record for record in pruned):
        yield "pruned stages without wall_s: their evaluations are in everything else"
    absent = [name for name in AFTER if name not in manifest]
    if absent:
        yield f"manifest without {', '.join(absent)}: that work is missing from the total"


def main() -> None:
    args = parse()
    found = account(args.run)
    total, seconds = found["total"], found["seconds"]

    def line(name: str, value: float) -> list[str]:
        return [name, f"{value:.1f}", f"{100 * value / total:.1f} %"]

    rows = [line(name, value) for name, value in seconds.items()]
    rows += [line(f"... of it {name}", value) for name, value in found["details"].items()]
    rows.append(line("**all**", total))
    rows.append(line("compilation (within the rows above)", found["compile"]))
    print(f"{found['run']}: {total / 60:.1f} minutes on {', '.join(found['devices'])}\n")
    print(common.table(["", "seconds", "share"], rows), end="\n\n")

    least = total - seconds["training"]
    most = least + found["compile"]
    print(
        f"Not training: between {100 * least / total:.1f} % (what was compiled while training "
        f"counts as training) and {100 * most / total:.1f} % (all that was compiled was compiled "
        "while training, and does not count)."
    )
    for note in found["notes"]:
        print(f"Note: {note}.")
    common.write(args.out, found | {"not_training": [least / total, most / total]})


if __name__ == "__main__":
    main()
