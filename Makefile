# make demo: the main job on the embedded prior, pictures and tables in out/demo
# make test: the tests          make lint: ruff and mypy          make clean: forget everything that was made
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
DEMO_OUT ?= out/demo
DEMO_FLAGS ?=
JOBS ?= auto

.PHONY: demo test lint clean wheel
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

demo: $(VENV)/.demo
	$(BIN)/python -m jaxdiff reproduce --out $(DEMO_OUT) $(DEMO_FLAGS)

test: $(VENV)/.dev
	$(BIN)/python -m pytest -n $(JOBS)

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

wheel: $(VENV)/.dev
	$(BIN)/python -m build --wheel

clean:
	rm -rf $(VENV) out dist build *.egg-info .pytest_cache .ruff_cache .mypy_cache
