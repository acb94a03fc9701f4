"""How far apart are coresets under each label regime? Spread over methods, in points and in log-odds.

Run: ddlight grid configs/studies/fashion5k_coresets_regimes.yaml
     python notebooks/regime_spread.py runs/fashion5k_coresets_regimes OUT
writes OUT.csv, OUT.png and OUT.svg. A spread is taken within one set number, over the methods: their range, and their
standard deviation. The interval is Student's at 95 % over set numbers.
"""

import sys
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd

from ddlight.report.collect import collect
from ddlight.report.statistics import confidence

mpl.use("Agg")
from matplotlib import pyplot as plt

REGIMES = {"HardLabel": "HL", "SoftLabel": "SL", "TeacherLabel": "SL+KD"}
SCALES = {"points": lambda acc: acc, "log-odds": lambda acc: np.log(acc / (100 - acc))}
MEASURES = {"range": np.ptp, "std": lambda values: np.std(values, ddof=1)}
COLOURS, MARKERS = ("#0072B2", "#D55E00"), ("o", "s")


def spreads(results: pd.DataFrame) -> pd.DataFrame:
    """One row a regime, ipc, scale and measure: mean over set numbers and its interval."""
    rows = []
    for (regime, ipc), cells in results.groupby(["regime", "set.ipc"]):
        table = cells.pivot_table(index="set.seed", columns=["set.method", "set.args"], values="acc.test").to_numpy()
        for scale, transform in SCALES.items():
            for measure, of in MEASURES.items():
                found = [float(of(row)) for row in transform(table)]
                low, high = confidence(found) or (np.nan, np.nan)
                rows.append(
                    [REGIMES[regime], ipc, scale, measure, np.mean(found), low, high, len(found), table.shape[1]]
                )
    columns = ["regime", "ipc", "scale", "measure", "mean", "ci_low", "ci_high", "n_sets", "n_methods"]
    return pd.DataFrame(rows, columns=columns)


def draw(found: pd.DataFrame, out: Path) -> None:
    """Ranges with their intervals, one panel a scale."""
    figure, panels = plt.subplots(1, 2, figsize=(8, 3.4), layout="constrained")
    for panel, scale in zip(panels, SCALES, strict=True):
        ranges = found[(found.measure == "range") & (found.scale == scale)]
        for k, (ipc, part) in enumerate(ranges.groupby("ipc")):
            part = part.set_index("regime").loc[list(REGIMES.values())]
            around = np.abs(part[["ci_low", "ci_high"]].to_numpy() - part[["mean"]].to_numpy()).T
            style = {"color": COLOURS[k], "marker": MARKERS[k], "linestyle": "none", "capsize": 4}
            panel.errorbar(np.arange(3) + 0.12 * k - 0.06, part["mean"], around, label=f"{ipc} images a class", **style)
        panel.set_xticks(range(3), list(REGIMES.values()))
        panel.set_ylabel(f"range over methods, {scale}")
        panel.set_ylim(bottom=0)
        panel.legend(frameon=False)
    for suffix in (".png", ".svg"):
        figure.savefig(out.with_name(out.name + suffix), dpi=150)


def main() -> None:
    """Read a folder of runs, write the table and the figure."""
    runs, out = Path(sys.argv[1]), Path(sys.argv[2])
    found = spreads(collect([runs]))
    found.to_csv(out.with_name(out.name + ".csv"), index=False, float_format="%.4f")
    draw(found, out)


if __name__ == "__main__":
    main()
