# make demo    install, then run every stage on the sample (two cores, six to twelve minutes)
# make serve   then the web page, on http://127.0.0.1:7860
# make test    install, then lint, types, import rules and tests: what CI runs
# make lint    ruff, mypy, the rules of the house (sizes, names, imports)
# make test-browser  the web page in a headless Chromium, which must be there
# make bench-gpu  the training recipes on the GPU at hand (in your own environment); CARD=3060 measures
#              on a small share of it, which stands in for that card
# make bench-generate  ways to write descriptions on the GPU at hand, side by side
# make bench-quality  ways to decode on real weights, with CATALOGUE="a.jsonl.gz b.jsonl.gz" and, if
#              you like, BASE=folder and FLAGS=--short, which a CPU can do (in your own environment)
# make bench   cleaning against other tools, side by side
# make bench-ask  how well and fast titles are found, and the page under load
# make clean   remove the environment and what the demo wrote (not your own artefacts)

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STORE := data/store
# On a CPU, Unsloth's own dependencies would pull a torchvision that breaks CPU builds of torch,
# so it comes last and without them; on a GPU install the extra `gpu` instead (README).
UNSLOTH := unsloth==2026.10.9 unsloth_zoo==2026.10.9

export HF_HUB_OFFLINE ?= 1
export UNSLOTH_DISABLE_STATISTICS ?= 1
export PIP_DISABLE_PIP_VERSION_CHECK ?= 1

.PHONY: install demo serve test test-browser lint bench bench-ask bench-clean bench-gpu bench-generate bench-quality clean

install: $(VENV)/.installed

# pip itself would compile on one processor, half of the time that it takes. Templates that are no
# Python are among the packages, and no fault.
$(VENV)/.installed: pyproject.toml constraints.txt
	@echo "installing into $(VENV) (a minute or two, most of it PyTorch)"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -q --no-compile -c constraints.txt -e '.[test]'
	$(BIN)/pip install -q --no-compile --no-deps $(UNSLOTH)
	@$(BIN)/python -m compileall -qq -j 0 $(VENV)/lib || true
	@touch $@

demo: install
	$(BIN)/python -m tests.demo

# The page, about what `make demo` made.
serve: install
	$(BIN)/python -m inference serve --run $(STORE)/runs/sample --catalogue $(STORE)/clean-sample --report $(STORE)/reports/sample

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m tests.house

test: lint
	$(BIN)/pytest -n 2 --dist loadfile --no-loadscope-reorder

test-browser: install
	$(BIN)/pip install -q -c constraints.txt -e '.[browser]'
	$(BIN)/pytest tests/browser

# Speeds against other tools on the same rows; the tools are installed by this target only.
bench: bench-clean

bench-gpu:
	python -m tests.benchmarks.gpu $(if $(CARD),--card $(CARD))

bench-generate:
	python -m tests.benchmarks.generate $(if $(CARD),--card $(CARD))

BASE ?= smollm2
bench-quality:
	$(if $(CATALOGUE),,$(error which catalogue? make bench-quality CATALOGUE="a.jsonl.gz b.jsonl.gz"))
	python -m tests.benchmarks.quality --base $(BASE) --catalogue $(CATALOGUE) $(FLAGS)

# After `make demo`.
bench-ask: install
	$(BIN)/python -m tests.benchmarks.search $(STORE)/clean-sample 400
	$(BIN)/python -m tests.benchmarks.serve $(STORE)/runs/sample $(STORE)/clean-sample

bench-clean: install
	$(BIN)/pip install -q -c constraints.txt polars datatrove orjson
	$(BIN)/python -m tests.benchmarks.clean

clean:
	rm -rf $(VENV) $(STORE)/clean-sample $(STORE)/clean-sample-titles $(STORE)/subsets/sample $(STORE)/runs/sample $(STORE)/generated/sample $(STORE)/reports/sample
