"""Canvases: what lies on them, where, and what it is called."""

import pytest
import torch

from inference.data.columns import Columns
from inference.recipes.glimpses.data.canvas import END, TASKS, anywhere, fixed, paste, piece

B = 200


@pytest.fixture
def digits():
    """Squares of 28 × 28, all pixels of the i-th equal to its label's brightness."""
    y = torch.arange(B) % 10
    x = ((y + 1) / 10).reshape(B, 1, 1, 1).expand(B, 1, 28, 28)
    return {"x": x.clone(), "y": y}


def plain(name):
    """The task without clutter."""
    task = TASKS[name]
    return type(task)(**{**vars(task), "pieces": 0})


@pytest.mark.parametrize("name", TASKS)
def test_shapes_and_classes(name, digits):
    task = TASKS[name]
    made = task(digits)
    assert made["x"].shape == (B, 1, task.height, task.width)
    assert made["y"].shape == ((B, task.targets) if task.targets > 1 else (B,))
    assert int(made["y"].min()) >= 0
    assert int(made["y"].max()) < task.classes


def test_a_digit_lies_whole_and_anywhere(digits):
    made = plain("translated")(digits)
    area = (made["x"] > 0).flatten(1).sum(1)
    assert torch.equal(area, torch.full((B,), 28 * 28))
    corners = torch.stack([(made["x"][:, 0] > 0).any(d).byte().argmax(1) for d in (1, 2)])
    assert corners.min() == 0
    assert corners.max() == 60 - 28
    assert torch.allclose(corners.double().mean(1), torch.tensor(16.0).double(), atol=3)


def test_two_digits_do_not_overlap_and_are_named_as_an_unordered_pair(digits):
    made = plain("pairs")(digits)
    for canvas, y in zip(made["x"][:, 0], made["y"].tolist(), strict=True):
        assert int((canvas > 0).sum()) == 2 * 28 * 28
        found = sorted({round(10 * float(v)) - 1 for v in canvas.unique() if v > 0})
        a, b = found[0], found[-1]
        assert y == b * (b + 1) // 2 + a
    assert TASKS["pairs"].classes == 10 * 11 // 2


def test_a_sum_is_of_the_two_digits_that_lie_there(digits):
    made = plain("addition")(digits)
    total = (made["x"][:, 0] * 10).sum((1, 2)) / (28 * 28) - 2
    assert torch.allclose(total, made["y"].to(total.dtype), atol=1e-3)


def test_a_sequence_is_read_from_left_to_right_and_ends(digits):
    made = plain("sequences")(digits)
    for canvas, y in zip(made["x"][:, 0], made["y"].tolist(), strict=True):
        columns = (canvas.amax(0) * 10).round().int() - 1
        changes = torch.unique_consecutive(columns).tolist()
        runs = (columns >= 0).int()
        count = int((runs.diff(prepend=torch.zeros(1, dtype=torch.int)) == 1).sum())
        said = [v for v in y if v != END]
        assert y[len(said) :] == [END] * (4 - len(said))
        seen = [v for v in changes if v >= 0]
        assert seen == said or count < len(said)  # two of one class may touch
    lengths = (made["y"] != END).sum(1)
    assert set(lengths.tolist()) == {1, 2, 3}


def test_clutter_is_cut_from_other_digits_and_hides_nothing(digits):
    cut = piece(digits["x"][:, 0])
    assert cut.shape == (B, 8, 8)
    assert len({float(c.max()) for c in cut}) > 5
    canvas = torch.full((B, 20, 20), 0.5)
    paste(canvas, torch.full((B, 8, 8), 0.25), anywhere(canvas, 8))
    assert torch.equal(canvas, torch.full((B, 20, 20), 0.5))


def test_a_test_set_is_the_same_at_every_call_and_training_is_not(digits):
    task, columns = TASKS["cluttered"], Columns(digits)
    state = torch.get_rng_state()
    one, two = fixed(columns, task, 2), fixed(columns, task, 2)
    assert torch.equal(one.tensors["x"], two.tensors["x"])
    assert torch.equal(torch.get_rng_state(), state)
    assert not torch.equal(task(digits)["x"], task(digits)["x"])
