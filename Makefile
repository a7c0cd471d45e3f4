# Two commands do everything: `make paper` runs the main job, `make test` passes the tests.
.DEFAULT_GOAL := help
SHELL := /bin/bash
.PHONY: help setup paper quick test test-all check theory study ablations downstream figures pdf site release lock clean

PYTHON ?= python3
VENV ?= .venv
RUN := $(VENV)/bin/python
# TEX=none builds the figures and leaves the PDF out. Not ?=, since make has a TEX of its own.
ifeq ($(origin TEX),default)
TEX := auto
endif
# An extra pip index, for example https://download.pytorch.org/whl/cpu to get torch without CUDA. Unset: PyPI alone.
TORCH_INDEX ?=

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/make \1\t\2/' | expand -t 16

setup: $(VENV)/.installed $(VENV)/bin/bcd ## create .venv with the locked packages, the embedded model and the command bcd

$(VENV)/.installed: requirements.lock requirements.nodeps.lock
	@command -v git >/dev/null && command -v gcc >/dev/null && $(PYTHON) -c 'import os, sys, sysconfig, venv, ensurepip; \
	  sys.exit(sys.version_info < (3, 11) or not os.path.exists(sysconfig.get_path("include") + "/Python.h"))' 2>/dev/null || { \
	  echo "error: git, gcc and Python 3.11 or newer with venv and headers are needed; on Debian run:" \
	    "apt-get install -y git make gcc python3 python3-venv python3-dev" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX)) -r requirements.lock
	$(RUN) -m pip install --no-deps -r requirements.nodeps.lock
	@touch $@

# The command line of the clone, see cli/script.py.
$(VENV)/bin/bcd: $(VENV)/.installed cli/script.py
	@$(RUN) -m cli.script >/dev/null

# V=1 shows what the steps print, which else goes to outputs/paper.log alone.
V ?=

paper: export MAKE := $(MAKE)
paper: ## the main job: theory, quick study, figures, numbers and paper/build/paper.pdf
	@V='$(V)' runs/paper.sh

theory: setup ## verify the convergence bounds (quick tier), their algebra, worst cases, certificates, curves, adversary
	$(RUN) -m theory.symbolic
	$(RUN) -m theory.verify
	$(RUN) -m theory.worst_case
	$(RUN) -m theory.curves
	$(RUN) -m theory.adversary

study: setup ## train the methods of the quick study; finished runs are skipped
	$(RUN) -m experiments.train study=quick

# Folder with the files of the data sets (unset: the hub), and runs at the same time, about ten a GPU of 80 GB.
DATA ?=
WORKERS ?= 1

ablations: setup ## the studies of results/PLAN.md, for GPUs: DATA=folder of data sets, WORKERS=runs at a time
	RUN=$(RUN) DATA='$(DATA)' WORKERS=$(WORKERS) runs/ablations.sh

downstream: setup ## evaluate one seed of the headline before and after training; after the tuning of ablations
	RUN=$(RUN) DATA='$(DATA)' runs/downstream.sh

figures: setup ## figures, tables and numbers of the paper, from records
	$(RUN) -m paper.build

pdf:
	@TEX=$(TEX) paper/compile.sh

# A release of other files than those of the commit: DIRTY=1.
DIRTY ?=

site: setup ## the results as static pages and the API documentation: outputs/site/index.html
	$(RUN) -m pages.build

release: export MAKE := $(MAKE)
release: setup ## wheel, site, paper.pdf and their checksums in outputs/release, after the checks; DIRTY=1 with changes
	@RUN='$(RUN)' DIRTY='$(DIRTY)' runs/release.sh

PYTEST := OMP_NUM_THREADS=1 $(RUN) -m pytest -n auto --dist loadfile

quick: setup ## run the doctests and one case of every cheap test, in a minute
	$(PYTEST) --quick --durations=5 --durations-min=1

test: setup ## run the test suite but for its slow tests
	$(PYTEST) -m "not slow"

test-all: setup ## run the whole test suite
	$(PYTEST)

check: setup ## lint, format and type checks
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m pyright --pythonpath $(RUN)

lock: ## renew requirements.lock from the dependency groups of pyproject.toml
	rm -rf outputs/lock && $(PYTHON) -m venv outputs/lock
	outputs/lock/bin/pip install --quiet --upgrade pip
	outputs/lock/bin/pip install $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX)) --group dev
	{ echo "# Exact versions that make setup and CI install; renewed by make lock."; \
	  outputs/lock/bin/pip freeze --all | grep -v '^pip==' | sed 's/+cpu$$//'; } > requirements.lock
	rm -rf outputs/lock

clean: ## remove everything that was built or run (keeps .venv)
	rm -rf outputs paper/build .pytest_cache .ruff_cache
