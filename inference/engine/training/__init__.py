"""The training loop, its plan, records, checkpoints and early stopping."""
