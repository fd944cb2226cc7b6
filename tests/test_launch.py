"""Launch scripts: they parse, agree with themselves, and hand over what they were given."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

LAUNCH = Path(__file__).resolve().parents[1] / "scripts" / "launch"
SCRIPTS = sorted(p for p in LAUNCH.iterdir() if p.suffix in (".sh", ".sbatch"))
SETTINGS = ["--parallel.fsdp=4", "--arms=[concept, random]"]
TELL = '#!/bin/bash\nprintf "%s\\n" "$@" >"$OUT/$(basename "$0").$WORKER"\n'


@pytest.fixture
def machine(tmp_path):
    """A checkout whose `relearn`, and whose `bin/`, only write down their arguments."""
    checkout = tmp_path / "relearn_jax"
    shutil.copytree(LAUNCH, checkout / "scripts" / "launch")
    _program(checkout / ".venv" / "bin" / "relearn", TELL)
    return tmp_path


def _program(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)


def _run(machine: Path, script: str, *arguments: str, **environment: str) -> int:
    names = {"PATH": f"{machine}/bin:{os.environ['PATH']}", "OUT": str(machine), "WORKER": "0"}
    command = ["bash", f"relearn_jax/scripts/launch/{script}", *arguments]
    return subprocess.run(command, cwd=machine, env=names | environment, timeout=60).returncode


def _said(machine: Path, program: str, worker: int = 0) -> list[str]:
    return (machine / f"{program}.{worker}").read_text().splitlines()


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda p: p.name)
def test_scripts_parse(path):
    assert subprocess.run(["bash", "-n", path]).returncode == 0


def test_one_host_gets_its_arguments_word_by_word(machine):
    assert _run(machine, "tpu_vm.sh", "c.yaml", *SETTINGS, RUN="/mnt/my run") == 0
    assert _said(machine, "relearn") == ["run", "c.yaml", "--out=/mnt/my run", *SETTINGS]


def test_the_run_directory_must_be_said(machine):
    assert _run(machine, "tpu_vm.sh", "c.yaml") != 0
    assert not (machine / "relearn.0").exists()


def test_every_worker_of_a_slice_gets_the_same_command(machine):
    # gcloud, as far as the script uses it: the command in each of two workers' home folders.
    _program(
        machine / "bin" / "gcloud",
        '#!/bin/bash\nfor word; do case $word in --command=*) command=${word#*=};; esac; done\n'
        'for WORKER in 0 1; do export WORKER; mkdir -p "$OUT/home$WORKER"\n'
        'cd "$OUT/home$WORKER" && ln -s ../relearn_jax . && bash -c "$command"; done; wait\n',
    )  # fmt: skip
    names = {"TPU": "name", "ZONE": "zone", "RUN": "/mnt/my run"}
    assert _run(machine, "tpu_pod.sh", "start", "c.yaml", *SETTINGS, **names) == 0
    for worker in (0, 1):
        _wait(machine / f"relearn.{worker}")
        words = ["run", "c.yaml", *SETTINGS, "--out=/mnt/my run", "--distributed"]
        assert _said(machine, "relearn", worker) == words


def _wait(path: Path) -> None:
    subprocess.run(["timeout", "10", "bash", "-c", f"until [ -s {path} ]; do sleep 0.05; done"])


@pytest.mark.parametrize(("code", "again"), [(0, False), (1, False), (143, True)])
def test_slurm_queues_again_only_after_a_signal(machine, code, again):
    _program(machine / "bin" / "srun", f"{TELL}exit {code}\n")
    _program(machine / "bin" / "scontrol", TELL)
    names = {"RUN": "/shared/r", "SLURM_SUBMIT_DIR": str(machine), "SLURM_JOB_ID": "7"}
    assert _run(machine, "slurm.sbatch", "c.yaml", *SETTINGS, **names) == code
    words = [".venv/bin/relearn", "run", "c.yaml", "--out=/shared/r", "--distributed", *SETTINGS]
    assert _said(machine, "srun")[1:] == words
    assert (machine / "scontrol.0").exists() == again
    if again:
        assert _said(machine, "scontrol") == ["requeue", "7"]


def test_kubernetes_pods_find_each_other():
    service, job = yaml.safe_load_all((LAUNCH / "kubernetes.yaml").read_text())
    pod = job["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    names = {entry["name"]: entry.get("value") for entry in container["env"]}
    # Pod i of an Indexed Job is JOB-i.SUBDOMAIN where SUBDOMAIN is a headless service over the Job.
    host = f"{job['metadata']['name']}-0.{pod['subdomain']}"
    assert names["JAX_COORDINATOR_ADDRESS"].split(":")[0] == host
    assert pod["subdomain"] == service["metadata"]["name"]
    assert service["spec"]["selector"] == {"job-name": job["metadata"]["name"]}
    assert service["spec"]["clusterIP"] == "None"
    assert job["spec"]["completionMode"] == "Indexed"
    assert job["spec"]["completions"] == job["spec"]["parallelism"]
    assert int(names["JAX_NUM_PROCESSES"]) == job["spec"]["parallelism"]
    assert "--distributed" in container["command"]
