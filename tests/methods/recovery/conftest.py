"""What tests of decoupled methods share: digits at a few pixels and a teacher that was trained on them in a second."""

import pytest

from ddlight.data import Digits
from ddlight.methods.recovery.engine.options import RecoveryOverride

SIZE = 8


@pytest.fixture
def make(home, teacher):
    """Build a method on digits of 8 pixels: make(SRe2L, iterations=..., cache="cache", ...)."""

    def build(method, ipc=2, seed=0, cache="cache", iterations=4, numbers=None, **options):
        recovery = RecoveryOverride(**{"iterations": iterations, "roll": 1, **(numbers or {})})
        options = {"teacher": teacher, **options}
        return method(Digits(size=SIZE), ipc, seed, str(home / cache), recovery=recovery, **options)

    return build


@pytest.fixture
def make_matched(home, teacher, patch_teacher):
    """Build a method of several teachers on digits of 8 pixels: make_matched(GVBSM, ipc=..., numbers={...}, ...)."""

    def build(method, ipc=2, seed=0, cache="cache", numbers=None, **options):
        recovery = RecoveryOverride(**{"iterations": 4, "batch": 6, **(numbers or {})})
        options = {"teachers": [teacher, patch_teacher(SIZE)[0]], **options}
        return method(Digits(size=SIZE), ipc, seed, str(home / cache), recovery=recovery, **options)

    return build


class Stop(Exception):
    """What a killed process looks like from inside."""


@pytest.fixture
def stop_at(monkeypatch):
    """Let a recovered method raise `Stop` at one of its blocks: stop_at(data, number) gives the blocks it has made."""

    def watch(data, number):
        made, recovered = [], data._recovered

        def stopping(block, carried):
            if block.number == number:
                raise Stop
            made.append(block.number)
            return recovered(block, carried)

        monkeypatch.setattr(data, "_recovered", stopping)
        return made

    watch.Stop = Stop
    return watch
