# Everything runs in .venv, which is made from the lock file on first use. It needs Python 3.11 or newer and make.
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

# The first interpreter on this machine that is at least 3.11 and can make virtual environments.
PYTHON ?= $(shell for p in python3.12 python3.11 python3 python3.13 python3.14; do \
	$$p -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 && { echo $$p; break; }; done)
BIN := .venv/bin
# Without bytecode files, each process would compile all modules that it imports, and each pytest all tests.
unexport PYTHONDONTWRITEBYTECODE
READY := .venv/.ready-$(shell cat requirements-dev.lock pyproject.toml editable_path_hook.py 2>/dev/null | cksum | tr ' ' -)

.PHONY: help run image sbom audit test check lint types imports format lock dashboards proofs bench agents hostile chaos soak lane drill mutation hooks clean
help: ## Show the targets
	@awk -F ':.*## ' '/^##@ / {printf "\n%s\n", substr($$0, 5)} /^[a-z]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(READY):
	@test -n "$(PYTHON)" || { echo "No Python 3.11 or newer with the venv module was found; install one, or name it: make PYTHON=/path/to/python3 $(MAKECMDGOALS)"; exit 1; }
	$(PYTHON) -m venv --clear .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

##@ Run
run: $(READY) ## Start the whole gateway on this machine (Ctrl-C stops all of it)
	@exec $(BIN)/flowbiz-platform dev $(ARGS)

image: ## Build the container image with buildah, podman or docker (ARGS="--base IMAGE --tag NAME")
	@deploy/image/build $(ARGS)

SBOM := dist/sbom.cdx.json
sbom: $(READY) ## Write the bill of materials of a release, CycloneDX, from requirements.lock (SBOM=FILE)
	@mkdir -p $(dir $(SBOM))
	$(BIN)/cyclonedx-py requirements --pyproject pyproject.toml --mc-type application --output-reproducible \
		--validate --of JSON --output-file $(SBOM) requirements.lock

##@ Check
check: lint types imports ## Run linter, format check, types and import rules; no tests

lint: $(READY) ## Run the linter and check the format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

# The files that are in no package.
LOOSE := .ci .github/scripts deploy/image editable_path_hook.py migrations
types: $(READY) ## Check types
	$(BIN)/mypy
	$(BIN)/mypy $(LOOSE)

imports: $(READY) ## Check the import rules
	$(BIN)/lint-imports

# Collecting the tests once compiles them for pytest. Otherwise each of its processes would compile all of them.
COMPILED := $(READY)-tests
$(COMPILED): $(READY)
	@$(BIN)/python -m pytest --collect-only -qq -n 0 -p no:cacheprovider >/dev/null 2>&1 || true  # the run itself reports errors
	@touch $@

# Four processes, each with its own servers; a file stays in one process. Many tests wait more than they compute, so there
# are more processes than cores. ARGS="-n 0" runs in one process, ARGS="-n 8" in more.
test: $(READY) ## Run check, then all tests except the proofs
	@$(MAKE) --no-print-directory -j2 check $(COMPILED)
	$(BIN)/python -m pytest -m "not proof" -n 4 --dist loadfile --no-loadscope-reorder $(ARGS)

# A proof starts many processes itself, so three run at a time.
proofs: $(READY) ## Run the proofs in short form: image, release, upgrades, drill, chaos, soak, frameworks, fuzzing
	$(BIN)/python -m pytest -m proof -n 3 --dist loadfile --no-loadscope-reorder $(ARGS)

# pip-audit reads the lock with its hashes as it is, and installs nothing of it. It has a separate environment, because it is
# no part of the product's tests.
audit: ## Look up known vulnerabilities of the locked packages (needs the network)
	$(PYTHON) -m venv --clear build/audit
	build/audit/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r .github/audit.lock
	build/audit/bin/pip-audit --strict --disable-pip --require-hashes -r requirements.lock $(ARGS)

agents: $(READY) ## Run the real Codex and Claude Code over each kind of route; write docs/agents.md (needs npm; minutes)
	$(BIN)/python -m tests.clients.agents $(ARGS)

hostile: $(READY) ## Send all hostile inputs in turn beside a legitimate client (ten minutes; ARGS="--seconds N")
	$(BIN)/python -m tests.attacks.soak $(ARGS)

chaos: $(READY) ## Break what two gateways need, under load; write the table of docs/resilience.md (five minutes; ARGS="disk-full")
	$(BIN)/python -m tests.chaos.outages $(ARGS)

soak: $(READY) ## Send ordinary traffic for half an hour and print what grows (ARGS="--seconds N --per-second N")
	$(BIN)/python -m tests.chaos.soak $(ARGS)

lane: $(READY) ## Release twice and roll back under load, behind a real nginx (a few minutes)
	LANE_WHOLE=1 $(BIN)/python -m pytest -n 0 -q tests/deploy/lane/test_release_under_load.py $(ARGS)

drill: $(READY) ## Break a staging gateway on purpose and see the alerts fire (a quarter of an hour; ARGS="redis-frozen")
	$(BIN)/python -m tests.drill $(ARGS)

mutation: $(READY) ## Put faults into the costly modules; tests must fail (ARGS="--module pricing --sample 20")
	$(BIN)/python -m tests.mutation $(ARGS)

##@ Change
format: $(READY) ## Format the code and fix what ruff can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

dashboards: $(READY) ## Write the Grafana dashboards from dashboards/source (ARGS="--runbooks URL --output FOLDER")
	$(BIN)/python -m dashboards.source $(ARGS)

hooks: $(READY) ## Run `make check` before each commit, with pre-commit
	$(BIN)/pre-commit install

lock: $(READY) ## Add what pyproject.toml names to the lock files (LOCK_ARGS=--upgrade renews every package)
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
		--no-annotate --no-header $(LOCK_ARGS) -o requirements.lock pyproject.toml
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
		--no-annotate --no-header $(LOCK_ARGS) -c requirements.lock --extra embedded --extra dev --no-emit-package flowbiz-ai-platform -o requirements-dev.lock pyproject.toml
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
		--no-annotate --no-header $(LOCK_ARGS) -c requirements-dev.lock -o deploy/image/build-requirements.lock deploy/image/build-requirements.in
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
		--no-annotate --no-header --upgrade -o .github/audit.lock .github/audit.in

##@ Measure
bench: $(READY) ## Compare the gateway with a bare pass-through (ratios; about two minutes)
	$(BIN)/python -m bench $(ARGS)

##@ Clean up
clean: ## Remove the virtual environment and the local data directory
	rm -rf .venv .data
