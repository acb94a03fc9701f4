"""The dataset table: classes, sizes, normalisation and whereabouts of every real dataset, without numpy or torch."""

import os
from dataclasses import dataclass
from pathlib import Path

ROOT_VARIABLE = "DDLIGHT_DATA"
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
        found: the folders and files that are expected below the data root, written ROOT; "" where none are.
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
    found: str = ""
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
        "images": ", ".join(
            f"{what} {count:,}" if count else f"{what} as found"
            for what, count in (("train", info.train), ("test", info.test))
        )
        + f", held out {info.held_out:,}" * bool(info.held_out),
        "size": f"{info.channels}x{info.size}x{info.size}",
        "mean": ", ".join(map(str, info.mean)),
        "std": ", ".join(map(str, info.std)),
        "flip": "yes" if info.flip else "no",
        "found": info.found.replace("ROOT", root),
        "get": info.get.replace("ROOT", root),
        "licence": info.licence,
        "note": info.note,
    }
    return [line for name, value in facts.items() for line in _fact(name, value)]


def _fact(name: str, value: str) -> list[str]:
    """Write `name  value`, further lines of the value indented below; nothing where there is no value."""
    if not value:
        return []
    first, *more = value.splitlines()
    return [f"{name:<8}  {first}", *(f"{'':<10}{line}" for line in more)]


def _names(text: str) -> tuple[str, ...]:
    return tuple(text.split())


DIGIT_NAMES = tuple("0123456789")

# Its makers write "T-shirt/top"; class names become folders here.
FASHION_NAMES = (*_names("T-shirt Trouser Pullover Dress Coat Sandal Shirt Sneaker Bag"), "Ankle boot")

CIFAR10_NAMES = _names("airplane automobile bird cat deer dog frog horse ship truck")

CIFAR100_NAMES = _names(
    """
    apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle
    bowl boy bridge bus butterfly camel can castle caterpillar cattle
    chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur
    dolphin elephant flatfish forest fox girl hamster house kangaroo keyboard
    lamp lawn_mower leopard lion lizard lobster man maple_tree motorcycle mountain
    mouse mushroom oak_tree orange orchid otter palm_tree pear pickup_truck pine_tree
    plain plate poppy porcupine possum rabbit raccoon ray road rocket
    rose sea seal shark shrew skunk skyscraper snail snake spider
    squirrel streetcar sunflower sweet_pepper table tank telephone television tiger tractor
    train trout tulip turtle wardrobe whale willow_tree wolf woman worm
    """
)

IMAGENETTE_WNIDS = _names(
    """
    n01440764 n02102040 n02979186 n03000684 n03028079 n03394916 n03417042 n03425413 n03445777 n03888257
    """
)

IMAGEWOOF_WNIDS = _names(
    """
    n02086240 n02087394 n02088364 n02089973 n02093754 n02096294 n02099601 n02105641 n02111889 n02115641
    """
)

# CMC's list, sorted: others list the same classes in another order.
IMAGENET100_WNIDS = _names(
    """
    n01558993 n01692333 n01729322 n01735189 n01749939 n01773797 n01820546 n01855672 n01978455 n01980166
    n01983481 n02009229 n02018207 n02085620 n02086240 n02086910 n02087046 n02089867 n02089973 n02090622
    n02091831 n02093428 n02099849 n02100583 n02104029 n02105505 n02106550 n02107142 n02108089 n02109047
    n02113799 n02113978 n02114855 n02116738 n02119022 n02123045 n02138441 n02172182 n02231487 n02259212
    n02326432 n02396427 n02483362 n02488291 n02701002 n02788148 n02804414 n02859443 n02869837 n02877765
    n02974003 n03017168 n03032252 n03062245 n03085013 n03259280 n03379051 n03424325 n03492542 n03494278
    n03530642 n03584829 n03594734 n03637318 n03642806 n03764736 n03775546 n03777754 n03785016 n03787032
    n03794056 n03837869 n03891251 n03903868 n03930630 n03947888 n04026417 n04067472 n04099969 n04111531
    n04127249 n04136333 n04229816 n04238763 n04336792 n04418357 n04429376 n04435653 n04485082 n04493381
    n04517823 n04589890 n04592741 n07714571 n07715103 n07753275 n07831146 n07836838 n13037406 n13040303
    """
)


