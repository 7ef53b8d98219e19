# Two commands, each doing all of its own set-up: `make demo` (`make demo-small` downloads less) and `make test`. `make help` lists the rest.
# Needs Python >= 3.11 and make. A second run starts at once; a changed pyproject.toml or constraints.txt reinstalls.
#
#   PYTHON=python3.12     which interpreter builds the virtual environment
#   WORKERS=4             how many processes run the tests, one core each
#   TORCH_INDEX=<url>     where pip finds the CPU build of torch, on machines for which it would bring the CUDA one
#                         (docs/quickstart.md, "A small torch")

PYTHON ?= python3
TORCH_INDEX ?=
BIN := .venv/bin
READY := .make/installed
PIP := $(BIN)/python -m pip --disable-pip-version-check
# Each test process takes about a gigabyte: torch and what else the tests import.
WORKERS ?= 2
CLIENTS := .make/clients
WEIGHTS := smollm2 minilm potion-8m

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo demo-small test clients lint format types docs clean distclean absent

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*## ' Makefile | awk -F ':.*## ' '{ printf "  make %-10s %s\n", $$1, $$2 }'

demo: $(READY)  ## distil a language model (1.1 GB) into a small student on real text; minutes, no key, no GPU
	@$(BIN)/potstill fetch qwen-1.5b minilm
	@$(BIN)/potstill fetch tweets --to demo/data/tweets
	@$(BIN)/potstill distill demo/potstill.toml -o runs/demo

demo-small: $(READY)  ## the same with a language model of 93 MB, which is fast and less often right
	@$(BIN)/potstill fetch smollm2 bge-small
	@$(BIN)/potstill fetch movies --to demo/data/movies
	@$(BIN)/potstill distill demo/small.toml -o runs/demo-small

test: $(READY)  ## lint, types, the documentation site and every test; ten to twenty minutes on two cores
	@$(MAKE) --no-print-directory -j 2 lint types docs
	@$(BIN)/potstill fetch $(WEIGHTS)
	@POTSTILL_REQUIRE_WEIGHTS=1 $(BIN)/python -m pytest -n $(WORKERS) --dist worksteal --durations=10

clients: $(READY)  ## tests with programs of others: transformers.js, and clients of TEI, Triton, KServe; 1.5 GB of packages
	@for name in python triton kserve; do test -d $(CLIENTS)/$$name || $(BIN)/python -m venv $(CLIENTS)/$$name; done
	@$(CLIENTS)/python/bin/pip install -q tei-client==0.2.4 "huggingface-hub>=2,<3" "schemathesis>=4,<5" prometheus-client
	@$(CLIENTS)/triton/bin/pip install -q "tritonclient[http]"
	@$(CLIENTS)/kserve/bin/pip install -q kserve
	@npm install --prefix $(CLIENTS) --ignore-scripts --no-audit --no-fund @huggingface/transformers@4.3.2
	@POTSTILL_CLIENTS=$(CLIENTS) $(BIN)/python -m pytest tests/clients

lint: $(READY)  ## ruff: rules and format
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

types: $(READY)  ## mypy, strict
	@$(BIN)/mypy

format: $(READY)  ## let ruff rewrite what it can
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

docs: $(READY)  ## build the documentation site into site/, strictly: a broken link is an error; some fifteen seconds
	@$(BIN)/zensical build --clean --strict
	@! grep -rl '```' site --include='*.html' || { echo "These pages show a code block as text: see zensical.toml."; false; }

clean:  ## remove what the tools left behind; runs, weights and the virtual environment stay
	rm -rf .make build dist site .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find potstill tests bench examples -name __pycache__ -type d -prune -exec rm -rf {} +

distclean: clean  ## clean, and remove the virtual environment too
	rm -rf .venv

# .venv was removed and the stamp is still there.
absent:

# torch goes first and alone: its version is fixed before anything that depends on it is looked at.
$(READY): pyproject.toml constraints.txt $(if $(wildcard $(BIN)/python),,absent)
	@command -v $(PYTHON) >/dev/null || { echo "There is no '$(PYTHON)' here. Install Python 3.11 or newer, or name one: make $(MAKECMDGOALS) PYTHON=python3.12"; exit 2; }
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(v < (3, 11) and "potstill needs Python 3.11 or newer and $(PYTHON) is %d.%d. Name a newer one: make $(MAKECMDGOALS) PYTHON=python3.12" % v[:2])'
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo "$(PYTHON) cannot build virtual environments. On Debian and Ubuntu: apt install python3-venv"; exit 2; }
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear .venv
	@echo "Installing into .venv (once; about 2 GB, most of it torch) ..."
	@$(PIP) install -qq -c constraints.txt $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX)) torch
	@$(PIP) install -qq -c constraints.txt -e '.[all,dev]'
	@mkdir -p .make && touch $@
