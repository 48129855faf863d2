# Every target makes .venv by itself when it is missing. PYTHON chooses the interpreter that makes it.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
# More arguments for the command of a target: make demo ARGS='--size 224 --epochs 8'
ARGS ?=
# Two processes share the fast tests; make test ARGS='-p no:xdist' runs them in one, as plain pytest does.
WORKERS = $(if $(findstring no:xdist,$(ARGS)),,-n 2 --dist worksteal)

# HASHES=1: setup takes only files with the digests of constraints-hashes.txt (Linux on x86-64, Python 3.11).
HASHES ?=
PIP_INSTALL := -m pip install --quiet --disable-pip-version-check

.PHONY: setup hashes audit demo test fast slow lesson browser fuzz reliability check bench peers v1 clean

setup: $(READY)

$(READY): pyproject.toml constraints.txt $(if $(HASHES),constraints-hashes.txt)
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
ifeq ($(HASHES),)
	$(BIN)/python $(PIP_INSTALL) -c constraints.txt -e '.[dev]'
else
	$(BIN)/python $(PIP_INSTALL) --require-hashes -r constraints-hashes.txt
	$(BIN)/python $(PIP_INSTALL) --no-deps --no-build-isolation -e .
endif
	touch $(READY)

hashes: $(READY)  ## constraints-hashes.txt anew, for this system and Python
	$(BIN)/python tools/hashes.py

AUDIT := .venv-audit

audit:  ## known faults of the packages that setup installs, by pip-audit, in an environment of its own; asks pypi.org
	test -x $(AUDIT)/bin/python || $(PYTHON) -m venv $(AUDIT)
	$(AUDIT)/bin/python $(PIP_INSTALL) 'pip-audit>=2.7,<3'
	$(AUDIT)/bin/python tools/audit.py

demo: $(READY)
	$(BIN)/onecycle demo $(ARGS)

test: $(READY)  ## the fast tests, and the lesson notebook with fewer epochs where the shared sample is there
	$(BIN)/python -m pytest -q $(WORKERS) $(ARGS)
	$(BIN)/python -m pytest -q -m lesson $(ARGS)

fast: $(READY)  ## the fast tests alone
	$(BIN)/python -m pytest -q $(WORKERS) $(ARGS)

slow: $(READY)  ## what `make test` leaves out: long tests
	$(BIN)/python -m pytest -q -m slow $(ARGS)

lesson: $(READY)  ## the lesson notebook with all its epochs (23 epochs of ResNet-34 and the finder)
	ONECYCLE_LESSON_FULL=1 $(BIN)/python -m pytest -q -s -m lesson --timeout 14400 $(ARGS)

browser: $(READY)  ## opens reports in the Chromium that is on PATH
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[browser]'
	$(BIN)/python -m pytest -q -m browser $(ARGS)

fuzz: $(READY)  ## a million hostile files, tables, models and requests, or 30 minutes of them; ARGS='--minutes 5 --only tables'
	$(BIN)/python tests/fuzz/long_run.py $(ARGS)

reliability: $(READY)  ## attacks each promise of README and SECURITY.md (hours): benchmarks/results/reliability.md
	$(BIN)/python benchmarks/reliability $(ARGS)

check: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# ONECYCLE_PEERS_PYTHON: an interpreter that has benchmarks/peers.txt already.
PEERS := .venv-peers
PEERS_READY := $(if $(ONECYCLE_PEERS_PYTHON),,$(PEERS)/.ready)
PEER_BENCHES := time_to_quality unfrozen_epoch data_path memory gpu trust
BENCHES := lesson recipe plain_loop startup scaling first_report export networks gpu_first $(PEER_BENCHES)

peers: $(PEERS)/.ready  ## the environment of the libraries that the benchmarks compare with

$(PEERS)/.ready: benchmarks/peers.txt
	test -x $(PEERS)/bin/python || $(PYTHON) -m venv $(PEERS)
	$(PEERS)/bin/python -m pip install --quiet --disable-pip-version-check -r benchmarks/peers.txt
	touch $@

bench: $(addprefix bench-,$(BENCHES))  ## all, one after the other (hours on two cores); bench-data_path is one of them

$(addprefix bench-,$(PEER_BENCHES)): $(PEERS_READY)

bench-%: $(READY)
	$(BIN)/python benchmarks/$*.py $(ARGS)

V1 := .venv-v1
V1_READY := $(V1)/.ready

$(V1_READY): benchmarks/v1.txt $(READY)
	test -x $(V1)/bin/python || $(PYTHON) -m venv $(V1)
	$(V1)/bin/python -c "import pathlib, sys, sysconfig; pathlib.Path(sysconfig.get_path('purelib'), 'onecycle.pth').write_text(sys.argv[1])" \
		"$$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_paths().get("purelib"))')"
	$(V1)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps -r benchmarks/v1.txt
	touch $@

# fastai 2 and onecycle side by side.
V2 := .venv-fastai2
V2_READY := $(V2)/.ready
BEHAVIOUR := tests/fastai1/behaviour

$(V2_READY): benchmarks/fastai2.txt $(READY)
	test -x $(V2)/bin/python || $(PYTHON) -m venv $(V2)
	$(V2)/bin/python -c "import pathlib, sys, sysconfig; pathlib.Path(sysconfig.get_path('purelib'), 'onecycle.pth').write_text('\n'.join(sys.argv[1:]))" \
		"$(CURDIR)/src" "$$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_paths().get("purelib"))')"
	$(V2)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps -r benchmarks/fastai2.txt
	touch $@

v1: $(V1_READY) $(V2_READY)  ## asks fastai 1.0.61 itself, in an environment of its own, and holds onecycle against its answers
	$(V1)/bin/python tests/fastai1/oracle/calls.py $(V1)/drawn tests/fastai1/oracle/v1.json
	$(BIN)/python -m pytest -q tests/fastai1/test_oracle.py $(BEHAVIOUR) $(ARGS)
	$(V1)/bin/python -m pytest -c /dev/null --rootdir $(BEHAVIOUR) --confcutdir $(BEHAVIOUR) -p no:cacheprovider -W ignore -q $(BEHAVIOUR)
	ONECYCLE_FASTAI2_PYTHON=$(CURDIR)/$(V2)/bin/python $(BIN)/python -m pytest -q tests/fastai1/test_real_fastai2.py

clean:
	rm -rf $(VENV) $(PEERS) $(V1) $(V2) $(AUDIT) .mypy_cache .ruff_cache .pytest_cache
