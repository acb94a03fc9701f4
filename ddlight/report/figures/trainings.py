"""What all figures start from: finished trainings under short names, and means over condensed sets."""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ddlight.core.discover import methods
from ddlight.core.errors import DataError
from ddlight.report.cells import names, regime_order
from ddlight.report.statistics import EQUAL_COMPUTE, FULL, RANDOM, confidence

SHORT_REGIMES = {
    "HardLabel": "HL",
    "SoftLabel": "SL",
    "TeacherLabel": "SL+KD",
    "MultiTeacherLabel": "SL+KD, several teachers",
}
"""Names that arXiv 2604.18811 gives the regimes, from no teacher to many."""
KINDS = {"select": "coreset", "synthesise": "distilled"}
KEPT = "ddlight.trainings"
"""Under which name a frame keeps its trainings."""
LONGEST = 56
"""Characters that a name may have in a figure."""


def finished(frame: pd.DataFrame) -> pd.DataFrame:
    """What all figures start from: one row per finished training of the table that `collect` returns; index kept.

    Returns:
        The columns of `ddlight.report.cells.names`, in which `ipc` is images per class whatever the set (missing for
        FullData) and `teachers` have no hashes where their names suffice; with `label` (short name of the regime),
        `kind` ("full", "random", "coreset", "distilled", "other"),
        `set_seed`, `acc` (percent), `full_epochs`, `passes` (over the set), `images_seen`, and `flops`: of student,
        teachers, scoring and synthesis together, missing where one of them is not known. It is computed once for a
        frame, in whose `attrs` it stays.
    """
    done = frame[frame["status"] == "done"]
    kept = frame.attrs.get(KEPT)
    if kept is None or not kept.index.equals(done.index):
        frame.attrs[KEPT] = kept = _finished(done)
    return kept.copy()


def _finished(done: pd.DataFrame) -> pd.DataFrame:
    t = names(done)
    full = t["method"] == FULL
    t["ipc"] = done["set.ipc"].astype(float).fillna(done["set.images"] / done["set.classes"]).where(~full)
    bare = t["teachers"].str.replace(r":\w{1,6}(?= \+ |$)", "", regex=True)
    t["teachers"] = bare if bare.nunique() == t["teachers"].nunique() else t["teachers"]
    t["label"] = t["regime"].str.replace(r"^StoredLabel\((M=\w+)\)$", r"\1 labels", regex=True).replace(SHORT_REGIMES)
    kinds = {entry.name: KINDS.get(entry.kind, "other") for entry in methods()}
    kinds |= {"Released": "distilled", RANDOM: "random", FULL: "full"}
    t["kind"] = t["method"].map(kinds).fillna("other")
    columns = {"set_seed": "set.seed", "acc": "acc.test", "images_seen": "budget.images_seen"}
    columns |= {name: f"budget.{name}" for name in ("full_epochs", "passes")}
    for name, column in columns.items():
        t[name] = done[column].astype(float)
    parts = done[[f"flops.{part}" for part in ("student", "teachers", "scoring", "synthesis")]]
    t["flops"] = parts.astype(float).sum(axis=1, skipna=False)
    return t


def read_curve(file: Path, numbers: Sequence[str], texts: Sequence[str] = ()) -> pd.DataFrame:
    """Read columns of what a training recorded in a CSV file beside its result: one row per line.

    Args:
        file: with a header.
        numbers: columns that are read as float64; "nan" is one, an empty field none.
        texts: further columns.

    Raises:
        DataError: the file cannot be read, lacks a column or has something else where a number belongs.
    """
    try:
        table = pd.read_csv(file, na_filter=False)
        if missing := [name for name in (*texts, *numbers) if name not in table]:
            raise DataError(f"{file} has no column {', '.join(missing)}.")
        return table[[*texts, *numbers]].astype(dict.fromkeys(numbers, float))
    except (OSError, ValueError) as error:
        raise DataError(f"{file} is damaged or not a CSV table: {str(error).strip()}") from error


def in_order(
    t: pd.DataFrame, then: Sequence[str] = ("row", "ipc"), parts: Sequence[str] = ("protocol", "teachers")
) -> pd.DataFrame:
    """The same trainings, sorted: regimes from no teacher to many, then by the columns `then`; with `settings`."""
    regimes = sorted(set(t["regime"]), key=regime_order)
    rank = t["regime"].map({regime: place for place, regime in enumerate(regimes)})
    order = ["rank", "protocol", "teachers", *then]
    t = t.assign(rank=rank).sort_values(order, kind="stable").drop(columns="rank")
    return t.assign(settings=settings(t, parts))


def settings(t: pd.DataFrame, parts: Sequence[str] = ("protocol", "teachers")) -> pd.Series:
    """Name of what trainings share beside their set: the regime, and those of `parts` in which its trainings differ.

    Parts are "protocol", "teachers" and "budget". FullData, which is trained at many lengths to be a reference, tells
    nothing apart.
    """
    lengths = [
        f"{n:,.6g} {unit}".replace("_", " ") for n, unit in zip(t["budget_asked"], t["budget_unit"], strict=True)
    ]
    text = t.assign(budget=pd.Series(lengths, t.index, dtype=object), teachers=t["teachers"].replace("", "no teacher"))
    name = t["label"].astype(object)
    for part in parts:
        sets = text[t["method"] != FULL].assign(name=name)
        count = sets.groupby(["name", "ipc"], dropna=False)[part].nunique().groupby("name").max()
        name = name.where(~(name.map(count).fillna(1) > 1), name + ", " + text[part])
    return name


