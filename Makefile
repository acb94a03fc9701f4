# make install     a virtual environment in .venv with ddlight in it
# make quickstart  the same, then the first run: digits, ten images a class, one student
# make test        the same, then the tests (slow and GPU ones left out), in two processes: JOBS=8 for eight
PYTHON ?= python3
VENV ?= .venv
JOBS ?= 2
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: install quickstart test lint

install: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "ddlight needs Python 3.10 or newer: make PYTHON=python3.11 install")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet --editable . --constraint constraints.txt
	touch $@

$(VENV)/.dev: $(STAMP)
	$(BIN)/pip install --quiet --editable '.[dev]' --constraint constraints.txt
	touch $@

quickstart: install
	$(BIN)/ddlight fit --config configs/quickstart.yaml

test: $(VENV)/.dev
	$(BIN)/python -m pytest --numprocesses $(JOBS) --dist loadfile

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
