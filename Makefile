# `make demo` and `make test` need only Python >= 3.11, pip and make: they create .venv, install and run.
VENV ?= .venv
BIN := $(VENV)/bin
DEMO ?= demo
WORKERS ?= 2
# An environment made for the tests serves the demo as well.
READY := $(firstword $(wildcard $(VENV)/.installed-dev) $(VENV)/.installed-all)

.PHONY: help demo test test-rivals check clean

help:  ## say what can be made
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*##/:/'

demo: $(READY)  ## simulate a slide and do the whole main job on it, down to a report (into demo/)
	$(BIN)/spatia demo -o $(DEMO)

test: $(VENV)/.installed-dev  ## all tests
	$(BIN)/python -m pytest -n $(WORKERS)

# What `make test` skips for want of the extras: tests of methods of others. An environment of its own, some 5 GB.
test-rivals: $(VENV)-rivals/.installed  ## the tests of the benchmark's rivals, with their packages
	$(VENV)-rivals/bin/python -m pytest -n $(WORKERS) tests/unit/bench tests/integration/test_bench.py

check: $(VENV)/.installed-dev  ## style, types, layers and the fast tests
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pytest -n $(WORKERS) -m "not slow"

clean:  ## remove the environment, the demo and the caches
	rm -rf $(VENV) $(VENV)-rivals $(DEMO) .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis

# Installed again only when what to install has changed.
$(VENV)/.installed-all: pyproject.toml constraints.txt .ci/install
	.ci/install $(VENV) all
	@touch $@

$(VENV)/.installed-dev: pyproject.toml constraints.txt .ci/install
	.ci/install $(VENV) all,bench,dev
	@touch $@

$(VENV)-rivals/.installed: pyproject.toml constraints.txt .ci/install
	.ci/install $(VENV)-rivals all,bench,dev,rivals,integration
	@touch $@
