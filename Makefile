# The contributor's manual: `make help`. Every target does its own set-up; a fresh machine needs Python 3.11 or newer, and make.

# torch is pinned in constraints.txt and nowhere else; every install below goes through that file.
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
# The interpreter that makes the environment: the first of these that is new enough. Another one: make test PYTHON=/path/to/python
PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3 python; do \
	"$$p" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 && { command -v "$$p"; break; }; done)
# What the demo, the screenshot and the tests take besides: make demo OUT=runs/other, make test ARGS='-m "not slow" tests/config'
OUT    ?= runs/demo
ARGS   ?=
# Where Python is told to keep no bytecode, every process that a target or a test starts would compile all it imports anew.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help setup demo test check format docs docs-serve bench bench-disk bench-gpu screenshot zoo wheel clean
.DELETE_ON_ERROR:

help: ## this list
	@echo "vlmerge: evolve a vision-language model by merging, and prove that it got better"
	@echo
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo
	@echo "  PYTHON=…  interpreter for the environment (3.11 or newer)    OUT=…  run folder ($(OUT))    ARGS=…  passed on"
	@echo "  CONTRIBUTING.md says how the code is laid out and what a change needs."

setup: $(READY) ## make .venv with the pinned packages (the other targets do this by themselves)

$(READY): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { \
		echo "vlmerge needs Python 3.11 or newer with its venv module; none was found as python3.11, python3.12, python3.13, python3 or python."; \
		echo "  what to do: install one (on Debian: python3 and python3-venv), or name it: make $(MAKECMDGOALS) PYTHON=/path/to/python"; exit 2; }
	@"$(PYTHON)" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' || { \
		echo "$(PYTHON) is not Python 3.11 or newer, or lacks its venv module."; \
		echo "  what to do: name another one: make $(MAKECMDGOALS) PYTHON=/path/to/python"; exit 2; }
	"$(PYTHON)" -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --no-compile -c constraints.txt torch
	$(BIN)/python -m pip install --quiet --no-compile -c constraints.txt -e '.[dev]'
	@# pip compiles on one core. Files that cannot be compiled are other packages' templates and tests: nothing imports them.
	@$(BIN)/python -m compileall -q -j 0 -x '/tests?/' $(VENV)/lib >/dev/null 2>&1 || true
	@touch $(READY)

demo: $(READY) ## evolve the built-in tiny family: offline, 2 CPU cores, a few minutes; ends with the table and the page
	$(BIN)/vlmerge demo --out $(OUT) $(ARGS)

test: $(READY) ## run all tests, a file at a time on each core (ARGS='-m "not slow"' for a quick look, ARGS=tests/config for one package)
	$(BIN)/python -m pytest -n auto --maxprocesses 8 --dist loadfile --no-loadscope-reorder $(ARGS)

check: $(READY) ## lint, format check, types (pyright strict), import layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	PYRIGHT_PYTHON_IGNORE_WARNINGS=1 $(BIN)/pyright
	$(BIN)/lint-imports

format: $(READY) ## put the code in shape (ruff)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(READY) ## build the documentation's site into site/, English and Japanese; warnings are errors
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict $(ARGS)
	@echo "site/index.html  (search needs a server: make docs-serve)"

docs-serve: $(READY) ## show the site on 127.0.0.1:8000, built anew whenever a page changes
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs serve $(ARGS)

bench: $(READY) ## on 2 CPU cores: seconds per candidate beside `generate`, start-up times, how costs grow (JSON in runs/bench)
	$(BIN)/python benchmarks/candidate.py --json runs/bench/candidate.json $(ARGS)
	$(BIN)/python benchmarks/start_up.py --json runs/bench/start_up.json
	$(BIN)/python benchmarks/growth.py --json runs/bench/growth.json

bench-disk: $(READY) ## merging to disk, side by side with mergekit and with cp (20 GB of disk; takes long)
	$(BIN)/python benchmarks/merge_to_disk.py runs/bench/merge-to-disk $(ARGS)

bench-gpu: $(READY) ## on a GPU with 80 GB: a candidate at 7B shapes, and merging in place beside a device copy (41 GB of disk)
	$(BIN)/python benchmarks/in_place_merge.py
	$(BIN)/python benchmarks/llava_7b.py runs/bench/llava-7b --generate $(ARGS)
	$(BIN)/python benchmarks/rounding.py

screenshot: $(READY) ## README's picture, from the page of a finished demo run (needs Chromium or Chrome)
	$(BIN)/python docs/images/screenshot.py $(OUT) docs/images

zoo: $(READY) ## rebuild the demo family and its questions from public artwork (CUDA GPU and npm; zoo/README.md)
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[zoo]'
	$(BIN)/python -m zoo.build $(ARGS)

wheel: $(READY) ## build dist/*.tar.gz, and dist/*.whl from it
	$(BIN)/python -m build --outdir dist .

clean: ## remove what can be made again: the environment, caches, dist (run folders stay)
	rm -rf $(VENV) dist build site .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	find src tests benchmarks zoo -name __pycache__ -type d -prune -exec rm -rf {} +
	find src -maxdepth 1 -name '*.egg-info' -prune -exec rm -rf {} +
