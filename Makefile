# softigb: `make demo` boots a Linux guest on the card, `make test` runs every test. Both set up what they need.
# Everything goes to .venv and to the cache folder (SOFTIGB_CACHE, by default ~/.cache/softigb); nothing is installed.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-fast bench fuzz lint format clean

help:
	@echo "make demo       boot a Linux guest on the card and try everything (about a minute)"
	@echo "make test       every test, those with QEMU included"
	@echo "make test-fast  the tests without QEMU"
	@echo "make bench      this card and QEMU's own igb in turn: throughput, packets, latency"
	@echo "make fuzz       long runs of hostile input (FUZZ_SECONDS=600)"
	@echo "make lint       ruff, mypy --strict, import contracts"

setup: $(STAMP)

$(STAMP): pyproject.toml .ci/venv
	@PYTHON="$(PYTHON)" sh .ci/venv $(VENV)
	@touch $@

demo: $(STAMP)
	$(BIN)/softigb boot

test: $(STAMP)
	$(BIN)/python -m pytest

test-fast: $(STAMP)
	$(BIN)/python -m pytest -m "not qemu"

bench: $(STAMP)
	$(BIN)/python tests/bench/bench_guest.py
	$(BIN)/python tests/bench/bench_server.py
	$(BIN)/python tests/bench/bench_card.py

FUZZ_SECONDS ?= 600
fuzz: $(STAMP)
	SOFTIGB_FUZZ_SECONDS=$(FUZZ_SECONDS) $(BIN)/python -m pytest -m fuzz --timeout=0 -o addopts="--import-mode=importlib"

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
