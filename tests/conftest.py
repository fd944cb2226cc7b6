"""Fixtures of all tests, on eight simulated devices."""

from __future__ import annotations

import gc
import os
import sys
from importlib import metadata
from pathlib import Path

sys.path.append(str(Path(__file__).parent))

import cache

# Tests compile hundreds of tiny programs and run each for a moment.
FLAGS = ["--xla_backend_optimization_level=0"]
if metadata.version("jaxlib").startswith("0.10."):
    # The older emitters compile three times as fast, and a small program is not worth sharing out
    # to threads. Later versions end the process when they are asked for what they no longer have.
    FLAGS += ["--xla_cpu_use_fusion_emitters=false", "--xla_cpu_parallel_codegen_split_count=1"]
os.environ["XLA_FLAGS"] = " ".join([os.environ.get("XLA_FLAGS", ""), *FLAGS])
# Not for the processes that tests start: see `cache.leave_out_collectives`.
os.environ.pop("JAX_COMPILATION_CACHE_DIR", None)
os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")

import jax
import pytest

MAPPINGS = 40_000
"""Linux allows 65,530; one module of tests adds a few thousand."""

cache.leave_out_collectives()
jax.config.update("jax_compilation_cache_dir", str(cache.folder()))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
jax.config.update("jax_num_cpu_devices", 8)
# Traces are many small objects: looking for circles among them, and noting where each operation
# was called, takes an eighth of the time.
gc.set_threshold(200_000, 20, 100)
jax.config.update("jax_traceback_in_locations_limit", 0)


@pytest.fixture(scope="module", autouse=True)
def forget_programs():
    """Drop loaded programs before they exceed the memory mappings that a process may have."""
    yield
    maps = Path("/proc/self/maps")
    if not maps.exists() or maps.read_bytes().count(b"\n") > MAPPINGS:
        jax.clear_caches()


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real data and specifications beside the repository."""
    path = Path(__file__).resolve().parents[1] / "../shared"
    if not path.is_dir():
        pytest.skip("no shared folder beside the repository")
    return path


@pytest.fixture(scope="session")
def tagger(tmp_path_factory):
    """A tiny tagger: model, params, tokenizer, folder."""
    import tiny

    return tiny.make(tmp_path_factory.mktemp("tagger"))


def pytest_sessionfinish(session):
    """Once for all processes of the tests."""
    if not hasattr(session.config, "workerinput"):
        cache.prune()
