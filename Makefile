# Every command of the project. Each one installs what it needs and does nothing twice.
# All of it works without root; `make help` lists it.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory

# The first Python on the machine that is new enough; override with `make PYTHON=...`.
PYTHON ?= $(shell for python in python3 python3.13 python3.12 python3.11; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$python && break; done)

BIN := .venv/bin
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check --no-input
NPM := npm --no-audit --no-fund --no-update-notifier --loglevel=error
CHECKED := $(wildcard src tests benchmarks)
PAGE := src/chatkeep/web/static/index.html
WEB_SOURCES := $(shell find web -path web/node_modules -prune -o -type f -print 2>/dev/null) \
	$(shell find web/src web/public -type d 2>/dev/null)

.PHONY: help install serve test check bench bench-check fuzz races kills strangers requests lock clean

help: ## list these commands (the default)
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | awk -F'\t' '{ printf "  make %-11s %s\n", $$1, $$2 }'

install: .venv/.development $(PAGE) ## put everything needed to run, test and change it into .venv and web/
	@:

serve: .venv/.runtime $(PAGE) ## install what running needs, then run the server (ARGS="--port 9000")
	@exec $(BIN)/chatkeep serve $(ARGS)

test: .venv/.development $(PAGE) tests/clients/node_modules/.installed ## run all tests (ARGS="-k words")
	@scripts/apt-packages
	@scripts/with-node scripts/run-tests $(ARGS)

check: .venv/.development web/node_modules/.installed ## check layout, rules (docstrings among them) and types
	@$(BIN)/ruff format --quiet --check . || { echo "Run: $(BIN)/ruff format ." >&2; exit 1; }
	@$(BIN)/ruff check --quiet .
	@$(BIN)/mypy --no-error-summary $(CHECKED)
	@said=$$(scripts/with-node npm --prefix web run --silent check 2>&1) || { echo "$$said"; exit 1; }

bench: .venv/.development ## measure the hot paths (ARGS="name ...")
	@scripts/with-node $(BIN)/python -m benchmarks $(ARGS)

bench-check: .venv/.development ## measure, and fail where a ratio is a quarter worse than committed (ARGS=--quick)
	@scripts/with-node $(BIN)/python -m benchmarks.check $(ARGS)

fuzz: .venv/.development ## compare our verdicts on a million bent tokens with other verifiers' (ARGS="rounds seed")
	@$(BIN)/python -m tests.fuzz_tokens $(or $(ARGS),1000000)

races: .venv/.development ## race log-outs, a dying database and dying servers against refreshes, a thousand times each (ARGS="rounds")
	@RACES=$(or $(ARGS),1000) scripts/with-node $(BIN)/python -m pytest --timeout=3600 \
		tests/db/test_sessions.py tests/e2e/test_killed_refresh.py \
		-k "log_out_during_refresh or killed_connection or killed_between"

kills: .venv/.development tests/clients/node_modules/.installed ## kill the server in the middle of sending a thousand messages (ARGS="messages")
	@KILLS=$(or $(ARGS),1000) scripts/with-node $(BIN)/python -m pytest --timeout=14400 \
		tests/e2e/test_survival.py -k killed_at_any_point

strangers: .venv/.development ## let many people try each other's conversations, a million times (ARGS="steps")
	@STEPS=$(or $(ARGS),1000000) $(BIN)/python -m pytest --timeout=36000 tests/http/test_attacks_strangers.py

requests: .venv/.development ## send what the API's document allows and forbids, for longer (ARGS="examples")
	@EXAMPLES=$(or $(ARGS),200) $(BIN)/python -m pytest --timeout=36000 tests/http/test_openapi.py -k all_that_happens

lock: .venv/.development ## choose new versions of the dependencies and lock them with hashes
	@scripts/lock

clean: ## remove everything that was installed or built, and no data
	@rm -rf .venv build dist web/node_modules tests/clients/node_modules src/chatkeep/web/static
	@rm -rf .mypy_cache .pytest_cache .ruff_cache .hypothesis .schemathesis .coverage

# --- what the commands stand on -------------------------------------------------------------------

.venv/bin/python:
	@test -n "$(PYTHON)" || { echo "Chatkeep needs Python 3.11 or newer on the PATH." >&2; exit 1; }
	@echo "Making .venv with $$($(PYTHON) --version) ..."
	@$(PYTHON) -m venv .venv

.venv/.runtime: requirements.lock pyproject.toml | .venv/bin/python
	@echo "Installing the locked dependencies ..."
	@$(PIP) install --require-hashes --no-deps -r requirements.lock
	@$(PIP) install --no-build-isolation --no-deps --editable .
	@touch $@

.venv/.development: requirements-dev.lock .venv/.runtime
	@echo "Installing the locked tools for development ..."
	@$(PIP) install --no-compile --require-hashes --no-deps -r requirements-dev.lock
	@touch $@

web/node_modules/.installed: web/package.json web/package-lock.json | .venv/.runtime
	@echo "Installing what the web chat is built with ..."
	@cd web && ../scripts/with-node $(NPM) ci >/dev/null
	@touch $@

# Not beside the other: each would install Node where there is none.
tests/clients/node_modules/.installed: tests/clients/package.json tests/clients/package-lock.json \
		| .venv/.runtime web/node_modules/.installed
	@echo "Installing the clients that the tests speak with ..."
	@cd tests/clients && ../../scripts/with-node $(NPM) ci >/dev/null
	@touch $@

$(PAGE): $(WEB_SOURCES) web/node_modules/.installed
	@echo "Building the web chat ..."
	@cd web && ../scripts/with-node npm run --silent build -- --logLevel error
	@touch $@
