# Every target builds what it needs first: `make demo` and `make test` work in a fresh clone with
# nothing but Python >= 3.11 and make. Extra arguments go through ARGS, for example
#   make demo ARGS="--epochs 2"        make test ARGS="tests/test_readme.py -x"

PYTHON ?= python3
JOBS ?= auto
ARGS ?=

VENV := .venv
BENCH_VENV := .venv-bench
BIN := $(VENV)/bin
# More options for the installation of the benchmarks' peers (see CONTRIBUTING.md).
BENCH_PIP_ARGS ?=

# pip 25.1 is the first to read [dependency-groups].
PIP_INSTALL = -m pip install --disable-pip-version-check
NEW_PIP = "pip>=25.1"

.DEFAULT_GOAL := help
.PHONY: help demo test sweep check lint types docs bench format clean

help:
	@echo "make demo    train a classifier, save its parameters and pictures"
	@echo "make test    run the tests"
	@echo "make sweep   every NumPy function over odd inputs, beside NumPy's own"
	@echo "make check   lint, check formatting and types, build the docs strictly"
	@echo "make docs    build the documentation into site/"
	@echo "make bench   measure against JAX, PyTorch, numba, autograd and plain NumPy"
	@echo "make format  apply the formatter and the safe fixes"
	@echo "make clean   remove environments, caches and everything built"

demo: $(VENV)/.stamp-demo
	$(BIN)/python -m funcgrad_nn.demo $(ARGS)

test: $(VENV)/.stamp-test
	$(BIN)/python -m pytest -n $(JOBS) $(ARGS)

sweep: $(VENV)/.stamp-test
	PYTHONPATH=tests $(BIN)/python -m sweep $(ARGS)

check: lint types docs

lint: $(VENV)/.stamp-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.stamp-dev
	$(BIN)/pyright

docs: $(VENV)/.stamp-docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

bench: $(BENCH_VENV)/.stamp-bench
	$(BENCH_VENV)/bin/python -m benchmarks $(ARGS)

format: $(VENV)/.stamp-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) $(BENCH_VENV) build dist site .hypothesis .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# A stamp says "installed, for this pyproject.toml".
%/.stamp-venv:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and \
	"funcgrad needs Python 3.11 or newer; name one with: make PYTHON=python3.x ...")'
	$(PYTHON) -m venv $*
	$*/bin/python $(PIP_INSTALL) --upgrade $(NEW_PIP)
	@touch $@

$(VENV)/.stamp-demo: $(VENV)/.stamp-venv pyproject.toml
	$(BIN)/python $(PIP_INSTALL) --editable ".[demo,llvm]"
	@touch $@

$(VENV)/.stamp-test: $(VENV)/.stamp-venv pyproject.toml
	$(BIN)/python $(PIP_INSTALL) --editable ".[demo,images,llvm]" --group test
	@touch $@

$(VENV)/.stamp-dev: $(VENV)/.stamp-venv pyproject.toml
	$(BIN)/python $(PIP_INSTALL) --editable ".[demo,images,llvm]" --group dev
	@touch $@

$(VENV)/.stamp-docs: $(VENV)/.stamp-venv pyproject.toml
	$(BIN)/python $(PIP_INSTALL) --editable ".[demo,images,llvm]" --group docs
	@touch $@

$(BENCH_VENV)/.stamp-bench: $(BENCH_VENV)/.stamp-venv pyproject.toml
	$(BENCH_VENV)/bin/python $(PIP_INSTALL) $(BENCH_PIP_ARGS) --editable ".[llvm]" --group bench
	@touch $@

.PRECIOUS: %/.stamp-venv

# Two targets of one `make -j` would run pip in the same environment at once.
.NOTPARALLEL:
