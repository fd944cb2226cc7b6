#!/usr/bin/env bash
# One Cloud TPU VM: all chips of one host (v5e or v6e, 1 to 8 chips). Run it on the VM.
#
#   1. Make the VM:   gcloud compute tpus tpu-vm create NAME --zone=ZONE \
#                       --accelerator-type=v5litepod-8 --version=v2-alpha-tpuv5-lite   # add --spot
#   2. On the VM, in a checkout of this repository, once:
#                     PYTHON=python3.11 bash scripts/launch/install.sh tpu
#   3. Run:           RUN=/mnt/disk/runs/NAME bash scripts/launch/tpu_vm.sh CONFIG [--a.b=c ...]
#
# Edit nothing. RUN is the run directory, on a disk that outlives the VM. CONFIG is relative to the
# repository. v6e: --accelerator-type=v6e-8 --version=v2-alpha-tpuv6e.
# The VM's own Python may be too old: sudo apt-get install python3.11-venv.
#
# Killed or preempted: make the VM again, mount the same disk, give the same command; the run
# continues at its last checkpoint. SIGTERM saves one first. Ctrl-C saves none and costs the steps
# since the last.
set -euo pipefail

: "${RUN:?the run directory, on a disk that outlives this VM}"
config=${1:?the config to run}
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
exec .venv/bin/relearn run "$config" --out="$RUN" "${@:2}"
