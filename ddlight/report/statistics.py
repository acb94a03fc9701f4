"""Statistics of a results table: what a difference to random is worth. Thin functions on scipy.stats.

The unit of replication is the condensed set. A number that enters here is the accuracy of one set, already averaged
over its trainings; n counts sets.
"""

from collections import defaultdict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import special, stats

RANDOM = "Random"
FULL = "FullData"
ALPHA = 0.05
EQUAL_COMPUTE = 0.01
FEW_SETS = 3
"""Fewer sets than this say little of spread: no standard deviation is shown, and no cell is called best."""

Floats = np.ndarray[tuple[int, ...], np.dtype[np.float64]]


@dataclass(frozen=True)
class Sample:
    """What is known of one cell of a table."""

    column: Hashable  # cells that are compared with each other share it
    method: str  # class name; "Random" is the reference and "FullData" is never compared
    values: Sequence[float]  # (n,) accuracy of every set, percent
    step: float = 0.0  # resolution of one accuracy, percentage points: 100 / test images
    images_seen: float = 0.0  # student images seen, the unit of equal compute
    context: Hashable = None  # how the student was trained, where a column holds several ways; Random's of the same
    # context is the reference, where there is one


@dataclass(frozen=True)
class Verdict:
    """What the tests say of one cell. None stands for "not tested"."""

    effect: float | None  # mean minus Random's mean, percentage points
    hedges_g: float | None  # the same in pooled standard deviations
    p: float | None  # two-sided p of Welch's t-test against Random
    p_holm: float | None  # the same, adjusted over all cells of the table
    above_random: bool  # p_holm < 0.05 and the mean lies above Random's
    best: bool  # highest mean of its column, or not significantly below it; False where nothing else could be
    equal_compute: bool  # images seen are within 1 % of Random's (without a Random, of the column's median)


@dataclass(frozen=True)
class Moments:
    """Means, variances (ddof=1, NaN for n < 2) and sizes of several samples: (cells,) each."""

    mean: Floats
    var: Floats
    n: Floats

    @classmethod
    def of(cls, values: Sequence[Sequence[float]], step: Sequence[float] | float = 0.0) -> "Moments":
        """Moments of samples whose values have the resolution `step`.

        The variance is at least step**2 / 12, that of rounding to the resolution: equal readings of a finite test
        split do not prove that there is no spread, and no test divides by zero.
        """
        arrays = [np.asarray(v, dtype=np.float64) for v in values]
        var = np.array([a.var(ddof=1) if a.size > 1 else np.nan for a in arrays])
        floor = np.broadcast_to(np.square(step) / 12, var.shape)
        mean = np.array([a.mean() for a in arrays])
        return cls(mean, np.maximum(var, floor), np.array([a.size for a in arrays], dtype=np.float64))

    def at(self, index: Sequence[int | None]) -> "Moments":
        """Those of some of the samples, in this order; NaN for None."""
        rows = [self.n.size if i is None else i for i in index]
        return Moments(*(np.append(part, np.nan)[rows] for part in (self.mean, self.var, self.n)))


def welch(a: Moments, b: Moments) -> Floats:
    """Two-sided p of Welch's t-test of a against b, pair by pair; NaN where one of the two has n < 2.

    Two samples without any spread give 1 where they are equal and 0 where they differ.
    """
    with np.errstate(all="ignore"):
        p = stats.ttest_ind_from_stats(a.mean, np.sqrt(a.var), a.n, b.mean, np.sqrt(b.var), b.n, equal_var=False).pvalue
    return np.where((a.var == 0) & (b.var == 0), np.where(a.mean == b.mean, 1.0, 0.0), p)


def holm(p: Sequence[float] | Floats) -> Floats:
    """Holm's adjusted p: valid over all tests given, whatever their dependence. NaN is no test and stays NaN.

    Source: Holm (1979), A simple sequentially rejective multiple test procedure.
    """
    values = np.asarray(p, dtype=np.float64)
    adjusted = np.full(values.shape, np.nan)
    order = np.argsort(values)[: np.isfinite(values).sum()]
    factors = np.arange(order.size, 0, -1)
    adjusted[order] = np.minimum(np.maximum.accumulate(values[order] * factors), 1.0)
    return adjusted


