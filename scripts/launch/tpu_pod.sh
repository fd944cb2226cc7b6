#!/usr/bin/env bash
# A Cloud TPU slice of several hosts: the same command on every worker. Run it where gcloud works.
#
#   export TPU=NAME ZONE=ZONE RUN=/mnt/shared/runs/NAME
#   gcloud compute tpus tpu-vm create "$TPU" --zone="$ZONE" \
#     --accelerator-type=v5litepod-32 --version=v2-alpha-tpuv5-lite      # add --spot
#   bash scripts/launch/tpu_pod.sh install                     # this commit, to every worker
#   bash scripts/launch/tpu_pod.sh start CONFIG [--a.b=c ...]
#   bash scripts/launch/tpu_pod.sh log                         # of worker 0; Ctrl-C ends only this
#   bash scripts/launch/tpu_pod.sh stop                        # SIGTERM: saves a checkpoint, ends
#
# Edit nothing. RUN must be one folder for all workers: a shared file system (NFS), mounted on each
# of them. A mounted bucket will not do: it cannot rename a folder in one piece.
# PYTHON names the workers' Python, 3.11 or newer (sudo apt-get install python3.11-venv).
#
# Killed or preempted: one worker lost ends all within two minutes. Make the slice again, mount the
# same file system, `install`, and give the same `start`; it continues at the last checkpoint.
set -euo pipefail

: "${TPU:?name of the slice}" "${ZONE:?its zone}"
tpu_vm() { gcloud compute tpus tpu-vm "$@" --zone="$ZONE"; }
on() { tpu_vm ssh "$TPU" --worker="$1" --command="$2"; }

case ${1:-} in
  install)
    archive=$(mktemp -d)/relearn_jax.tar.gz
    git -C "$(dirname "${BASH_SOURCE[0]}")/../.." archive -o "$archive" HEAD
    tpu_vm scp "$archive" "$TPU": --worker=all
    on all "mkdir -p relearn_jax && tar -xzf relearn_jax.tar.gz -C relearn_jax &&
      PYTHON=$(printf %q "${PYTHON:-python3}") bash relearn_jax/scripts/launch/install.sh tpu"
    ;;
  start)
    : "${RUN:?the run directory, the same shared folder on every worker}" "${2:?the config to run}"
    words=$(printf '%q ' "${@:2}" --out="$RUN" --distributed)
    # A session of its own: a lost connection does not end the run.
    on all "if kill -0 \$(cat relearn.pid) 2>/dev/null; then echo 'stop it first'; exit 1; fi
      cd relearn_jax
      setsid .venv/bin/relearn run $words >>../relearn.log 2>&1 </dev/null &
      echo \$! >../relearn.pid"
    ;;
  log) on 0 'tail -n 50 -f relearn.log' ;;
  stop) on all "kill -TERM \$(cat relearn.pid)" ;;
  *) echo "say install, start, log or stop" >&2; exit 2 ;;
esac
