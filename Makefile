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
	rm -rf $(VENV) dist build salve-demo .mypy_cache .ruff_cache .pytest_cache

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

.PHONY: docs
docs: $(INSTALLED)  # docs/options.md is made by this command alone, never edited
	$(BIN)/python scripts/write_options.py