def _idx_tree(name: str) -> str:
    return (
        f"ROOT/{name}/raw/\n"
        "  train-images-idx3-ubyte, train-labels-idx1-ubyte\n"
        "  t10k-images-idx3-ubyte, t10k-labels-idx1-ubyte   (each with or without .gz)"
    )


def _class_tree(folder: str) -> str:
    return f"{folder}/\n  train/<wnid>/*.JPEG\n  val/<wnid>/*.JPEG"


def _torchvision(name: str, rest: str = "download=True") -> str:
    return f"python -c \"from torchvision.datasets import {name}; {name}('ROOT', {rest})\""


_FASHION_FOUND = f"{_idx_tree('FashionMNIST')}\nor the same files in /usr/share/datasets/fashion-mnist (Debian)"
_FASHION_GET = f"sudo apt install dataset-fashion-mnist   (Debian, Ubuntu), or\n{_torchvision('FashionMNIST')}"

_IMAGENET_TERMS = "non-commercial research and education (image-net.org terms of access)"
_SUBSET_TERMS = "Apache-2.0 (the selection); the images under ImageNet's terms"

_ROWS = (
    DatasetInfo(
        name="Digits",
        classes=DIGIT_NAMES,
        channels=1,
        size=32,
        mean=(0.3059,),
        std=(0.3764,),
        flip=False,
        train=1438,
        test=359,
        get="pip install scikit-learn   (the images come with it)",
        licence="CC BY 4.0 (UCI, Optical Recognition of Handwritten Digits)",
        note="8x8 digits of scikit-learn, enlarged; the split is ddlight's",
    ),
    DatasetInfo(
        name="MNIST",
        classes=DIGIT_NAMES,
        channels=1,
        size=28,
        mean=(0.1307,),
        std=(0.3081,),
        flip=False,
        train=60_000,
        test=10_000,
        found=_idx_tree("MNIST"),
        get=_torchvision("MNIST"),
        licence="CC BY-SA 3.0",
        note="handwritten digits",
    ),
    DatasetInfo(
        name="FashionMNIST",
        classes=FASHION_NAMES,
        channels=1,
        size=28,
        mean=(0.2861,),
        std=(0.3530,),
        train=60_000,
        test=10_000,
        found=_FASHION_FOUND,
        get=_FASHION_GET,
        licence="MIT",
        note="clothes",
    ),
    DatasetInfo(
        name="FashionMNIST5k",
        classes=FASHION_NAMES,
        channels=1,
        size=28,
        mean=(0.2861,),
        std=(0.3530,),
        train=5_000,
        test=10_000,
        held_out=5_000,
        found=_FASHION_FOUND,
        get=_FASHION_GET,
        licence="MIT",
        note="500 images per class of FashionMNIST; held-out images come from its other 55,000",
    ),
    DatasetInfo(
        name="CIFAR10",
        classes=CIFAR10_NAMES,
        size=32,
        mean=(0.4914, 0.4822, 0.4465),
        std=(0.2023, 0.1994, 0.2010),
        train=50_000,
        test=10_000,
        found="ROOT/cifar-10-batches-py/\n  data_batch_1 ... data_batch_5, test_batch, batches.meta",
        get=_torchvision("CIFAR10"),
        licence="none stated",
    ),
    DatasetInfo(
        name="CIFAR100",
        classes=CIFAR100_NAMES,
        size=32,
        mean=(0.5071, 0.4866, 0.4409),
        std=(0.2673, 0.2564, 0.2762),
        train=50_000,
        test=10_000,
        found="ROOT/cifar-100-python/\n  train, test, meta",
        get=_torchvision("CIFAR100"),
        licence="none stated",
        note="fine labels",
    ),
    DatasetInfo(
        name="SVHN",
        classes=DIGIT_NAMES,
        size=32,
        mean=(0.4377, 0.4438, 0.4728),
        std=(0.1980, 0.2010, 0.1970),
        flip=False,
        train=73_257,
        test=26_032,
        found="ROOT/\n  train_32x32.mat, test_32x32.mat",
        get=(
            'python -c "from torchvision.datasets import SVHN; '
            "[SVHN('ROOT', s, download=True) for s in ('train', 'test')]\""
        ),
        licence="non-commercial use",
        note="house numbers; without the extra images",
    ),
    DatasetInfo(
        name="ImageFolder",
        size=64,
        found=(
            "a folder with one folder of images per class, either split:\n"
            "  <root>/train/<class>/*.jpg\n"
            "  <root>/test/<class>/*.jpg   (or val/)\n"
            "or whole, split by ddlight:\n"
            "  <root>/<class>/*.jpg"
        ),
        get="set the dataset's `root` to your folder",
        licence="yours",
        note="any folder of images, one folder per class",
    ),
    DatasetInfo(
        name="ImageNet1K",
        size=224,
        train=1_281_167,
        test=50_000,
        found=_class_tree("ROOT/imagenet"),
        get=(
            "register at https://image-net.org/download-images, put ILSVRC2012_img_train.tar, ILSVRC2012_img_val.tar\n"
            "and ILSVRC2012_devkit_t12.tar.gz into ROOT/imagenet, then\n"
            'python -c "from torchvision.datasets import ImageNet; '
            "[ImageNet('ROOT/imagenet', s) for s in ('train', 'val')]\""
        ),
        licence=_IMAGENET_TERMS,
        note="ILSVRC 2012; its validation images are the test split",
        num_classes=1000,
    ),
    DatasetInfo(
        name="ImageNette",
        classes=IMAGENETTE_WNIDS,
        size=224,
        train=9_469,
        test=3_925,
        found=_class_tree("ROOT/imagenette2"),
        get=_torchvision("Imagenette", "'train', download=True"),
        licence=_SUBSET_TERMS,
        note="ten easy classes of ImageNet: tench to parachute",
    ),
    DatasetInfo(
        name="ImageWoof",
        classes=IMAGEWOOF_WNIDS,
        size=224,
        train=9_025,
        test=3_929,
        found=_class_tree("ROOT/imagewoof2"),
        get="unpack https://s3.amazonaws.com/fast-ai-imageclas/imagewoof2.tgz into ROOT",
        licence=_SUBSET_TERMS,
        note="ten breeds of dogs of ImageNet",
    ),
    DatasetInfo(
        name="ImageNet100",
        classes=IMAGENET100_WNIDS,
        size=224,
        train=126_689,
        test=5_000,
        found=_class_tree("ROOT/imagenet100") + "\nor ImageNet1K's folders",
        get="ImageNet1K's folders serve: the classes are chosen by wnid",
        licence=_IMAGENET_TERMS,
        note="100 classes of ImageNet, the list of CMC",
    ),
    DatasetInfo(
        name="TinyImageNet",
        size=64,
        train=100_000,
        test=10_000,
        found=(
            "ROOT/tiny-imagenet-200/\n"
            "  train/<wnid>/images/*.JPEG\n"
            "  val/images/*.JPEG and val/val_annotations.txt   (or val/<wnid>/)"
        ),
        get="unpack http://cs231n.stanford.edu/tiny-imagenet-200.zip into ROOT",
        licence=_IMAGENET_TERMS,
        note="200 classes of ImageNet at 64 pixels; its validation images are the test split",
        num_classes=200,
    ),
)

TABLE: dict[str, DatasetInfo] = {row.name: row for row in _ROWS}
