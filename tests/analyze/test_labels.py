"""Entropy of labels in bits, from its definition."""

import math

import numpy as np
import pytest

from ddlight.analyze.labels import mean_entropy, own_entropy


def test_known_distributions():
    assert own_entropy(np.array([0, 3, 1]), "hard") == 0
    rows = np.array([[0.5, 0.25, 0.25, 0], [0.25] * 4, [0, 1, 0, 0]], np.float32)
    assert own_entropy(rows, "probabilities") == pytest.approx((1.5 + 2 + 0) / 3)
    assert own_entropy(3 * rows, "probabilities") == pytest.approx(3.5 / 3)
    assert own_entropy(rows, "centred") is None


def test_logits_are_softened():
    logits = np.array([[math.log(2), 0.0, 0.0], [0.0, 0.0, 0.0]], np.float16)
    assert own_entropy(logits, "logits") == pytest.approx((1.5 + math.log2(3)) / 2, abs=1e-3)
    p = 2**0.5 / (2**0.5 + 2)  # at T = 2
    q = (1 - p) / 2
    wanted = -(p * math.log2(p) + 2 * q * math.log2(q))
    assert mean_entropy([logits[:1]], 2.0) == pytest.approx(wanted, abs=1e-3)
    whole = mean_entropy([np.repeat(logits, 3, 0)], 1.0)
    assert mean_entropy([logits[:1]] * 3 + [logits[1:]] * 3, 1.0) == pytest.approx(whole)
