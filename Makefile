# Two commands: `make quickstart` runs the main job, `make test` the tests. Each makes its own
# environment in .venv from requirements.lock; nothing else has to be installed but python3 and pip.

PYTHON ?= python3
VENV := .venv
CHECK := .venv-check
PIP := -m pip install --quiet --disable-pip-version-check --no-deps

.PHONY: quickstart test slow lint check clean

quickstart: $(VENV)/ready
	$(VENV)/bin/relearn run configs/quickstart.yaml

test: $(VENV)/ready
	$(VENV)/bin/python -m pytest

# Killed runs, several processes: minutes of starting Python.
slow: $(VENV)/ready
	$(VENV)/bin/python -m pytest -m slow

lint: $(VENV)/ready
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .

# Live comparison with torch and NeuroX, in an environment of its own.
check: $(CHECK)/ready
	$(CHECK)/bin/python -m pytest tests/oracles -rs

$(VENV)/ready: requirements.lock pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python $(PIP) -r requirements.lock
	$(VENV)/bin/python $(PIP) --editable .
	touch $@

$(CHECK)/ready: requirements.lock requirements-check.lock pyproject.toml
	$(PYTHON) -m venv $(CHECK)
	$(CHECK)/bin/python $(PIP) -r requirements.lock -r requirements-check.lock
	$(CHECK)/bin/python $(PIP) --editable .
	touch $@

clean:
	rm -rf $(VENV) $(CHECK) runs build *.egg-info .pytest_cache .ruff_cache
