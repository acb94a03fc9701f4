"""Ratios of ways of doing one thing, interleaved so that other work on the machine hits all of them."""

import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial

import torch

Seconds = Callable[[], float]
WALL: Seconds = time.perf_counter
THREAD: Seconds = time.thread_time


@dataclass(frozen=True)
class Measure:
    """One goal and what was measured for it.

    Args:
        id: short name, such as "P1".
        what: what is compared with what.
        goal: the smallest value that is wanted, or with `most` the largest that is allowed.
        value: median of the rounds, or the only number.
        rounds: ratio of every round.
        most: whether the value must stay below the goal.
        bf16: whether the goal rests on a processor with bf16 units.
    """

    id: str
    what: str
    goal: float
    value: float
    rounds: tuple[float, ...] = ()
    most: bool = False
    bf16: bool = False

    @property
    def holds(self) -> bool:
        """Whether the goal is met."""
        return self.value <= self.goal if self.most else self.value >= self.goal


def measured(
    id: str, what: str, goal: float, above: Sequence[float], below: Sequence[float], most: bool = False
) -> Measure:
    """Median over rounds of above / below, seconds of the same rounds; the others as in `Measure`."""
    ratios = tuple(a / b for a, b in zip(above, below, strict=True))
    return Measure(id, what, goal, statistics.median(ratios), ratios, most)


def interleaved(works: Mapping[str, Seconds], rounds: int) -> dict[str, list[float]]:
    """Seconds that each work says it took, in rounds of one of each, after one round that does not count."""
    all_rounds = [{name: max(work(), 1e-9) for name, work in works.items()} for _ in range(rounds + 1)]
    return {name: [seconds[name] for seconds in all_rounds[1:]] for name in works}


def ratio(
    id: str,
    what: str,
    goal: float,
    above: Callable[[], object],
    below: Callable[[], object],
    rounds: int,
    clock: Seconds,
    most: bool = False,
) -> Measure:
    """Median over interleaved rounds of time(above) / time(below), each of which does its work once.

    The clock is `WALL`, or `THREAD` for work that is then done in one thread; the others as in `Measure`.
    """
    works = {"above": partial(seconds_of, above, clock), "below": partial(seconds_of, below, clock)}
    with one_thread() if clock is THREAD else nullcontext():
        seconds = interleaved(works, rounds)
    return measured(id, what, goal, seconds["above"], seconds["below"], most)


def seconds_of(work: Callable[[], object], clock: Seconds = THREAD) -> float:
    """Seconds that a work takes on a clock."""
    start = clock()
    work()
    return clock() - start


@contextmanager
def one_thread() -> Iterator[None]:
    """Let torch work in the calling thread alone, whose CPU time other processes do not change."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