def hedges_g(a: Moments, b: Moments) -> Floats:
    """Difference of means in pooled standard deviations, corrected for small samples; NaN where one has n < 2.

    The correction is exact. Without any spread it is 0 for equal means and infinite for others.

    Source: Hedges (1981), Distribution theory for Glass's estimator of effect size, Equations 4 and 6e.
    """
    free = a.n + b.n - 2
    with np.errstate(all="ignore"):
        pooled = np.sqrt(((a.n - 1) * a.var + (b.n - 1) * b.var) / free)
        correction = np.exp(special.gammaln(free / 2) - special.gammaln((free - 1) / 2)) / np.sqrt(free / 2)
        g = correction * (a.mean - b.mean) / pooled
    return np.where((pooled == 0) & (a.mean == b.mean), 0.0, g)


def confidence(values: Sequence[float], level: float = 0.95) -> tuple[float, float] | None:
    """Student's t confidence interval of the mean; None for n < 2."""
    sample = Moments.of([values])
    if sample.n[0] < 2:
        return None
    half = stats.t.ppf((1 + level) / 2, sample.n[0] - 1) * np.sqrt(sample.var[0] / sample.n[0])
    return float(sample.mean[0] - half), float(sample.mean[0] + half)


def judge(samples: Sequence[Sample]) -> list[Verdict]:
    """Test all cells of one table: each against Random, and each against the best of its column.

    Tests against Random are adjusted by Holm over the whole table, at 0.05. Those against the best are not: there a
    correction would call cells tied that are far below, as two sets would: best are only cells of three or more. A test
    needs two sets on both sides and equal compute. FullData is neither tested nor best.
    """
    moments = Moments.of([s.values for s in samples], [s.step for s in samples])
    columns: dict[Hashable, list[int]] = defaultdict(list)
    for index, sample in enumerate(samples):
        columns[sample.column].append(index)
    reference: list[int | None] = []  # Random of the same context, otherwise the best one (which favours Random)
    equal = []  # with Random's images seen, or without a Random with those of the column in the median
    for sample in samples:
        column = columns[sample.column]
        candidates = [i for i in column if samples[i].method == RANDOM]
        random = max(candidates, key=lambda i: (samples[i].context == sample.context, moments.mean[i]), default=None)
        seen = [samples[i].images_seen for i in (column if random is None else [random])]
        equal.append(same_compute(sample.images_seen, float(np.median(seen))))
        reference.append(random)
    fair = [s.method != FULL and ok for s, ok in zip(samples, equal, strict=True)]
    tested = [r if fair[i] and samples[i].method != RANDOM else None for i, r in enumerate(reference)]
    randoms = moments.at(reference)
    p = welch(moments, moments.at(tested))
    adjusted, best = holm(p), _best(samples, moments, fair)
    effect, g = moments.mean - randoms.mean, hedges_g(moments, randoms)
    return [
        Verdict(
            effect=_finite(effect[i]),
            hedges_g=_finite(g[i]),
            p=_finite(p[i]),
            p_holm=_finite(adjusted[i]),
            above_random=bool(adjusted[i] < ALPHA and effect[i] > 0),
            best=best[i],
            equal_compute=equal[i],
        )
        for i in range(len(samples))
    ]


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def same_compute(images: float, others: float) -> bool:
    """Whether two numbers of images seen count as equal compute."""
    return abs(images - others) <= EQUAL_COMPUTE * others


def _best(samples: Sequence[Sample], moments: Moments, fair: Sequence[bool]) -> list[bool]:
    """Highest mean of each column with several candidates, and those not significantly below it, each by itself."""
    candidates: dict[Hashable, list[int]] = defaultdict(list)
    for i in np.argsort(moments.mean, kind="stable"):
        if fair[i] and moments.n[i] >= FEW_SETS:
            candidates[samples[i].column].append(int(i))
    tops = {i: column[-1] for column in candidates.values() if len(column) > 1 for i in column}
    p = welch(moments, moments.at([tops.get(i) for i in range(len(samples))]))
    return [i in tops and not below < ALPHA for i, below in enumerate(p)]
