"""Our side of `patching.py`, which calls this: the same grid, cold and warm."""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from pathlib import Path

os.environ.pop("JAX_COMPILATION_CACHE_DIR", None)  # or cold would not be cold

import jax
import numpy as np

from relearn_jax.localize import patching, questions
from relearn_jax.localize.questions import Question
from relearn_jax.models import checkpoint
from relearn_jax.models.inputs import Inputs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("work", type=Path)
    parser.add_argument("result", type=Path)
    parser.add_argument("--groups", type=int)
    parser.add_argument("--repeats", type=int)
    args, _ = parser.parse_known_args()
    opened = checkpoint.open_checkpoint(str(args.work / "model"))
    model = checkpoint.describe(opened, "language-model")
    params, _ = checkpoint.load(opened, model, jax.random.key(0))
    asked = np.load(args.work / "questions.npz")
    ids = {name: asked[name].astype(np.int32) for name in ("clean", "corrupt")}
    mask = np.ones(ids["clean"].shape, bool)
    last = np.full(len(mask), mask.shape[1] - 1, np.int32)
    question = Question(last, asked["words"].astype(np.int32), ids["clean"] != ids["corrupt"])
    clean, corrupt = (
        questions.run(model, params, Inputs(some, mask), question) for some in ids.values()
    )
    inputs = Inputs(ids["corrupt"], mask)

    def sweep(place: str) -> np.ndarray:
        runs = model, params, inputs, corrupt, clean, question
        if place == "heads":
            said = patching.by_head(*runs)
        else:
            said = patching.by_position(*runs, place, args.groups)
        return np.asarray(questions.difference(said))

    grids = {"corrupt": np.asarray(questions.difference(corrupt.answers))}
    cold, warm = {}, {}
    for place in ("states", "attention", "mlp_out", "heads"):
        times = []
        for _ in range(1 + args.repeats):
            began = time.perf_counter()
            grids[place] = sweep(place)
            times.append(time.perf_counter() - began)
        cold[place], warm[place] = times[0], statistics.median(times[1:])
    np.savez(args.work / "ours.npz", **grids)
    args.result.write_text(json.dumps({"cold": cold, "warm": warm}))


if __name__ == "__main__":
    main()
