"""Signals of a forward pass against autograd, and against loops over plain numbers."""

import math

import pytest
import torch
from torch.nn import functional as F

from ddlight.train import signals

LOGITS = torch.tensor([[2.0, 0.5, -1.0], [0.0, 3.0, 1.0], [-2.0, -2.0, 4.0], [1.0, 1.0, 1.0]])
LABELS = torch.tensor([0, 2, 2, 1])
SIGNALS = signals.of_class(LOGITS, LABELS)


def probabilities(row):
    total = sum(math.exp(v) for v in row)
    return [math.exp(v) / total for v in row]


@pytest.mark.parametrize("row", range(4))
def test_signals_equal_plain_arithmetic(row):
    p, y, z = probabilities(LOGITS[row].tolist()), int(LABELS[row]), LOGITS[row].tolist()
    others = [v for c, v in enumerate(p) if c != y]
    expected = {
        "prob_true": p[y],
        "el2n": math.sqrt(sum((v - (c == y)) ** 2 for c, v in enumerate(p))),
        "margin_prob": p[y] - max(others),
        "margin_logit": z[y] - max(v for c, v in enumerate(z) if c != y),
        "cross_entropy": -math.log(p[y]),
    }
    for name, value in expected.items():
        found = SIGNALS[name] if name in SIGNALS else signals.cross_entropy(LOGITS, LABELS)
        assert float(found[row]) == pytest.approx(value, abs=1e-6)
    ranked = sorted(p, reverse=True)
    assert float(signals.entropy(LOGITS)[row]) == pytest.approx(-sum(v * math.log(v) for v in p), abs=1e-6)
    assert float(signals.least_confidence(LOGITS)[row]) == pytest.approx(1 - ranked[0], abs=1e-6)
    assert float(signals.top_margin(LOGITS)[row]) == pytest.approx(ranked[0] - ranked[1], abs=1e-6)


def test_el2n_is_the_norm_of_the_logits_gradient():
    logits = LOGITS.clone().requires_grad_()
    F.cross_entropy(logits, LABELS, reduction="sum").backward()
    torch.testing.assert_close(SIGNALS["el2n"], logits.grad.norm(dim=1))


def test_el2n_sl_is_the_norm_of_the_gradient_of_the_tempered_kl():
    teacher, temperature = torch.tensor([[1.0, 0.2, 0.1], [0.3, 2.0, 0.0], [0.0, 0.0, 1.0], [4.0, 1.0, 0.0]]), 4.0
    targets = (teacher / temperature).softmax(1)
    logits = LOGITS.clone().requires_grad_()
    F.kl_div((logits / temperature).log_softmax(1), targets, reduction="sum").backward()
    torch.testing.assert_close(signals.el2n_sl(LOGITS, targets, temperature), logits.grad.norm(dim=1))


def test_a_nearly_certain_answer_keeps_its_error():
    p = 1 / (1 + math.exp(20.0))
    found = signals.of_class(torch.tensor([[0.0, 20.0]]), torch.tensor([1]))
    assert float(found["el2n"]) == pytest.approx(math.sqrt(2) * p, rel=1e-5)
    assert (float(found["margin_logit"]), float(found["correct"])) == (20.0, 1.0)


def test_an_answer_that_ties_is_not_right():
    assert signals.of_class(torch.zeros(2, 3), torch.tensor([0, 2]))["correct"].tolist() == [0.0, 0.0]


def test_correct_is_the_share_of_right_answers():
    assert SIGNALS["correct"].tolist() == [1.0, 0.0, 1.0, 0.0]


def test_entropy_of_a_certain_answer_is_zero_and_not_nan():
    assert float(signals.entropy(torch.tensor([[0.0, -torch.inf, -200.0]]))) == 0.0


def test_half_precision_logits_are_scored_in_float32():
    assert signals.of_class(LOGITS.bfloat16(), LABELS)["el2n"].dtype == torch.float32
