# Everything runs in .venv, which each target makes if it is not there.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/ready

.PHONY: demo seeds bench test test-slow lint format clean

demo: $(READY)
	$(BIN)/tpo demo

seeds: $(READY)
	$(BIN)/tpo demo --output runs/seeds --seeds 0 1 2

bench: $(READY)
	$(BIN)/tpo bench

test: lint
	$(BIN)/python -m pytest

test-slow: $(READY)
	$(BIN)/python -m pytest -m slow

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

$(READY): setup.cfg setup.py pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --upgrade pip
	$(BIN)/python -m pip install -c constraints.txt torch torchvision
	$(BIN)/python -m pip install -c constraints.txt -e '.[test]'
	touch $@

clean:
	rm -rf .venv build *.egg-info .mypy_cache .pytest_cache .ruff_cache
