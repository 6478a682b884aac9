# Everything that is done with this project. `make demo` and `make test` set up what they need by themselves.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

# Where the environment asks Python to write no bytecode, each of the many processes would compile all modules anew.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: help demo test bench soak fmt lint type unit contracts constraints clean
.DEFAULT_GOAL := help

help: ## List the targets
	@grep -E '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

demo: $(INSTALLED) ## Refresh the sample organisations end to end and write a report
	$(BIN)/kiket-worker demo

test: lint type ## Run every check and every test, on real services
	scripts/install-debian rabbitmq-server chromium prometheus
	$(BIN)/pytest -n 2 --dist loadfile --no-loadscope-reorder

bench: $(INSTALLED) ## Measure this machine against the targets, half an hour; build/bench.json has the figures
	scripts/install-debian rabbitmq-server
	$(BIN)/python -m benchmarks --output build/bench.json

soak: $(INSTALLED) ## Refresh 2,000 times, and try many random dbt projects; about half an hour; build/soak.json
	scripts/install-debian rabbitmq-server
	$(BIN)/python -m benchmarks soak --output build/soak.json
	KIKET_SOAK_EXAMPLES=60 $(BIN)/pytest --timeout 7200 tests/integration/test_replay_of_random_projects.py

unit: $(INSTALLED) ## Run the tests that need no service
	$(BIN)/pytest tests/unit

fmt: $(INSTALLED) ## Format the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

lint: $(INSTALLED) ## Check style
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

type: $(INSTALLED) ## Check types
	$(BIN)/mypy

contracts: $(INSTALLED) ## Write deploy/contracts, deploy/dashboards and docs/definition-rules.md from the code
	scripts/write-contracts $(BIN)/python
	$(BIN)/python scripts/write-dashboard

constraints: ## Pin the newest versions that fit pyproject.toml
	scripts/pin-constraints $(PYTHON)

clean: ## Remove what was built and installed here
	rm -rf $(VENV) build

$(INSTALLED): pyproject.toml constraints.txt scripts/install-python
	scripts/install-python $(PYTHON) $(VENV)
	touch $@
