"""Published numbers beside ours: `published.csv`, and which of ddlight's cells its rows speak of.

The file quotes test accuracies in percent, some at second hand: look into the paper before citing one. `doubt` says
why a number is to be distrusted, where it contradicts another place of its paper. Rows under protocols, or of methods,
that ddlight does not have stay in the file and are shown nowhere.
"""

import csv
import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources

from ddlight.report.cells import TableCell
from ddlight.report.printed import Head, PrintedCell, PrintedTable, number, signed
from ddlight.report.tables import Table, accuracy

DVC, HT = "mittal2026_arXiv2606.18209", "dey2026_arXiv2604.18811"
DC, PAD, RDED = "zhao2021_arXiv2006.05929", "li2024_arXiv2408.03360", "sun2024_arXiv2312.03526"
PCA_PAPER, RD3, CA2D_CODE = "xiao2025_arXiv2502.06434", "zhong2025_arXiv2509.19743", "thirdparty_andriotis_ca2d"

DATASETS = {
    name: name.replace("-", "")
    for name in ("CIFAR-10", "CIFAR-100", "ImageNet-1K", "ImageNet-100", "ImageNette", "Tiny-ImageNet")
}
STUDENTS = {
    "ConvNet-D3": r"ConvNet\(depth=3, norm=instance, width=128\)",
    "ConvNet-D3-BN": r"ConvNet\(depth=3, norm=batch, width=128\)",
    "ConvNet-D4": r"ConvNet\(depth=4, norm=instance, width=128\)",
    "ResNet-18": r"ResNet\(depth=18, .*\)|(Timm|Torchvision)\(name=resnet18[,)].*",
    "ResNet-50": r"ResNet\(depth=50, .*\)|(Timm|Torchvision)\(name=resnet50[,)].*",
    "ResNetAP-10": r"ResNetAP\(depth=10, .*\)",
}
"""Student in the papers -> pattern of ddlight's label. The norm of a ResNet is the protocol's matter."""
METHODS = {
    **{name: name for name in ("CA2D", "CDA", "Concepts", "DWA", "EDC", "Forgetting", "Herding")},
    **{name: name for name in ("PCA", "RDED", "Random", "SRe2L")},
    "AUM": "CCS",
    "CAD-Prune": "CADPrune",
    "EL2N-Best": "EL2NBest",
    "FADRM+": "FADRMPlus",
    "G-VBSM": "GVBSM",
    "K-Center": "KCenter",
    "K-centers": "KMeans",
}
"""Method in the papers -> class. The AUM of arXiv 2606.18209 is CCS by AUM (its Algorithm 1); the K-centers of
arXiv 2604.18811 are cluster centres, for which our medoids of k-means stand, not greedy farthest points."""
PROTOCOLS = {
    (DVC, "hard-label", ""): ("HardLabel", "dvc_hard"),
    (DVC, "soft-label-1-teacher(RDED)", ""): ("TeacherLabel", "rded"),
    (DVC, "soft-label-4-teachers(EDC)", ""): ("MultiTeacherLabel", "dvc_edc"),
    (HT, "HL", ""): ("HardLabel", "ht_small_hard"),
    (HT, "HL", "ImageNet-1K"): ("HardLabel", "ht_large_hard"),
    (HT, "SL", ""): ("SoftLabel", "ht_small_soft"),
    (HT, "SL+KD", "ImageNet-1K"): ("TeacherLabel", "ht_large_kd"),
    (CA2D_CODE, "HL", ""): ("HardLabel", "ht_small_hard"),
    (CA2D_CODE, "SL", ""): ("SoftLabel", "ht_small_soft"),
    (CA2D_CODE, "KD+SL", ""): ("TeacherLabel", "ht_small_soft"),
    (PCA_PAPER, "hard-label", ""): ("HardLabel", "rethinkdc_hard"),
    (PCA_PAPER, "hard-label", "PCA"): ("HardLabel", "pca"),
    (DC, "no augmentation", ""): ("HardLabel", "dcbench"),
    (PAD, "DSA", ""): ("HardLabel", "dcbench_dsa"),
    (RDED, "own evaluation", ""): ("TeacherLabel", "rded"),
    (RD3, "soft-label(as published)", "SRe2L"): ("TeacherLabel", "sre2l"),
    (RD3, "soft-label(as published)", "CDA"): ("TeacherLabel", "cda"),
    (RD3, "soft-label(as published)", "DWA"): ("TeacherLabel", "dwa"),
    (RD3, "soft-label(as published)", "RDED"): ("TeacherLabel", "rded"),
    (RD3, "soft-label(as published)", "G-VBSM"): ("MultiTeacherLabel", "gvbsm"),
    (RD3, "soft-label(as published)", "EDC"): ("MultiTeacherLabel", "edc"),
}
"""(Paper, its protocol, and the method or dataset for which that holds, or "") -> regime and protocol."""