def lengths(t: pd.DataFrame) -> pd.Series:
    """Full-dataset epochs, to two digits, of trainings at an ipc that one regime, protocol and teachers has several of.

    Missing for others: what is compared there has one length, or that of its protocol. FullData always has its own.
    """
    length = t["full_epochs"].map(lambda epochs: float(f"{epochs:.2g}"))
    sets = t[t["method"] != FULL].assign(length=length)
    count = sets.groupby(["label", "protocol", "teachers", "ipc"])["length"].nunique().groupby("ipc").max()
    return length.where((t["ipc"].map(count) > 1) | t["ipc"].isna())


def summarise(t: pd.DataFrame, by: Sequence[str], also: Sequence[str] = (), value: str = "acc") -> pd.DataFrame:
    """Mean of `value` over condensed sets of each group; trainings of one set are averaged before.

    Args:
        t: one row per training, with a column `condensed` that numbers its set.
        by: columns that make the groups. The result has them in the order in which groups first appear.
        also: columns of which the mean is kept beside.
        value: column that is averaged.

    Returns:
        `by`, `also`, then `mean`, `ci_low` and `ci_high` (Student's 95 %; missing for n < 2) and `n`, counting sets.
    """
    if t.empty:
        return pd.DataFrame(columns=[*by, *also, "mean", "ci_low", "ci_high", "n"])
    sets = t.groupby([*by, "condensed"], sort=False, dropna=False)[[*also, value]].mean().reset_index()
    groups = sets.groupby(list(by), sort=False, dropna=False)
    means = groups[[*also, value]].mean().reset_index().rename(columns={value: "mean"})
    each = [values.tolist() for _, values in groups[value]]
    bounds = [confidence(values) or (np.nan, np.nan) for values in each]
    low, high = zip(*bounds, strict=True)
    return means.assign(ci_low=low, ci_high=high, n=[len(values) for values in each])


def several(data: pd.DataFrame, by: Sequence[str], column: str) -> pd.DataFrame:
    """The rows of those groups in which `column` has two values or more."""
    if data.empty:
        return data
    return data[data.groupby(list(by), dropna=False)[column].transform("nunique") > 1]


def among(data: pd.DataFrame, other: pd.DataFrame, by: Sequence[str]) -> pd.Series:
    """Whether another table has a row with the same values of `by`: bool, one per row of `data`."""
    keys, others = (pd.MultiIndex.from_frame(table[list(by)]) for table in (data, other))
    return pd.Series(keys.isin(others), data.index, dtype=bool)


def distinct(data: pd.DataFrame, *columns: str) -> list[tuple[Any, ...]]:
    """The combinations of values that some columns have, in order of first appearance."""
    return list(data[list(columns)].drop_duplicates().itertuples(index=False, name=None))


def comparable(data: pd.DataFrame) -> pd.DataFrame:
    """What shows whether a ranking survives: methods that two regimes have, in settings that have two such methods.

    `data` has columns `ipc`, `length` (see `lengths`), `label` (the regime), `settings` and `row`, without FullData.
    """
    place = ["ipc", "length"]
    common = several(several(data, [*place, "row"], "label"), [*place, "settings"], "row")
    return several(several(common, place, "label"), place, "row")


def with_full(t: pd.DataFrame) -> pd.DataFrame:
    """Trainings with FullData's repeated at every settings, ipc and length that it shares the compute of.

    That is where regime, protocol and teachers agree and images seen do within 1 %; elsewhere FullData is dropped.
    """
    full, sets = t[t["method"] == FULL], t[t["method"] != FULL]
    shared = ["regime", "protocol", "teachers"]
    groups = sets.groupby(["settings", "ipc", "length", *shared], sort=False, dropna=False)
    places = groups["images_seen"].median().reset_index()
    joined = full.drop(columns=["settings", "ipc", "length"]).merge(places, on=shared, suffixes=("", "_wanted"))
    near = (joined["images_seen"] - joined["images_seen_wanted"]).abs() <= EQUAL_COMPUTE * joined["images_seen_wanted"]
    return pd.concat([sets, joined.loc[near, sets.columns]]) if near.any() else sets


def short(rows: Iterable[str]) -> dict[str, str]:
    """Names that fit into a figure: lists in them as first to last, long ones cut and, where that makes two equal, told
    apart by a number."""
    cut = {}
    for row in dict.fromkeys(rows):
        name = re.sub(r"\[([^],]+)(?:,[^]]*, ([^]]+))?\]", lambda ends: " to ".join(filter(None, ends.groups())), row)
        cut[row] = name if len(name) <= LONGEST else f"{name[: LONGEST - 1].rstrip()}…"
    same = {name: [row for row in cut if cut[row] == name] for name in cut.values()}
    return {row: name if len(same[name]) == 1 else f"{name} #{same[name].index(row) + 1}" for row, name in cut.items()}


def method_order(data: pd.DataFrame) -> list[str]:
    """Rows of a figure's data: FullData, Random, then by name, with numbers in names as numbers."""

    def key(row: str) -> tuple[int, list[tuple[bool, float, str]]]:
        parts = re.findall(r"\d+(?:\.\d+)?|\D+", row)
        natural = [(False, float(p), "") if p[0].isdigit() else (True, 0.0, p) for p in parts]
        return {FULL: 0, RANDOM: 1}.get(row.split(" ")[0], 2), natural

    return sorted(dict.fromkeys(data["row"]), key=key)


def place_text(ipc: float, length: float) -> str:
    """Such as "10 images a class, 6 full-dataset epochs"; without the length where it is missing."""
    return ipc_text(ipc) + ("" if pd.isna(length) else f", {length:g} full-dataset epochs")


def ipc_text(ipc: float) -> str:
    """Such as "10 images a class"."""
    return f"{ipc:,.10g} image{'' if ipc == 1 else 's'} a class"
