"""Bounds of every score, and the cases that are known by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from spatia.metrics.classification import (
    balanced_accuracy,
    brier_score,
    confusion_table,
    expected_calibration_error,
    macro_f1,
    reliability_curve,
)

labels = st.lists(st.sampled_from("abcd"), min_size=1, max_size=40)


@st.composite
def forecasts(draw):
    n, classes = draw(st.integers(1, 30)), draw(st.integers(2, 5))
    weight = draw(arrays(np.float64, (n, classes), elements=st.floats(0.01, 1)))
    truth = draw(arrays(np.int64, n, elements=st.integers(0, classes - 1)))
    return truth, weight / weight.sum(axis=1, keepdims=True)


@given(labels, st.randoms(use_true_random=False))
def test_scores_of_labels_are_within_bounds_and_full_marks_are_one(truth, random) -> None:
    guess = [random.choice("abcde") for _ in truth]
    for score in (macro_f1, balanced_accuracy):
        assert 0 <= score(truth, guess) <= 1
        assert score(truth, truth) == 1


@given(forecasts())
def test_scores_of_probabilities_are_within_bounds(forecast) -> None:
    truth, probability = forecast
    assert 0 <= expected_calibration_error(truth, probability) <= 1
    assert 0 <= brier_score(truth, probability) <= 2
    certain = np.eye(probability.shape[1])[truth]
    assert brier_score(truth, certain) == 0
    assert expected_calibration_error(truth, certain) == 0


@given(forecasts(), st.integers(1, 20))
def test_reliability_counts_every_cell_once_within_its_bin(forecast, n_bins) -> None:
    curve = reliability_curve(*forecast, n_bins=n_bins)
    assert curve.count.sum() == len(forecast[0])
    filled = curve.count > 0
    assert (curve.confidence[filled] >= curve.edges[:-1][filled] - 1e-12).all()
    assert (curve.confidence[filled] <= curve.edges[1:][filled] + 1e-12).all()
    assert np.isnan(curve.accuracy[~filled]).all()


def test_a_missed_class_counts_as_zero_and_a_class_of_the_guess_alone_does_not() -> None:
    assert macro_f1(["a", "b"], ["a", "a"]) == pytest.approx((2 / 3 + 0) / 2)
    assert macro_f1(["a", "a"], ["a", "z"]) == pytest.approx(2 / 3)


def test_calibration_error_of_overconfidence_is_the_overconfidence() -> None:
    probability = np.tile([0.9, 0.1], (10, 1))
    truth = np.repeat([0, 1], 5)
    assert expected_calibration_error(truth, probability) == pytest.approx(0.4)


def test_confusion_table_has_truth_in_rows() -> None:
    assert confusion_table(["a", "a", "b"], ["a", "b", "b"], ["a", "b"]).tolist() == [[1, 1], [0, 1]]


@pytest.mark.parametrize(
    ("truth", "probability", "complaint"),
    [
        ([0], [[0.5, 0.2]], "sum to 1"),
        ([2], [[0.5, 0.5]], "outside 0..1"),
        ([0, 1], [[0.5, 0.5]], "expected"),
    ],
)
def test_what_is_no_forecast_is_refused(truth, probability, complaint) -> None:
    with pytest.raises(ValueError, match=complaint):
        brier_score(np.array(truth), np.array(probability))
