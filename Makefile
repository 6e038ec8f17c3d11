# Two commands: `make demo` and `make test`. The README has the plain pip lines.
PYTHON ?= python3
BIN := .venv/bin
# Two processes: one test at a time in each. A worker that has run out of tests takes some of the other's.
WORKERS := --numprocesses 2 --dist worksteal
INSTALL := $(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable

.PHONY: demo test test-slow lint bench clean

demo: .venv/installed-demo
	$(BIN)/lossgauge study demo

test: .venv/installed-test
	$(BIN)/python -m pytest $(WORKERS)

test-slow: .venv/installed-test
	$(BIN)/python -m pytest $(WORKERS) -m slow

lint: .venv/installed-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: .venv/installed-bench
	$(BIN)/python -m benchmarks

.venv/installed-%: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(INSTALL) '.[$*]'
	touch $@

clean:
	rm -rf .venv
