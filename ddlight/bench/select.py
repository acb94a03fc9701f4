"""Choosing by geometry: ddlight's k-center, herding and facility location against the plain formulations, same picks.

k-center and herding are compared with DeepCore's formulation (arXiv 2204.08499): the features not chosen yet are copied
and their norms computed anew at every pick, and k-center keeps a table of budget x n distances.
"""

import tracemalloc
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from ddlight.bench.timing import THREAD, WALL, Measure, ratio
from ddlight.methods.geometry.facility_location import facility_location
from ddlight.methods.geometry.herding import herding
from ddlight.methods.geometry.kcenter import kcenter
from ddlight.methods.scoring.recorder import Recorder
from ddlight.methods.scoring.run import Scoring
from ddlight.methods.scoring.vectors import Similarity
from ddlight.networks.students import ConvNet
from ddlight.views.view import View

CLASSES, WIDTH = 10, 512
Order = Callable[[np.ndarray], np.ndarray]
Plain = Callable[[Tensor], list[int]]


def measure(folder: Path, quick: bool, rounds: int) -> Iterator[Measure]:
    """The goals of scoring and selection. Raises AssertionError where two ways do not pick the same images."""
    images, picks, covered, few = (300, 5, 60, 5) if quick else (60_000, 50, 6000, 10)
    features = np.random.default_rng(0).standard_normal((images, WIDTH), dtype=np.float32)
    points = np.maximum(features, 0)  # as after a ReLU
    classes, similarity = np.split(points, CLASSES), Similarity.of_features(points[:covered]).matrix()
    centres, herd = partial(kcenter, count=picks, first=0), partial(herding, count=picks)
    plain_centres, plain_herd = partial(plain_kcenter, count=picks), partial(plain_herding, count=picks)
    locations, plain_locations = partial(facility_location, count=few), partial(plain_facility_location, count=few)
    yield from _recording(rounds, quick)
    yield _compare("P18", "k-center class by class: DeepCore's way", 5, plain_centres, centres, classes, rounds)
    yield Measure("P18m", "k-center: bytes an image beyond the features", 128, _memory(centres, points), most=True)
    yield _compare("P19a", "k-center over all: DeepCore's way", 2.2, plain_centres, centres, [points], rounds)
    yield _compare("P19b", "herding over all: DeepCore's way, with argmin", 2.2, plain_herd, herd, [points], rounds)
    what = "facility location given similarities: naive greedy"
    yield _compare("P20", what, 5, plain_locations, locations, [similarity], rounds)


def _recording(rounds: int, quick: bool) -> Iterator[Measure]:
    """What the recorder adds to a step of ConvNet-D3 (batch 256, 1,000 classes), and its bytes per image."""
    width, batch, classes = (8, 16, 10) if quick else (128, 256, 1000)
    network = ConvNet(3, width).build(10, 1, 28)
    images, labels = torch.randn(batch, 1, 28, 28), torch.arange(batch) % 10
    logits, recorder = torch.randn(batch, classes), Recorder(60_000, early=10, dual=30, ring=10, clean=Scoring().clean)
    seen = View(images, labels, labels, torch.ones(batch), labels, labels, mixed=False)

    def step() -> None:
        network.zero_grad()
        functional.cross_entropy(network(images), labels).backward()

    def record() -> None:
        recorder.observe(logits, logits, seen)

    what = "recording a step's scores / the step, CPU time of one thread"
    yield ratio("P21", what, 0.002, record, step, rounds, THREAD, most=True)
    yield Measure("P21m", "recorder: bytes an image", 200, recorder.state_bytes / recorder.images, most=True)


def _compare(
    id: str, what: str, goal: float, plain: Plain, ours: Order, inputs: list[np.ndarray], rounds: int
) -> Measure:
    """Time of `plain` / `ours`, both in the inputs' precision, once they pick the same with `plain` in float64."""
    for x in inputs:
        if plain(torch.from_numpy(x.astype(np.float64))) != ours(x).tolist():
            raise AssertionError(f"{what} / ddlight's pick other images")
    return ratio(
        id, f"{what} / ddlight's", goal,
        lambda: [plain(torch.from_numpy(x)) for x in inputs], lambda: [ours(x).tolist() for x in inputs],
        rounds, WALL,
    )  # fmt: skip


def _memory(order: Order, points: np.ndarray) -> float:
    """Most bytes for each point that were taken at one time while an order was made."""
    tracemalloc.start()
    try:
        order(points)
        return tracemalloc.get_traced_memory()[1] / len(points)
    finally:
        tracemalloc.stop()


def plain_kcenter(points: Tensor, count: int) -> list[int]:
    """Farthest-first order from the first point (n, D), with a table of all distances to centres."""
    left, order = torch.ones(len(points), dtype=torch.bool), [0]
    left[0] = False
    table = torch.full((count, len(points)), -1, dtype=points.dtype)
    nearest = torch.full((len(points),), torch.inf, dtype=points.dtype)
    for row in range(count - 1):
        table[row, left] = _distances(points[order[-1:]], points[left])[0]
        nearest = torch.minimum(nearest, table[row])
        order.append(int(nearest.argmax()))
        left[order[-1]] = False
    return order


def plain_herding(points: Tensor, count: int) -> list[int]:
    """Herding order of points (n, D), each pick from a copy of those that are left."""
    left, order, mean = torch.ones(len(points), dtype=torch.bool), list[int](), points.mean(0)
    for i in range(count):
        wanted = (i + 1) * mean - points[~left].sum(0)
        best = _distances(wanted[None], points[left])[0].argmin()
        order.append(int(left.nonzero()[best]))
        left[order[-1]] = False
    return order


def _distances(some: Tensor, others: Tensor) -> Tensor:
    """Euclidean distances (m, n) of points (m, D) and (n, D), from norms that are computed here."""
    squares = some.square().sum(1)[:, None] + others.square().sum(1)[None]
    return squares.addmm(some, others.T, alpha=-2).clamp(min=1e-12).sqrt()


def plain_facility_location(similarities: np.ndarray | Tensor, count: int) -> list[int]:
    """Greedy order with every gain computed anew at every pick."""
    similarity = np.asarray(similarities)
    covered, order = np.zeros(len(similarity)), list[int]()
    for _ in range(count):
        gains = np.maximum(similarity - covered, 0).sum(1)
        gains[order] = -1
        order.append(int(gains.argmax()))
        covered = np.maximum(covered, similarity[order[-1]])
    return order
