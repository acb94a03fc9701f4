"""What a training recipe consists of: the explicit numbers of a run, what a user gives in their place, the setting."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import ceil
from typing import Any, Literal

from ddlight.core.errors import UsageError
from ddlight.core.override import Overriding, flat, override, replaced
from ddlight.recipes.budget import Budget
from ddlight.recipes.schedules import Schedule

Optimizer = Literal["sgd", "adam", "adamw"]
Mix = Literal["none", "cutmix", "mixup"]
Distance = Literal["mse", "kl"]


@dataclass(frozen=True)
class Augment:
    """What happens to an image before the student sees it, in this order.

    Args:
        patches: cut into factor x factor strips that are shuffled (RDED's ShufflePatches); 1 leaves images whole.
        crop_scale: area range of a random resized crop, per image; null takes the whole image, and so does [1, 1] with
            the ratio [1, 1].
        crop_ratio: range of the crop's width / height.
        tiles: the crop is cut inside one of tiles x tiles tiles, drawn per image (PCA's); 1 cuts anywhere.
        flip: mirror each image with probability 1/2.
        jitter: strength of brightness, contrast and saturation jitter (IDC's version), per image.
        lighting: standard deviation of the PCA lighting noise, per image (colour images only).
        dsa: differentiable Siamese augmentation: op groups joined by "_", one group per batch, parameters per image; ""
            is off.
        mix: blend with a permuted batch: none, cutmix or mixup.
        mix_alpha: the mixing weight is drawn from Beta(alpha, alpha).
        mix_per: one weight and box for the whole "batch", or one per "sample".
    """

    patches: int = 1
    crop_scale: tuple[float, float] | None = None
    crop_ratio: tuple[float, float] = (3 / 4, 4 / 3)
    tiles: int = 1
    flip: bool = False
    jitter: float = 0.0
    lighting: float = 0.0
    dsa: str = ""
    mix: Mix = "none"
    mix_alpha: float = 1.0
    mix_per: Literal["batch", "sample"] = "batch"


@dataclass(frozen=True)
class Recipe:
    """The explicit numbers of one training run.

    Args:
        optimizer: sgd, adam or adamw.
        lr: peak learning rate; "set" takes the one that was learned with the set.
        momentum: of sgd.
        nesterov: Nesterov's form of momentum.
        betas: of adam and adamw.
        weight_decay: L2 (sgd, adam) or decoupled (adamw).
        decay_1d: also decay biases and norm parameters.
        schedule: learning-rate multiple over progress.
        reset_momentum: forget the optimiser's state where a `step` schedule drops, as DatasetCondensation does.
        batch: images per optimiser step, over all ranks; capped at the set's size.
        temperature: softens teacher and student in the KL loss.
        t_squared: multiply the KL loss by T**2; the published codes do not, arXiv 2604.18811 leaves it open (guess).
        ce_weight: weight of the cross-entropy of the unmixed label beside the MSE of logits (MultiTeacherLabel).
        distance: from several teachers (MultiTeacherLabel): "mse" of logits, or "kl" at `temperature` without a class.
        balance: scale several teachers' logits to one norm over the batch before they are averaged (G-VBSM).
        batch_statistics: teachers in training mode: BatchNorm by the batch itself, dropout active (FADRM's labels).
        ema: decay of the average of the student's weights that is evaluated; 0 evaluates the student itself.
        bn_momentum: of the student's BatchNorm layers (RDED's second forward amounts to 0.19).
    """

    optimizer: Optimizer
    lr: float | Literal["set"]
    batch: int
    schedule: Schedule
    momentum: float = 0.9
    nesterov: bool = False
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: float = 5e-4
    decay_1d: bool = True
    reset_momentum: bool = False
    temperature: float = 20.0
    t_squared: bool = False
    ce_weight: float = 0.025
    distance: Distance = "mse"
    balance: bool = False
    batch_statistics: bool = False
    ema: float = 0.0
    bn_momentum: float = 0.1


LIMITS: tuple[tuple[tuple[str, ...], Callable[[float], bool], str], ...] = (
    (("batch", "patches", "tiles"), lambda v: v >= 1, "1 or more"),
    (("lr",), lambda v: v == "set" or v > 0, "above 0"),
    (("temperature", "mix_alpha"), lambda v: v > 0, "above 0"),
    (("weight_decay", "ce_weight", "lighting"), lambda v: v >= 0, "0 or more"),
    (("momentum", "ema"), lambda v: 0 <= v < 1, "0 or more, and below 1"),
    (("jitter",), lambda v: 0 <= v <= 1, "0 or more, and at most 1"),
    (("bn_momentum",), lambda v: 0 < v <= 1, "above 0, and at most 1"),
)


@override(Recipe, Augment)
class Override(Overriding):
    """Numbers that replace the protocol's; null keeps the protocol's.

    Raises:
        UsageError: a number is out of its range.
    """

    def __post_init__(self) -> None:
        """Check the numbers; those of the schedule are checked there. Raises UsageError."""
        for names, fits, allowed in LIMITS:
            for name in names:
                value = getattr(self, name)
                if value is not None and not fits(value):
                    raise UsageError(f"recipe.{name} is {value}; it must be {allowed}.")

    def apply(self, plan: "Plan") -> "Plan":
        """Return `plan` with every number given here in its place."""
        return replace(plan, recipe=replaced(plan.recipe, self.given()), augment=replaced(plan.augment, self.given()))


FEW_PASSES = 20
"""In a run of fewer passes the learning rate is not held during each of them."""


@dataclass(frozen=True)
class Plan:
    """A resolved protocol: recipe, augmentation and length."""

    recipe: Recipe
    augment: Augment
    budget: Budget

    def over(self, images: int, full_images: int, override: Override | None = None) -> "Plan":
        """This plan over a set of `images`: its batch at most the set, and its schedule complete in a short run too.

        In a run of fewer than 20 passes the rate changes at every step: held during each pass, a cosine would end above
        0.6 % of its peak (half of it after two passes), and a short run of full data would not be a complete one.

        Args:
            images: size of the set that is trained on.
            full_images: size of the full training set.
            override: numbers that were given; its `stepped` is kept.
        """
        recipe = replace(self.recipe, batch=min(self.recipe.batch, images))
        steps = self.budget.total_steps(images, recipe.batch, full_images)
        if steps < FEW_PASSES * ceil(images / recipe.batch) and (override is None or override.stepped is None):
            recipe = replace(recipe, schedule=replace(recipe.schedule, stepped="step"))
        return replace(self, recipe=recipe)

    def as_override(self) -> dict[str, Any]:
        """Recipe and augmentation as plain values under `Override`'s names: applied to the same protocol, this plan.

        Only a null, such as no crop, cannot replace what another protocol has.
        """
        numbers = {**flat(self.recipe), **flat(self.augment)}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in numbers.items()}


@dataclass(frozen=True)
class Setting:
    """What the published rules depend on.

    Args:
        classes: number of classes.
        ipc: images per class (of the condensed set).
        channels: 1 or 3.
        flip: whether the dataset may be mirrored.
        student: lower-case name of the student's network, such as resnet50.
        tile_factor: images of the set are mosaics of factor x factor patches.
        size: side of the images in pixels.
    """

    classes: int
    ipc: int
    channels: int = 3
    flip: bool = True
    student: str = "resnet18"
    tile_factor: int = 1
    size: int = 224
