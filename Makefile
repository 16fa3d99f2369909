# Set-up is part of every target: the environment follows the lock file.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
AUDIT := $(VENV)-audit
READY := $(VENV)/.ready

# Three for two cores, since tests wait for servers and disks: a tenth less time than two. Files in their order:
# by the number of their tests, one of a single long test would come last, and alone.
WORKERS := -n 3 --dist loadfile --no-loadscope-reorder

.PHONY: demo test test-slow audit check setup kernels clean

demo: $(READY)  ## run the shipped KuaiRand days and show what came out
	@$(BIN)/funnelcast demo

test: $(READY)  ## style, types, import contracts and the tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/pytest $(WORKERS)

test-slow: $(READY)  ## what starts servers or runs for minutes
	$(BIN)/pytest -m slow

audit: requirements.lock  ## ask the advisory service for known faults of the locked packages; needs a network
	@$(PYTHON) -m venv $(AUDIT)
	@$(AUDIT)/bin/python -m pip install --quiet --disable-pip-version-check 'pip-audit>=2.9,<3'
	$(AUDIT)/bin/pip-audit --requirement requirements.lock --no-deps --disable-pip --desc

setup: $(READY)  ## create the environment

$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "funnelcast needs Python 3.11 or newer; try make PYTHON=python3.12")'
	@echo "Installing the locked packages into $(VENV), about two minutes ..."
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

kernels: $(READY)  ## compile the kernels, an extra: faster steps and scores, as the processor allows; needs a C++ compiler
	@$(BIN)/python -m models.native.build

clean:  ## remove the environment and everything that a demo wrote
	rm -rf $(VENV) $(AUDIT) warehouse models/native/build
