.DEFAULT_GOAL := help
.PHONY: help train test test-slow mutants bench bench-peers gpu-check dashboard docs configuration notebook pictures lint format clean

PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/installed
ARGS ?=

help: ## List the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "bvae needs Python 3.10 or newer, got " + sys.version.split()[0] + ": make PYTHON=python3.12")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --disable-pip-version-check --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $@

train: $(INSTALLED) ## Disentangle dSprites in minutes: experiment=quick, more with ARGS="seed=1"
	$(BIN)/python train.py experiment=quick $(ARGS)

test: $(INSTALLED) ## Run the tests
	$(BIN)/python -m pytest $(ARGS)

test-slow: $(INSTALLED) ## Run the tests that take minutes
	$(BIN)/python -m pytest -m slow $(ARGS)

mutants: $(INSTALLED) ## Put mistakes into the files that differ from main, and show those that no test notices
	$(BIN)/python tests/mutants.py $(ARGS)

bench: $(INSTALLED) ## Measure the speed beside a plain PyTorch loop
	$(BIN)/python benchmarks/speed.py $(ARGS)
	$(BIN)/python benchmarks/stages.py

gpu-check: $(INSTALLED) ## What only a GPU can show, in ten minutes: tests, speed, a run and its resume, models together
	PYTHON=$(BIN)/python benchmarks/gpu.sh

PEERS := pythae disent
pythae := pythae torch==2.13.0
disent := disent torch==2.14.1 torchvision==0.29.1
.venv-%/installed:
	$(PYTHON) -m venv .venv-$*
	.venv-$*/bin/python -m pip install --disable-pip-version-check --quiet $($*)
	@touch $@

bench-peers: $(INSTALLED) $(PEERS:%=.venv-%/installed) ## The same beside pythae and disent, each in its own environment
	$(BIN)/python benchmarks/speed.py --peers $(foreach p,$(PEERS),$p=$(abspath .venv-$p/bin/python)) $(ARGS)

dashboard: $(INSTALLED) ## Look at the runs in the terminal, in W&B's own viewer
	@test -d "$${WANDB_DIR:-.}/wandb" || { echo "There are no runs yet: make train"; exit 1; }
	$(BIN)/wandb leet "$${WANDB_DIR:-.}/wandb"

.venv-docs/installed: pyproject.toml docs/constraints.txt
	$(PYTHON) -m venv .venv-docs
	.venv-docs/bin/python -m pip install --disable-pip-version-check --quiet 'pip>=25.1'  # the first that knows groups
	.venv-docs/bin/python -m pip install --quiet --constraint docs/constraints.txt --group docs
	@touch $@

docs: .venv-docs/installed notebook ## Build the documentation: site/index.html
	.venv-docs/bin/python docs/build_site.py

configuration: $(INSTALLED) ## Write docs/configuration.md's tables anew from conf/
	$(BIN)/python docs/make_configuration.py

notebook: ## Write the tutorial as a notebook: docs/tutorial.ipynb
	$(PYTHON) docs/make_notebook.py

pictures: $(INSTALLED) ## Draw the tutorial's pictures anew; trains for some minutes first where outputs/tutorial is missing
	$(BIN)/python docs/make_pictures.py

lint: $(INSTALLED) ## Check the code's style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(INSTALLED) ## Mend the code's style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean: ## Remove the environment and caches; data and runs stay
	rm -rf .venv .venv-* .pytest_cache .ruff_cache .mypy_cache
