"""Feeding images: ddlight's decoded set against JPEG files, PIL and DataLoader workers that start anew each epoch."""

import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader

from ddlight.bench.timing import THREAD, WALL, Measure, ratio
from ddlight.core.errors import UsageError
from ddlight.data.decoded import DecodedFile, decode_files, image_size, open_rgb, read_full
from ddlight.data.folder import is_image, read_rgb
from ddlight.data.table import IMAGENET_MEAN, IMAGENET_STD, TABLE
from ddlight.recipes.plan import Augment
from ddlight.views.crop import CROP_UNIFORMS, crop_boxes
from ddlight.views.loader import RunLoader
from ddlight.views.normalise import normalise
from ddlight.views.pixels import FullSize, Pixels
from ddlight.views.view import Viewer

SIZE, BATCH, WORKERS = 224, 100, 2
IMAGES, QUICK, LARGE_IMAGES = 1000, 40, 64
SMALL, LARGE = (224, 224), (375, 500)
"""Height and width of the files: as condensed sets are published, and about ImageNet's."""


def measure(folder: Path, quick: bool, rounds: int, root: Path | None = None) -> Iterator[Measure]:
    """Goals of loading: batches per second, CPU time per image, difference from PIL, both readings of a split.

    Pictures are those of `root` of 224 x 224 pixels and others, at most as many as are written where none is given; of
    a kind that it has not, nothing is measured.
    """
    from torchvision.datasets import ImageFolder

    count, few = (QUICK, QUICK) if quick else (IMAGES, LARGE_IMAGES)
    if root is None:
        small = write_jpegs(folder / "small" / "one", count, SMALL, 75)
        large = write_jpegs(folder / "large", few, LARGE, 93)
    else:
        small, large = link_pictures(root, folder, count, few)
    others = "500x375 JPEGs" if root is None else "other pictures"
    some = small[: max(8, len(small) // 10)]
    pixels, squares = (torch.from_numpy(decode_files(f, read_square, (3, SIZE, SIZE))) for f in (small, large))
    transform = _transform()

    def published_epoch() -> None:
        images = ImageFolder(str(folder / "small"), transform)
        deque(DataLoader(images, BATCH, shuffle=True, num_workers=WORKERS), maxlen=0)

    def one_core(id: str, what: str, goal: float, files: list[Path], pixels: Pixels) -> Measure:
        def reference() -> None:
            for file in files:
                transform(open_rgb(file))

        what = f"CPU time an image on one core, PIL and torchvision / ddlight: {what}"
        return ratio(id, what, goal, reference, lambda: deque(views(pixels), maxlen=0), rounds, THREAD)

    what = "an epoch of 224-px JPEGs: files, PIL, 2 workers anew / ddlight's set"
    if small:
        yield ratio("P1", what, 5, published_epoch, lambda: deque(views(pixels), maxlen=0), rounds, WALL)
        yield one_core("P2", "224-px JPEGs", 4.5, some, pixels[: len(some)])
    if large:
        full = FullSize(large, read_full, lambda rows: squares.numpy()[rows], SIZE, float("inf"))
        yield one_core("P3a", f"{others} at full size in memory", 4.5, large, full)
        yield one_core("P3b", f"{others}, held as 224-px squares", 9, large, squares)
    yield from differences(*filter(None, (some[:24], large[:24])))
    yield from _readings(folder, large or some, rounds)


def link_pictures(root: Path, folder: Path, most: int, most_large: int) -> tuple[list[Path], list[Path]]:
    """Links to pictures below `root`, evenly spread: those of `SMALL` size and others. UsageError where it has none."""
    found = sorted(path for path in root.expanduser().rglob("*") if is_image(path.name))
    if not found:
        raise UsageError(f"--root {root} holds no pictures.")
    some = found[:: -(-len(found) // most)]
    small = [path for path in some if image_size(path) == SMALL]
    large = [path for path in some if path not in set(small)][:most_large]
    linked = []
    for name, paths in (("small/one", small), ("large", large)):
        place = folder / name
        place.mkdir(parents=True)
        links = [place / f"{n:05d}{path.suffix}" for n, path in enumerate(paths)]
        for link, path in zip(links, paths, strict=True):
            link.symlink_to(path.resolve())
        linked.append(links)
    return linked[0], linked[1]


def write_jpegs(folder: Path, count: int, shape: tuple[int, int], quality: int) -> list[Path]:
    """Write crops of scikit-learn's two photographs with some noise, every other one on its side; return the files."""
    from sklearn.datasets import load_sample_images

    photographs, rng = load_sample_images().images, np.random.default_rng(0)
    folder.mkdir(parents=True, exist_ok=True)
    files = [folder / f"{n:05d}.jpg" for n in range(count)]
    for n, file in enumerate(files):
        photograph = photographs[n // 2 % len(photographs)]
        top, left = (int(rng.integers(whole - part)) for whole, part in zip(photograph.shape[:2], shape, strict=True))
        crop = photograph[top : top + shape[0], left : left + shape[1]] + rng.normal(0, 6, (*shape, 3))
        turned = crop.transpose(1, 0, 2) if n % 2 else crop
        Image.fromarray(turned.clip(0, 255).astype(np.uint8)).save(file, quality=quality)
    return files


def read_square(path: Path) -> np.ndarray:
    """Decode as `ImageFolder(size=224, resize=256)` does, or as it is where the file has 224 pixels."""
    with Image.open(path) as image:
        resize = SIZE if image.size == SMALL else 256
    return read_rgb(path, SIZE, resize)


def _transform() -> Any:
    """The views that the published loops train on."""
    from torchvision import transforms as t

    crop = (t.RandomResizedCrop(SIZE), t.RandomHorizontalFlip())
    return t.Compose([*crop, t.ToTensor(), t.Normalize(IMAGENET_MEAN, IMAGENET_STD)])


def views(pixels: Pixels) -> Iterator[torch.Tensor]:
    """One epoch of ddlight's views of a set, cropped, flipped and normalised."""
    augment = Augment(crop_scale=(0.08, 1.0), flip=True)
    batch, count = min(BATCH, len(pixels)), len(pixels)
    viewer = Viewer(augment, TABLE["ImageNet1K"], "pixel", batch, count, 0)
    labels = torch.zeros(count, dtype=torch.long)
    for part in RunLoader(count, batch, -(-count // batch), 0):
        yield viewer(part.attach(pixels, labels)).images


def differences(*groups: list[Path]) -> list[Measure]:
    """Largest and mean difference in grey levels of random crops from PIL's, of files of several sizes."""
    levels = [_differences(files) for files in groups]
    worst, mean = max(float(d.max()) for d in levels), max(float(d.mean()) for d in levels)
    return [
        Measure("P4", "grey levels from PIL's crop and resize, the largest", 1, worst, most=True),
        Measure("P4m", "grey levels from PIL's crop and resize, the mean", 0.3, mean, most=True),
    ]


def _differences(files: list[Path]) -> np.ndarray:
    source = FullSize(files, read_full, lambda rows: rows, SIZE, float("inf"))
    u, scale, ratio_range = np.random.default_rng(1).random((len(files), CROP_UNIFORMS)), (0.08, 1.0), (3 / 4, 4 / 3)
    crops = source.cut(np.arange(len(files)), u, scale, ratio_range).numpy()
    return np.stack([np.abs(c.astype(int) - _pil_crop(f, row)) for c, f, row in zip(crops, files, u, strict=True)])


def _pil_crop(file: Path, u: np.ndarray) -> np.ndarray:
    with Image.open(file) as image:
        top, left, height, width = crop_boxes(u, image.size[::-1]).tolist()
        crop = image.convert("RGB").crop((left, top, left + width, top + height))
    return np.asarray(crop.resize((SIZE, SIZE), Image.Resampling.BILINEAR)).transpose(2, 0, 1).astype(int)


def _readings(folder: Path, files: list[Path], rounds: int) -> Iterator[Measure]:
    """What it takes to decode a split the first time, and to read it the second."""
    from torchvision import transforms as t

    rows, shape = np.arange(len(files)), (3, SIZE, SIZE)
    kept = DecodedFile(folder / "split.u8", files, shape, lambda some: decode_files(some, read_square, shape))
    square = [] if image_size(files[0]) == SMALL else [t.Resize(256), t.CenterCrop(SIZE)]
    transform = t.Compose([*square, t.ToTensor(), t.Normalize(IMAGENET_MEAN, IMAGENET_STD)])

    def reference() -> torch.Tensor:
        return torch.stack([transform(open_rgb(file)) for file in files])

    def second() -> torch.Tensor:
        return normalise(torch.from_numpy(kept.take(rows)), IMAGENET_MEAN, IMAGENET_STD)

    if not torch.allclose(reference(), second(), rtol=0, atol=1e-5):
        raise AssertionError("the second reading of a split differs from the reference's")

    def plain() -> np.ndarray:
        return np.stack([read_square(file) for file in files])

    first = kept.decode
    if not np.array_equal(plain(), first(files)):
        raise AssertionError("decoded pictures differ from the plain loop's")
    what = "CPU time of decoding a split: ddlight, in threads / a plain PIL loop"
    yield ratio("P23b", what, 1.1, lambda: first(files), plain, rounds, time.process_time, most=True)
    what = "CPU time an image of an evaluation: PIL and torchvision / ddlight's second"
    yield ratio("P23", what, 15, reference, second, rounds, THREAD)
