"""What is read off a split against scikit-learn and the definitions."""

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, log_loss, recall_score, top_k_accuracy_score

from ddlight.regimes.judge import Judge

CPU = torch.device("cpu")


def sample(classes, count, seed=0, scale=3.0):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, count)
    logits = rng.normal(size=(count, classes)) * scale
    logits[np.arange(count), labels] += scale * 0.7
    return torch.tensor(logits, dtype=torch.float32), torch.tensor(labels)


def judged(logits, labels, batch=7):
    judge = Judge(logits.shape[1], CPU)
    for some, some_labels in zip(logits.split(batch), labels.split(batch), strict=True):
        judge.update(some, some_labels)
    return judge.scores()


def ece(logits, labels, bins=15):
    """Guo et al. 2017, eq. 3: bins ((m - 1) / M, m / M], by their share the gap between accuracy and confidence."""
    p = logits.double().softmax(1)
    confidence, correct = p.max(1).values, (p.argmax(1) == labels).double()
    total = 0.0
    for m in range(bins):
        inside = (confidence > m / bins) & (confidence <= (m + 1) / bins)
        if inside.any():
            total += float(inside.double().mean() * (correct[inside].mean() - confidence[inside].mean()).abs())
    return total


@pytest.mark.parametrize(("classes", "count"), [(10, 1003), (6, 501), (5, 250), (2, 64), (100, 3000)])
def test_scores_are_the_definitions(classes, count):
    logits, labels = sample(classes, count)
    scores = judged(logits, labels)
    p, y, every = logits.double().softmax(1).numpy(), labels.numpy(), np.arange(classes)
    assert scores.acc == pytest.approx(100 * accuracy_score(y, p.argmax(1)), abs=1e-4)
    assert scores.nll == pytest.approx(log_loss(y, p, labels=every), rel=1e-5)
    recalls = recall_score(y, p.argmax(1), labels=every, average=None, zero_division=0)
    assert scores.per_class == pytest.approx(100 * recalls, abs=1e-4)
    assert scores.ece == pytest.approx(ece(logits, labels), abs=1e-5)
    if classes > 5:
        assert scores.top5 == pytest.approx(100 * top_k_accuracy_score(y, p, k=5, labels=every), abs=1e-4)
    else:
        assert scores.top5 is None
    assert scores.images == count


def test_certain_answers_belong_to_the_last_bin():
    """Confidence 1 is in (14/15, 1] like 0.95: right and wrong ones there make up for each other."""
    logits = torch.full((40, 3), -50.0)
    logits[:, 0] = 50.0
    logits[20:, :2] = torch.tensor([2.0, -2.0])
    labels = torch.tensor([0] * 19 + [1] + [0] * 20)
    assert float(logits.softmax(1).max()) == 1.0 and 14 / 15 < float(logits[20].softmax(0).max()) < 1
    assert judged(logits, labels).ece == pytest.approx(ece(logits, labels), abs=1e-5)


def test_batches_do_not_matter():
    logits, labels = sample(10, 333)
    one, many = judged(logits, labels, 333), judged(logits, labels, 1)
    assert vars(one) == {**vars(many), "nll": pytest.approx(many.nll), "ece": pytest.approx(many.ece)}


def test_half_precision_logits_are_read_as_floats():
    logits, labels = sample(10, 200)
    half = logits.to(torch.bfloat16)
    assert judged(half, labels) == judged(half.float(), labels)


def test_a_class_without_images_counts_nothing_against_the_mean():
    logits, labels = sample(10, 300)
    labels = labels.clamp(max=8)
    scores = judged(logits, labels)
    assert scores.per_class[9] == 0
    assert scores.acc == pytest.approx(100 * float((logits.argmax(1) == labels).double().mean()), abs=1e-4)


def test_a_judge_is_no_module():
    assert not isinstance(Judge(10, CPU), torch.nn.Module)


@pytest.mark.parametrize("logit", [float("nan"), float("inf")])
def test_broken_logits_do_not_pass_for_a_loss(logit):
    logits, labels = sample(10, 50)
    logits[3, 2] = logit
    assert not np.isfinite(judged(logits, labels).nll)
