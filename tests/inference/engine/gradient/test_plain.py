"""The plain gradient: its norm, and clipping by it."""

import inspect

import pytest
import torch

from inference.engine.gradient.captured import CapturedGradient, named_tensors
from inference.engine.gradient.plain import PlainGradient, clip_gradients


def test_clipping_by_hand():
    parameters = [torch.zeros(2, requires_grad=True), torch.zeros((), requires_grad=True)]
    parameters.append(torch.zeros(3, requires_grad=True))  # no gradient
    for largest, scale in ((None, 1.0), (20.0, 1.0), (6.5, 6.5 / (13 + 1e-6))):
        parameters[0].grad, parameters[1].grad = torch.tensor([3.0, -4.0]), torch.tensor(12.0)
        assert float(clip_gradients(parameters, largest)) == pytest.approx(13, rel=1e-12)
        expected = scale * torch.tensor([3.0, -4.0])
        torch.testing.assert_close(parameters[0].grad, expected, rtol=1e-12, atol=0)
        assert float(parameters[1].grad) == pytest.approx(12 * scale, rel=1e-12)


def test_every_tensor_of_a_nested_state_has_a_name():
    state = {"params": {"w": torch.ones(2)}, "offset": torch.zeros(1), "constraints": {"w": "real"}}
    found = dict(named_tensors("store", state))
    assert found.keys() == {"store.params.w", "store.offset"}
    found["store.offset"] += 1
    assert state["offset"] == 0


@pytest.mark.parametrize("kind", [PlainGradient, CapturedGradient])
def test_the_kl_has_weight_one_unless_said_otherwise(kind):
    assert inspect.signature(kind.__call__).parameters["beta"].default == 1.0
