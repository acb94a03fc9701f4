"""Does CAD-Prune choose harder images where it scores over more full epochs? Mean difficulty of its sets against K.

Run: python notebooks/cad_difficulty.py > notebooks/results/fashion5k_cad_difficulty.csv
Difficulty is measured by one yardstick for all K: the scoring run of configs/studies/fashion5k_coresets.yaml with the
set's number (ConvNet-D3 of width 32, CCS's recipe, 60 epochs), as the mean percentile of the chosen images within their
class, 0 the easiest and 100 the hardest; 50 is what a random set has.
"""

import sys

import numpy as np
from scipy.stats import rankdata

from ddlight.core.files import cache_folder
from ddlight.data import FashionMNIST5k
from ddlight.methods.scores.aum import aum
from ddlight.methods.scores.cad_prune import CADPrune
from ddlight.methods.scores.el2n import el2n
from ddlight.methods.scores.forgetting import forgetting
from ddlight.methods.scoring.run import Scoring, ScoringRun
from ddlight.networks.students import ConvNet
from ddlight.recipes.budget import Budget
from ddlight.sets.store import read_selection

STUDENT = ConvNet(3, 32)
YARDSTICK = Scoring(STUDENT, budget=Budget(epochs=60))
SCORES = {"aum": aum, "el2n": el2n, "forgetting": forgetting}


def percentiles(difficulty: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Rank of each image within its class, 0 to 100, ties at their mean."""
    found = np.empty(len(labels))
    for label in np.unique(labels):
        rows = labels == label
        found[rows] = 100 * (rankdata(difficulty[rows]) - 1) / (rows.sum() - 1)
    return found


def main() -> None:
    """Write a line a K, set and score."""
    data = FashionMNIST5k()
    labels = data.index("train").labels
    sys.stdout.write("k,set,score,percentile\n")
    for seed in range(3):
        yardstick = ScoringRun(YARDSTICK, data, 50, seed, cache_folder(None))
        yardstick.make()
        table = yardstick.table()
        for k in (6, 15, 30, 60):
            scoring = Scoring(STUDENT, protocol="ht_small_hard")
            method = CADPrune(data, 50, seed, scoring=scoring, k_mode="fixed", k=k)
            rows, _ = read_selection(method.condense())
            for name, score in SCORES.items():
                mean = percentiles(score(table), labels)[rows].mean()
                sys.stdout.write(f"{k},{seed},{name},{mean:.2f}\n")


if __name__ == "__main__":
    main()
