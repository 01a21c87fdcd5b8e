# Everything a newcomer needs: `make demo`, `make test`, and `make help` for the rest.
.DEFAULT_GOAL := help
SHELL := /bin/bash

# The first Python that is new enough and really runs (a version manager's shim may be there without its Python).
PYTHON ?= $(shell for python in python3 python3.13 python3.12 python3.11 python3.14; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$python && break; done)
VENV ?= .venv
BIN := $(VENV)/bin
# Every package but torch is pinned; `make LOCK= ...` takes the newest that pyproject.toml allows.
LOCK ?= infra/constraints-dev.txt
# A CPU build of torch is pinned unless this machine has an NVIDIA driver.
CONSTRAINTS := $(if $(LOCK),-c $(LOCK)) $(if $(shell command -v nvidia-smi),,-c infra/constraints-cpu.txt)
DEMO_HOME ?= $(CURDIR)/tunemill-demo
export PIP_DISABLE_PIP_VERSION_CHECK = 1

.PHONY: help demo test test-unit chaos check arch bench schemas docs examples pictures lock clean

help:  ## List the targets.
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

$(VENV)/.python:
	@test -n "$(PYTHON)" || { echo "Tunemill needs Python 3.11 or newer; set PYTHON=/path/to/python3"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	@touch $@

# Two stages, each done again only when the list of dependencies changes; neither needs the network then.
$(VENV)/.worker: $(VENV)/.python pyproject.toml infra/constraints-cpu.txt $(LOCK)
	$(BIN)/pip install --quiet $(CONSTRAINTS) torch
	$(BIN)/pip install --quiet $(CONSTRAINTS) -e ".[worker]"
	@touch $@

$(VENV)/.dev: $(VENV)/.worker
	$(BIN)/pip install --quiet $(CONSTRAINTS) -e ".[dev]"
	@touch $@

demo: $(VENV)/.worker  ## Render six short tracks on this machine (noise, without trained weights), and show their cost.
	TUNEMILL_HOME=$(DEMO_HOME) $(BIN)/tunemill run demo
	@echo
	TUNEMILL_HOME=$(DEMO_HOME) $(BIN)/tunemill catalog list demo
	@echo
	TUNEMILL_HOME=$(DEMO_HOME) $(BIN)/tunemill costs report --catalog demo

# Many tests wait for processes: three at a time keep two cores busy.
test: $(VENV)/.dev  ## Run every test that this machine can run.
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 3 --dist worksteal

test-unit: $(VENV)/.dev  ## Run only the unit tests: under a minute of CPU.
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/unit -n 0 --hypothesis-profile quick

# ROUNDS and SEED choose how long and in which order: make chaos ROUNDS=50 SEED=7
chaos: $(VENV)/.dev  ## Kill processes in random order, longer than the tests do; print the seed.
	OMP_NUM_THREADS=1 TUNEMILL_CHAOS_ROUNDS=$(or $(ROUNDS),20) TUNEMILL_CHAOS_SEED=$(or $(SEED),1) $(BIN)/python -m pytest tests/chaos -n 0 -s

check: $(VENV)/.dev  ## Formatting, lint, types, import rules and current schemas.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/tunemill presets check --presets presets

arch: $(VENV)/.dev  ## Prove the import rules.
	$(BIN)/lint-imports

bench: $(VENV)/.dev  ## Measure speed and memory, as ratios taken side by side; BENCH="planner engine" runs only those.
	$(BIN)/python -m tests.bench $(BENCH)

schemas: $(VENV)/.dev  ## Write the JSON Schemas of the preset language for editors.
	$(BIN)/python -m orchestrator.matrix.schema

docs: $(VENV)/.dev  ## Write the reference pages (commands, settings, exit codes, metrics) and the drawing of the import layers.
	$(BIN)/python -m orchestrator.cli.reference
	$(BIN)/python -m tests.support.layers

examples: $(VENV)/.dev  ## Type the commands of docs/examples anew, and write what they print into the pages.
	$(BIN)/python -m tests.support.transcripts

pictures: $(VENV)/.dev  ## Make the picture of the cost page again (needs Chromium).
	$(BIN)/python -m tests.support.pictures

# To upgrade: make clean; make LOCK= test; make LOCK= lock. Local versions such as +cpu and addresses of files are left out.
lock: $(VENV)/.dev  ## Pin every package except torch to the version that is installed now.
	{ echo "# What the tests last passed with, by \`make lock\` on Python $$($(BIN)/python -c 'import platform; print(platform.python_version())')."; \
	echo "# Every pin has a wheel for Python 3.11 to 3.14 on Linux, or one for all; elsewhere, or later, \`make LOCK= ...\` does without."; \
	echo "# Not here: torch and what comes with its CUDA builds. constraints-cpu.txt pins it; a machine with CUDA keeps its own."; \
	$(BIN)/pip freeze --exclude-editable | sed -E '/ @ /d; /^(torch|triton|nvidia-[a-z0-9-]+|cuda-[a-z0-9-]+)==/d; s/\+[A-Za-z0-9.]+$$//'; \
	} > infra/constraints-dev.txt

clean:  ## Remove the virtual environment and the demo's output.
	rm -rf $(VENV) $(DEMO_HOME) .venv-control .mypy_cache .ruff_cache
