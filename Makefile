# make demo: a trained model and a comparison.  make test: the proof.  Both set themselves up.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready

.PHONY: demo test test-slow lint bench notebooks clean

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "lowerbound needs Python 3.11 or newer: make PYTHON=/path/to/python3.11"; exit 2; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

demo: export OMP_NUM_THREADS = 1  # small networks gain nothing from a second, and wait for it
demo: $(READY)
	for estimator in Trace_ELBO TraceGraph_ELBO TraceMeanField_ELBO; do \
		$(BIN)/lowerbound fit vae --epochs 40 --batch-size 32 --seeds 3 --estimator $$estimator \
			--out runs/digits/$$estimator --resume || exit; \
	done
	$(BIN)/lowerbound compare runs/digits/* --out runs/demo
	@echo "samples.png, reconstructions.png, elbo.png and trace.nc: runs/digits/*/"
	@echo "next: $(BIN)/lowerbound fit vae --help, or a program of your own: see README.md"

PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto --dist worksteal

test: $(READY) lint  # a test that hangs is ended, and shows where it hung
	$(PYTEST) -o faulthandler_timeout=300 -o faulthandler_exit_on_timeout=true

test-slow: $(READY)
	$(PYTEST) -m slow

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(READY)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[bench]'
	$(BIN)/python -m benchmarks

notebooks: export OMP_NUM_THREADS = 1
notebooks: $(READY)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,notebooks]'
	$(BIN)/python -m notebooks.execute

clean:
	rm -rf .venv runs
