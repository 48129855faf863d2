# Every target makes .venv by itself when it is missing. PYTHON chooses the interpreter that makes it.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
# More arguments for the command of a target: make demo ARGS='--size 224 --epochs 8'
ARGS ?=

.PHONY: setup demo test fast slow lesson check bench clean

setup: $(READY)

$(READY): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $(READY)

demo: $(READY)
	$(BIN)/onecycle demo $(ARGS)

test: $(READY)  ## the fast tests, and the lesson notebook with fewer epochs where the shared sample is there
	$(BIN)/python -m pytest -q $(ARGS)
	$(BIN)/python -m pytest -q -m lesson $(ARGS)

fast: $(READY)  ## the fast tests alone
	$(BIN)/python -m pytest -q $(ARGS)

slow: $(READY)  ## what `make test` leaves out: long tests
	$(BIN)/python -m pytest -q -m slow $(ARGS)

lesson: $(READY)  ## the lesson notebook with all its epochs (23 epochs of ResNet-34 and the finder)
	ONECYCLE_LESSON_FULL=1 $(BIN)/python -m pytest -q -s -m lesson --timeout 14400 $(ARGS)

check: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(READY)
	$(BIN)/python benchmarks/lesson.py
	$(BIN)/python benchmarks/plain_loop.py
	$(BIN)/python benchmarks/startup.py

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache
