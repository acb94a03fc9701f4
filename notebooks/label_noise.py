"""Does AUM find wrong labels? A fifth of FashionMNIST-5k's are flipped; AUROC of each score against that.

Run: python notebooks/label_noise.py > notebooks/results/fashion5k_noise_auroc.csv
The scoring runs are those of configs/studies/fashion5k_noise.yaml: ConvNet-D3 of width 32, CCS's recipe, 60 epochs.
"""

import sys

from sklearn.metrics import roc_auc_score

from ddlight.core.files import cache_folder
from ddlight.data import FashionMNIST5k, NoisyLabels
from ddlight.methods.scores.aum import aum
from ddlight.methods.scores.dyn_unc import dyn_unc
from ddlight.methods.scores.el2n import el2n
from ddlight.methods.scores.forgetting import forgetting
from ddlight.methods.scoring.run import Scoring, ScoringRun
from ddlight.networks.students import ConvNet
from ddlight.recipes.budget import Budget

SCORING = Scoring(ConvNet(3, 32), budget=Budget(epochs=60))
SCORES = {
    "aum_prob": lambda table: aum(table, "prob"),
    "aum_logit": lambda table: aum(table, "logit"),
    "el2n_clean": lambda table: el2n(table, "clean"),
    "el2n_train": lambda table: el2n(table, "train"),
    "forgetting": forgetting,
    "dyn_unc": dyn_unc,
    "dual": lambda table: table["train.dual"],
    "entropy": lambda table: table["clean.entropy"],
}


def main() -> None:
    """Write a line a score and seed."""
    data = NoisyLabels(FashionMNIST5k(), 0.2)
    sys.stdout.write("seed,score,auroc\n")
    for seed in range(3):
        run = ScoringRun(SCORING, data, 10, seed, cache_folder(None))
        run.make()
        for name, score in SCORES.items():
            auroc = roc_auc_score(data.flipped, score(run.table()))
            sys.stdout.write(f"{seed},{name},{auroc:.4f}\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
