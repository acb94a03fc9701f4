"""The numbers of a recovery: those that are used, and those that a user gives in place of published ones."""

from dataclasses import dataclass
from typing import get_args

from ddlight.core.errors import UsageError
from ddlight.core.override import Overriding, override
from ddlight.networks.teachers import Precision


@dataclass(frozen=True)
class Recovery:
    """The explicit numbers of a recovery.

    Args:
        iterations: T, length of the recovery.
        lr: of Adam on normalised pixels; it falls to 0 in a cosine.
        batch: images that are recovered together, and whose statistics count together.
        stat_weight: of the statistics beside the cross-entropy (r_bn, lambda).
        first_weight: of the first layer among the statistics' layers.
        var_weight: of variances beside means.
        min_crop: smallest crop, as a fraction of the image's area; 0 takes whole images.
        roll: the view is rolled by 0 to this number of pixels down and to the right.
        symmetric_roll: roll up and to the left as well.
        flip: the view is mirrored with probability 1/2, where the dataset may be mirrored.
        betas: of Adam.
        precision: of the network's passes: fp32, bf16 in mixed precision, or auto, which is bf16 where that is fast;
            statistics are float32 in all.
    """

    iterations: int
    lr: float
    batch: int = 100
    stat_weight: float = 0.01
    first_weight: float = 10.0
    var_weight: float = 1.0
    min_crop: float = 0.08
    roll: int = 32
    symmetric_roll: bool = False
    flip: bool = True
    betas: tuple[float, float] = (0.5, 0.9)
    precision: Precision = "fp32"

    def __post_init__(self) -> None:
        """Check the numbers. Raises UsageError."""
        least = {"iterations": 1, "batch": 1, "roll": 0, "stat_weight": 0, "first_weight": 0, "var_weight": 0}
        for name, lowest in least.items():
            if getattr(self, name) < lowest:
                raise UsageError(f"recovery.{name} is {getattr(self, name)}; allowed: {lowest} or more.")
        if not self.lr > 0:
            raise UsageError(f"recovery.lr is {self.lr}; allowed: above 0, such as 0.25.")
        if not 0 <= self.min_crop <= 1:
            raise UsageError(f"recovery.min_crop is {self.min_crop}; allowed: 0 (no crops) to 1, such as 0.08.")
        if self.precision not in get_args(Precision):
            raise UsageError(f"recovery.precision is {self.precision!r}; allowed: {', '.join(get_args(Precision))}.")

    def check_size(self, size: int) -> None:
        """Refuse images of a side, in pixels, that crops or rolls do not fit. Raises UsageError."""
        if self.roll >= size:
            raise UsageError(
                f"recovery.roll is {self.roll} pixels, and the images have {size}. Give --data.recovery.roll="
                f"{max(1, size // 7)} or another below {size}."
            )
        if 0 < self.min_crop * size**2 < 1:
            raise UsageError(
                f"recovery.min_crop is {self.min_crop}: such crops of images of {size} x {size} pixels have no pixel. "
                f"Give {1 / size**2:.3g} or more."
            )

    @property
    def shifts(self) -> tuple[int, int]:
        """Lowest and highest roll in pixels."""
        return -self.roll if self.symmetric_roll else 0, self.roll


@override(Recovery)
class RecoveryOverride(Overriding):
    """Numbers that replace the published ones; null keeps what was published for the dataset's size and ipc."""
