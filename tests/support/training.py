"""Runs of fit held against each other: captured or not, interrupted or not."""

import copy
from functools import partial

import numpy as np
import pytest
import torch

from inference import fit
from inference.engine.training import loop
from inference.results.traces import read_trace
from inference.util.files import load_checkpoint

quiet = partial(fit, progress=False, precision="float64")


def assert_same_training(model, guide, data, estimator=None, **options):
    """Captured and uncaptured, from the same start: the same trace, the same parameters."""
    runs = [
        quiet(*copy.deepcopy((model, guide)), data, copy.deepcopy(estimator), compile=c, **options)
        for c in (False, True)
    ]
    plain, captured = (run.trace["svi"].to_dataset().drop_vars("seconds") for run in runs)
    assert list(plain) == list(captured)
    for name in plain:
        np.testing.assert_allclose(captured[name], plain[name], rtol=1e-9, atol=1e-9, err_msg=name)
    for name, value in runs[0].params.items():
        torch.testing.assert_close(runs[1].params[name], value, rtol=1e-9, atol=1e-9)
    return runs[1]


def same(a, b, where="checkpoint"):
    """Equal in every bit, clocks aside."""
    if isinstance(a, torch.Tensor):
        assert a.shape == b.shape, where
        assert torch.equal(a, b) or bool(((a == b) | (a.isnan() & b.isnan())).all()), where
    elif isinstance(a, dict):
        assert a.keys() == b.keys(), where
        for key in a:
            if key not in ("elapsed", "pending_seconds"):
                value = (a[key][..., :-1], b[key][..., :-1]) if key == "rows" else (a[key], b[key])
                same(*value, f"{where}.{key}")
    elif isinstance(a, list | tuple):
        assert len(a) == len(b), where
        for i, pair in enumerate(zip(a, b, strict=True)):
            same(*pair, f"{where}[{i}]")
    else:
        assert a == b, where


def assert_same_runs(directory, whole):
    same(load_checkpoint(directory / "checkpoint.pt"), load_checkpoint(whole / "checkpoint.pt"))
    a, b = (read_trace(d)["svi"].to_dataset().drop_vars("seconds") for d in (directory, whole))
    assert a.identical(b)


def interrupted(step, monkeypatch, **options):
    """Run fit and raise KeyboardInterrupt when ``step`` steps are done."""
    take = loop.take_step

    def stop(training, batch):
        if training.step == step:
            raise KeyboardInterrupt
        take(training, batch)

    with monkeypatch.context() as patch:
        patch.setattr(loop, "take_step", stop)
        with pytest.raises(KeyboardInterrupt):
            fit(**options)
