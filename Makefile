# The commands of this project. `make run` and `make test` set up all they need in .venv: nothing else is touched.
PORT ?= 8080
PODS ?= 1
DATA_DIR ?= .local
# The first interpreter that is new enough; PYTHON=… chooses another.
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check -qq install

.PHONY: run browser test test-browser test-image check format bench faults trial screenshot protos image lock clean rebuild

# Tied to this make, so that a run ends with it, however it ends.
run: $(VENV)/.run $(VENV)/.browser-tried
	@exec $(BIN)/python -I -S session_service/aiokit/child_launcher.py --parent $$PPID --death-signal 15 -- \
		$(BIN)/session-service local --port "$(PORT)" --pods "$(PODS)" --data-dir "$(DATA_DIR)"

# The page that pods serve (BROWSER_PAGE), once for each change of what it is built from.
browser: $(VENV)/.browser

# Acceptance and browser tests have the machine to themselves; the others share it. PYTEST_ARGS: one plain run.
test: $(VENV)/.dev
ifdef PYTEST_ARGS
	$(BIN)/python -m pytest $(PYTEST_ARGS)
else
	@$(MAKE) --no-print-directory test-browser
	@$(MAKE) --no-print-directory $(VENV)/.node-pg || echo "without pg for Node.js its test is skipped" >&2
	$(BIN)/python -m pytest -q -n 3 --dist loadfile --no-loadscope-reorder -m "not image" --ignore=tests/acceptance \
		--ignore=tests/browser
	$(BIN)/python -m pytest -q tests/acceptance tests/browser
endif

# Linters, types and tests of browser/, and its page for the tests in a real browser; skipped where there is no Node.js.
test-browser: $(VENV)/.dev
	@$(MAKE) --no-print-directory $(VENV)/.node || true
	$(BIN)/python scripts/browser.py test
	@$(MAKE) --no-print-directory $(VENV)/.browser-tried

# What goes into the image, installed from its lock alone, and the image itself where buildah is there.
test-image: $(VENV)/.dev
	$(BIN)/python -m pytest -q -rs -m image

check: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python scripts/generate_protos.py --check
	$(BIN)/python -m scripts.check_manifests

format: $(VENV)/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# One script per claim of docs/performance.md; each prints its comparators of the same run.
bench: $(VENV)/.bench
	$(BIN)/python -m benchmarks

# The fault tests at full length; `make test` runs the same ones with durations scaled down.
faults: $(VENV)/.dev
	FAULT_SCALE=1 $(BIN)/python -m pytest tests/acceptance tests/unit/websocket/test_stream_oracle.py $(PYTEST_ARGS)

# A hundred simulators on the fake cluster of tests/support, and a killed pod; docs/kubernetes-trial.md is its transcript.
trial: $(VENV)/.dev
	$(BIN)/python -m scripts.kubernetes_trial

# docs/images/page.svg, or SCREENSHOT=…, drawn by an installed Chromium from a local run in which somebody trades.
SCREENSHOT ?= docs/images/page.svg
screenshot: $(VENV)/.dev browser
	$(BIN)/python -m scripts.screenshot "$(SCREENSHOT)"

protos: $(VENV)/.dev
	$(BIN)/python scripts/generate_protos.py

# With the first of docker, podman and buildah that works. IMAGE names the result, PYTHON_IMAGE what it is built on.
IMAGE ?= session-service:$(shell sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)
PYTHON_IMAGE ?=
image:
	@for builder in docker podman buildah; do \
		$$builder info >/dev/null 2>&1 || continue; \
		exec $$builder build --file Dockerfile --tag "$(IMAGE)" $(if $(PYTHON_IMAGE),--build-arg PYTHON_IMAGE="$(PYTHON_IMAGE)") \
			--build-arg VERSION="$(lastword $(subst :, ,$(IMAGE)))" --build-arg REVISION="$$(git rev-parse HEAD 2>/dev/null)" .; \
	done; echo "none of docker, podman and buildah works here: the image cannot be built" >&2; exit 1

# Needs uv. The locks name packages and hashes, never where they come from.
LOCK = uv pip compile --universal --python-version 3.11 --generate-hashes --no-header --no-annotate --quiet pyproject.toml
lock:
	$(LOCK) --extra local --extra build --output-file requirements.lock
	$(LOCK) --extra local --extra build --extra dev --extra bench --output-file requirements-dev.lock
	$(LOCK) --extra build --constraint requirements.lock --output-file requirements-image.lock
	$(LOCK:pyproject.toml=) --group pyproject.toml:browser --output-file requirements-browser.lock

clean:
	rm -rf $(VENV) session_service/api/page browser/node_modules browser/*/node_modules build *.egg-info client/build client/*.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed, and none was found: set PYTHON=…" >&2; exit 2; }
	@echo "making $(VENV) with $$($(PYTHON) --version)" >&2
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); echo "the venv module does not work (Debian: apt install python3-venv)" >&2; exit 2; }

$(VENV)/.run: requirements.lock pyproject.toml client/pyproject.toml | $(BIN)/python
	@echo "installing what requirements.lock names" >&2
	@$(PIP) --require-hashes --only-binary :all: -r requirements.lock
	@$(PIP) --no-deps --no-build-isolation --editable . --editable client
	@touch $@

$(VENV)/.dev: requirements-dev.lock $(VENV)/.run
	@echo "installing what requirements-dev.lock names" >&2
	@$(PIP) --require-hashes --only-binary :all: -r requirements-dev.lock
	@touch $@

$(VENV)/.bench: $(VENV)/.dev
	@touch $@

# The client of PostgreSQL that a documented snippet for Node.js uses; only its test does.
NODE_PG := tests/integration/sandboxes/node
$(VENV)/.node-pg: $(NODE_PG)/package.json $(NODE_PG)/package-lock.json | $(BIN)/python
	@mkdir -p $(VENV)/node-pg && cp $(NODE_PG)/package.json $(NODE_PG)/package-lock.json $(VENV)/node-pg
	@cd $(VENV)/node-pg && PATH="$(abspath $(BIN)):$$PATH" npm ci --ignore-scripts --no-audit --no-fund --silent \
		--fetch-retries=1
	@touch $@

# Node.js of the package index where the system has none that is new enough.
$(VENV)/.node: requirements-browser.lock | $(BIN)/python
	@$(BIN)/python scripts/browser.py find >/dev/null || { \
		echo "installing Node.js, which requirements-browser.lock names" >&2; \
		$(PIP) --retries 1 --require-hashes --only-binary :all: -r requirements-browser.lock; }
	@touch $@

PAGE := session_service/api/page/index.html
# Folders too: they change when a file goes.
PAGE_SOURCES := scripts/browser.py browser/compress.mjs browser/package.json browser/package-lock.json \
	$(filter-out %/node_modules %/test, $(wildcard browser/library/src/* browser/page/* \
		$(foreach depth, * */* */*/*, browser/page/src/$(depth) browser/library/src/$(depth))))

$(VENV)/.browser: $(PAGE_SOURCES) $(if $(wildcard $(PAGE)),,rebuild) | $(VENV)/.node
	@$(BIN)/python scripts/browser.py build
	@touch $@ $(VENV)/.browser-tried

# Without it the system runs all the same, and says on its page what to do: so this is tried once, not at each start.
$(VENV)/.browser-tried: $(PAGE_SOURCES) | $(VENV)/.run
	@echo "building the page" >&2
	@$(MAKE) --no-print-directory $(VENV)/.browser >$(VENV)/browser.log 2>&1 \
		|| echo "the page could not be built ($(VENV)/browser.log says why): everything else runs, make browser tries again" >&2
	@touch $@
