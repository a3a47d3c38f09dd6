# The two commands of this project are `make demo` and `make test`; both set up by themselves what is missing.
# `make help` lists the rest.
.DEFAULT_GOAL := help
SHELL := /bin/bash
KEEP ?=
T ?=
FUZZ_SECONDS ?= 600

QUICK ?=
BENCH ?=
MIN ?= 30

.PHONY: help demo test test-long test-sanitize bench soak setup check format docs fuzz clean

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

demo: ## one key server, three members, encrypted traffic, a rekey without loss (KEEP=1 leaves it up)
	@scripts/setup demo
	@.venv/bin/python -m groupvpn.lab.demo $(if $(KEEP),--keep)

test: ## lint, types, layers, engine, unit, protocol, interop and end-to-end tests (T='-k word' passes options to pytest)
	@scripts/setup test
	@scripts/test $(T)

test-long: ## every transform in every form at every size up to 9000 octets against our reference (hours)
	@scripts/setup test
	@.venv/bin/python -m pytest -q -m long $(T)

test-sanitize: ## the engine as it is and under the sanitizers: its C++ tests (addresses, undefined behaviour, threads), tests/engine from Python
	@scripts/setup test
	@scripts/test-engine plain
	@scripts/test-engine address,undefined
	@scripts/test-engine thread
	@scripts/test-engine module

bench: ## speed beside wireguard-go, OpenVPN and strongSwan (QUICK=1: under two minutes; BENCH='--help' passes options)
	@scripts/setup bench
	@.venv/bin/python -m bench.run $(if $(QUICK),--quick) $(BENCH)

soak: ## mixed traffic for MIN minutes (30) while SAs roll over and links flap: nothing lost, nothing in clear, memory flat
	@scripts/setup demo
	@.venv/bin/python -m bench.soak --minutes $(MIN)

setup: ## only the set-up that the other commands do by themselves
	@scripts/setup test

check: ## the fast part of `make test`: lint, types, layers
	@.venv/bin/ruff check && .venv/bin/ruff format --check && .venv/bin/mypy && .venv/bin/lint-imports

format: ## format the Python sources
	@.venv/bin/ruff check --fix -q; .venv/bin/ruff format

docs: ## write the generated pages of docs/ anew
	@.venv/bin/python -m groupvpn.config.reference > docs/configuration.md

fuzz: ## each of the 15 fuzz targets, Python and engine, for FUZZ_SECONDS (600; 60 for a quick look); findings stay in build/
	@scripts/setup fuzz
	@scripts/fuzz $(FUZZ_SECONDS)

clean: ## remove what was built, keep the sources
	rm -rf .venv build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
