# Every target makes what it needs, the virtual environment included.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: setup demo test check integration bench help

$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,notebooks]'
	touch $@

setup: $(STAMP)  ## create .venv with pinned versions

demo: $(STAMP)  ## plant five stories, run the whole pipeline, print what it found
	$(BIN)/delegraph demo

test: $(STAMP)  ## run the tests; no network, no Java, no container
	$(BIN)/python -m pytest -q -n 2

check: $(STAMP)  ## lint, format, types, layers
	$(BIN)/ruff check && $(BIN)/ruff format --check && $(BIN)/mypy && $(BIN)/lint-imports

integration: $(STAMP)  ## run the slow tests, the whole road through a real Kafka, every rule on Spark (needs Java and Maven)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,notebooks,spark,emitters]'
	$(BIN)/python -m pytest -q -n 2 -m slow
	$(BIN)/python -m pytest -q -m integration

bench: $(STAMP)  ## measure, as ratios of one run
	$(BIN)/python -m benchmarks

help:  ## list the targets
	@sed -n 's/^\([a-z]*\):[^#]*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 14
