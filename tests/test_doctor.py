"""`relearn doctor`: what it says of the machine, and of an accelerator that is not used."""

from __future__ import annotations

import importlib.metadata

import jax
import pytest

from relearn_jax import doctor


@pytest.fixture
def install(monkeypatch):
    """Makes packages look installed."""
    real = importlib.metadata.version

    def pretend(**packages: str) -> None:
        names = {name.replace("_", "-"): version for name, version in packages.items()}
        monkeypatch.setattr(
            importlib.metadata, "version", lambda name: names.get(name) or real(name)
        )

    return pretend


def test_counts_devices_and_processes(capsys, monkeypatch):
    monkeypatch.delenv("JAX_PLATFORMS", raising=False)
    doctor.report()
    said = capsys.readouterr().out
    assert "backend cpu; devices: 8, processes: 1\n" in said
    assert "8 x cpu\n" in said
    assert "no accelerator" in said


def test_a_plugin_that_jax_does_not_use_is_named(install, capsys, monkeypatch):
    monkeypatch.delenv("JAX_PLATFORMS", raising=False)
    install(jax_cuda13_plugin=importlib.metadata.version("jaxlib"))
    doctor.report()
    said = capsys.readouterr().out
    assert "jax-cuda13-plugin is installed, but JAX does not use it" in said
    assert "nvidia-smi" in said


def test_the_likeliest_cause_comes_first(install):
    install(jaxlib="0.10.2")
    same, other = {"jax-cuda13-plugin": "0.10.2"}, {"jax-cuda13-plugin": "0.9.0"}
    assert "unset" in doctor.hints("cpu", other, "cpu")[1]
    assert "must be the same" in doctor.hints("cpu", other, "")[1]
    assert "driver" in doctor.hints("cpu", same, "")[1]
    assert "TPU VM" in doctor.hints("cpu", {"libtpu": "0.0.42"}, "")[1]
    assert doctor.hints("gpu", same, "") == []


def test_memory_is_what_the_device_tells(monkeypatch):
    class Chip:
        device_kind = "TPU v5 lite"

        def memory_stats(self):
            return {"bytes_limit": int(15.75 * 2**30)}

    monkeypatch.setattr(jax, "local_devices", lambda: [Chip()] * 4)
    monkeypatch.setattr(jax, "default_backend", lambda: "tpu")
    backend, lines = doctor.devices()
    assert backend == "tpu"
    assert "4 x TPU v5 lite, 15.8 GiB for JAX" in lines


def test_no_backend_at_all_is_missing(monkeypatch, capsys):
    def fail():
        raise RuntimeError("Unable to initialize backend 'tpu'")

    monkeypatch.setattr(jax, "local_devices", fail)
    assert doctor.report() == 1
    assert "Unable to initialize backend 'tpu'" in capsys.readouterr().out
