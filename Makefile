# Two commands do everything on a fresh machine: make demo, make test. GNU make >= 4, bash.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-builtin-rules

# PYTHON: the interpreter of .venv; EXTRAS: what is installed in it; ARGS: more arguments for the tool that a target runs.
export PYTHON ?= python3
export EXTRAS ?= rtl,quant,models,dev
ARGS ?=
# JOBS: processes of the tests
JOBS ?= auto

in_venv = source .venv/env.sh;
packages := hwsim rtl quant models

.PHONY: help setup demo test test-full proofs bench lint format pins clean distclean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-10s %s\n", $$1, $$2}' Makefile

setup: ## create or update .venv, make sure of g++ and a Verilog simulator
	@tools/setup.sh

demo: setup ## run the whole chain on SmolLM2 and print its table (out/demo)
	@$(in_venv) hwsim demo $(ARGS)

test: setup ## run the tests, without those marked slow or gpu
	@$(in_venv) python -m pytest -n $(JOBS) $(ARGS)

test-full: setup ## run all tests that a machine without accelerator can run
	@$(in_venv) python -m pytest -n $(JOBS) -m "not gpu" $(ARGS)

proofs: setup ## prove units in 1e8 vectors each and record it; goes on where it was broken off
	@$(in_venv) hwsim prove $(ARGS)

bench: setup ## time encoders, GEMMs on codes and simulations, as ratios to this machine (ARGS="gemm --quick")
	@$(in_venv) python tools/bench.py $(ARGS)

lint: setup ## check style, format and types
	@$(in_venv) status=0; for check in "ruff check ." "ruff format --check ." mypy; do $$check || status=1; done; exit $$status

format: setup ## rewrite the sources in the project's format
	@$(in_venv) ruff check --fix .; ruff format .

pins: setup ## resolve all extras anew and write constraints.txt
	@$(in_venv) python tools/pin.py

clean: ## remove build products, caches and out/
	rm -rf out build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find $(packages) tests tools -name __pycache__ -type d -prune -exec rm -rf {} +

distclean: clean ## clean, and remove .venv
	rm -rf .venv
