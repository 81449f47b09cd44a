# Fresh machine with python3, pip and make: `make demo` runs the main job, `make test` the tests.
# Both make a virtual environment in .venv first; PYTHON names another interpreter (3.11 or newer), VENV another
# folder, TESTS options of pytest, such as TESTS="-k noise".

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
WORKERS ?= 2
TESTS ?=

.PHONY: demo test lint format types fly notebooks docs clean help

help:
	@echo "make demo   set up and run the whole method on a simulated embryo (writes demo/)"
	@echo "make test   set up and run the tests"
	@echo "make lint   ruff and mypy"
	@echo "make notebooks   run the notebooks and write them with their outputs"
	@echo "make docs   the site, with warnings as errors (writes build/docs/html)"
	@echo "make fly    the real fly embryo (DATA=folder of the data; writes experiments/fly/results)"

# The groups of pyproject.toml need pip 25.1; an older pip is replaced inside .venv only.
$(VENV)/.ready: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"
	$(BIN)/python -m pip install --quiet --group dev --editable .
	touch $@

demo: $(VENV)/.ready
	$(BIN)/perler-jax demo --out demo

test: $(VENV)/.ready
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal $(TESTS)

lint: $(VENV)/.ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

types: $(VENV)/.ready
	$(BIN)/mypy

format: $(VENV)/.ready
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

fly: $(VENV)/.ready
	$(BIN)/python -m experiments.fly $(if $(DATA),--data $(DATA))

notebooks: $(VENV)/.ready
	$(BIN)/python -m pip install --quiet --group notebooks
	$(BIN)/python notebooks/render.py

docs: $(VENV)/.ready
	$(BIN)/python -m pip install --quiet --group docs
	$(BIN)/python -m sphinx --quiet --fail-on-warning --keep-going --builder html docs build/docs/html
	@echo "the site: build/docs/html/index.html"

clean:
	rm -rf .venv .venv-newest .venv-lowest build docs/generated docs/reference/api demo .pytest_cache .mypy_cache .ruff_cache
