# make demo [ARGS="--no-browser --port 18080"]   cameras and a rover to drive, in a browser
# make test                                      everything that CI checks
# make soak [ARGS="--minutes 120 --seed 1"]      an agent under faults for two hours, by hand or at night; needs root
# make test-vm                                   drivers on a kernel of their own, in QEMU; installing under a running systemd
# sudo make install [ARGS="--config edgeagent.yaml"]   the agent as a service on this system; again: an upgrade
# make check | bench | lock | generate | clean   the static part of it; measurements; new locks; generated files; a clean tree
#
# Each target first makes what it needs: .venv from the hashed locks, node_modules, and, as root, Debian's packages
# (as another user it prints the command to type). `make PYTHON=python3.12 …` takes another interpreter.

SHELL := /bin/bash
.DEFAULT_GOAL := test
export PYTHON ?= python3
# Agents start faster with their bytecode kept.
export PYTHONDONTWRITEBYTECODE :=
ARGS ?=
BIN := .venv/bin
WEB_TESTS = $(shell find tests/web -name '*.test.js' -not -path '*/node_modules/*' 2>/dev/null | sort)

DEMO_PACKAGES := python3-venv
TEST_PACKAGES := python3-venv certbot pebble chromium ffmpeg firefox-esr fonts-dejavu-core golang iproute2 mmdebstrap mosquitto mosquitto-clients nodejs npm coturn faketime systemd \
	gir1.2-gst-rtsp-server-1.0 python3-gi gstreamer1.0-plugins-base gstreamer1.0-plugins-good dbus-daemon librsvg2-bin poppler-utils
VM_PACKAGES := python3-venv kmod mmdebstrap qemu-system-x86 virtiofsd xz-utils

.PHONY: demo install test test-vm check static bench soak lock generate clean run-env dev-env packages

demo: run-env
	@$(BIN)/edgeagent demo $(ARGS)

# pytest comes last: its closing line is the result. Two processes, a file at a time: with a third one
# tests of pictures and drives, which want a processor in time, failed now and then.
test: packages static
	$(BIN)/pytest -n 2 --dist loadfile --no-loadscope-reorder $(ARGS)

check: static
	$(BIN)/pytest -q tests/test_architecture.py

static: dev-env node_modules/.stamp
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	node_modules/.bin/tsc --noEmit --project tsconfig.json
	$(if $(WEB_TESTS),node --test $(WEB_TESTS),@echo "no tests of the page")

bench: packages dev-env
	$(BIN)/python -m tests.bench $(ARGS)

soak: packages dev-env
	$(BIN)/python -m tests.soak $(ARGS)

# Drivers on a real kernel with devices made of software, in QEMU: some minutes, the first time some more.
test-vm: dev-env
	@scripts/ensure-packages.sh $(VM_PACKAGES)
	$(BIN)/pytest tests/vm -m vm $(ARGS)

# Our own wheel from here, the rest from the package index by the hashes of the lock.
install: run-env
	$(BIN)/edgeagent provision wheelhouse --index-only --out build/wheelhouse
	$(BIN)/edgeagent install --wheelhouse build/wheelhouse --index $(ARGS)

run-env:
	@scripts/ensure-packages.sh $(DEMO_PACKAGES)
	@scripts/ensure-venv.sh run "$(PYTHON)"

dev-env:
	@scripts/ensure-packages.sh python3-venv
	@scripts/ensure-venv.sh dev "$(PYTHON)"

packages:
	@scripts/ensure-packages.sh $(TEST_PACKAGES)

node_modules/.stamp: package-lock.json
	@scripts/ensure-packages.sh nodejs npm
	npm ci --no-audit --no-fund --loglevel=error
	@touch $@

# The run lock is made under the constraints of the other, so that tests run what boards run. It is what boards install and installers'
# machines, so it holds what reads and writes codes, too: 11 MB of a release's 300.
LOCK = $(BIN)/uv pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes --no-header \
	--no-emit-index-url --no-emit-find-links --extra demo --extra join --extra site --group pyproject.toml:build pyproject.toml
lock: dev-env
	$(LOCK) --extra dev --output-file requirements-dev.lock
	$(LOCK) --constraints requirements-dev.lock --no-annotate --output-file requirements.lock
	npm install --package-lock-only --omit-lockfile-registry-resolved --no-audit --no-fund

# Files that are made from others and kept, since readers and editors want them.
generate: dev-env
	$(BIN)/python -m edgeagent.wire
	$(BIN)/edgeagent schema > edgeagent/config.schema.json.new
	mv edgeagent/config.schema.json.new edgeagent/config.schema.json

clean:
	rm -rf build dist *.egg-info node_modules .mypy_cache .pytest_cache .ruff_cache .hypothesis artifacts
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +
	@echo "kept: .venv (remove it by hand for a new one)"
