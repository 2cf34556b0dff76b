# Carrel's commands. Prerequisites: make and python3 (3.11 or newer). Everything else is installed into .venv, by hash.

PYTHON ?= python3
ARGS ?=
BIN := .venv/bin
PYTEST := $(BIN)/python -m pytest

.DEFAULT_GOAL := help
.PHONY: screenshots authorization help run test test-fast test-clients test-docs test-az test-cgroup2 fuzz recordings evidence check format lint types floors docs bench lock clean server dev

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' Makefile

run: server ## Install what is needed, start Carrel, run a hello-world through it and go on serving (ARGS="--port 0")
	@exec $(BIN)/carrel serve --hello $(ARGS)

test: dev ## Install what is needed and run all tests but those of the client packages, at every level (ARGS="-k name")
	$(PYTEST) -m "not clients" $(ARGS)

test-fast: dev ## The tests that need no server and no patience, in less than a minute
	$(PYTEST) -m "not clients and not server and not slow" $(ARGS)

test-clients: dev ## LangChain, LlamaIndex, Semantic Kernel and AutoGen, unmodified, against a real server
	$(PYTEST) -m clients $(ARGS)

test-az: dev ## The JavaScript tutorial and the how-to with the real azure-cli (1 GB in .cache, once), in some two minutes
	$(PYTEST) tests/az $(ARGS)

screenshots: dev ## Photograph every page of the console, at three widths in both themes, into out/screenshots
	$(BIN)/python tools/screenshots.py $(ARGS)

fuzz: dev ## schemathesis against a real server, by /openapi.json (ARGS="--minutes 10")
	$(PYTEST) tests/fuzz $(ARGS)

authorization: dev ## Call every route with every role and kind of token, and write docs/security/authorization.md
	CARREL_AUTHORIZATION=write $(PYTEST) tests/test_authorization_matrix.py

recordings: dev ## Call every route of a real server and write docs/reference/recordings
	CARREL_RECORDINGS=write $(PYTEST) tests/recordings

evidence: dev ## Run the attacks at every level and write docs/security/attacks.md (ARGS="--user NAME" for the other columns)
	$(PYTEST) tests/security --evidence $(ARGS)

test-cgroup2: dev ## Control groups version 2, in a guest of QEMU (Debian; some ten minutes; ARGS="as_root delegated")
	$(BIN)/python tests/cgroup2/run.py $(ARGS)

# One pytest run, so that its closing line and the check for what is left behind cover everything. The suites once more at levels
# gvisor and restricted, and five hundred hostile sessions, are in `make test`: together they take twice the time that CI has.
check: format lint types floors ## What CI runs: format, lint, types, floors, tests (docs and clients included, thorough ones not)
	$(PYTEST) -m "not thorough" $(ARGS)

format: dev
	$(BIN)/ruff format --check

lint: dev
	$(BIN)/ruff check

types: dev
	$(BIN)/mypy

floors: dev
	$(BIN)/lint-imports

docs: dev ## Build the documentation into out/docs, with pictures of the console where there is a browser; a warning is an error
	@test -d out/docs-screenshots || $(BIN)/python tools/screenshots.py --docs out/docs-screenshots \
	  || { rm -rf out/docs-screenshots; echo "docs: without pictures of the console"; }
	$(BIN)/python -m sphinx -q -W --keep-going -E -b html -c docs -d out/docs-trees . out/docs $(ARGS)

test-docs: dev ## The tests of the documentation alone
	$(PYTEST) tests/test_docs.py $(ARGS)

bench: dev ## Measure the budgets, each beside its floor; table and JSON in out/
	$(BIN)/python -m bench $(ARGS)

lock: dev ## Write requirements/*.lock anew (UPGRADE=--upgrade for newest versions)
	UPGRADE=$(UPGRADE) tools/lock.sh

clean: ## Remove what was installed and cached in the checkout
	rm -rf .venv .cache .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache dist out
	find src tests tools -name __pycache__ -prune -exec rm -rf {} +

server:
	@$(PYTHON) tools/bootstrap.py server

dev:
	@$(PYTHON) tools/bootstrap.py dev
