# The two commands of the README, each from a fresh clone: `make study`, `make test`.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
OUT    ?= kdstats-out/quickstart
DATA   := $(wildcard ../shared/data)

.PHONY: study test lint types browser latex clean

study: $(VENV)/.ready
	$(BIN)/python -m runners.study run runners/studies/quickstart.toml --out $(OUT)

test: $(VENV)/.ready-test browser latex lint types
	OMP_NUM_THREADS=1 $(if $(DATA),KDSTATS_REQUIRE_DATA=1) \
	$(if $(CI),KDSTATS_REQUIRE_BROWSER=1 KDSTATS_REQUIRE_LATEX=1) \
	$(BIN)/python -m pytest -n 2 --dist worksteal -q

lint: $(VENV)/.ready-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.ready-test
	$(BIN)/mypy

# The pages are tested in a real browser. On Debian as root it is installed; elsewhere bring your own Chromium.
browser:
	@if command -v chromium >/dev/null && command -v chromedriver >/dev/null; then :; \
	elif [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	  apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq chromium chromium-driver; \
	else echo "no chromium and chromedriver found: the browser tests will be skipped"; fi

# A report's LaTeX is set by a real pdfTeX; the same holds for it.
latex:
	@if command -v pdflatex >/dev/null; then :; \
	elif [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	  apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends texlive-latex-recommended; \
	else echo "no pdflatex found: the LaTeX test will be skipped"; fi

$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; sys.exit("kdstats needs Python 3.11 or newer, this is " + sys.version.split()[0] + "; try make PYTHON=python3.12" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.ready: pyproject.toml | $(VENV)/bin/python
	@echo "Installing kdstats and PyTorch into $(VENV): about 5 GB with the CUDA libraries, a minute or more"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e .
	@touch $@

$(VENV)/.ready-test: pyproject.toml | $(VENV)/bin/python
	@echo "Installing kdstats, PyTorch and the test tools into $(VENV): about 5 GB, a minute or more"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[test]'
	@touch $@ $(VENV)/.ready

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache
