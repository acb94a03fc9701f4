"""Batches of a run: shared over ranks and micro-batches without changing what a step sees, resumable at any batch."""

from itertools import islice

import numpy as np
import pytest
import torch

from ddlight.views.loader import Batch, EvalLoader, RunLoader, order

SHAPES = [(30, 8), (7, 7), (100, 64), (5, 2), (9, 3), (1, 1)]
SHARES = [(1, 1), (2, 1), (1, 2), (3, 2), (4, 5)]


def global_batches(images, batch, steps, seed):
    """What each optimiser step must see, from the definition."""
    found, epoch = [], 0
    while len(found) < steps:
        visit = order(seed, epoch, images)
        found += [visit[start : start + batch] for start in range(0, images, batch)]
        epoch += 1
    return found[:steps]


def parts_of(images, batch, steps, ranks, accumulate, seed=3):
    """Parts [step][micro * ranks + rank] of all ranks' loaders."""
    loaders = [list(RunLoader(images, batch, steps, seed, accumulate, rank, ranks)) for rank in range(ranks)]
    assert {len(parts) for parts in loaders} == {steps * accumulate}
    return [
        [loaders[rank][step * accumulate + micro] for micro in range(accumulate) for rank in range(ranks)]
        for step in range(steps)
    ]


@pytest.mark.parametrize(("images", "batch"), SHAPES)
@pytest.mark.parametrize(("ranks", "accumulate"), SHARES)
def test_the_parts_are_the_global_batch(images, batch, ranks, accumulate):
    steps = 11
    for parts, expected in zip(
        parts_of(images, batch, steps, ranks, accumulate), global_batches(images, batch, steps, 3), strict=True
    ):
        assert all(part.ids.tolist() == expected.tolist() for part in parts)
        assert np.concatenate([part.own for part in parts if part.weight]).tolist() == expected.tolist()
        assert all(len(part.own) for part in parts)  # a stand-in where there are fewer images than parts
        assert max(len(p.own) for p in parts) - min(len(p.own) for p in parts if p.weight) <= 1


@pytest.mark.parametrize(("images", "batch"), SHAPES)
@pytest.mark.parametrize(("ranks", "accumulate"), SHARES)
def test_weighted_means_of_the_parts_average_to_the_global_mean(images, batch, ranks, accumulate):
    values = np.random.default_rng(0).normal(size=images)
    for parts in parts_of(images, batch, 9, ranks, accumulate):
        mean = np.mean([part.weight * values[part.own.numpy()].mean() for part in parts])
        assert mean == pytest.approx(values[parts[0].ids.numpy()].mean(), abs=1e-12)


def test_every_pass_visits_each_image_once_in_an_order_of_its_own():
    batches = list(RunLoader(30, 8, 12, 0))
    for epoch in range(3):
        of_pass = [b for b in batches if b.epoch == epoch]
        assert [b.index for b in of_pass] == [0, 1, 2, 3] and [len(b.own) for b in of_pass] == [8, 8, 8, 6]
        assert sorted(np.concatenate([b.own for b in of_pass]).tolist()) == list(range(30))
    orders = {tuple(order(seed, epoch, 30)) for seed in range(3) for epoch in range(3)}
    assert len(orders) == 9
    assert order(5, 2, 30).dtype == np.int64 and order(5, 2, 30).tolist() == order(5, 2, 30).tolist()


@pytest.mark.parametrize("stop", [0, 1, 5, 8, 11, 23])
def test_a_loader_goes_on_where_it_stopped(stop):
    def loader():
        return RunLoader(30, 8, 12, 1, accumulate=2, rank=1, ranks=2)

    def plain(batches):
        return [(b.ids.tolist(), b.rows, b.weight, b.epoch, b.index) for b in batches]

    whole = plain(loader())
    first = loader()
    assert plain(islice(first, stop)) == whole[:stop]
    second = loader()
    second.load_state_dict(first.state_dict())
    assert plain(second) == whole[stop:]
    assert len(first) == len(second) == 24


def test_a_finished_loader_starts_again():
    loader = RunLoader(30, 8, 5, 0)
    assert [b.ids.tolist() for b in loader] == [b.ids.tolist() for b in loader]


def test_a_batch_carries_the_set():
    batch = Batch(torch.tensor([4, 2, 9]), (1, 3), 1.0, 0, 0)
    images, labels = torch.rand(10, 1, 2, 2), torch.arange(10)
    full = batch.attach(images, labels)
    assert batch.images is None and full.images is images and full.labels is labels and full.own.tolist() == [2, 9]


@pytest.mark.parametrize("images", [0, 1, 2, 5, 499, 500, 501, 1000, 1003])
@pytest.mark.parametrize("ranks", [1, 2, 3, 4])
def test_an_eval_loader_counts_each_image_once(images, ranks):
    pixels = np.arange(images, dtype=np.int64).reshape(-1, 1, 1, 1)
    seen = []
    for rank in range(ranks):
        loader = EvalLoader(pixels.__getitem__, np.arange(images) * 2, batch=7, rank=rank, ranks=ranks)
        batches = list(loader)
        assert len(batches) == len(loader) and all(0 < len(labels) <= 7 for _, labels in batches)
        for some, labels in batches:
            assert (some.ravel() * 2 == labels).all()
            seen += some.ravel().tolist()
    assert sorted(seen) == list(range(images))