Key = tuple[str, str, str, str, int, str]
"""Dataset, student of the papers, regime, protocol, ipc and method of a published number, in ddlight's other names."""


@dataclass(frozen=True)
class Published:
    """One row of the file: a test accuracy in percent, in the paper's own names."""

    paper: str  # key
    table: str  # where in the paper
    dataset: str
    protocol: str
    student: str
    ipc: int
    method: str
    mean: float
    std: float | None  # as printed, mostly over trainings of one set; None where none is
    doubt: str  # why to distrust the number; "" without a reason

    @property
    def key(self) -> Key | None:
        """The cell that this number stands for; None where ddlight does not have it."""
        places = (PROTOCOLS.get((self.paper, self.protocol, what)) for what in (self.method, self.dataset, ""))
        how = next(filter(None, places), None)
        if how is None or self.dataset not in DATASETS or self.student not in STUDENTS or self.method not in METHODS:
            return None
        return DATASETS[self.dataset], self.student, *how, self.ipc, METHODS[self.method]

    @property
    def source(self) -> str:
        """Paper and place: "arXiv 2604.18811, Table6"."""
        number = re.search(r"_arXiv([\d.]+)$", self.paper)
        return f"{f'arXiv {number[1]}' if number else self.paper}, {self.table}"


@cache
def published() -> tuple[Published, ...]:
    """All rows of the file."""
    text = (resources.files("ddlight.report.papers") / "published.csv").read_text()
    rows = csv.DictReader(text.splitlines())
    return tuple(
        Published(
            **{name: row[name] for name in ("paper", "table", "dataset", "protocol", "student", "method", "doubt")},
            ipc=int(row["ipc"]),
            mean=float(row["mean"]),
            std=float(row["std"]) if row["std"] else None,
        )
        for row in rows
    )


@cache
def _by_key() -> Mapping[Key, list[Published]]:
    """Published numbers of each cell; what a paper prints in two tables counts once."""
    numbers: dict[Key, list[Published]] = defaultdict(list)
    for row in published():
        printed = {(other.paper, other.mean, other.std) for other in numbers[row.key]} if row.key else ()
        if row.key is not None and (row.paper, row.mean, row.std) not in printed:
            numbers[row.key].append(row)
    return numbers


def beside(cell: TableCell) -> list[Published]:
    """Published numbers of a cell: same dataset (or JPEG copies of it), student, regime, protocol, ipc and method."""
    column = cell.column
    students = [name for name, pattern in STUDENTS.items() if re.fullmatch(pattern, cell.student)]
    if column.ipc is None or not students:
        return []
    dataset = cell.dataset.removesuffix("-jpeg")
    return _by_key().get((dataset, students[0], column.regime, column.protocol, column.ipc, cell.method), [])


def printed(table: Table) -> PrintedTable:
    """Our cells that papers have too, one row per published number."""
    pairs = [(cell, row) for cell in table.cells for row in beside(cell)]
    caption = (
        "Test accuracy in percent, ours as above. Same dataset, student, regime, protocol, ipc and method; "
        "arguments of a method, teachers and a budget given by hand may differ."
    )
    doubts = dict.fromkeys(f"{row.source}, {row.method} at ipc {row.ipc}: {row.doubt}" for _, row in pairs if row.doubt)
    notes = [
        "Many papers report the best reading of the test split, and deviations over trainings of one set; ours is the "
        "last step, and the deviation is over sets.",
        *["Ours are of JPEG copies, not of the published images."] * any(c.dataset.endswith("-jpeg") for c, _ in pairs),
        *(f"¶ doubtful. {doubt}." for doubt in doubts),
    ]
    heads = [*map(Head, ("ours", "ours, best on test", "published", "ours - published")), Head("source", number=False)]
    rows = [(cell, _row(cell, row)) for cell, row in pairs]
    return table.by_cell("Published numbers beside ours", caption, heads, rows, notes)


def _row(cell: TableCell, row: Published) -> list[PrintedCell]:
    spread = "" if row.std is None else f" ± {row.std:.1f}"
    return [
        PrintedCell(accuracy(cell), cell.mean),
        number(cell.best_on_test, "{:.1f}".format),
        PrintedCell(f"{row.mean:.1f}{spread}", row.mean, marks="¶" if row.doubt else ""),
        number((cell.mean or 0.0) - row.mean, lambda difference: signed(difference, 1)),
        PrintedCell(row.source),
    ]
