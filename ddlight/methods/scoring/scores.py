"""Difficulty scores as pure functions of what a scoring run recorded. Larger is harder, or more uncertain.

`signal` says where the numbers come from: "train", the augmented views of the training steps, or "clean", passes over
the images as they are.
"""

from typing import Literal

import numpy as np

from ddlight.core.errors import UsageError
from ddlight.methods.scoring.table import ScoreTable

Signal = Literal["train", "clean"]
MarginSpace = Literal["prob", "logit"]
NeverLearned = Literal["max", "zero"]
CadScore = Literal["el2n", "prob_true"]


def el2n(table: ScoreTable, signal: Signal = "clean", at: float = 0.1) -> np.ndarray:
    """EL2N (arXiv 2107.07075): (N,).

    Args:
        table: of a scoring run.
        signal: "clean", as published: one pass over the images as they are, early in the run; "train": mean over the
            first `early` passes' views, as CCS has it.
        at: which clean pass: the first at or after this fraction of the run.
    """
    if signal == "train":
        return table["train.el2n"]
    history = table["clean.el2n"]
    return np.asarray(history[reading(len(history), at)])


def reading(readings: int, at: float) -> int:
    """Number of the first clean pass at or after a fraction `at` of the run, of `readings` equally spaced ones."""
    if not 0 < at <= 1:
        raise UsageError(f"at is a fraction of the scoring run, above 0 and at most 1; given: {at}.")
    return min(readings - 1, int(np.ceil(round(at * readings, 9))) - 1)


def el2n_sl(table: ScoreTable) -> np.ndarray:
    """EL2N-SL (arXiv 2604.18811, Definition 1), mean over all passes: (N,). Only runs with a teacher record it."""
    return table["train.el2n_sl"]


def forgetting(table: ScoreTable, never_learned: NeverLearned = "max") -> np.ndarray:
    """Forgetting events (arXiv 1812.05159): (N,).

    Args:
        table: of a scoring run.
        never_learned: images that were never right rank hardest ("max", as published), or keep their count of zero and
            rank easiest ("zero", as DeepCore, CCS, D2 and DUAL have it).
    """
    events = table["train.forgetting"]
    if never_learned == "zero":
        return events
    return np.where(table["train.learned"] > 0, events, max(float(table["train.seen"].max()), 1.0))


def aum(table: ScoreTable, space: MarginSpace = "prob") -> np.ndarray:
    """Minus the area under the margin, mean over all passes (arXiv 2001.10528): (N,).

    Args:
        table: of a scoring run.
        space: margins of probabilities ("prob", as CCS) or of logits ("logit", as AUM itself).
    """
    return -table[f"train.aum_{space}"]


def entropy(table: ScoreTable) -> np.ndarray:
    """Entropy of the trained network's answer, in nats: (N,)."""
    return table["clean.entropy"]


def least_confidence(table: ScoreTable) -> np.ndarray:
    """1 minus the trained network's largest probability: (N,)."""
    return table["clean.least_confidence"]


def margin(table: ScoreTable) -> np.ndarray:
    """Minus the trained network's margin between its two largest probabilities: (N,)."""
    return -table["clean.top_margin"]


def dyn_unc(table: ScoreTable, signal: Signal = "train", window: int = 10) -> np.ndarray:
    """Dyn-Unc (arXiv 2306.05175): mean over windows of the std of the own class's probability: (N,).

    Args:
        table: of a scoring run.
        signal: "train": windows of `ring` passes, all of them; "clean": windows over the clean passes, of which the
            last one is left out as in the authors' code.
        window: J, clean passes in a window.
    """
    if signal == "train":
        return table["train.dyn_unc"]
    history = table["clean.prob_true"]
    return window_std(history[:-1], min(window, len(history) - 1)).mean(0)


def dual(table: ScoreTable) -> np.ndarray:
    """DUAL (arXiv 2502.06905): mean over windows of 10 std (1 - mean) of the own class's probability: (N,)."""
    return table["train.dual"]


def tdds(table: ScoreTable, passes: int = 10, window: int = 5, decay: float = 0.9) -> np.ndarray:
    """TDDS (arXiv 2311.13613), as its code has it: how unevenly the answer changes, in the later windows: (N,).

    c_t is the change of the answer from pass t to the next; V_k is the length of c_t - mean c over the J - 1 changes of
    the k-th window of J passes; the score is their moving average, sum of decay (1 - decay)^(T - J - k) V_k.

    Args:
        table: of a scoring run that recorded changes.
        passes: T, the number of first passes that count.
        window: J, 3 to T passes.
        decay: beta, the weight of the last window.

    Raises:
        UsageError: the run recorded no changes, or fewer.
    """
    changes = table["train.change"]
    if len(changes) < passes - 1:
        raise UsageError(
            f"{table.source} recorded the changes of {len(changes) + 1} passes, and T = {passes} are asked for. "
            f"Take fewer, --data.passes={len(changes) + 1}, or a longer scoring run."
        )
    history = np.asarray(changes[: passes - 1], np.float64)
    windows = np.lib.stride_tricks.sliding_window_view(history, window - 1, axis=0)
    lengths = np.linalg.norm(windows - windows.mean(-1, keepdims=True), axis=-1)
    weights = decay * (1 - decay) ** np.arange(len(lengths))[::-1]
    return np.asarray(weights @ lengths)


def window_std(history: np.ndarray, window: int) -> np.ndarray:
    """Sample standard deviation (ddof 1) over each window of rows in a row: (K - window + 1, N).

    Args:
        history: (K, N).
        window: 2 to K.

    Raises:
        UsageError: there are too few readings.
    """
    if not 2 <= window <= len(history):
        raise UsageError(
            f"A window of {window} does not fit into {len(history)} clean passes; allowed: 2 to {len(history)}. "
            "Give the scoring run more of them: --data.scoring.clean=..."
        )
    windows = np.lib.stride_tricks.sliding_window_view(np.asarray(history, np.float64), window, axis=0)
    return np.asarray(windows.std(axis=-1, ddof=1))


def cad(history: np.ndarray, window: int, last: int, include_last: bool = False) -> np.ndarray:
    """CAD (arXiv 2604.18811, Eq. 1 and 2): mean of the last W windows' standard deviations: (N,).

    U_k is the unbiased standard deviation of the score over the J readings from k on; CAD is the mean of U_k for
    k = K - J - W ... K - J - 1, so that the K-th reading is not used, as in the Dyn-Unc code that it follows.

    Args:
        history: (K, N): the score of each image at K readings.
        window: J.
        last: W.
        include_last: shift the windows by one, so that the last reading is used.

    Raises:
        UsageError: K is less than J + W.
    """
    used = history if include_last else history[:-1]
    spreads = window_std(used, window)
    if not 1 <= last <= len(spreads):
        raise UsageError(
            f"J = {window} and W = {last} need {window + last + (not include_last) - 1} readings; there are "
            f"{len(history)}."
        )
    return np.asarray(spreads[-last:].mean(0))
