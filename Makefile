# Two commands on a fresh machine with python3 (3.11 or newer) and make:
#   make demo   trains a small U-Net on embedded data, evaluates, predicts, draws
#   make test   runs all tests

PYTHON ?= python3
BIN := .venv/bin
DEMO := runs/demo

.PHONY: demo test lint clean

demo: .venv/installed
	$(BIN)/segjax --config=configs/unet_em.py --workdir=$(DEMO)
	$(BIN)/segjax evaluate --workdir=$(DEMO) --split=test --baseline
	$(BIN)/segjax prepare --config=configs/unet_em.py --split=test --export=$(DEMO)/sections
	$(BIN)/segjax predict --workdir=$(DEMO) --input=$(DEMO)/sections/images --output=$(DEMO)/predicted --overlay
	@echo "Look at $(DEMO)/pictures and $(DEMO)/predicted."

test: .venv/tested
	$(BIN)/python -m pytest -n 2

lint: .venv/tested
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

.venv/installed: requirements.txt pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --editable .
	touch $@

.venv/tested: .venv/installed requirements-test.txt
	$(BIN)/python -m pip install --quiet -r requirements-test.txt
	touch $@

clean:
	rm -rf .venv runs
