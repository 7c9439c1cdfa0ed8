# One verb a task. Each sets up what it needs: a virtual environment in .venv, once for each change of pyproject.toml or constraints.txt.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
PEERS  := .venv-peers
# What is never imported isn't compiled: half of an installation's time.
QUICKLY := --quiet --no-compile --constraint constraints.txt

.DEFAULT_GOAL := help
LINKS  := build/links/depth_loss_sweep

.PHONY: help setup demo test quick stress lint links bench clean

help: ## show this list
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

setup: $(READY) ## make the virtual environment

# opencv-python needs a few system libraries that servers often lack; its headless twin is the same module without them.
$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed: make PYTHON=python3.12 ..." >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install $(QUICKLY) torch
	$(BIN)/python -m pip install $(QUICKLY) --editable '.[dev]'
	@$(BIN)/python -c 'import cv2' 2>/dev/null || { \
	  $(BIN)/python -m pip uninstall --quiet --yes opencv-python; \
	  $(BIN)/python -m pip install $(QUICKLY) opencv-python-headless; }
	@touch $@

demo: $(READY) ## run a small real sweep on rendered rooms and write its report
	$(BIN)/sweep start demo
	$(BIN)/sweep report demo

# Types are checked beside the tests, some of which wait; a fault in them fails the whole all the same.
test: $(READY) links ## lint, type checks and all tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy & types=$$!; $(BIN)/python -m pytest -n 4 --dist loadfile --no-loadscope-reorder && wait $$types

quick: $(READY) ## the tests that take seconds
	$(BIN)/python -m pytest -n 2 --dist loadfile -m 'not slow'

stress: $(READY) ## kill studies, races and searches again and again at random instants, fail its database for minutes, and compare them with ones left alone
	SWEEP_STRESS_KILLS=50 SWEEP_STRESS_OUTAGE_S=60 $(BIN)/python -m pytest tests/sweep/test_stress.py tests/sweep/test_outage.py -s
	SWEEP_RACE_KILLS=7 $(BIN)/python -m pytest $(addprefix tests/sweep/test_,race.py finals.py halving.py coordinator.py) -k kill

# The tree that pyproject.toml's package-dir describes, in links, for mypy.
links:
	@rm -rf $(LINKS) && mkdir -p $(LINKS)
	@ln -s $(CURDIR)/sweep/* $(CURDIR)/data $(CURDIR)/model $(CURDIR)/reports $(LINKS)

lint: $(READY) links ## mend what ruff can mend, then check style and types
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/mypy

bench: $(READY) $(PEERS)/.ready ## measure speed beside other libraries (about an hour), into tests/benchmarks/RESULTS.md
	$(BIN)/python -m tests.benchmarks $(BENCH)

# The peers have an environment of their own: none of them is needed for anything else. torchvision's build for CUDA is kept
# from pulling a CUDA torch by installing what is listed, and nothing it asks for.
$(PEERS)/.ready: tests/benchmarks/peers-requirements.txt
	$(PYTHON) -m venv $(PEERS)
	$(PEERS)/bin/python -m pip install $(QUICKLY) torch
	$(PEERS)/bin/python -m pip install --quiet --no-compile --no-deps --requirement $<
	$(PEERS)/bin/python -m pip install --quiet --no-deps --editable .
	@touch $@

clean: ## remove the virtual environment and caches, never results
	rm -rf $(VENV) $(PEERS) .pytest_cache .mypy_cache .ruff_cache *.egg-info build dist
