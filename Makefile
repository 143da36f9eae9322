# `make demo` trains, replays and verifies; `make test` runs every test; `make check` lints, types and layers;
# `make matrix` compares the bits of many environments, `make faults` tries the run store with every fault, `make fuzz`
# its readers with hostile bytes (ARGS=--help for each).

PYTHON ?= python3
BIN := .venv/bin
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint scripts/constraints.txt

.PHONY: demo test check bench matrix faults fuzz clean
.DELETE_ON_ERROR:

demo: .venv/run.stamp
	@PATH="$(CURDIR)/$(BIN):$$PATH" scripts/demo.sh

test: .venv/dev.stamp
	$(BIN)/python -m pytest --numprocesses $(shell nproc) --dist worksteal

check: .venv/dev.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

bench: .venv/dev.stamp
	$(BIN)/python scripts/bench/engine_overhead.py
	$(BIN)/python scripts/bench/portable.py
	$(BIN)/python scripts/bench/checkpoint.py

matrix: .venv/dev.stamp
	$(BIN)/python scripts/bit_matrix.py $(ARGS)

faults: .venv/dev.stamp
	$(BIN)/python scripts/fault_table.py $(ARGS)

fuzz: .venv/dev.stamp
	$(BIN)/python scripts/fuzz.py checkpoint $(ARGS)
	$(BIN)/python scripts/fuzz.py chronicle $(ARGS)

clean:
	rm -rf .venv runs

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "crh-train needs Python 3.11 or later: make PYTHON=python3.11")'
	@$(PYTHON) -m venv .venv

.venv/run.stamp: .venv/bin/python pyproject.toml scripts/constraints.txt
	@echo "installing crh-train into .venv (about a minute) …"
	@$(INSTALL) --editable .
	@touch $@

.venv/dev.stamp: .venv/run.stamp
	@$(INSTALL) --editable '.[dev]'
	@touch $@
