"""The real datasets: one table of facts, and readers that load on first use."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ddlight.data.arrays import CIFAR10, CIFAR100, MNIST, SVHN, FashionMNIST, FashionMNIST5k
    from ddlight.data.base import ImageSet, RealDataset, Split
    from ddlight.data.digits import Digits
    from ddlight.data.folder import ImageFolder
    from ddlight.data.imagenet import ImageNet1K, ImageNet100, ImageNette, ImageWoof, TinyImageNet
    from ddlight.data.noisy import NoisyLabels
    from ddlight.data.table import TABLE, DatasetInfo, data_root, describe

__all__ = [
    "CIFAR10", "CIFAR100", "MNIST", "SVHN", "TABLE", "DatasetInfo", "Digits", "FashionMNIST", "FashionMNIST5k",
    "ImageFolder", "ImageNet1K", "ImageNet100", "ImageNette", "ImageSet", "ImageWoof", "NoisyLabels", "RealDataset",
    "Split", "TinyImageNet", "data_root", "describe",
]  # fmt: skip

_MODULES = {
    **dict.fromkeys(("CIFAR10", "CIFAR100", "MNIST", "SVHN", "FashionMNIST", "FashionMNIST5k"), "arrays"),
    **dict.fromkeys(("ImageSet", "RealDataset", "Split"), "base"),
    **dict.fromkeys(("ImageNet1K", "ImageNet100", "ImageNette", "ImageWoof", "TinyImageNet"), "imagenet"),
    "ImageFolder": "folder",
    **dict.fromkeys(("TABLE", "DatasetInfo", "data_root", "describe"), "table"),
    "Digits": "digits",
    "NoisyLabels": "noisy",
}


def __getattr__(name: str) -> Any:
    """Import what is asked for, so that commands which only read the table import neither numpy nor torch."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
