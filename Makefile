# `make run` and `make test` do everything from a fresh clone; the other targets are for those who change the code.
PY := .venv/bin/python
# Two tests at a time (tests/conftest.py says which); ARGS="-n 0" for one, as a debugger needs it.
PYTEST := $(PY) -m pytest -n 2 --dist loadgroup --no-loadscope-reorder
ifdef DATA
export DATA_DIR := $(DATA)
endif

.DEFAULT_GOAL := help
.PHONY: help setup run test check lint format lock screenshots clean

help:
	@echo 'make run          start Stepmark on http://127.0.0.1:8000/ (PORT=8123 HOST=0.0.0.0 DATA=/some/folder)'
	@echo 'make test         run every test, with the browser, PostgreSQL and real workers'
	@echo 'make setup        only install what "make run" needs'
	@echo 'make check        the fast loop: lint, types and the quick tests'
	@echo 'make lint         ruff, mypy, import-linter, migrations, docker files'
	@echo 'make format       let ruff mend what it can'
	@echo 'make lock         write requirements/*.txt from pyproject.toml (ARGS=--upgrade for newer versions)'
	@echo 'make screenshots  make the pictures in docs/images/'
	@echo 'make clean        remove what was installed; the data folder stays'

setup:
	@bin/setup run

run: setup
	@exec $(PY) manage.py serve

# The second run is the longer one and speaks last; neither hides a failure of the other.
test:
	@bin/setup test
	@status=0; \
	$(PY) -m tests.services $(PYTEST) -m 'postgres and not browser' $(ARGS) || status=$$?; \
	$(PYTEST) $(ARGS) || status=$$?; \
	exit $$status

check: lint
	$(PYTEST) -q -m 'not browser and not worker and not slow' $(ARGS)

lint:
	@bin/setup check
	$(PY) -m ruff check
	$(PY) -m ruff format --check
	$(PY) -m mypy
	.venv/bin/lint-imports
	$(PY) manage.py check --settings tests.settings
	$(PY) manage.py makemigrations --check --dry-run --settings tests.settings
	.venv/bin/hadolint docker/Dockerfile
	.venv/bin/check-jsonschema --builtin-schema vendor.compose-spec docker/compose.yaml

format:
	@bin/setup check
	$(PY) -m ruff check --fix
	$(PY) -m ruff format

lock:
	@bin/lock $(ARGS)

screenshots:
	@bin/setup test
	SCREENSHOTS=docs/images $(PY) -m pytest -q tests/e2e/test_screenshots.py $(ARGS)

clean:
	rm -rf .venv node_modules .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
