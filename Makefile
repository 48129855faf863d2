# Every target makes .venv by itself when it is missing. PYTHON chooses the interpreter that makes it.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: setup demo test fast slow lesson check bench clean

setup: $(READY)

$(READY): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $(READY)

demo: $(READY)
	$(BIN)/onecycle demo

test: $(READY)  ## the fast tests, and the lesson notebook with fewer epochs where the shared sample is there
	$(BIN)/python -m pytest -q
	$(BIN)/python -m pytest -q -m lesson

fast: $(READY)  ## the fast tests alone
	$(BIN)/python -m pytest -q

slow: $(READY)  ## what `make test` leaves out: long tests
	$(BIN)/python -m pytest -q -m slow

lesson: $(READY)  ## the lesson notebook with all its epochs (an hour and more on two cores)
	ONECYCLE_LESSON_FULL=1 $(BIN)/python -m pytest -q -s -m lesson --timeout 14400

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
