"""The dataset table: classes, sizes, normalisation and whereabouts of every real dataset, without numpy or torch."""

import os
from dataclasses import dataclass
from pathlib import Path

import yaml

ROOT_VARIABLE = "DDLIGHT_DATA"
FILE = Path(__file__).with_name("table.yaml")
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True, kw_only=True)
class DatasetInfo:
    """What is known of one real dataset; by default colour images, normalised as ImageNet is.

    Attributes:
        name: the dataset's name, which is also its class's.
        classes: names in class order, so that a label is a position in it; empty where only the files tell.
        channels: 1 for grey, 3 for RGB.
        size: side of the square images in pixels.
        mean: per channel, of images in [0, 1]; what images are normalised with.
        std: per channel, of images in [0, 1].
        flip: whether mirroring an image keeps its class.
        train: number of training images, those held out not counted; 0 where only the files tell.
        test: number of test images; 0 where only the files tell.
        held_out: number of images held back from training by default.
        layout: the folders and files that are expected below the data root, written ROOT; "" where none are.
        get: the line that gets the data into ROOT.
        licence: the terms that its makers state.
        note: one sentence on what is special.
        num_classes: number of classes; taken from `classes` where those are known, 0 where only the files tell.
    """

    name: str
    classes: tuple[str, ...] = ()
    channels: int = 3
    size: int
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    flip: bool = True
    train: int = 0
    test: int = 0
    held_out: int = 0
    layout: str = ""
    get: str
    licence: str
    note: str = ""
    num_classes: int = 0

    def __post_init__(self) -> None:
        if self.classes:
            object.__setattr__(self, "num_classes", len(self.classes))


def data_root() -> Path:
    """Return the folder that holds the datasets: $DDLIGHT_DATA, else ~/.cache/ddlight/data."""
    return Path(os.environ.get(ROOT_VARIABLE) or "~/.cache/ddlight/data").expanduser()


def describe(info: DatasetInfo) -> list[str]:
    """Lines that show one dataset, its name left out; ROOT is replaced by this machine's data root."""
    root = str(data_root())
    names = ", ".join(info.classes[:10]) + ", ..." * (len(info.classes) > 10)
    facts = {
        "classes": f"{info.num_classes or 'as found'}" + f": {names}" * bool(names),
        "images": f"train {_count(info.train)}, test {_count(info.test)}"
        + f", held out {info.held_out:,}" * bool(info.held_out),
        "size": f"{info.channels}x{info.size}x{info.size}",
        "mean": ", ".join(map(str, info.mean)),
        "std": ", ".join(map(str, info.std)),
        "flip": "yes" if info.flip else "no",
        "found": info.layout.replace("ROOT", root),
        "get": info.get.replace("ROOT", root),
        "licence": info.licence,
        "note": info.note,
    }
    lines = [
        (name if k == 0 else "", line) for name, value in facts.items() for k, line in enumerate(value.splitlines())
    ]
    return [f"{name:<8}  {line}" for name, line in lines]


def _count(images: int) -> str:
    return f"{images:,}" if images else "as found"


def _read() -> dict[str, DatasetInfo]:
    content = yaml.load(FILE.read_text(encoding="utf-8"), getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    lists, table = content.pop("class_lists"), {}
    for name, row in content.items():
        known = {key: tuple(value) if isinstance(value, list) else value for key, value in row.items()}
        table[name] = DatasetInfo(name=name, **known | {"classes": tuple(lists.get(row.get("classes"), ()))})
    return table


TABLE = _read()
