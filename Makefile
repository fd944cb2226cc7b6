# Two commands: `make quickstart` runs the main job, `make test` the tests. Each makes its own
# environment in .venv from requirements.lock; nothing else has to be installed but python3 and pip.

PYTHON ?= python3
VENV := .venv
CHECK := .venv-check
PIP := -m pip install --quiet --disable-pip-version-check --no-deps
# `make test ROOM=localize` runs the tests of one room.
ROOM ?=
# `make quickstart SETTINGS=--retrain.rounds=1` changes settings of its config.
SETTINGS ?=
# A file of tests runs in one process, so that its fixtures are made once.
TESTS := $(VENV)/bin/python -m pytest -n 2 --dist loadfile

.PHONY: quickstart test slow lint check clean

quickstart: $(VENV)/ready
	$(VENV)/bin/relearn run configs/quickstart.yaml $(SETTINGS)

test: $(VENV)/ready
	$(TESTS) tests/$(ROOM)

# Killed runs, several processes, whole runs, all variants of a law: minutes. The files differ too
# much in length for whole files to keep both processes at work, so tests move between them.
slow: $(VENV)/ready
	$(TESTS) --dist worksteal -m slow tests/$(ROOM)

lint: $(VENV)/ready
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .

# Live comparison with torch and NeuroX, which lie in a folder of their own.
check: $(CHECK)/ready
	PYTHONPATH=$(CHECK) $(TESTS) tests/oracles -rs

$(VENV)/ready: requirements.lock pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python $(PIP) -r requirements.lock
	$(VENV)/bin/python $(PIP) --editable .
	touch $@

$(CHECK)/ready: $(VENV)/ready requirements-check.lock
	$(VENV)/bin/python $(PIP) --upgrade --target $(CHECK) -r requirements-check.lock
	touch $@

clean:
	rm -rf $(VENV) $(CHECK) runs build *.egg-info .pytest_cache .ruff_cache
