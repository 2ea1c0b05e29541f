# make demo: trained models, compared and audited.  make test: the proof.  Both set themselves up.
PYTHON ?= python3
BIN := .venv/bin
BASE := .venv/.base
READY := .venv/.ready
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e

.PHONY: demo test test-docs test-slow lint bench notebooks docs clean

$(BASE): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "lowerbound needs Python 3.11 or newer: make PYTHON=/path/to/python3.11"; exit 2; }
	$(PYTHON) -m venv .venv
	$(INSTALL) .
	@touch $@

$(READY): $(BASE)
	$(INSTALL) '.[dev]'
	@touch $@

SBN := sbn --data digits --latent-dims 8 --learning-rate 0.003

demo: export OMP_NUM_THREADS = 1  # small networks gain nothing from a second, and wait for it
demo: $(BASE)
	$(BIN)/lowerbound fit vae --epochs 30 --batch-size 32 --resume --out runs/demo/vae
	for estimator in ScoreFunction 'LeaveOneOut --particles 4' DisARM GumbelSoftmax; do \
		$(BIN)/lowerbound fit $(SBN) --epochs 30 --batch-size 32 --seeds 2 --resume \
			--out runs/demo/sbn/$${estimator%% *} --estimator $$estimator || exit; \
	done
	$(BIN)/lowerbound compare runs/demo/sbn/* --under ELBO --out runs/demo/compared
	$(BIN)/lowerbound audit $(SBN) --batch-size 128 --at 300 --samples 600 \
		--estimators ScoreFunction LeaveOneOut:4 DisARM GumbelSoftmax --out runs/demo/audited
	@echo
	@echo "a VAE's digits:             runs/demo/vae/samples.png, runs/demo/vae/reconstructions.png"
	@echo "four estimators' training:  runs/demo/compared/comparison.png"
	@echo "bias, noise and cost:       runs/demo/audited/audit.png"
	@echo "next:                       $(BIN)/lowerbound fit vae --help, or a program of your own:"
	@echo "                            docs/start.md"

PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto --dist worksteal

test: $(READY) lint  # a test that hangs is ended, and shows where it hung
	$(PYTEST) -o faulthandler_timeout=300 -o faulthandler_exit_on_timeout=true

test-docs: $(READY)
	$(PYTEST) -m 'slow or not slow' tests/test_docs.py

test-slow: $(READY)
	$(PYTEST) -m slow

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(READY)
	$(INSTALL) '.[bench]'
	$(BIN)/python -m benchmarks

notebooks: export OMP_NUM_THREADS = 1
notebooks: $(READY)
	$(INSTALL) '.[dev,notebooks]'
	$(BIN)/python -m notebooks.execute

docs: $(BASE)
	$(INSTALL) '.[docs]'
	$(BIN)/python -m sphinx --fail-on-warning --keep-going -c docs . build/docs
	@echo "the site: build/docs/index.html"

clean:
	rm -rf .venv build runs
