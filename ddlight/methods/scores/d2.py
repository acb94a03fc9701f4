"""D2: images that are difficult among difficult neighbours, each lowering those around it."""

from typing import Any, Literal

import numpy as np
from scipy.sparse import csr_array
from sklearn.neighbors import NearestNeighbors

from ddlight.core.errors import UsageError
from ddlight.methods.scores.aum import aum
from ddlight.methods.scores.ccs import SCORES, easiest_share
from ddlight.methods.scores.selector import ScoreSelector
from ddlight.methods.scoring.run import ScoringRun
from ddlight.methods.scoring.table import ScoreTable
from ddlight.methods.scoring.vectors import unit_length
from ddlight.networks.teachers import Teacher


def closeness(points: np.ndarray, k: int) -> csr_array:
    """exp(-d) along the edges of the kNN graph, one where either point is among the other's k nearest: (n, n).

    Args:
        points: (n, D); d is Euclidean, and no point is its own neighbour.
        k: neighbours; all others where there are fewer.

    Returns:
        Symmetric and sparse, O(n k).
    """
    n, k = len(points), min(k, len(points) - 1)
    if k < 1:
        return csr_array((n, n))
    search = NearestNeighbors(n_neighbors=k, algorithm="brute").fit(points.astype(np.float64))
    distances, others = search.kneighbors()
    rows = np.repeat(np.arange(n), k)
    near = csr_array((np.exp(-distances.reshape(-1)), (rows, others.reshape(-1))), shape=(n, n))
    return csr_array(near.maximum(near.T))


def message_passing(importance: np.ndarray, near: csr_array, count: int, gamma: float) -> np.ndarray:
    """Forward, then reverse message passing: the order in which images are taken.

    Forward, each gets what its neighbours are worth: u_i = s_i + sum_j exp(-d_ij) s_j. Then the largest u_k is taken,
    again and again, and its neighbours lose exp(-gamma d_kj) u_k.

    Deviation: a u_k that has fallen below zero takes nothing from its neighbours; the authors' code then adds to them.

    Args:
        importance: s, (n,), 0 or more.
        near: exp(-d) of neighbours, (n, n).
        count: at most n.
        gamma: 0 or more.

    Returns:
        int64 (count,): positions, the first of equal ones first; a smaller count gives a prefix.
    """
    worth, order = importance + near @ importance, []
    for _ in range(count):
        order.append(int(np.argmax(worth)))
        edges = slice(near.indptr[order[-1]], near.indptr[order[-1] + 1])
        worth[near.indices[edges]] -= near.data[edges] ** gamma * max(float(worth[order[-1]]), 0.0)
        worth[order[-1]] = -np.inf
    return np.array(order, np.int64)


class D2(ScoreSelector):
    """Images of each class that are hard, and stand for hard neighbours in feature space that they then keep out.

    Paper: arXiv 2310.07931: message passing on the graph of nearest neighbours.
    Importance is the difficulty minus its least value, so that hard images are the important ones whatever the score;
    the authors' code has AUM the other way round in one of its two modes. Features are of the images as they are; the
    authors' are of random crops. The graph is of one class; with `balance: none` of all images, with "floor" both.
    Deviation: exp(-d) depends on the scale of the features, so they are brought to length 1 (`normalise`). The
    authors' strata of the score (their later option, with a graph in each) are not offered.

    Args:
        network: another network to take features from; scores are still the scoring run's.
        score: what an image's importance is.
        cutoff: beta: share of the images that is dropped beforehand, those that AUM calls hardest; the authors take 0.4
            where a tenth is kept.
        k: nearest neighbours.
        gamma: how fast the reverse message fades with distance; at 0 neighbours lose all that the taken one is worth.
        normalise: features at length 1; false takes them as they are, as the authors do.
    """

    def __init__(
        self,
        *args: Any,
        network: Teacher | None = None,
        score: Literal["forgetting", "aum", "el2n"] = "forgetting",
        cutoff: float = 0.4,
        k: int = 5,
        gamma: float = 0.1,
        normalise: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, keep="hard", **kwargs)
        if k < 1:
            raise UsageError(f"k is {k}; allowed: 1 or more.")
        if not 0 <= gamma < float("inf"):
            raise UsageError(f"gamma is {gamma}; allowed: 0 or more, and finite.")
        self.network, self.score, self.cutoff, self.k, self.gamma = network, score, cutoff, k, gamma
        self.normalise = normalise

    @property
    def scoring_runs(self) -> list[ScoringRun]:
        """The scoring run, whatever network the features are of."""
        return [self.run]

    def difficulty(self, table: ScoreTable) -> np.ndarray:
        """The score that importance is made of: (N,)."""
        return SCORES[self.score](table)

    def sample(self, rows: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
        """Drop the hardest, then pass messages among the others, which come in a drawn order: it breaks ties."""
        left = rng.permutation(rows[easiest_share(aum(self.table)[rows], count, rng, self.cutoff)])
        features = self.features_of(left)
        near = closeness(unit_length(features) if self.normalise else features, self.k)
        difficulty = self.scores[left]
        return left[message_passing(difficulty - difficulty.min(), near, count, self.gamma)]

    def features_of(self, rows: np.ndarray) -> np.ndarray:
        """Features of images of any classes."""
        labels = self.dataset.index("train").labels[rows]
        parts = {c: self.features.of_class(rows[labels == c], c).features for c in np.unique(labels).tolist()}
        features = np.empty((len(rows), next(iter(parts.values())).shape[1]), np.float32)
        for number, part in parts.items():
            features[labels == number] = part
        return features
