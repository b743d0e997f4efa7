# Set-up and checks in two commands: `make demo` and `make test`. CI runs the second.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
INSTALLED_DEV := $(VENV)/.installed-dev

.PHONY: demo test test-fast lint format clean
# a file's fixtures are made once; tests/conftest.py puts slow files first
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder

$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e .
	@touch $@

$(INSTALLED_DEV): $(INSTALLED)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev]"
	@touch $@

demo: $(INSTALLED)
	$(BIN)/salve-audit demo --out salve-demo

test: $(INSTALLED_DEV) lint
	$(PYTEST)

test-fast: $(INSTALLED_DEV)  # for the loop of writing code: no browser, no wheel, no whole audit
	$(PYTEST) -m "not slow"

lint: $(INSTALLED_DEV)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: $(INSTALLED_DEV)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf $(VENV) $(OLDEST) dist build salve-demo .mypy_cache .ruff_cache .pytest_cache

.PHONY: samples
samples: $(INSTALLED_DEV)  # sample_reports/ is made by this command alone, never edited
	$(BIN)/python scripts/make_samples.py

.PHONY: fuzz
FUZZ_SECONDS ?= 3600
fuzz: $(INSTALLED_DEV)  # mutated files into every loader; prints inputs and findings
	$(BIN)/python benchmarks/fuzz.py --seconds $(FUZZ_SECONDS)

.PHONY: report-limits
report-limits: $(INSTALLED_DEV)  # sizes, times and pages of reports of 10 to 1,000 classes beside what they may be
	$(BIN)/python benchmarks/report_limits.py

.PHONY: docs options
docs: $(INSTALLED_DEV)  # the site in build/site; a warning about a link, an anchor or a reference fails
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

options: $(INSTALLED)  # docs/options.md is made by this command alone, never edited
	$(BIN)/python scripts/write_options.py

.PHONY: test-oldest
OLDEST := .venv-oldest
OLDEST_VERSION := 3.10
# or the path of an interpreter of that version
OLDEST_PYTHON ?= $(OLDEST_VERSION)
test-oldest: pyproject.toml  # the fast tests with the oldest versions that pyproject.toml allows; needs uv
	mkdir -p build
	uv venv --quiet --python $(OLDEST_PYTHON) --clear $(OLDEST)
	uv pip compile --quiet --python-version $(OLDEST_VERSION) --resolution lowest-direct --extra dev pyproject.toml -o build/oldest.txt
	uv pip install --quiet --python $(OLDEST) -r build/oldest.txt -e .
	OMP_NUM_THREADS=1 $(OLDEST)/bin/python -m pytest -n auto --dist loadfile -m "not slow"

.PHONY: kills scale
kills: $(INSTALLED_DEV)  # audits killed at random moments; what comes out in the end is compared byte for byte
	$(BIN)/python benchmarks/kills.py --kills 30

scale: $(INSTALLED_DEV)  # time and memory by stage at 10,000 and 100,000 images; 1,000,000 takes hours
	$(BIN)/python benchmarks/scale.py
