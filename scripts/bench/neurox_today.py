"""NeuroX 1.0.9 on today's NumPy: one shim, and its side of `neurox.py`, which calls this.

Run with `python -P`, so that `import neurox` finds the package and not the script of that name.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import resource
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import transformers

# `interpretation.utils.create_tensors` names the alias that NumPy 1.24 removed.
np.int = int

from neurox.analysis import corpus  # noqa: E402
from neurox.data import loader  # noqa: E402
from neurox.data.extraction import transformers_extractor as extractor  # noqa: E402
from neurox.interpretation import probeless, utils  # noqa: E402

LONGEST = 512


@contextlib.contextmanager
def timed(seconds: dict[str, float], name: str) -> Iterator[None]:
    """Add to `seconds[name]` what the block takes."""
    began = time.perf_counter()
    yield
    seconds[name] = seconds.get(name, 0.0) + time.perf_counter() - began


def watch_model(seconds: dict[str, float], rss: list[int]) -> None:
    """Time what happens inside the model, and loading it. Nothing else of NeuroX is touched."""
    load = extractor.get_model_and_tokenizer

    def timed_load(*args: Any, **kwargs: Any) -> tuple[Any, Any]:
        with timed(seconds, "load"):
            model, tokenizer = load(*args, **kwargs)
        rss.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)

        def timed_model(ids: Any) -> Any:
            with timed(seconds, "model"):
                return model(ids)

        return timed_model, tokenizer

    extractor.get_model_and_tokenizer = timed_load


def measure(model: str, work: Path, target: str, kind: str, sample: int | None) -> dict[str, Any]:
    """Extraction, probeless order and top words, by NeuroX's own functions."""
    seconds: dict[str, float] = {}
    rss: list[int] = []
    stored = work / f"activations.{kind}"
    watch_model(seconds, rss)
    words, labels = str(work / "words.txt"), str(work / "labels.txt")
    with timed(seconds, "extraction"):
        extractor.extract_representations(
            model, words, str(stored), aggregation="average", output_type=kind
        )
        activations, _ = loader.load_activations(str(stored))
        tokens = loader.load_data(words, labels, activations, LONGEST)
    with timed(seconds, "probeless"):
        x, y, (index, *_) = utils.create_tensors(tokens, activations, "OTHER", binarized_tag=target)
        order = probeless.get_neuron_ordering_for_tag(x, y, index, target)
    neurons = np.arange(x.shape[1])
    if sample is not None and sample < len(neurons):
        neurons = np.sort(np.random.default_rng(0).choice(neurons, sample, replace=False))
    with timed(seconds, "top_words"):
        top = {int(n): corpus.get_top_words(tokens, activations, n, 5) for n in neurons}
    return {
        "seconds": seconds,
        "loaded_rss": rss[0],
        "neurons": x.shape[1],
        "sampled": len(neurons),
        "words": len(x),
        "stored_mb": stored.stat().st_size / 1024**2,
        "order": order,
        "top": {n: [word for word, _ in found] for n, found in top.items()},
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--target", required=True)
    parser.add_argument("--activations", required=True)
    parser.add_argument("--neurons-sample", type=int)
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    transformers.utils.logging.disable_progress_bar()
    # It prints six lines about every sentence; a terminal would be part of the measurement.
    with open(os.devnull, "w") as null, contextlib.redirect_stdout(null):
        found = measure(args.model, args.work, args.target, args.activations, args.neurons_sample)
    (args.work / "neurox.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main()
