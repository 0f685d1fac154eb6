# make demo    set up, then optimise a DeBERTa-v2 and show what was found
# make test    set up, then run the tests
# make lint    ruff, mypy --strict, import-linter

PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready

.PHONY: demo test lint setup

demo: $(READY)
	@$(BIN)/python -m bench.demo

test: $(READY)
	$(BIN)/python -m pytest -q -n 2 --dist worksteal tests

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

setup: $(READY)

# torch comes first and pinned: an open range alone would fetch the CUDA build.
$(READY): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[models,dev]"
	touch $(READY)
