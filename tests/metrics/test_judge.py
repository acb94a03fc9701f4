"""Scores against a plain computation and scikit-learn."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, log_loss, top_k_accuracy_score

from ddlight.metrics.judge import ECE_BINS, Judge


def scores(logits, labels, batches=(7, 100)):
    judge = Judge(logits.shape[1], torch.device("cpu"))
    for part in np.split(np.arange(len(labels)), batches):
        judge.update(torch.from_numpy(logits[part]), torch.from_numpy(labels[part]))
    return judge.scores()


def expected_calibration_error(probabilities, labels):
    """arXiv 1706.04599, equation 3, with equal bins (a, b]."""
    confidence, right = probabilities.max(1), probabilities.argmax(1) == labels
    edges = np.linspace(0, 1, ECE_BINS + 1)
    total = 0.0
    for low, high in pairwise(edges):
        inside = (confidence > low) & (confidence <= high)
        if inside.any():
            total += inside.mean() * abs(right[inside].mean() - confidence[inside].mean())
    return total


@pytest.fixture
def case():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(317, 8)).astype(np.float32) * 3
    labels = np.where(rng.random(317) < 0.5, logits.argmax(1), rng.integers(0, 8, 317))
    return logits, labels


def test_scores_equal_plain_computation(case):
    logits, labels = case
    probabilities = np.exp(logits.astype(np.float64))
    probabilities /= probabilities.sum(1, keepdims=True)
    found = scores(logits, labels)
    assert found.acc == pytest.approx(100 * accuracy_score(labels, logits.argmax(1)), abs=1e-4)
    assert found.top5 == pytest.approx(100 * top_k_accuracy_score(labels, logits, k=5), abs=1e-4)
    assert found.nll == pytest.approx(log_loss(labels, probabilities, labels=range(8)), abs=1e-5)
    assert found.ece == pytest.approx(expected_calibration_error(probabilities, labels), abs=1e-5)
    each = [100 * (logits[labels == c].argmax(1) == c).mean() for c in range(8)]
    assert found.per_class == pytest.approx(each, abs=1e-4)
    assert found.images == 317


def test_batches_do_not_matter(case):
    one, other = scores(*case), scores(*case, batches=(1, 2, 316))
    assert (one.acc, one.images) == (other.acc, other.images)
    assert one.nll == pytest.approx(other.nll, abs=1e-6)


def test_top5_needs_more_than_five_classes():
    assert scores(np.eye(4, dtype=np.float32), np.arange(4), batches=(2,)).top5 is None


def test_every_class_counts_even_if_absent():
    found = scores(np.eye(6, dtype=np.float32)[:2], np.arange(2), batches=(1,))
    assert (found.acc, found.per_class) == (100.0, [100.0, 100.0, 0.0, 0.0, 0.0, 0.0])
