# `make demo` and `make test` need Python 3.11 or newer, make and git, and nothing installed by hand: what they run with
# is installed into .venv from requirements/dev.txt, pinned and hashed. `make help` names the rest.

PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin

# The distributions of this repository, which the environment has as they stand.
PACKAGES := ./generated ./sdk/python ./sdk/python-contrib .

# The real process comes first: its files take longest, and begun last they would leave all cores but one idle in the end.
TESTS ?= tests/promises tests/acceptance tests/integration tests/unit tests/contracts sdk/python/tests tests/architecture

JOBS ?= auto
FUZZ ?= --fuzz-seconds=600
SOAK ?= --seconds=300

export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
.PHONY: help setup proto run demo test fuzz check bench soak lock clean

help: ## says what there is to do
	@awk 'BEGIN { FS = ":.*## " } /^[a-z]+:.*## / { printf "  make %-7s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

setup: $(VENV)/.ready ## installs what the project runs with into .venv; does nothing when nothing changed

proto: $(VENV)/.ready .venv-proto/.ready ## checks the protos, against the last release too, and generates Python, Go and TypeScript
	@cd proto && ../$(RUN)/buf lint && ../$(RUN)/buf format --write
	@PATH="$(CURDIR)/$(RUN):$$PATH" scripts/breaking.sh
	@.venv-proto/bin/python -m scripts.protos generate

run: $(VENV)/.ready ## starts a broker for development: HTTP on 9600, gRPC on 9601, loopback only
	$(RUN)/certes serve --dev

demo: $(VENV)/.ready ## shows the main job on real payloads, in under a minute, and proves it
	@$(RUN)/python scripts/demo.py

test: $(VENV)/.ready ## runs every test, on all cores; TESTS=tests/unit/domain runs some, JOBS=0 in one process
	$(RUN)/python -m pytest -n $(JOBS) --dist loadfile --max-worker-restart=2 $(TESTS)

fuzz: $(VENV)/.ready ## sends a broker whatever comes to mind, for 10 minutes; FUZZ="--fuzz-seconds=60 --fuzz-seed=1" for others
	$(RUN)/python -m pytest -q -x tests/fuzz $(FUZZ)

check: $(VENV)/.ready .venv-proto/.ready ## judges style, types, layers, protos, and that the generated code is fresh
	$(RUN)/ruff check
	$(RUN)/ruff format --check
	$(RUN)/mypy
	$(RUN)/lint-imports --no-cache --no-logo
	cd proto && ../$(RUN)/buf lint && ../$(RUN)/buf format --diff --exit-code
	PATH="$(CURDIR)/$(RUN):$$PATH" scripts/breaking.sh
	.venv-proto/bin/python -m scripts.protos check

bench: $(VENV)/.ready ## measures throughput and latency, prints a table with the machine
	@$(RUN)/python -m benchmarks

soak: $(VENV)/.ready ## sends webhooks for 5 minutes, a tenth to receivers that misbehave; SOAK="--seconds=30" for others
	@$(RUN)/python -m benchmarks.soak $(SOAK)

lock: ## renews requirements/*.txt; LOCK=--upgrade takes the newest of everything
	scripts/lock.sh $(LOCK)

clean: ## removes the environments and the caches
	rm -rf $(VENV) .venv-proto .venv-toolchains .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache

# An environment is ready when its stamp is newer than what it was made from. One that does not start (its Python is gone,
# or the folder has moved) is made anew.
$(VENV)/.ready: requirements/dev.txt $(addsuffix /pyproject.toml,$(PACKAGES))
	@PYTHON="$(PYTHON)" scripts/environment.sh $(VENV) requirements/dev.txt
	@$(RUN)/pip install --quiet --no-deps --no-build-isolation $(addprefix --editable ,$(PACKAGES))
	@touch $@

.venv-proto/.ready: requirements/proto.txt
	@PYTHON="$(PYTHON)" scripts/environment.sh .venv-proto requirements/proto.txt
	@touch $@
