# The front door. `make` alone says what there is.
#
# Everything lives in .venv and build/, both ignored by git. A stamp in .venv says which lock file it
# was made from, so a second run starts at once and a changed lock or pyproject.toml installs anew.

VENV := .venv
BIN := $(VENV)/bin
RUNTIME := $(VENV)/.runtime
DEV := $(VENV)/.dev

# A Python that Freshet supports: the first of these, or the one that `make PYTHON=...` names.
PYTHON ?= $(shell for name in python3.13 python3.12 python3.11 python3 python; do \
	$$name -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' 2>/dev/null \
	&& { echo $$name; break; }; done)
# uv installs the lock in a tenth of pip's time; where it cannot (an index that only pip's settings
# name), pip does. Without dependencies: the locks name every package. Wheels alone, whose hashes stand
# in the lock: what an index serves is what was locked, and nothing is built that could run code of its own.
UV_VERSION := 0.13.9
PIP_FLAGS := -q --disable-pip-version-check --no-compile
LOCKED := --require-hashes --only-binary :all: -r
INTO := $(VENV)
define install
@$(BIN)/uv pip install -q --python $(INTO)/bin/python --no-deps $(1) \
	|| $(INTO)/bin/python -m pip install $(PIP_FLAGS) --no-deps $(1)
endef
COMPILE = $(BIN)/uv pip compile -q $(UPGRADE) --universal --python-version 3.11 \
	--fork-strategy fewest --generate-hashes --no-annotate --no-header
UPGRADE ?= --upgrade
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help demo test test-export lint quality regret bench memory recovery gpu chaos faults soak fuzz kafka local panels model audit sbom lock clean check-python
.DELETE_ON_ERROR:

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-7s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))
	@echo 'ARGS="..." goes on to the command, PYTHON=... names the Python to use.'

demo: $(RUNTIME) ## a shop to click in, with broker and worker: its page's address, its lists; Ctrl-C ends all
	@$(BIN)/freshet demo $(ARGS)

test: $(DEV) ## unit, integration and chaos tests, on the brokers that this machine can run
	@$(BIN)/python -m pytest $(ARGS)
	@$(if $(ARGS),,$(MAKE) -s test-export)

test-export: build/export/.made ## the tests of training, which need PyTorch (5 GB, once)
	@build/export/bin/python -m pytest $(if $(ARGS),$(ARGS),tests/training)

lint: $(DEV) ## format, lint and types
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy

quality: build/export/.made ## models on a public log, beside the published numbers; DATA=diginetica
	@build/export/bin/python -m tests.quality $(DATA) $(ARGS)

regret: $(DEV) ## what exploring costs and brings, on simulated shoppers: build/regret.json; ARGS="--seeds 5"
	@$(BIN)/python -m tests.regret $(ARGS)

bench: $(DEV) ## events per second and latency beside the peers'
	@$(BIN)/python -m tests.bench $(ARGS)

memory: $(DEV) ## what a million users take of memory, and whether it is too much; USERS=1000000
	@$(BIN)/python -m tests.bench.state $(if $(USERS),--users $(USERS)) $(ARGS)

recovery: $(DEV) ## how long a worker takes to take a million users over, state by state; USERS=1000000
	@$(BIN)/python -m tests.bench.recovery $(if $(USERS),--users $(USERS)) $(ARGS)

gpu: $(DEV) ## CUDA against NumPy, and how fast: build/gpu.json; ARGS="--cpu --items 20000" without one
	@$(BIN)/python -m tests.gpu $(ARGS)

chaos: $(DEV) ## faults of every kind on workers and their broker; KILLS=10 MINUTES=.. SEED=..
	@$(BIN)/python -m tests.chaos $(if $(KILLS),--kills $(KILLS)) $(if $(MINUTES),--minutes $(MINUTES)) \
		$(if $(SEED),--seed $(SEED)) $(ARGS)

soak: $(DEV) ## the engine at 70% of its peak, and what grows; MINUTES=60 SHARE=0.7
	@$(BIN)/python -m tests.soak $(if $(MINUTES),--minutes $(MINUTES)) $(if $(SHARE),--share $(SHARE)) $(ARGS)

RECORDS ?= 1000000
fuzz: $(DEV) ## hostile records on every input topic; RECORDS=1000000 SEED=...
	@$(BIN)/python -m tests.fuzz --records $(RECORDS) $(if $(SEED),--seed $(SEED)) $(ARGS)

kafka: $(RUNTIME) ## Apache Kafka on 127.0.0.1:9092 in the foreground (needs Java and Maven)
	@$(BIN)/python -m tests.support.kafka $(ARGS)

