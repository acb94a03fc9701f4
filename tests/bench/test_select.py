"""The benchmark of selection: the plain ways are right, unequal picks are noticed, memory is counted."""

from pathlib import Path

import numpy as np
import pytest
import torch

from ddlight.bench import select


def points():
    return np.random.default_rng(0).standard_normal((50, 6))


def test_the_plain_ways_are_the_definitions():
    x = points()
    centres = [0]
    while len(centres) < 9:
        centres.append(int(np.linalg.norm(x[:, None] - x[centres], axis=2).min(1).argmax()))
    assert select.plain_kcenter(torch.from_numpy(x), 9) == centres
    chosen, left = [], list(range(50))
    for i in range(9):
        wanted = (i + 1) * x.mean(0) - x[chosen].sum(0)
        chosen.append(min(left, key=lambda j: np.linalg.norm(wanted - x[j])))
        left.remove(chosen[-1])
    assert select.plain_herding(torch.from_numpy(x), 9) == chosen
    similarity = np.exp(-np.linalg.norm(x[:, None] - x, axis=2))
    covering = []
    for _ in range(9):
        rest = [j for j in range(50) if j not in covering]
        covering.append(max(rest, key=lambda j: similarity[:, [*covering, j]].max(1).sum()))
    assert select.plain_facility_location(similarity, 9) == covering


def test_every_goal_is_measured():
    found = list(select.measure(Path(), True, 1))
    assert [m.id for m in found] == ["P21", "P21m", "P18", "P18m", "P19a", "P19b", "P20"]
    assert all(m.value > 0 for m in found)
    assert [len(m.rounds) for m in found] == [1, 0, 1, 0, 1, 1, 1]


def test_other_picks_are_noticed(monkeypatch):
    monkeypatch.setattr(select, "kcenter", lambda x, count, first: np.arange(count))
    with pytest.raises(AssertionError, match="pick other images"):
        list(select.measure(Path(), True, 1))


def test_memory_of_a_table_is_seen():
    x = np.zeros((1000, 4), np.float32)
    table = select._memory(lambda given: [int(np.ones((50, len(given))).argmax())], x)
    assert 400 < table < 500
    assert select._memory(lambda given: select.kcenter(x, 50, 0).tolist(), x) < 200
