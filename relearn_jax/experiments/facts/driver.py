"""From a config of localization to a finished run directory."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import jax

from relearn_jax import runs, stopping
from relearn_jax.config import Localization
from relearn_jax.errors import Stopped, UserError
from relearn_jax.experiments import environment, memory
from relearn_jax.experiments.facts import localization, plan, setup, tables
from relearn_jax.experiments.facts.setup import Prepared
from relearn_jax.parallel import mesh as meshes


def run(
    config: Localization, base: Path, out: Path | None, dry: bool = False, reuse: bool = False
) -> Path | None:
    """Run a config whose relative paths start at `base`; the run directory, or None if dry."""
    if jax.process_count() > 1:
        raise UserError(
            "a localization runs in one process, on all its devices; leave out --distributed"
        )
    began, started = time.perf_counter(), environment.now()
    out = out or Path(config.out or f"runs/{config.name}")
    if dry:
        meshes.simulate(config.parallel)
    else:
        runs.check_run(out, config, reuse)
    prepared = setup.prepare(config, base)
    preparing = round(time.perf_counter() - began, 1)
    environment.say(setup.summary(prepared))
    if dry:
        environment.say("  planning     compiling what will run; minutes for a large model")
        environment.say(plan.summary(prepared, meshes.make(config.parallel, 1)))
        return None
    runs.open_run(out, config)
    if kept := len(list(out.glob("stages/*/stage.json"))):
        environment.say(f"  continues    {kept} finished stages, where they still hold")
    environment.say(f"  run          {out}\n")
    compiling = environment.listen()

    def facts() -> dict[str, Any]:
        return {
            "started": started, "finished": environment.now(),
            "total_s": round(time.perf_counter() - began, 1),
            "compile_s": round(sum(compiling), 1), "prepare_s": preparing,
            "versions": environment.versions(), "devices": environment.devices(),
        }  # fmt: skip

    try:
        with (
            stopping.on_termination() as stop,
            memory.reported(),
            environment.progress(localization.total(prepared)) as tick,
        ):

            def tick_or_stop(done: int, text: str) -> None:
                tick(done, text)
                if stop():
                    raise Stopped(f"stopped while {text}; the stages before are kept")

            localization.run(prepared, out, tick_or_stop)
    except (KeyboardInterrupt, UserError):
        if list(out.glob("stages/*-localized/stage.json")):
            _write(prepared, out, facts())
        raise
    page = _write(prepared, out, facts())
    print(f"\n{headline(out)}. Report: {page}", flush=True)
    return out


def _write(prepared: Prepared, out: Path, facts: dict[str, Any]) -> Path:
    from relearn_jax import report

    with runs.disk(out):
        tables.write(prepared, out)
        runs.write_json(out / "manifest.json", manifest(prepared, facts))
        return report.build(out)


def manifest(prepared: Prepared, facts: dict[str, Any]) -> dict[str, Any]:
    """What was run, on what, with what."""
    config, model = prepared.config, prepared.model
    pairs = prepared.pairs[config.seeds[0]]
    return facts | {
        "experiment": "localization",
        "name": config.name,
        "description": config.description,
        "seeds": list(config.seeds),
        "methods": list(config.localize.methods),
        "model": {
            "source": prepared.checkpoint.origin, "family": model.family.name,
            "layers": model.config.layers, "width": model.config.width,
            "heads": model.config.heads, "parameters": prepared.parameters,
            "sha256": prepared.weights_sha256,
        },
        "facts": {
            str(seed): {"source": data.source, "sha256": data.digest, "facts": len(data.facts)}
            for seed, data in prepared.facts.items()
        },
        "pairs": len(pairs.facts),
        "tokens": int(pairs.clean.ids.shape[1]),
        "corrupt": config.localize.corrupt,
        "planted": list(config.teaching.plant_layers),
    }  # fmt: skip


def headline(out: Path) -> str:
    """One line: whether the gates are passed, and which layers the methods choose."""
    import pandas as pd

    gates = pd.read_parquet(out / "tables" / "gates.parquet")
    chosen = pd.read_parquet(out / "tables" / "selections.parquet")
    parts = [f"{gates.passed.sum()} of {len(gates)} gates passed"] if len(gates) else []
    for method in ("probes", "patching_mlps", "attribution_path_mlps"):
        rows = chosen[(chosen.method == method) & (chosen.part == "mlp") & chosen.chosen]
        if len(rows):
            share = rows.groupby("layer").seed.nunique() / chosen.seed.nunique()
            layers = ", ".join(str(layer) for layer in share[share >= 0.5].index)
            parts.append(f"{method} chooses MLP {layers or 'of no layer twice'}")
    return "; ".join(parts)
