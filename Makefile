# make book   everything from nothing to the built book in _build/html
# make test   everything from nothing to all tests passed, on two processes: what opens a browser, and the rest
# make lab    JupyterLab on the first chapter        make serve  the built book, on this machine
# make zip    the built book and its claims as a table, in one archive that opens from a disk
# make claims re-check the book on this machine, with your own seeds: make claims SEEDS=20-29 ONLY=smoothness
# make bench  the numbers the book is held to        make fmt    format and lint
# make kinds  chapters and tests without a browser, on three kinds of processor and with seeds that nobody looked at
# make pins   compile the requirements files          make audit  ask whether a pinned package has a known hole
# make clean  remove what was built, except for the training runs; make clean-runs removes those
SHELL := /bin/sh
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
# Named by the content of all that a book is made from: the time of a file says nothing.
BUILT := _build/html/.built-$(shell \
  { find _config.yml _toc.yml references.bib requirements.txt chapters/*.ipynb _ext utils -type f ! -name '*.pyc' \
    -exec cksum {} + | LC_ALL=C sort; echo "$$GITHUB_REPOSITORY $$BOOK_FIRST_SEED"; } | cksum | tr ' ' -)
PORT ?= 8000
TORCH ?= cpu # on Linux its CPU build, where PyTorch's index answers; any other word: as PyPI has it, with CUDA
CPU_INDEX := $(shell sed -n 's/^--extra-index-url //p' binder/requirements.txt)
NEWS := @jupyterlab/apputils-extension:announcements # no pop-up asks whether to fetch news
ANSWERS := import sys, urllib.request; urllib.request.urlopen(sys.argv[1] + "/torch/", timeout=3)

.PHONY: book test test-pages test-rest kinds claims browser lab serve zip bench fmt audit pins clean clean-runs
.DELETE_ON_ERROR:

book: $(BUILT)
	@echo "The book lies in _build/html: open _build/html/index.html, or run 'make serve'."

$(INSTALLED): requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or newer is needed; name it: make PYTHON=python3.12 ..."; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || \
	  { echo "Python's venv module is needed (on Debian: apt-get install python3-venv)."; exit 1; }
	@if [ $(TORCH) = cpu ] && [ "$$(uname -s)" = Linux ] && [ -z "$$PIP_INDEX_URL$$PIP_EXTRA_INDEX_URL" ] && \
	  timeout 5 $(PYTHON) -c '$(ANSWERS)' $(CPU_INDEX) 2>/dev/null; \
	then export PIP_EXTRA_INDEX_URL=$(CPU_INDEX); fi; \
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt && \
	$(BIN)/python -m jupyter labextension disable --level=sys_prefix $(NEWS) 2>/dev/null
	@touch $@

$(BUILT): | $(INSTALLED)
	@rm -f _build/html/.built-*
	$(BIN)/jupyter-book build . -W -n --keep-going
	@touch $@

browser: $(INSTALLED)
	@command -v chromium >/dev/null || \
	  if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; \
	  then apt-get update -qq && apt-get install -y -qq chromium >/dev/null; \
	  else $(BIN)/playwright install --with-deps chromium; fi || \
	  { echo "The browser tests need Chromium: install it so that 'chromium' is on the path."; exit 1; }

test: $(INSTALLED) browser
	$(BIN)/ruff check . && $(BIN)/ruff format --check .
	@$(MAKE) --no-print-directory --keep-going --jobs=2 test-pages test-rest

test-pages: MARKED := browser
test-rest: MARKED := not browser
test-rest: FIRST := nice # the book is built meanwhile, and more waits for that
test-pages test-rest: $(INSTALLED)
	$(FIRST) $(BIN)/python -m pytest -m "$(MARKED)"

KINDS := newest older oldest seeds-10 seeds-15
WITH_older := ATEN_CPU_CAPABILITY=avx2
WITH_oldest := ATEN_CPU_CAPABILITY=default MKL_CBWR=COMPATIBLE ONEDNN_MAX_CPU_ISA=SSE41
WITH_seeds-10 := BOOK_FIRST_SEED=10
WITH_seeds-15 := BOOK_FIRST_SEED=15

kinds: $(INSTALLED)
	@$(MAKE) --keep-going --no-print-directory $(KINDS:%=kind-%)

kind-%: $(INSTALLED)
	env $(WITH_$*) $(BIN)/python -m pytest -q -m "not browser"

KIND ?= newest

claims: $(INSTALLED)
	env $(WITH_$(KIND)) $(BIN)/python -m utils.claims $(SEEDS:%=--seeds %) $(if $(ONLY),--only $(ONLY))

lab: $(INSTALLED)
	$(BIN)/jupyter lab chapters/intro.ipynb

serve: book
	@echo "http://localhost:$(PORT)/"
	@$(BIN)/python -m http.server --directory _build/html --bind 127.0.0.1 $(PORT)

ARCHIVE := batch-normalization-examined

zip: book
	$(BIN)/python -m utils.claims $(if $(ONLY),--only $(ONLY)) --csv _build/html/claims.csv
	$(BIN)/python -c 'import shutil; shutil.make_archive("_build/$(ARCHIVE)", "zip", "_build", "html")'
	@echo "The whole book, to be read from a disk: _build/$(ARCHIVE).zip"

bench: book
	$(BIN)/python -m bench

fmt: $(INSTALLED)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/nbstripout chapters/*.ipynb

audit:
	$(PYTHON) -m venv _build/audit && _build/audit/bin/python -m pip install --quiet pip-audit==2.10.1
	grep == requirements.txt | _build/audit/bin/pip-audit --strict --no-deps --disable-pip -r /dev/stdin

pins: $(INSTALLED)
	$(BIN)/python binder/pins.py $(PINS)

clean:
	rm -rf $(filter-out _build/runs _build/. _build/..,$(wildcard _build/* _build/.*))

clean-runs:
	rm -rf _build/runs
