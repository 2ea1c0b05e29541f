"""Baselines by hand: what is guessed before a signal is seen, and what is learned from it."""

import torch

from inference.estimators import MovingAverage, NeuralBaseline

SIGNALS = torch.tensor([[[1, 2, 6]], [[4, -1, 3]], [[1, 1, 1]]], dtype=torch.float64)
X = torch.tensor([0.5, -1.0, 2.0], dtype=torch.float64)


def test_a_moving_average_is_that_of_the_signals_before():
    """d = 0.9: weights .1 · .9^age, divided by their sum."""
    average, found = MovingAverage(), []
    for signal in SIGNALS:
        found.append(float(average("z", signal, (), {})))
    one, two = (float(s.mean()) for s in SIGNALS[:2])
    expected = [0.0, one, (0.9 * one + two) / 1.9]
    torch.testing.assert_close(torch.tensor(found), torch.tensor(expected), rtol=1e-14, atol=0)


def test_an_evaluation_leaves_the_average_alone():
    average = MovingAverage()
    average("z", SIGNALS[0], (), {})
    with torch.no_grad():
        average("z", SIGNALS[1], (), {})
    average.eval()("z", SIGNALS[1], (), {})
    assert average("z", SIGNALS[1], (), {}) == SIGNALS[0].mean()


def test_a_neural_guess_is_the_network_s_and_the_average_of_what_it_left():
    """b_i(x) = C(x) + c_i, c_i an average of signal − C(x); another site has another c_i."""
    baseline = NeuralBaseline(lambda x: 2 * x + 1, lambda x: x)
    first = baseline("z", SIGNALS[0], (X,), {})
    second = baseline("z", SIGNALS[1], (X,), {})
    other = baseline("y", SIGNALS[2], (), {"x": X})
    guess = 2 * X + 1
    left = (SIGNALS[0] - guess).mean()
    for found, expected in ((first, guess), (second, guess + left), (other, guess)):
        torch.testing.assert_close(found, expected, rtol=1e-14, atol=0)


def test_only_the_network_has_a_gradient():
    weight = torch.tensor(0.3, requires_grad=True)
    baseline = NeuralBaseline(lambda x: weight * x, lambda x: x)
    for signal in SIGNALS[:2]:
        (slope,) = torch.autograd.grad(baseline("z", signal, (X,), {}).sum(), weight)
        torch.testing.assert_close(slope, X.sum(), rtol=1e-14, atol=0)


def test_averages_are_restored_whatever_there_was_before():
    """A site that both know, one that only the state knows, and one that was not there then."""
    average, restored = MovingAverage(), MovingAverage()
    average("both", SIGNALS[0], (), {})
    average("new", SIGNALS[0], (), {})
    state = average.get_extra_state()
    for name in ("both", "later"):
        restored(name, SIGNALS[1], (), {})
        restored(name, SIGNALS[2], (), {})
    restored.set_extra_state(state)
    for name in ("both", "new", "later"):
        known = average if name != "later" else MovingAverage()
        assert restored(name, SIGNALS[2], (), {}) == known(name, SIGNALS[2], (), {}), name
