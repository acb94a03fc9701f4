"""What matching methods share: what is learned, real batches, augmentation, networks, the loop that can be stopped."""

# ruff: noqa: F401  what methods import from here

from ddlight.methods.matching.engine.augment import Augmentation
from ddlight.methods.matching.engine.learned import Learned, LearnedRate, Parametrisation, PlainImages
from ddlight.methods.matching.engine.matched import (
    BACKWARD,
    BATCH,
    FORWARD,
    MOMENTUM,
    TINY_MATCHING,
    TWICE,
    Init,
    MatchingSynthesiser,
    Published,
)
from ddlight.methods.matching.engine.real import TOGETHER, RealImages, batch_norms, passes
from ddlight.methods.matching.engine.unroll import Swept, Weights, sweep, unroll
