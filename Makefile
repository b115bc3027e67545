# mmdistill: everything starts from `make setup`, which every other target calls.
#   make setup [PYTHON=python3.12] [CUDA=1] [REPAIR=1]
#   make test  [PYTEST_ARGS="tests/test_core -x"] [TEST_JOBS=4]
SHELL := /bin/sh
PY := .venv/bin/python
BOOT := $(or $(PYTHON),python3)
SETUP_ARGS := $(if $(PYTHON),--explicit-python) $(if $(CUDA),--cuda $(CUDA)) \
  $(if $(REPAIR),--repair)
PYTEST_ARGS ?=
# one process per core, at most four: each takes up to 2 GB
TEST_JOBS ?= $(shell n=$$(nproc 2>/dev/null || echo 1); test $$n -lt 4 || n=4; echo $$n)

.DEFAULT_GOAL := help
.PHONY: help setup test lint format demo doctor clean

help: ## Lists the targets
	@grep -E '^[a-z]+:.*##' Makefile | sed 's/:[^#]*## */\t/' | expand -t 10

setup: ## Makes .venv with the tested matrix (PYTHON=..., CUDA=1, REPAIR=1); resumes where it was stopped
	@command -v $(BOOT) >/dev/null 2>&1 || { \
	  echo 'make setup: $(BOOT) is not installed; get it with: apt-get install python3 python3-venv' >&2; exit 2; }
	@$(BOOT) tools/setup_env.py $(SETUP_ARGS)

test: setup ## Runs all tests, side by side (PYTEST_ARGS=..., TEST_JOBS=...)
	@OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 $(PY) -m pytest -n $(TEST_JOBS) --dist loadfile $(PYTEST_ARGS)

lint: setup ## Style, format and docstring coverage
	@$(PY) -m ruff check .
	@$(PY) -m ruff format --check .
	@$(PY) -m interrogate -c pyproject.toml mmdistill tools projects/mmkd/mmkd projects/mmkd/benchmark projects/mmkd/tools

format: setup ## Formats the sources in place
	@$(PY) -m ruff check --fix-only -q .
	@$(PY) -m ruff format .

demo: setup ## Generates data, trains supervised and HSSDA, prints the table
	@$(PY) tools/demo.py $(DEMO_ARGS)

doctor: setup ## Versions, ops, devices, and how to mend what is wrong
	@$(PY) -m mmdistill.doctor

clean: ## Removes build products and caches, keeps .venv, data/ and work_dirs/
	@rm -rf build dist .pytest_cache .ruff_cache .hypothesis *.egg-info
	@find . -name __pycache__ -type d -not -path './.venv/*' -prune -exec rm -rf {} +
