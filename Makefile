# Everything runs in .venv, made from the lock file on first use. Python 3.11+ and make are all it needs.
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

# The first interpreter here that is at least 3.11 and can make virtual environments.
PYTHON ?= $(shell for p in python3.12 python3.11 python3 python3.13 python3.14; do \
	$$p -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 && { echo $$p; break; }; done)
BIN := .venv/bin
READY := .venv/.ready-$(shell cat requirements-dev.lock pyproject.toml editable_path_hook.py 2>/dev/null | cksum | tr ' ' -)

.PHONY: help run test check format lock bench soak clean
help: ## Show what can be made
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

$(READY):
	@test -n "$(PYTHON)" || { echo "No Python 3.11 or newer with the venv module was found; install one, or name it: make PYTHON=/path/to/python3 $(MAKECMDGOALS)"; exit 1; }
	$(PYTHON) -m venv --clear .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

run: $(READY) ## Start the whole gateway on this machine (Ctrl-C stops all of it)
	@exec $(BIN)/flowbiz-platform dev $(ARGS)

# Four processes, each with servers of its own; a file stays in one. Many tests wait more than they work, so there are
# more processes than cores. ARGS="-n 0" runs without, ARGS="-n 8" with more.
test: check ## Run everything: linters, types, import rules and all tests
	$(BIN)/python -m pytest -n 4 --dist loadfile --no-loadscope-reorder $(ARGS)

check: $(READY) ## Linters, types and import rules only
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(READY) ## Format the code and fix what ruff can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

lock: $(READY) ## Rewrite both lock files from pyproject.toml (no host names in them)
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
		--no-annotate --no-header --upgrade $(LOCK_ARGS) -o requirements.lock pyproject.toml
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
		--no-annotate --no-header -c requirements.lock --extra embedded --extra dev --no-emit-package flowbiz-ai-platform -o requirements-dev.lock pyproject.toml

bench: $(READY) ## Compare the gateway with a bare pass-through (ratios; about two minutes)
	$(BIN)/python -m bench $(ARGS)

soak: $(READY) ## Send all hostile inputs in turn beside a legitimate client (ten minutes; ARGS="--seconds N")
	$(BIN)/python -m tests.attacks.soak $(ARGS)

clean: ## Remove the virtual environment and the local data directory
	rm -rf .venv .data
