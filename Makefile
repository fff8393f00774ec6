# Everything a newcomer needs: `make demo` and `make test`. Only Python 3.11+, pip and make must be there.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --constraint constraints.txt
OUT ?= demo
# One process per core, so one thread each: of gml and joblib, which ask loky how many cores there are, of OpenMP and of
# numba, which, inside scanpy's UMAP, sets OpenMP's threads for all of its process.
ONE_THREAD := LOKY_MAX_CPU_COUNT=1 OMP_NUM_THREADS=1 NUMBA_NUM_THREADS=1
# pytest rewrites asserts, which takes each process 8 s unless it may keep what it wrote.
PYTEST := PYTHONDONTWRITEBYTECODE= $(ONE_THREAD) $(BIN)/python -m pytest -n logical --maxprocesses 8 --dist worksteal

.PHONY: demo test test-fast test-kernels lint docs tutorials audit coverage mutants bench bench-accuracy clean

# The stamps are newer than pyproject.toml once the installation is complete, so a second run installs nothing.
$(VENV)/.demo: pyproject.toml constraints.txt
	@echo "Setting up $(VENV); this takes a minute or two the first time ..."
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "gml needs Python 3.11 or newer; try `make PYTHON=python3.12 …`")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"
	$(PIP) torch
	$(PIP) --editable .
	touch $@

$(VENV)/.test: $(VENV)/.demo
	$(PIP) --group test
	touch $@

$(VENV)/.lint: $(VENV)/.demo
	$(PIP) --group lint
	touch $@

$(VENV)/.docs: $(VENV)/.demo
	$(PIP) --group doc
	touch $@

# make demo, or make demo H5AD=path PATIENT=column DISEASE=column
demo: $(VENV)/.demo
	$(BIN)/python tutorials/demo.py --out $(OUT) $(if $(H5AD),--h5ad "$(H5AD)") $(if $(PATIENT),--patient "$(PATIENT)") $(if $(DISEASE),--disease "$(DISEASE)")

test: $(VENV)/.test
	$(PYTEST)

# A broad sample, to run while working
test-fast: $(VENV)/.test
	$(PYTEST) -m "not slow" tests

# the compiled kernels as plain Python, which coverage sees
test-kernels: $(VENV)/.test
	NUMBA_DISABLE_JIT=1 $(PYTEST) -m "not slow" tests/_ot/test_simplex.py

lint: $(VENV)/.lint
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: $(VENV)/.docs
	$(BIN)/sphinx-build --fail-on-warning --keep-going docs docs/_build/html

# run the notebooks again and store their outputs; NOTEBOOK=tutorials/quickstart.ipynb for one of them
tutorials: $(VENV)/.test
	$(BIN)/python tutorials/execute.py $(NOTEBOOK)

# the share of lines of src/gml that the tests reach, and which they do not
coverage: $(VENV)/.test
	$(PYTEST) --cov --cov-report=
	NUMBA_DISABLE_JIT=1 $(PYTEST) -m "not slow" tests/_ot/test_simplex.py --cov --cov-append \
		--cov-report=term:skip-covered --cov-fail-under=95

# the share of small faults in the mathematics that the fast tests find; SAMPLE=0 for all of them
mutants: $(VENV)/.test
	$(PIP) --group mutants
	rm -rf mutants
	PATH="$(CURDIR)/$(BIN):$$PATH" $(ONE_THREAD) $(BIN)/python benchmarks/mutants.py --sample $(or $(SAMPLE),500)

# advisories on what is installed, with all extras; asks PyPI
audit: $(VENV)/.test
	$(PIP) --group audit
	$(BIN)/pip-audit --skip-editable

bench: $(VENV)/.test
	$(BIN)/python -m benchmarks.bench_import
	$(BIN)/python -m benchmarks.bench_transport
	$(BIN)/python -m benchmarks.bench_growth
	$(BIN)/python -m benchmarks.bench_scale
	$(BIN)/python -m benchmarks.bench_nearest
	$(BIN)/python -m benchmarks.bench_dask
	$(BIN)/python -m benchmarks.bench_solvers --only time

bench-accuracy: $(VENV)/.demo
	$(BIN)/python benchmarks/bench_generalisation.py
	$(BIN)/python benchmarks/bench_generalisation.py --null 50
	$(BIN)/python -m benchmarks.bench_reading
	$(BIN)/python -m benchmarks.bench_solvers --only distances
	$(BIN)/python -m benchmarks.bench_solvers --only accuracy

clean:
	rm -rf $(VENV) demo docs/_build docs/generated docs/tutorials
