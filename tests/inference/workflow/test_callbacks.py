"""Callbacks see each epoch, may end a seed cleanly, and change no number."""

from functools import partial

import pytest
import torch

from inference import Run, UserError, fit
from inference.util.files import load_checkpoint
from tests.support.examples import local
from tests.support.training import assert_same_runs

quiet = partial(fit, progress=False, precision="float64", batch_size=15)


def program():
    model, guide, _ = local(40)
    return model, guide, {"x": torch.linspace(-1, 3, 40)}


def test_a_callback_sees_each_epoch():
    model, guide, data = program()
    seen = []

    def see(step, epoch, metrics, run):
        seen.append((step, epoch, metrics, run.predict({"x": torch.zeros(2)}, 3)))
        assert run.trace["svi"].sizes == {"seed": 1, "step": step}

    run = quiet(model, guide, data, epochs=3, seeds=2, valid=data, callbacks=[see])
    assert [s[:2] for s in seen] == [(3, 1), (6, 2), (9, 3)] * 2
    elbo = run.trace["svi"]["elbo"].to_numpy()
    for k, (step, _, metrics, _) in enumerate(seen):
        assert metrics["elbo"] == pytest.approx(elbo[k // 3, step - 3 : step].mean(), rel=1e-12)
        held_out = run.trace["held_out"]["elbo"].to_numpy()[k // 3, k % 3]
        assert metrics["held_out_elbo"] == held_out
    assert set(seen[0][2]) == {"elbo", "kl_z", "log_likelihood_x", "grad_norm", "held_out_elbo"}


def test_what_a_callback_draws_changes_nothing(tmp_path):
    for name, callbacks in (("plain", []), ("drawing", [lambda *_: torch.randn(5)])):
        quiet(*program(), epochs=3, directory=tmp_path / name, callbacks=callbacks)
    assert_same_runs(tmp_path / "drawing", tmp_path / "plain")


def stop(step, epoch, metrics, run):
    if epoch == 2:
        raise StopIteration


def test_a_stop_is_a_clean_end(tmp_path):
    stopped = quiet(*program(), epochs=5, directory=tmp_path / "a", callbacks=[stop])
    short = quiet(*program(), epochs=2, directory=tmp_path / "b")
    assert stopped.trace["svi"]["elbo"].equals(short.trace["svi"]["elbo"])
    assert load_checkpoint(tmp_path / "a" / "checkpoint.pt")[0]["finished"]
    model, guide, _ = program()
    assert torch.equal(
        Run.load(tmp_path / "a", model, guide).params["model.m"], short.params["model.m"]
    )
    again = quiet(*program(), epochs=5, directory=tmp_path / "a", resume=True)
    assert again.trace["svi"].sizes["step"] == 6  # it had ended
    quiet(*program(), epochs=6, directory=tmp_path / "a", resume=True)
    quiet(*program(), epochs=6, directory=tmp_path / "whole")
    assert_same_runs(tmp_path / "a", tmp_path / "whole")


def test_a_callback_s_own_error_is_not_swallowed():
    def fail(step, epoch, metrics, run):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        quiet(*program(), epochs=1, callbacks=[fail])


@pytest.mark.parametrize("callbacks", [print, [None], "f"])
def test_what_is_no_list_of_functions_is_refused(callbacks):
    with pytest.raises(UserError, match="callbacks must be a list of functions"):
        quiet(*program(), epochs=1, callbacks=callbacks)
