# make demo: figures found on a scanner the detector never saw.  make test, make check: what the CI runs.
PYTHON ?= python3
VENV := .venv
INSTALLED := $(VENV)/.installed
READY := $(VENV)/.ready
BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable

.PHONY: demo test check setup

setup: $(READY)

$(INSTALLED): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(INSTALL) .
	touch $@

$(READY): $(INSTALLED)  # with what the tests need, other runtimes among it
	$(INSTALL) '.[dev]'
	touch $@

demo: $(INSTALLED)
	$(BIN)/mitosight demo --out demo

test: $(READY)
	$(BIN)/python -m pytest

check: $(READY)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
