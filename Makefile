# Two commands on a fresh machine: `make demo` and `make test`. Each makes .venv and installs what it needs.
PYTHON ?= $(shell command -v python3.11 || command -v python3.12 || command -v python3.13 || command -v python3)
VENV := .venv
BIN := $(VENV)/$(if $(filter Windows_NT,$(OS)),Scripts,bin)
DATA ?= $(wildcard ../shared/data)
export SELFSEG_DATA ?= $(abspath $(DATA))

.PHONY: docs generated tutorials test-tutorials demo test test-slow test-browser test-only test-pythons test-bioimageio test-napari test-geo test-vendor check-tag chaos lint benchmark clean

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

test: lint test-only

test-only: $(VENV)/.installed
	OMP_NUM_THREADS=1 SELFSEG_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal

test-browser: $(VENV)/.installed
	$(BIN)/python -m pytest -m slow $(wildcard tests/apps/studio/test_studio_browser*.py)

# wheel and sdist: contents, and every command on each Python that this machine has, with the wheel alone
test-pythons:
	$(PYTHON) tests/pythons.py .pythons

check-tag:
	$(PYTHON) -c "import pathlib, tomllib; v = tomllib.loads(pathlib.Path('pyproject.toml').read_text())['project']['version']; assert '$(TAG)' == f'v{v}', f'the tag is $(TAG), the version {v}'"

test-slow: $(VENV)/.installed
	OMP_NUM_THREADS=1 SELFSEG_THREADS=1 $(BIN)/python -m pytest -m slow -n 2 --dist worksteal

# bioimageio.core has a venv of its own: it pins what selfseg does not need
.venv-bioimageio/.installed: Makefile
	$(PYTHON) -m venv .venv-bioimageio
	.venv-bioimageio/bin/python -m pip install --quiet --disable-pip-version-check "bioimageio.core==0.11.0" "onnxruntime>=1.20" "pydantic<2.13"
	touch $@

test-bioimageio: $(VENV)/.installed .venv-bioimageio/.installed
	rm -rf .bioimageio-packages
	$(BIN)/python tests/bioimageio_packages.py write .bioimageio-packages
	.venv-bioimageio/bin/python tests/bioimageio_packages.py check .bioimageio-packages

# Qt stays out of .venv
.venv-napari/.installed: pyproject.toml
	$(PYTHON) -m venv .venv-napari
	.venv-napari/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[napari]' PyQt6 npe2 pytest pytest-qt
	touch $@

test-napari: .venv-napari/.installed
	.venv-napari/bin/npe2 validate selfseg
	QT_QPA_PLATFORM=offscreen .venv-napari/bin/python -m pytest -s -o addopts="" tests/napari

# rasterio brings GDAL and PROJ, 100 MB
.venv-geo/.installed: pyproject.toml
	$(PYTHON) -m venv .venv-geo
	.venv-geo/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[geo,zarr]' pyproj pytest
	touch $@

test-geo: .venv-geo/.installed
	OMP_NUM_THREADS=1 SELFSEG_THREADS=1 .venv-geo/bin/python -m pytest -o addopts="" tests/geo tests/export/test_georeference.py

# pylibCZIrw, of Zeiss, writes CZI
.venv-vendor/.installed: pyproject.toml
	$(PYTHON) -m venv .venv-vendor
	.venv-vendor/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[vendor]' pylibCZIrw pytest
	touch $@

test-vendor: .venv-vendor/.installed
	.venv-vendor/bin/python -m pytest -o addopts="" tests/read/test_vendor_files.py

chaos: $(VENV)/.installed
	$(BIN)/python tests/chaos.py
	$(BIN)/python tests/faults.py --stride 6 --jobs 2 --minutes 12

docs: $(VENV)/.installed
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

# plots of the benchmark's tables, and the contents of EXPERIMENTS.md
generated:
	$(PYTHON) docs/generated.py

# runs the notebooks of docs/tutorials and stores in them what they show
tutorials: $(VENV)/.installed
	OMP_NUM_THREADS=1 SELFSEG_THREADS=1 $(BIN)/python tests/test_tutorials.py

test-tutorials: $(VENV)/.installed
	OMP_NUM_THREADS=1 SELFSEG_THREADS=1 $(BIN)/python -m pytest -m slow -n 2 tests/test_tutorials.py

benchmark: $(VENV)/.installed
	$(BIN)/python benchmarks/speed/feature_clustering.py

clean:
	rm -rf $(VENV) .venv-* .pythons .bioimageio-packages demo-out site .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
