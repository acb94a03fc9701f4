"""DD-Ranking's measures (arXiv 2505.13300) from results of ddlight. Accuracies enter as fractions, not percentages.

Which runs stand for which quantity, for a cell of a table (one method in one column) and its size of set:

Acc(real, hard): the highest mean of `FullData` under `HardLabel` in the same table (dataset and student), in any
    protocol and budget: DD-Ranking takes one number per dataset and student, of a full training.
Acc(syn, hard): the cell itself where its regime is `HardLabel`; otherwise the highest mean under `HardLabel` of the
    same method with the same arguments, at the same size of set.
Acc(syn, own): the cell itself.
Acc(random, own): `Random` in the cell's column, that is at the same size, regime, protocol, teachers and budget; of
    several, that of the same recipe and augmentation, otherwise the best (the reference of the main table).
Acc(syn, aug), Acc(syn, noaug): the highest mean of the method with the same arguments in the cell's column, over its
    trainings with augmentation and over those without.
Acc(random, aug), Acc(random, noaug): the same of `Random`.

Deviation: all are means over sets of the accuracy after the last step. DD-Ranking takes the best reading of the test
split, and chooses the learning rate on it. Deviation: its released code feeds percentages, which leaves LRS and ARS
without bounds; with fractions both lie in [0, 1], as its paper says. Cells at other compute than their column are left
out, and so is `FullData`.
"""

import math
from collections.abc import Iterable

from ddlight.report.cells import TableCell
from ddlight.report.printed import MISSING, Head, PrintedTable, number, signed
from ddlight.report.statistics import FULL, RANDOM
from ddlight.report.tables import Table, budget

HARD = "HardLabel"
WEIGHT = 0.5


def hlr(real: float, hard: float) -> float:
    """Hard-label recovery, in [-1, 1]: Acc(real, hard) - Acc(syn, hard), fractions. Lower is better."""
    return real - hard


def ior(own: float, random: float) -> float:
    """Improvement over random, in [-1, 1]: Acc(syn, own) - Acc(random, own), fractions."""
    return own - random


def lrs(recovery: float, improvement: float, weight: float = WEIGHT) -> float:
    """Label-robust score, in [0, 1], of HLR and IOR: normalised alpha = w IOR - (1 - w) HLR."""
    return _normalised(weight * improvement - (1 - weight) * recovery)


def ars(augmented: float, plain: float, weight: float = WEIGHT) -> float:
    """Augmentation-robust score, in [0, 1]: normalised beta = gamma IOR(aug) + (1 - gamma) IOR(noaug), fractions."""
    return _normalised(weight * augmented + (1 - weight) * plain)


def _normalised(value: float) -> float:
    """[-1, 1] -> [0, 1]: (e^v - e^-1) / (e - e^-1)."""
    return (math.exp(value) - math.exp(-1)) / (math.e - math.exp(-1))


def measures(cell: TableCell, cells: Iterable[TableCell]) -> dict[str, float | None]:
    """HLR, IOR, LRS and ARS of one cell, from the done cells of its table; None where a run they need is missing."""
    cells = list(cells)
    full = full_data(cells)
    real = None if full is None else full.mean
    sized = cell.column.ipc, cell.column.size
    twins = [c for c in cells if c.maker == cell.maker and (c.column.ipc, c.column.size) == sized]
    hard = cell.mean if cell.column.regime == HARD else _best(c for c in twins if c.column.regime == HARD)
    recovery = None if real is None or hard is None else hlr(real / 100, hard / 100)
    improvement = None if cell.effect is None or not cell.equal_compute else cell.effect / 100
    augmented, plain = (_gain(cell, cells, on) for on in (True, False))
    return {
        "HLR": recovery,
        "IOR": improvement,
        "LRS": None if recovery is None or improvement is None else lrs(recovery, improvement),
        "ARS": None if augmented is None or plain is None else ars(augmented, plain),
    }


def full_data(cells: Iterable[TableCell]) -> TableCell | None:
    """The full data under hard labels that gives Acc(real, hard): the best one."""
    candidates = [c for c in cells if c.method == FULL and c.column.regime == HARD and c.mean]
    return max(candidates, key=lambda c: c.mean or 0.0, default=None)


def _gain(cell: TableCell, cells: Iterable[TableCell], augmented: bool) -> float | None:
    """Improvement over random in a cell's column, as a fraction, with augmentation or without."""
    near = [c for c in cells if c.column == cell.column and c.augmented is augmented and c.equal_compute]
    same, random = _best(c for c in near if c.maker == cell.maker), _best(c for c in near if c.method == RANDOM)
    return None if same is None or random is None else ior(same / 100, random / 100)


def _best(cells: Iterable[TableCell]) -> float | None:
    return max((cell.mean for cell in cells if cell.mean is not None), default=None)


def printed(table: Table) -> PrintedTable:
    """The measures of every cell for which LRS or ARS can be computed."""
    rows = []
    for cell in table.cells:
        values = measures(cell, table.cells)
        if cell.method != FULL and (values["LRS"], values["ARS"]) != (None, None):
            differences = [number(values[name], lambda value: signed(value, 3)) for name in ("HLR", "IOR")]
            rows.append((cell, [*differences, *(number(values[name], "{:.3f}".format) for name in ("LRS", "ARS"))]))
    full = full_data(table.cells)
    reference = []  # which run stands for the full data: it may be a short one
    if full is not None:
        how = f"{full.column.protocol}, {budget(full.column)}, {full.images_seen or 0:,.0f} images seen"
        reference = [f"Full data of HLR: {full.mean:.1f} % ({how}). DD-Ranking means a full training."]
    caption = (
        "HLR: full data minus the method, both under hard labels. IOR: the method minus Random in its own column. LRS "
        "joins the two, ARS the gains over Random with and without augmentation; both in [0, 1], higher is better."
    )
    notes = [
        *reference,
        "Accuracies are fractions after the last step; DD-Ranking takes the best reading of the test split.",
        f"{MISSING} a run that the measure needs is missing.",
    ]
    return table.by_cell("DD-Ranking's measures", caption, map(Head, ("HLR", "IOR", "LRS", "ARS")), rows, notes)
