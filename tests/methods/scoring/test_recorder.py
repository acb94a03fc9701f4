"""The recorder's streaming statistics against a recomputation from all logits, kept here."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from ddlight.methods.scoring.recorder import Recorder

N, C, PASSES, RING, DUAL, EARLY = 7, 4, 9, 3, 6, 2


def history(seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(PASSES, N, C, generator=generator) * 2, torch.randint(C, (N,), generator=generator)


def view(rows, labels):
    return SimpleNamespace(ids=rows, labels=labels[rows])


def record(logits, labels, batch=3, seen=None, **options):
    """Feed a history in batches of a drawn order; `seen` cuts the last pass."""
    recorder = Recorder(N, EARLY, DUAL, RING, clean=0, **options)
    for number, answers in enumerate(logits):
        order = torch.randperm(N, generator=torch.Generator().manual_seed(number))
        if seen is not None and number == len(logits) - 1:
            order = order[:seen]
        for rows in order.split(batch):
            recorder.observe(answers[rows], torch.zeros(len(rows), C), view(rows, labels))
        recorder.end_pass()
    return {name: value.numpy() for name, value in recorder.columns().items()}


def plain(logits, labels):
    """Numbers of every pass, in float64: prob_true, el2n, margins, correct, each (passes, N)."""
    z = logits.double().numpy()
    p = np.exp(z) / np.exp(z).sum(-1, keepdims=True)
    own = np.eye(C)[labels.numpy()].astype(bool)
    own = np.broadcast_to(own, p.shape)
    rest = np.where(own, -np.inf, p).max(-1)
    rest_z = np.where(own, -np.inf, z).max(-1)
    right = z.argmax(-1) == labels.numpy()
    q = p[own].reshape(p.shape[:2])
    return {
        "q": q,
        "el2n": np.sqrt(((p - own) ** 2).sum(-1)),
        "prob": q - rest,
        "logit": z[own].reshape(q.shape) - rest_z,
        "right": right,
    }


def test_streaming_statistics_equal_those_of_the_whole_history():
    logits, labels = history()
    found, truth = record(logits, labels), plain(logits, labels)
    windows = np.stack([truth["q"][k : k + RING].std(0, ddof=1) for k in range(PASSES - RING + 1)])
    means = np.stack([truth["q"][k : k + RING].mean(0) for k in range(DUAL - RING + 1)])
    expected = {
        "train.el2n": truth["el2n"][:EARLY].mean(0),
        "train.aum_prob": truth["prob"].mean(0),
        "train.aum_logit": truth["logit"].mean(0),
        "train.prob_true": truth["q"].mean(0),
        "train.dyn_unc": windows.mean(0),
        "train.dual": (10 * windows[: DUAL - RING + 1] * (1 - means)).mean(0),
        "train.dual_prob": truth["q"][:DUAL].mean(0),
        "train.learned": truth["right"].any(0),
        "train.forgetting": (truth["right"][:-1] & ~truth["right"][1:]).sum(0),
    }
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, atol=2e-6, err_msg=name)


def test_aum_is_of_all_passes_and_not_of_the_last():
    logits, labels = history()
    again = logits.clone()
    again[0] += torch.randn(N, C)
    assert not np.allclose(record(logits, labels)["train.aum_prob"], record(again, labels)["train.aum_prob"])


@pytest.mark.parametrize(
    ("right", "events", "learned"),
    [("0000", 0, 0), ("1111", 0, 1), ("1010", 2, 1), ("0101", 1, 1), ("0110", 1, 1), ("0001", 0, 1)],
)
def test_forgetting_by_hand(right, events, learned):
    logits = torch.tensor([[[1.0, 0.0]] if r == "1" else [[0.0, 1.0]] for r in right])
    recorder = Recorder(1, 1, 1, 2, clean=0)
    for answers in logits:
        recorder.observe(answers, answers, view(torch.tensor([0]), torch.tensor([0])))
        recorder.end_pass()
    found = recorder.columns()
    assert float(found["train.forgetting"]) == events
    assert float(found["train.learned"]) == learned


def test_an_image_that_a_cut_pass_missed_keeps_what_it_had():
    logits, labels = history()
    found = record(logits, labels, seen=4)
    order = torch.randperm(N, generator=torch.Generator().manual_seed(PASSES - 1))
    missed = order[4:].numpy()
    shorter = record(logits[:-1], labels)
    for name in ("train.aum_prob", "train.forgetting", "train.learned"):
        np.testing.assert_array_equal(found[name][missed], shorter[name][missed])
    np.testing.assert_array_equal(found["train.dyn_unc"], shorter["train.dyn_unc"])
    assert found["train.seen"][missed].tolist() == [PASSES - 1] * 3
    assert found["train.seen"].sum() == N * PASSES - 3


def test_the_order_and_size_of_batches_do_not_matter():
    logits, labels = history()
    first, second = record(logits, labels, batch=3), record(logits, labels, batch=7)
    assert {name: value.tobytes() for name, value in first.items()} == {
        name: value.tobytes() for name, value in second.items()
    }


def test_an_image_seen_twice_in_a_pass_counts_once():
    logits, labels = history()
    recorder = Recorder(N, 1, 1, 2, clean=0)
    for rows in (torch.arange(N), torch.tensor([2, 3])):
        recorder.observe(logits[0][rows], logits[0][rows], view(rows, labels))
    recorder.end_pass()
    once = Recorder(N, 1, 1, 2, clean=0)
    once.observe(logits[0], logits[0], view(torch.arange(N), labels))
    once.end_pass()
    assert recorder.columns()["train.seen"].tolist() == [1.0] * N
    torch.testing.assert_close(recorder.columns()["train.aum_prob"], once.columns()["train.aum_prob"])


def test_a_recorder_continues_from_its_state_in_the_middle_of_a_pass():
    logits, labels = history()
    whole, first, second = (Recorder(N, EARLY, DUAL, RING, 0, tdds=7, classes=C) for _ in range(3))
    rows = torch.arange(N)
    for number, answers in enumerate(logits):
        for part in rows.split(4):
            whole.observe(answers[part], answers[part], view(part, labels))
            early = number < 4 or (number == 4 and part[0] == 0)
            (first if early else second).observe(answers[part], answers[part], view(part, labels))
            if number == 4 and part[0] == 0:
                second.load_state_dict(first.state_dict())
        whole.end_pass()
        (first if number < 4 else second).end_pass()
    for name, value in whole.columns().items():
        assert torch.equal(value, second.columns()[name]), name


def test_the_state_does_not_grow_with_classes_or_passes():
    few = Recorder(1000, 10, 30, 10, clean=0).state_bytes
    assert few == 1000 * 4 * (2 * 5 + 10 + 10 + 4)
    assert Recorder(1000, 50, 200, 10, clean=0).state_bytes == few
    assert Recorder(1000, 10, 30, 10, clean=3).state_bytes == few + 1000 * 4 * 6


# --- TDDS: the change of the whole answer from pass to pass ---


def changes(logits):
    """Changes between passes in a row by plain loops: (passes - 1, N)."""
    p = logits.double().softmax(-1).tolist()
    return np.array(
        [
            [sum(abs(a * (np.log(a) - np.log(b))) for a, b in zip(p[t][i], p[t - 1][i], strict=True)) for i in range(N)]
            for t in range(1, len(p))
        ]
    )


@pytest.mark.parametrize("asked", [2, 5, PASSES])
def test_changes_equal_those_of_the_whole_history(asked):
    logits, labels = history()
    found = record(logits, labels, tdds=asked, classes=C)["train.change"]
    np.testing.assert_allclose(found, changes(logits)[: asked - 1], rtol=1e-4, atol=1e-5)


def test_changes_are_of_the_passes_that_there_were_and_reached_all():
    logits, labels = history()
    whole = record(logits, labels, tdds=20, classes=C)["train.change"]
    assert whole.shape == (PASSES - 1, N)
    cut = record(logits, labels, tdds=20, classes=C, seen=4)["train.change"]
    np.testing.assert_array_equal(cut, whole[:-1])
    assert "train.change" not in record(logits[:1], labels, tdds=20, classes=C)


def test_asking_for_changes_changes_nothing_else():
    logits, labels = history()
    plain_run, asked = record(logits, labels), record(logits, labels, tdds=5, classes=C)
    assert "train.change" not in plain_run
    assert asked.keys() - plain_run.keys() == {"train.change"}
    assert all(asked[name].tobytes() == value.tobytes() for name, value in plain_run.items())


def test_changes_of_views_seen_twice_are_those_of_their_mean():
    logits, labels = history()
    recorder = Recorder(N, 1, 1, 2, clean=0, tdds=2, classes=C)
    for first, second in ((logits[0], logits[1]), (logits[2], logits[3])):
        for answers in (first, second):
            recorder.observe(answers, answers, view(torch.arange(N), labels))
        recorder.end_pass()
    means = [(logits[k].double().softmax(-1) + logits[k + 1].double().softmax(-1)) / 2 for k in (0, 2)]
    np.testing.assert_allclose(recorder.columns()["train.change"], changes(torch.stack(means).log()), rtol=1e-4)


def test_an_answer_of_probability_zero_has_a_finite_change():
    answers = torch.tensor([[[0.0, 300.0]], [[300.0, 0.0]]])
    recorder = Recorder(1, 1, 1, 2, clean=0, tdds=2, classes=2)
    for one in answers:
        recorder.observe(one, one, view(torch.tensor([0]), torch.tensor([0])))
        recorder.end_pass()
    assert float(recorder.columns()["train.change"]) == pytest.approx(np.log(1e8), rel=1e-3)


def test_changes_cost_what_they_say():
    asked, few = (Recorder(1000, 10, 30, 10, 0, tdds=t, classes=7).state_bytes for t in (12, 0))
    assert asked - few == 1000 * (8 * 7 + 4 * 11)


def test_clean_passes_are_equally_spaced_and_the_last_ends_the_run():
    recorder, steps = Recorder(1, 1, 1, 2, clean=4), []
    for step in range(1, 11):
        while recorder.due(step, 10):
            recorder.readings += 1
            steps.append(step)
    assert steps == [3, 5, 8, 10]
