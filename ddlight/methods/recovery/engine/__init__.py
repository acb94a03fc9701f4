"""What decoupled methods share: teachers, where images begin, what they see, the loop that moves them."""

# ruff: noqa: F401  what methods import from here

from ddlight.methods.recovery.engine.loop import Loss, Objective, Step, recover
from ddlight.methods.recovery.engine.observer import Observer
from ddlight.methods.recovery.engine.options import Recovery, RecoveryOverride
from ddlight.methods.recovery.engine.parts import (
    STARTS,
    GatheredStatistics,
    Init,
    Part,
    Patches,
    PatchImages,
    Start,
)
from ddlight.methods.recovery.engine.recovered import Carried, RecoveredSynthesiser
from ddlight.methods.recovery.engine.statistics import CategoryStatistics, SmoothedStatistics
from ddlight.methods.recovery.engine.teachers import (
    LARGE_TEACHERS,
    TINY_TEACHERS,
    Teachers,
    photographs,
    students,
)
