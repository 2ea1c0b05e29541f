# make demo: a trained model and a comparison.  make test: the proof.  Both set themselves up.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready

.PHONY: demo test test-slow lint bench clean

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "lowerbound needs Python 3.11 or newer: make PYTHON=/path/to/python3.11"; exit 2; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

demo: $(READY)
	$(BIN)/lowerbound fit vae --epochs 50 --batch-size 32 --seeds 3 --out runs/digits-20
	$(BIN)/lowerbound fit vae --epochs 50 --batch-size 32 --seeds 3 --latent-dim 2 --out runs/digits-2
	$(BIN)/lowerbound compare runs/digits-20 runs/digits-2 --out runs/demo

test: $(READY) lint
	$(BIN)/python -m pytest

test-slow: $(READY)
	$(BIN)/python -m pytest -m slow

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(READY)
	$(BIN)/python -m benchmarks.loop

clean:
	rm -rf .venv runs
