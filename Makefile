# make demo: the main job on the embedded prior, pictures and tables in out/demo
# make test: the fast tests     make test-all: the slow ones, too
# make lint: ruff and mypy      make clean: forget everything that was made
# make docs: the site in out/site (TUTORIALS=1 runs the tutorials, too)     make pictures: those of the README
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
DEMO_OUT ?= out/demo
DEMO_FLAGS ?=
JOBS ?= auto
TUTORIALS ?= 0
PYTEST := $(BIN)/python -m pytest -n $(JOBS) --dist loadgroup

.PHONY: demo test test-all lint docs pictures clean wheel
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

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: $(VENV)/.docs
	$(BIN)/python -m docs.site --out out/site $(if $(filter 1,$(TUTORIALS)),--tutorials)

pictures: $(VENV)/.demo
	$(BIN)/python -m docs.pictures

wheel: $(VENV)/.dev
	$(BIN)/python -m build --wheel

clean:
	rm -rf $(VENV) out dist build *.egg-info .pytest_cache .ruff_cache .mypy_cache
