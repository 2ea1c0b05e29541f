"""Scores of rationales by hand, and the benchmark's trivial figures."""

import numpy as np
import pytest

from inference.recipes.rationales.report.scores import (
    TRIVIAL,
    at_rate,
    average_precision,
    mean,
    overlap,
    runs,
    span_f1,
    word_f1,
)

TRUTH = np.array([0, 1, 1, 0, 0, 1], dtype=bool)


def test_average_precision_is_the_mean_precision_at_each_marked_word():
    scores = np.array([0.9, 0.8, 0.1, 0.3, 0.2, 0.7])  # marked at ranks 2, 3 and 6
    found = average_precision([scores, scores], [TRUTH, np.zeros(6, dtype=bool)])
    assert found[0] == pytest.approx((1 / 2 + 2 / 3 + 3 / 6) / 3)
    assert np.isnan(found[1])


def test_word_f1():
    kept = np.array([1, 1, 0, 0, 0, 1], dtype=bool)
    assert word_f1([kept], [TRUTH])[0] == pytest.approx(2 * 2 / 6)
    assert word_f1([np.zeros(6, dtype=bool)], [TRUTH])[0] == 0
    assert np.isnan(word_f1([kept], [np.zeros(6, dtype=bool)])[0])


def test_spans_are_found_at_half_of_the_union():
    assert runs(TRUTH) == [(1, 3), (5, 6)]
    assert overlap((0, 4), (2, 6)) == pytest.approx(2 / 6)
    kept = np.array([1, 1, 1, 1, 0, 0], dtype=bool)  # half of (0, 4) is (1, 3); (5, 6) is missed
    assert span_f1([kept], [TRUTH])[0] == pytest.approx(2 * 1 * 0.5 / 1.5)
    assert span_f1([np.zeros(6, dtype=bool)], [TRUTH])[0] == 0


@pytest.mark.parametrize(
    ("rate", "kept"),
    [(0.01, [0, 1, 0]), (0.3, [0, 1, 0]), (0.5, [1, 1, 0]), (1.0, [1, 1, 1])],
)
def test_units_are_kept_to_the_nearest_share_of_words(rate, kept):
    scores, sizes = np.array([0.5, 0.9, 0.1]), np.array([3, 2, 5])
    assert at_rate(scores, sizes, rate).tolist() == [bool(k) for k in kept]


def test_a_mean_has_the_error_of_resampled_texts():
    values = np.random.default_rng(1).normal(size=400)
    score = mean(np.append(values, np.nan))
    assert score.value == pytest.approx(values.mean())
    assert score.error == pytest.approx(values.std() / 20, rel=0.1)


def test_trivial_scores_take_the_first_and_the_last():
    generator = np.random.default_rng(0)
    assert TRIVIAL["the first"](4, generator).argmax() == 0
    assert TRIVIAL["the last"](4, generator).argmax() == 3
    assert len(set(TRIVIAL["at random"](4, generator))) == 4
