"""Errors on the command line: one clear sentence, in the first second, before any computing."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import jax
import pytest

from relearn_jax import cli
from relearn_jax.experiments.concepts import relearning


@pytest.fixture
def refuses(tmp_path, capsys, monkeypatch, tagger):
    """Runs a config that must be refused before training, and gives what was said."""
    monkeypatch.setattr(relearning, "run", lambda *a: pytest.fail("computing began"))

    def run(text: str, *options: str) -> str:
        config = tmp_path / "c.yaml"
        config.write_text(f"model: {{source: {tagger.folder}, max_length: 64}}\n{text}")
        assert cli.main(["run", str(config), "--out", str(tmp_path / "out"), *options]) == 2
        said = capsys.readouterr().err
        assert "Traceback" not in said
        return said

    return run


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("concepts: {target: LOK}", "LOC"),
        ("prune: {count: 100000}", "prune.count"),
        ("prune: {fraction: 0.001}", "mask selects nothing"),
        ("prune: {fraction: most}", "a number, not 'most', or auto"),
        ("dose: {fractions: [0.001]}\nprune: {fraction: auto}", "prunes no neuron"),
        ("prune: {fraction: auto}\nconcepts: {labels: words}", "concepts.labels: spans"),
        ("prune: {fraction: auto}\ndose: {fractions: []}", "dose.fractions, which is empty"),
        ("dose: {arms: [random]}", "must contain concept"),
        ("arms: [concept, oracle]\nconcepts: {labels: words}", "arms: oracle needs"),
        ("sets: {texts: [0]}", "at least 1"),
        ("sets: {texts: [100000]}", "100000 sentences with LOC"),
        ("retrain: {scored_steps: [0]}", "step 0 is always scored"),
        ("data: {train: {kind: conll, path: none.conll}}", "none.conll"),
        ("data: {evaluation: {split: train}}", "same text"),
        ("tracking: {vectors: none.txt}", "none.txt"),
        ("data: {train: {tag_map: {LOC: GPE}}}", "tag"),
    ],
)
def test_bad_settings(refuses, text, said):
    assert said in refuses(text)


def test_label_file_of_another_length_is_named_with_its_line(refuses, tmp_path):
    (tmp_path / "w.txt").write_text("In Paris .\nNo .\n")
    (tmp_path / "l.txt").write_text("N/A loc N/A\nN/A\n")
    source = "{kind: parallel, path: w.txt, labels_path: l.txt}"
    said = refuses(f"concepts: {{data: {source}, labels: words, target: loc, other: N/A}}")
    assert "l.txt" in said
    assert "line 2" in said or ":2" in said


def test_a_concept_that_covers_every_word(refuses, tmp_path):
    (tmp_path / "w.txt").write_text("Paris Rome\nOslo\n")
    (tmp_path / "l.txt").write_text("loc loc\nloc\n")
    source = "{kind: parallel, path: w.txt, labels_path: l.txt}"
    said = refuses(f"concepts: {{data: {source}, labels: words, target: loc, other: N/A}}")
    assert "every word" in said or "all" in said


def test_stray_words_are_refused(refuses):
    assert "not understood: --seeds 3" in refuses("", "--seeds", "3")


def test_a_dry_run_says_everything_and_writes_nothing(tmp_path, capsys, tagger):
    config = tmp_path / "c.yaml"
    config.write_text(f"model: {{source: {tagger.folder}, max_length: 64}}\nname: dry\n")
    assert cli.main(["run", str(config), "--dry-run", "--out", str(tmp_path / "out")]) == 0
    said = capsys.readouterr().err
    for word in ("sentences", "steps", "effective epochs", "to prune", "memory", "GiB"):
        assert word in said
    assert not (tmp_path / "out").exists()


def test_doctor_names_devices_and_versions(capsys):
    assert cli.main(["doctor"]) == 0
    said = capsys.readouterr().out
    assert "cpu" in said
    assert "jax 0." in said or "jax 1." in said


def test_reports_and_exports_of_nothing_are_refused(tmp_path, capsys):
    assert cli.main(["report", str(tmp_path)]) == 2
    assert cli.main(["export", str(tmp_path), "--stage", "base", "--to", str(tmp_path / "x")]) == 2
    assert "no run" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({"JAX_PROCESS_ID": "first"}, "JAX_PROCESS_ID = 'first': should be a whole number"),
        ({"JAX_NUM_PROCESSES": "-2"}, "JAX_NUM_PROCESSES = '-2': should be a whole number"),
        ({"JAX_PROCESS_ID": "2", "JAX_NUM_PROCESSES": "2"}, "counted from 0"),
        ({"JAX_COORDINATOR_ADDRESS": "here"}, "should be host:port"),
    ],
)
def test_processes_that_are_told_nonsense(refuses, monkeypatch, environment, said):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert said in refuses("", "--distributed")


@pytest.mark.parametrize(("devices", "kept"), [(1, True), (8, False)])
def test_programs_of_several_cpu_devices_are_not_kept(monkeypatch, devices, kept):
    settings = {}
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR", raising=False)
    monkeypatch.setattr(jax, "local_device_count", lambda: devices)
    monkeypatch.setattr(jax.config, "update", settings.__setitem__)
    cli._keep_programs()
    assert ("jax_compilation_cache_dir" in settings) == kept


def test_dose_is_refused_for_a_localization_and_has_a_folder_of_its_own(
    tmp_path, capsys, monkeypatch
):
    from relearn_jax.experiments import driver

    facts = Path(__file__).resolve().parents[1] / "configs" / "facts_world_localize.yaml"
    assert cli.main(["dose", str(facts)]) == 2
    assert "facts_world_localize is a localization" in capsys.readouterr().err
    (tmp_path / "c.yaml").write_text("name: words\nexpected_minutes: 6")
    seen = []
    monkeypatch.setattr(driver, "run", lambda config, base, out, *_: seen.append((config, out)))
    assert cli.main(["dose", str(tmp_path / "c.yaml"), "--retrain.epochs=5"]) == 0
    assert cli.main(["run", str(tmp_path / "c.yaml")]) == 0
    (dose, dose_out), (whole, out) = seen
    assert (dose.retrain.rounds, dose.retrain.epochs, dose.expected_minutes) == (0, 5, None)
    assert (str(dose_out), str(out)) == ("runs/words-dose", "runs/words")
    assert whole.retrain.rounds == 4


@pytest.mark.parametrize("command", ["run c.yaml --out", "report", "export r --stage=base --to"])
def test_addresses_of_buckets_are_refused_at_once(command, capsys):
    assert cli.main([*command.split(), "gs://bucket/run"]) == 2
    said = capsys.readouterr().err
    assert "gs://bucket/run is an address" in said
    assert "Mount the bucket" in said


def test_a_tilde_is_the_home_folder(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cli.local_path("~/runs/a b") == tmp_path / "runs/a b"
    assert cli.main(["report", "~/no run"]) == 2
    assert str(tmp_path / "no run") in capsys.readouterr().err


def test_a_user_without_a_home_has_no_cache(monkeypatch):
    def unknown():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", unknown)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert cli._cache_folder() is None
    monkeypatch.setenv("XDG_CACHE_HOME", "/cache")
    assert cli._cache_folder() == Path("/cache")


def test_an_absent_platform_is_one_sentence(tmp_path):
    """In a process of its own, as a backend is chosen once."""
    (tmp_path / "c.yaml").write_text("name: x\n")
    ended = subprocess.run(
        [sys.executable, "-m", "relearn_jax", "run", "c.yaml", "--dry-run"],
        cwd=tmp_path, env={**os.environ, "JAX_PLATFORMS": "cuda"}, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert ended.returncode == 2
    assert "Traceback" not in ended.stderr
    assert "JAX_PLATFORMS=cuda is set; unset it" in ended.stderr