local: $(DEV) ## Kafka, topics and workers as the Compose file has them, without containers; ARGS="--workers 2"
	@$(BIN)/python -m deploy.local $(ARGS)

panels: $(DEV) ## the dashboards as pictures, with a Prometheus' data: build/dashboards/; ARGS="--minutes 5"
	@$(BIN)/python -m deploy.drawn --png build/dashboards $(ARGS)

model: $(RUNTIME) ## the take-over protocol searched by spin (Debian: spin, gcc); ARGS=--whole takes minutes
	@$(BIN)/python -m tests.model.spin $(ARGS)

faults: $(DEV) ## brokers, networks, clocks, topics that fail, with an absence of 60 s
	@AWAY_S=60 $(BIN)/python -m pytest tests/chaos/*faults_*.py --broker kafka -s $(ARGS)

audit: $(DEV) build/tools/.made ## known vulnerabilities of everything in the locks, and a table of them; ADVISORIES=FOLDER
	@$(BIN)/python -m tests.support.supply audit $(if $(ADVISORIES),'$(ADVISORIES)')

sbom: $(DEV) build/tools/.made build/runtime/.made ## what a worker is made of, with licences; jars, npm packages: build/sbom.json (CycloneDX)
	@$(BIN)/python -m tests.support.supply sbom

lock: | $(BIN)/python ## new requirements*.lock from pyproject.toml (UPGRADE= keeps the versions), for every Python
	@set -e; for lock in 'requirements.lock --extra=embedded' 'requirements-dev.lock --extra=dev' \
		'requirements-gpu.lock --extra=embedded --extra=gpu' \
		'requirements-export.lock --extra=dev --extra=export --extra=training-dev'; do \
		set -- $$lock; made=$$1; shift; \
		echo 'setuptools>=77' | $(COMPILE) pyproject.toml - "$$@" -o $$made; done; \
		echo 'uv==$(UV_VERSION)' | $(COMPILE) - -o requirements-uv.lock; \
		printf 'cyclonedx-bom>=7\npip-audit>=2.10\n' | $(COMPILE) - -o requirements-tools.lock

clean: ## remove everything that make made, the Kafka data included
	rm -rf $(VENV) build .pytest_cache .mypy_cache .ruff_cache .hypothesis *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

check-python:
	@test -n "$(PYTHON)" || { \
		echo 'error: no Python 3.11, 3.12 or 3.13 on the PATH.'; \
		echo 'Install one (Debian, Ubuntu: apt install python3 python3-venv; macOS: brew install python@3.13;'; \
		echo 'any system: https://www.python.org/downloads/), or name yours: make PYTHON=/path/to/python'; \
		exit 1; } >&2
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { \
		echo 'error: $(PYTHON) cannot make a virtual environment: venv or ensurepip is missing.'; \
		echo 'On Debian and Ubuntu: apt install python3-venv'; \
		exit 1; } >&2

$(BIN)/python:
	@$(MAKE) -s check-python
	@echo "Setting up $(VENV) with $$($(PYTHON) --version) (once, under a minute)"
	@$(PYTHON) -m venv --clear $(VENV)
	@$(BIN)/python -m pip install $(PIP_FLAGS) $(LOCKED) requirements-uv.lock || echo 'No uv here: pip it is.'

$(RUNTIME): requirements.lock pyproject.toml | $(BIN)/python
	$(call install,$(LOCKED) requirements.lock)
	$(call install,--no-build-isolation -e .)
	@touch $@

$(DEV): requirements-dev.lock pyproject.toml | $(BIN)/python
	$(call install,$(LOCKED) requirements-dev.lock)
	$(call install,--no-build-isolation -e .)
	@touch $@ $(RUNTIME)

# With PyTorch: 5 GB that nothing else needs. Compiled once here, and not by each process that imports it.
build/export/.made: INTO := build/export
build/export/.made: export UV_COMPILE_BYTECODE := 1
build/export/.made: requirements-export.lock pyproject.toml | $(BIN)/python
	@echo "Setting up build/export with PyTorch (once, minutes)"
	@$(BIN)/python -m venv --clear $(INTO)
	$(call install,$(LOCKED) requirements-export.lock)
	$(call install,--no-build-isolation -e .)
	@touch $@

# Environments of their own: the tools, and a worker's packages without those of development.
build/tools/.made: INTO := build/tools
build/tools/.made: requirements-tools.lock | $(BIN)/python
	@$(BIN)/python -m venv --clear $(INTO)
	$(call install,$(LOCKED) requirements-tools.lock)
	@touch $@

build/runtime/.made: INTO := build/runtime
build/runtime/.made: requirements.lock | $(BIN)/python
	@$(BIN)/python -m venv --clear $(INTO)
	$(call install,$(LOCKED) requirements.lock)
	@touch $@
