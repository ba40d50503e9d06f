# make demo: the main job on the embedded prior, pictures and tables in out/demo
# make test: the fast tests     make test-all: the slow ones, too
# make test-quick: what tells at once that another Python or JAX computes something else, with the kernels that users get
# make test-floors: the same with the oldest versions that pyproject.toml allows
# make lint: ruff and mypy      make dist: the wheel and the sdist, checked      make clean: forget everything that was made
# make docs: the site in out/site (TUTORIALS=1 runs the tutorials, LOOK=1 opens every page in Chromium)     make pictures: those of the README
# PYTHON: the newest that is found and can make a virtual environment; newer ones bring a newer, faster JAX.
PYTHON ?= $(or $(shell for python in python3.13 python3.12 python3.11 python3; do \
	$$python -c 'import ensurepip, sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$python && break; done), \
	$(error there is no Python 3.11 or later: name one with PYTHON=))
VENV ?= .venv
BIN := $(VENV)/bin
DEMO_OUT ?= out/demo
DEMO_FLAGS ?=
JOBS ?= auto
TUTORIALS ?= 0
LOOK ?= 0
QUICK := tests/models/test_parity.py tests/models/test_convolution.py tests/samplers/test_reference.py tests/operators/test_goldens.py tests/test_runtime.py tests/test_memory.py
PYTEST := $(BIN)/python -m pytest -n $(JOBS)

.PHONY: demo test test-all test-quick test-floors lint docs pictures clean dist
.DELETE_ON_ERROR:

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip

$(VENV)/.demo: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --editable '.[demo]'
	touch $@

$(VENV)/.dev: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	touch $@ $(VENV)/.demo

$(VENV)/.docs: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --editable '.[docs]'
	touch $@

demo: $(VENV)/.demo
	$(BIN)/python -m jaxdiff reproduce --out $(DEMO_OUT) $(DEMO_FLAGS)

test: $(VENV)/.dev
	$(PYTEST) -m "not slow"

test-all: test
	$(PYTEST) -m slow

test-quick: $(VENV)/.dev
	JAXDIFF_FAST=on $(PYTEST) $(QUICK) -m "not slow"

test-floors: $(VENV)/.dev
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/uv venv --quiet --clear --python $(BIN)/python $(VENV)/floors
	$(BIN)/uv pip install --quiet --python $(VENV)/floors --resolution lowest-direct \
		--editable '.[demo,export,hub,train]' 'pytest>=8' 'pytest-xdist>=3.6' 'scipy>=1.13'
	$(VENV)/floors/bin/python -m pytest -n $(JOBS) $(QUICK) tests/training tests/test_export.py -m "not slow"

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: $(VENV)/.docs
	$(BIN)/python -m docs.site --out out/site $(if $(filter 1,$(TUTORIALS)),--tutorials) $(if $(filter 1,$(LOOK)),--look)

pictures: $(VENV)/.demo
	$(BIN)/python -m docs.pictures

# The wheel is made from the sdist, and runs in an environment of its own.
dist: $(VENV)/.dev
	rm -rf dist
	$(BIN)/python -m build
	$(BIN)/python -m pip install --quiet twine
	$(BIN)/python -m twine check --strict dist/*
	$(BIN)/python -m venv --clear $(VENV)/dist
	$(VENV)/dist/bin/python -m pip install --quiet dist/*.whl
	$(VENV)/dist/bin/jaxdiff doctor

clean:
	rm -rf $(VENV) out dist build *.egg-info .pytest_cache .ruff_cache .mypy_cache
