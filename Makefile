# On a fresh machine with python3 (3.11 or newer) and make:
#   make demo    trains a small U-Net on embedded data, measures it, predicts, draws
#   make test    runs the tests, but for the slow ones
#   make fuzz    gives 20,000 damaged files to every reader; 10 minutes on 2 cores
#   make plan    compiles for a TPU and a GPU that need not be there; minutes, 1 GB of compilers
#   make lint    formatting, style, types
#   make docs    the site, in docs/_build/html; the cells of its chapters run once and are kept
#   make clean   removes .venv; runs stay
# Another Python: make demo PYTHON=python3.12. Another preset: make demo PRESET=:smoke.

PYTHON ?= python3
BIN := .venv/bin
PRESET ?=
CONFIG := configs/unet_em.py$(PRESET)
DEMO ?= runs/demo$(subst :,_,$(PRESET))
WORKERS ?= auto
INPUTS ?= 20000
SEED ?= 0

.PHONY: demo test fuzz plan lint docs clean

demo: .venv/installed
	$(BIN)/segjax --config=$(CONFIG) --workdir=$(DEMO)
	$(BIN)/segjax evaluate --workdir=$(DEMO) --split=test --baseline
	$(BIN)/segjax prepare --config=$(CONFIG) --split=test --write_images=$(DEMO)/sections
	$(BIN)/segjax predict --workdir=$(DEMO) --input=$(DEMO)/sections/images --output=$(DEMO)/predicted --overlay
	@echo "Look at $(DEMO)/pictures and $(DEMO)/predicted."

test: .venv/tested
	$(BIN)/python -m pytest -n $(WORKERS) --maxprocesses=8 --dist=worksteal

fuzz: .venv/tested
	$(BIN)/python tests/fuzz/run.py --inputs=$(INPUTS) --seed=$(SEED)

plan: .venv/tested
	$(BIN)/python -m pip install --quiet --editable ".[plan-tpu,plan-gpu]"
	$(BIN)/python -m pytest -m plan tests/runs/test_plan.py

lint: .venv/tested
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

docs: .venv/documented
	$(BIN)/python -m sphinx -b html -c docs -d docs/_build/doctrees --fail-on-warning --keep-going . docs/_build/html
	$(BIN)/python docs/check_site.py docs/_build/html
	@echo "Open docs/_build/html/index.html."

# Each step leaves a file when it is done, so one that was interrupted is done again.
.venv/made:
	@command -v $(PYTHON) >/dev/null || { echo "There is no $(PYTHON): install Python 3.11 or newer, or name yours: make PYTHON=..."; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "$(PYTHON) is `$(PYTHON) --version`; segjax needs 3.11 or newer. Name one: make PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo "$(PYTHON) cannot make virtual environments: install the package python3-venv (Debian, Ubuntu: apt install python3-venv)."; exit 1; }
	$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear .venv
	@touch $@

.venv/installed: .venv/made requirements.txt pyproject.toml
	@echo "Installing segjax and what it needs, about 1 GB: some minutes."
	$(BIN)/python -m pip install --quiet --editable .
	@touch $@

.venv/tested: .venv/installed requirements-test.txt
	$(BIN)/python -m pip install --quiet -r requirements-test.txt
	@touch $@

.venv/documented: .venv/installed pyproject.toml
	$(BIN)/python -m pip install --quiet --editable ".[docs]"
	@touch $@

clean:
	rm -rf .venv
