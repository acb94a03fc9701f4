"""Made-up results that allow every figure."""

import numpy as np
import pandas as pd

REGIMES = {"HardLabel": 20.0, "SoftLabel": 6.0, "TeacherLabel": 2.0}
METHODS = {"Random": 0.0, "Herding": 0.3, "RDED": 0.5, "EL2N": -1.0}
STRONG = {"name": "strong", "fingerprint": "aaaaaa11", "parameters": 10, "acc": 90.0}
WEAK = {"name": "weak", "fingerprint": "bbbbbb22", "parameters": 10, "acc": 70.0}


def teacher(regime, who=STRONG):
    """The field `teachers` of a regime."""
    return {"teachers": [] if regime == "HardLabel" else [who]}


def length(full_epochs, images):
    """Fields of a training of 1,000 images a full epoch."""
    seen = {"budget__asked": full_epochs, "budget__full_epochs": float(full_epochs)}
    return {
        **seen,
        "budget__images_seen": 1000 * full_epochs,
        "budget__passes": 1000 * full_epochs / images,
        "flops__student": 1e9 * full_epochs,
    }


def difficulty(score, level, width):
    """Content of difficulty.csv: deciles around a falling level."""
    rows = []
    for point in range(1, 6):
        mean = level * (1 - point / 8)
        deciles = {f"q{10 * k}": max(0.0, mean + width * (k - 5) / 10) for k in range(11)}
        rows.append({"step": 10 * point, "progress": point / 5, "score": score, "mean": mean, **deciles})
    return pd.DataFrame(rows)


def regimes(study):
    """Four methods on three sets, two sizes, three budgets, three regimes; the full data at each budget."""
    rng = np.random.default_rng(0)
    for regime, spread in REGIMES.items():
        for full_epochs in (2, 10, 50):
            base = 40 + 12 * np.log10(full_epochs)
            study.add("FullData", base + 30, None, regime=regime, **length(full_epochs, 1000), **teacher(regime))
            for ipc in (10, 50):
                for method, better in METHODS.items():
                    for number in range(3):
                        acc = base + 0.1 * ipc + spread * better + rng.normal(0, 0.5)
                        cost = {} if method == "Random" else {"flops__scoring": 5e9}
                        fields = {**length(full_epochs, 10 * ipc), **teacher(regime), **cost}
                        study.add(method, acc, ipc, set_seed=number, regime=regime, **fields)


def others(study):
    """A weak teacher, another student, windows, cutoffs, and runs with curves and difficulty."""
    for full_epochs in (2, 10, 50):
        fields = {**length(full_epochs, 100), **teacher("TeacherLabel", WEAK), "regime": "TeacherLabel"}
        study.sets("Random", [40 + full_epochs / 5, 41 + full_epochs / 5], 10, **fields)
    for method, acc in (("Random", 50.0), ("Herding", 55.0)):
        study.sets(method, [acc, acc + 1], 10, **length(10, 100), student__class_="MLP", student__args={})
    for regime, slope in (("HardLabel", 30.0), ("SoftLabel", 5.0)):
        for offset in (0.0, 0.25, 0.5, 0.75, 1.0):
            accs = [60 - slope * (offset - 0.5) ** 2 + n for n in range(3)]
            fields = {"set__args": {"offsets": [offset]}, "regime": regime, **teacher(regime), **length(10, 100)}
            for number, acc in enumerate(accs):
                names = dict.fromkeys(("set__fingerprint", "set__content_sha256"), f"{offset} {number}")
                study.add("EL2NBest", acc, 10, set_seed=number, **fields, **names)
    for beta in (0.0, 0.3, 0.5):
        for number in range(3):
            names = dict.fromkeys(("set__fingerprint", "set__content_sha256"), f"ccs {beta} {number}")
            args = {} if beta == 0.3 else {"cutoffs": [beta]}
            study.add("CCS", 60 - 20 * (beta - 0.3) ** 2 + number, 10, set_seed=number, set__args=args, **names)
    for regime, score, width in (("HardLabel", "el2n", 0.8), ("SoftLabel", "el2n_sl", 0.2)):
        path = study.add("Random", 60.0, 10, seed=7, regime=regime, **length(10, 100), **teacher(regime))
        difficulty(score, 0.9, width).to_csv(path.with_name("difficulty.csv"), index=False)
        readings = pd.DataFrame({"step": [5, 9], "images": [2000, 6000], "acc": [30.0, 50.0]})
        readings.to_csv(path.with_name("test_curve.csv"), index=False)
