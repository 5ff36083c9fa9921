# Two commands on a fresh machine: `make demo` and `make test`. Each makes .venv and installs what it needs.
PYTHON ?= $(shell command -v python3.11 || command -v python3.12 || command -v python3.13 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
DATA ?= $(wildcard ../shared/data)
export SELFSEG_DATA ?= $(abspath $(DATA))

.PHONY: demo test test-slow test-browser chaos lint benchmark clean

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

demo: $(VENV)/.installed
	$(BIN)/selfseg demo -o demo-out

lint: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test: lint
	OMP_NUM_THREADS=1 SELFSEG_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal

test-browser: $(VENV)/.installed
	$(BIN)/python -m pytest -m slow tests/apps/studio/test_studio_browser.py tests/apps/studio/test_studio_browser_learning.py tests/apps/studio/test_studio_browser_look.py tests/apps/studio/test_studio_browser_identity.py tests/apps/studio/test_studio_browser_objects.py tests/apps/studio/test_studio_browser_strokes.py tests/apps/studio/test_studio_browser_link.py

test-slow: $(VENV)/.installed
	OMP_NUM_THREADS=1 SELFSEG_THREADS=1 $(BIN)/python -m pytest -m slow -n 2 --dist worksteal

chaos: $(VENV)/.installed
	$(BIN)/python tests/chaos.py
	$(BIN)/python tests/faults.py --stride 6 --jobs 2 --minutes 12

benchmark: $(VENV)/.installed
	$(BIN)/python benchmarks/speed/feature_clustering.py

clean:
	rm -rf $(VENV) demo-out .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
