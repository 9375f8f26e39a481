# Two commands to know: `make demo` and `make test`. Each sets up all it needs, once.
VENV ?= .venv
PYTHON ?= python3
BIN := $(VENV)/bin
ARGS ?=
COMPILED := PYTHONSAFEPATH=1 PYTHONPATH=$(CURDIR)/build/quick

.PHONY: demo test lint types test-only native test-native bench lock clean

demo: $(VENV)/.demo
	@$(BIN)/python -m gateway demo $(ARGS)

# Types are checked beside the tests, which wait for servers now and then: half a minute less.
test: lint
	@$(MAKE) --no-print-directory -j2 types test-only

lint: $(VENV)/.dev
	@$(BIN)/ruff check gateway tests scripts
	@$(BIN)/lint-imports --no-logo 2>&1 | tail -n 25

types: $(VENV)/.dev
	@$(BIN)/mypy

# Bytecode is kept, whatever the environment says: a run starts two hundred Pythons.
test-only: $(VENV)/.dev
	@PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest -n 2 --dist worksteal $(ARGS)

# The data path compiled, and the command `gateway-native`. Needs a C compiler.
native: build/native/.made

# All tests, on what was compiled once and in a hurry: no copy of the source is in the way of what is imported.
test-native: build/quick/.made
	@$(COMPILED) $(BIN)/python -c 'import gateway.pipeline as of; assert of.__file__.endswith(".so"), of.__file__'
	@PYTHONDONTWRITEBYTECODE= $(COMPILED) $(BIN)/python -m pytest -n 2 --dist worksteal $(ARGS)

bench: native
	@$(BIN)/python tests/bench/ratios.py $(ARGS)

# A demo needs less than the tests do; whoever has the latter has the former.
$(VENV)/.demo: locks/demo.txt locks/engine.txt pyproject.toml
	@test -f $(VENV)/.dev || scripts/setup $(PYTHON) $(VENV) locks/demo.txt
	@touch $@

$(VENV)/.dev: locks/dev.txt locks/engine.txt pyproject.toml tests/node/package-lock.json
	@scripts/setup $(PYTHON) $(VENV) locks/dev.txt
	@touch $@

SOURCES := scripts/native.py $(shell find gateway -name '*.py')

build/native/.made: $(VENV)/.dev $(SOURCES)
	@$(BIN)/python scripts/native.py
	@touch $@

build/quick/.made: $(VENV)/.dev $(SOURCES)
	@$(BIN)/python scripts/native.py --quick
	@touch $@

# After changing dependencies in pyproject.toml. Needs `uv`.
lock:
	uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header pyproject.toml --extra dev -o locks/dev.txt
	uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header pyproject.toml --extra demo -c locks/dev.txt -o locks/demo.txt
	uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header pyproject.toml -c locks/dev.txt -o locks/runtime.txt
	uv pip compile -q --no-deps --generate-hashes --no-emit-index-url --no-header locks/engine.in -o locks/engine.txt

clean:
	rm -rf $(VENV) build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
