"""Published soft labels in the layout of FKD: read, checked, and replayed as views.

SRe2L, CDA, CV-DD, FADRM, G-VBSM, EDC and LPLD save the teacher's answers as `epoch_{e}/batch_{b}.tar`, one
`torch.save` list per batch, and with them everything that made the batch's views:

| item | content |
|---|---|
| 0 | crops, float32 (B, 4): top, left, height, width as fractions of the image |
| 1 | flips, bool (B,) |
| 2 | permutation of CutMix or mixup, int64 (B,); None where nothing is mixed |
| 3 | its weight, a number; None where nothing is mixed |
| 4 | box of CutMix: first row, first column, end row, end column, numpy integers; None for mixup |
| 5 | logits of the mixed views before softmax and temperature, float16 or float32 (B, K) |
| 6 | positions in the listing, int64 (B,): G-VBSM and EDC only |
| 7 | patch orders, all zero and unused: EDC only |

Six items do not say which images a batch holds: see `SamplerOrder`. Positions count the files of the set sorted by
class folder and name.

Source: FKD (arXiv 2112.01528), as SRe2L (arXiv 2306.13092) and G-VBSM (arXiv 2311.17950) extend it.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice, product
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from scipy.stats import binomtest
from torch import Tensor

from ddlight.core.errors import DataError, UsageError
from ddlight.data.table import DatasetInfo
from ddlight.networks.torch_file import read_torch_file
from ddlight.views import crop, mix
from ddlight.views.normalise import normalise
from ddlight.views.view import View

SEED = 42
"""Seed of the published sampler."""
CHECKED_VIEWS = 1000
"""Views that are enough to tell labels in the right order from others."""
_AGAIN = "Get the file again, or make the labels anew."
_OTHER_SET = (
    "Use the set that was relabelled, all of its files, sorted by class folder and name; for six-item labels from an "
    "early version of torch give draws=1."
)

Mixing = Literal["none", "cutmix", "mixup"]
Images = Tensor | Callable[[np.ndarray], Tensor]
"""The set's images (N, C, H, W), or a function from positions int64 (n,) to images (n, C, H, W)."""


@dataclass(frozen=True)
class StoredBatch:
    """One stored batch: the items of the table above, and positions (`ids`) also where the file names none.

    Where nothing is mixed, each row of `permutation` is itself and `share` is 1; labels that need CutMix's true share
    take it from the box, whose ends are left out. EDC cut the views from float tensors (`on_tensors`), the others from
    PIL images.
    """

    ids: np.ndarray
    crops: np.ndarray
    flips: np.ndarray
    permutation: np.ndarray
    share: float
    box: tuple[int, int, int, int] | None
    logits: Tensor
    mixing: Mixing
    on_tensors: bool

    def __len__(self) -> int:
        return len(self.ids)

    def boxes(self, height: int, width: int) -> np.ndarray:
        """Crops in pixels of images of one size, as the published loaders round them: int64 (B, 4) as in `crops`.

        PIL rounds the four edges; EDC's loader rounds top, left, height and width, and multiplies the rows' fractions
        by the width and the columns' by the height. That undoes the same exchange at saving, and matters only where
        images are not square. For images of the size that was relabelled both give back the integers drawn then.
        Deviation: a crop that reaches past the image, which other sizes can round to, ends at its edge; the published
        loaders fill it with black.
        """
        fractions = self.crops.astype(np.float64)
        if self.on_tensors:
            start, extent = np.split(np.rint(fractions * [width, height, width, height]).astype(np.int64), 2, axis=1)
        else:
            edge, size = np.split(fractions * [height, width, height, width], 2, axis=1)
            start = np.rint(edge).astype(np.int64)
            extent = np.rint(edge + size).astype(np.int64) - start
        start = np.clip(start, 0, [height - 1, width - 1])
        return np.concatenate([start, np.clip(extent, 1, [height, width] - start)], 1)


class SamplerOrder:
    """Order in which the published relabelling visited the images, where the labels do not say it.

    A `torch.Generator` seeded 42 drives a `RandomSampler`. It draws a permutation of N for its one round over the
    data and, in later versions of torch, another one for an empty remainder, so that pass e uses draw 2e and not e.
    Batch b holds positions b B to (b + 1) B of the pass's permutation. With early versions of torch `draws` is 1.
    """

    def __init__(self, images: int, draws: int = 2) -> None:
        self.images, self.draws = images, draws
        self._states = [torch.Generator().manual_seed(SEED).get_state()]

    def __call__(self, epoch: int) -> np.ndarray:
        """Positions in the order of pass `epoch`: int64 (images,)."""
        source = torch.Generator()
        while len(self._states) <= epoch:
            source.set_state(self._states[-1])
            for _ in range(self.draws):
                torch.randperm(self.images, generator=source)
            self._states.append(source.get_state())
        source.set_state(self._states[epoch])
        return torch.randperm(self.images, generator=source).numpy()


class PublishedLabels:
    """A folder of published labels. Batches are read one at a time, when they are needed.

    All files must be there, and none smaller than its numbers; the first and the last batch of a pass are read to see
    `batch_size` (the last batch may hold fewer images), `classes` K, how batches are mixed (`mixing`), and the number
    of `items`: 6 (SRe2L, CDA, CV-DD, FADRM, LPLD), 7 (G-VBSM) or 8 (EDC).

    Args:
        folder: holds `epoch_0`, `epoch_1`, ...
        images: size of the set that the labels belong to, N.
        draws: permutations that a pass of the published sampler consumed, 2 or 1; see `SamplerOrder`.

    Raises:
        DataError: the folder or files of it are missing, truncated or damaged, or belong to a set of another size.
        UsageError: `draws` is neither 1 nor 2.
    """

    def __init__(self, folder: Path | str, images: int, draws: int = 2) -> None:
        if draws not in (1, 2):
            raise UsageError(f"The published sampler draws 1 or 2 permutations a pass; draws={draws} was given.")
        self.folder, self.images = Path(folder), images
        self.sizes = _listing(self.folder)
        """Bytes of the files, int64 (epochs, batches)."""
        self.epochs, self.batches = self.sizes.shape
        ends = [_file(self.folder, 0, 0), _file(self.folder, 0, self.batches - 1)]
        contents = [read_torch_file(path) for path in ends]
        first, last = (_parse(content, path, None) for content, path in zip(contents, ends, strict=True))
        self.batch_size, self.classes = first.logits.shape
        self.items, self.mixing = len(contents[0]), first.mixing
        self.order = SamplerOrder(images, draws) if self.items == 6 else None  # others name their images
        held = self.batch_size * (self.batches - 1) + len(last.logits)
        if held != images:
            raise DataError(
                f"The labels in {folder} are for {held} images; the condensed set has {images}. {_OTHER_SET}"
            )
        needed = [sum(part.nbytes for part in (b.logits, b.crops, b.flips)) for b in (first, last)]
        needed = [*[needed[0]] * (self.batches - 1), needed[1]]
        for epoch, index in np.argwhere(self.sizes < needed)[:1].tolist():
            raise DataError(
                f"{_file(self.folder, epoch, index)} is truncated: {self.sizes[epoch, index]} bytes, and its numbers "
                f"need {needed[index]}. {_AGAIN}"
            )

    def batch(self, epoch: int, index: int) -> StoredBatch:
        """Read one batch of a stored pass; a longer run asks for its pass mod `epochs`.

        Raises:
            DataError: the file is missing, damaged, would run code, or holds something else than its neighbours.
            UsageError: the labels have no such pass or batch.
        """
        if not (0 <= epoch < self.epochs and 0 <= index < self.batches):
            raise UsageError(
                f"{self.folder} holds passes 0 to {self.epochs - 1} with batches 0 to {self.batches - 1}; "
                f"batch {index} of pass {epoch} was asked for."
            )
        path = _file(self.folder, epoch, index)
        rows = slice(index * self.batch_size, min((index + 1) * self.batch_size, self.images))
        ids = None if self.order is None else self.order(epoch)[rows]
        stored = _parse(read_torch_file(path), path, ids)
        facts = (len(stored), stored.logits.shape[1], stored.mixing, stored.on_tensors)
        expected = (rows.stop - rows.start, self.classes, self.mixing, self.items == 8)
        if facts != expected:
            names = "images, classes, mixing, views cut from tensors"
            raise DataError(f"{path} holds {facts} ({names}), but {expected} was expected. {_AGAIN}")
        if stored.ids.max() >= self.images:
            raise DataError(f"{path} names image {stored.ids.max()}, but the set has {self.images}. {_OTHER_SET}")
        return stored

    def check_order(self, classes: np.ndarray) -> float:
        """Make sure that labels and images belong together: that the teacher recognises what a view shows.

        Some thousand views of the last passes are read, and those counted whose strongest class is the image's or its
        partner's. Labels in a wrong order agree by chance alone; in the first pass both rules of `SamplerOrder` agree,
        so that it is read only where there is no other.

        Args:
            classes: int64 (N,): class of each image of the set.

        Returns:
            Share of the views that agree; DataError where it is that of chance (one-sided binomial test, p >= 0.001).
        """
        passes = range(self.epochs - 1, min(0, self.epochs - 2), -1)
        places = islice(product(passes, range(self.batches)), -(-CHECKED_VIEWS // self.batch_size))
        views, agreeing, chance = np.sum([agreement(self.batch(*place), classes) for place in places], axis=0)
        if binomtest(int(agreeing), int(views), chance / views, "greater").pvalue >= 0.001:
            raise DataError(
                f"The labels in {self.folder} do not fit the images: in the last passes the strongest class of "
                f"{agreeing:.0f} of {views:.0f} views is the image's or its partner's, and chance gives {chance:.0f}. "
                f"{_OTHER_SET}"
            )
        return float(agreeing / views)


def replay(
    images: Images, labels: Tensor, stored: StoredBatch, info: DatasetInfo, rows: tuple[int, int] | None = None
) -> View:
    """Build the views that a stored batch's logits belong to, with the published loaders' steps in their order.

    Crop and bilinear resize, flip, to float, normalise, mix the batch. As in the published code, the views of six
    and seven items are cut from bytes and rounded, those of eight from floats.

    Args:
        images: the set's, uint8 or float in [0, 1], all of one size.
        labels: the set's, (N,) or (N, K), on the same device.
        stored: the batch.
        info: of the dataset: size, mean, std.
        rows: the first and one past the last row that this rank trains on; None takes the whole batch.

    Returns:
        The view of these rows, with the stored logits in float32; DataError where the box lies outside the views.
    """
    start, stop = rows or (0, len(stored))
    batch_rows, partner_rows = np.arange(start, stop), stored.permutation[start:stop]
    views, kept = _cut(images, stored, batch_rows, info), stored.share
    if stored.box is not None and max(stored.box) > info.size:
        raise DataError(
            f"The stored labels mix views of {max(stored.box)} pixels or more a side, and the dataset's images "
            f"have {info.size}. Use the dataset at the size that was relabelled."
        )
    mixed = stored.mixing != "none"
    if mixed:
        if len(views) == len(stored):
            partners = views[torch.from_numpy(partner_rows).to(views.device)]
        else:
            partners = _cut(images, stored, partner_rows, info)
        if stored.box is None:
            views = mix.mixup(views, partners, stored.share)
        else:
            top, left, bottom, right = stored.box
            box = np.array([top, bottom, left, right])
            views, kept = mix.cutmix(views, partners, box), float(mix.kept_fraction(box, info.size))
    ids, partner_ids = (torch.from_numpy(stored.ids[place]).to(labels.device) for place in (batch_rows, partner_rows))
    share = torch.full((len(views),), kept, device=views.device)
    logits = stored.logits[start:stop].float().to(views.device)
    return View(views, labels[ids], labels[partner_ids], share, ids, partner_ids, mixed, logits)


def agreement(stored: StoredBatch, classes: np.ndarray) -> tuple[int, int, float]:
    """Count the views; those whose strongest class is their image's or its partner's; and how many would be by chance.

    `classes` holds the class of each image of the set, int64 (N,).
    """
    strongest = stored.logits.argmax(1).numpy()
    classes_shown, classes_mixed = classes[stored.ids], classes[stored.ids[stored.permutation]]
    frequency = np.bincount(classes, minlength=stored.logits.shape[1])[strongest] / len(classes)
    chance = frequency if stored.mixing == "none" else 1 - (1 - frequency) ** 2
    agreeing = (strongest == classes_shown) | (strongest == classes_mixed)
    return len(stored), int(agreeing.sum()), float(chance.sum())


def _cut(images: Images, stored: StoredBatch, rows: np.ndarray, info: DatasetInfo) -> Tensor:
    """Cropped, flipped, normalised views of some rows of a stored batch."""
    ids = stored.ids[rows]
    chosen = images(ids) if callable(images) else images[torch.from_numpy(ids).to(images.device)]
    if stored.on_tensors and chosen.dtype == torch.uint8:
        chosen = chosen.float() / 255
    boxes = stored.boxes(*chosen.shape[2:])[rows]
    views = crop.flip(crop.resized_crop(chosen, boxes, info.size), stored.flips[rows])
    return normalise(views, info.mean, info.std)


# --- files ---


def _file(folder: Path, epoch: int, index: int) -> Path:
    return folder / f"epoch_{epoch}" / f"batch_{index}.tar"


def _numbered(folder: Path, pattern: str) -> dict[int, Path]:
    """Entries of a folder whose whole name matches `pattern`, by the number in it."""
    matches = ((re.fullmatch(pattern, path.name), path) for path in folder.iterdir())
    return {int(match[1]): path for match, path in matches if match}


def _listing(folder: Path) -> np.ndarray:
    """Bytes of every label file, int64 (passes, batches). Raises DataError where one is missing."""
    if not folder.is_dir():
        raise DataError(f"There is no folder {folder} with labels. Unpack the published archive and give its folder.")
    passes = _numbered(folder, r"epoch_(\d+)")
    if 0 not in passes:
        inside = next((path.parent for path in sorted(folder.glob("*/epoch_0"))), None)
        advice = f"Did you mean {inside}?" if inside else "Unpack the published archive and give the folder of epoch_0."
        raise DataError(f"{folder} holds no labels: there is no epoch_0 in it. {advice}")
    files = {epoch: _numbered(path, r"batch_(\d+)\.tar") for epoch, path in passes.items()}
    batches = max(map(len, files.values()))
    places = product(range(len(passes)), range(batches))
    lacking = [_file(folder, epoch, index) for epoch, index in places if index not in files.get(epoch, {})]
    if lacking or batches == 0:
        path = lacking[0] if lacking else _file(folder, 0, 0)
        more = f" and {len(lacking) - 1} more" if len(lacking) > 1 else ""
        raise DataError(
            f"The labels in {folder} are not complete: {path}{more} is missing. Get the missing files again, or move "
            "the passes from the first incomplete one on to another place and use the ones before."
        )
    sizes = [[files[epoch][index].stat().st_size for index in range(batches)] for epoch in range(len(passes))]
    return np.array(sizes, np.int64)


def _parse(content: Any, path: Path, ids: np.ndarray | None) -> StoredBatch:
    """Check the items of one file, where `ids` are those of six items, if known. Raises DataError."""
    if not isinstance(content, list | tuple) or len(content) not in (6, 7, 8):
        what = f"{len(content)} items" if isinstance(content, list | tuple) else type(content).__name__
        raise DataError(f"{path} holds {what}; published label files hold a list of 6, 7 or 8 items.")
    crops, flips, permutation, share, box, logits = content[:6]
    count = len(logits) if isinstance(logits, Tensor) and logits.ndim == 2 else 0
    most = torch.finfo(torch.float32).max if len(content) == 8 else 1.0  # EDC divides a row by the width

    def holds(value: Any, dtype: torch.dtype, *shape: int) -> bool:
        return isinstance(value, Tensor) and value.dtype == dtype and value.shape == shape

    within = holds(crops, torch.float32, count, 4) and bool(((crops >= 0) & (crops <= most)).all())
    permutes = permutation is None or (
        holds(permutation, torch.int64, count) and torch.equal(permutation.sort().values, torch.arange(count))
    )
    weighs = permutation is None or (isinstance(share, float | int | np.number) and 0 <= share <= 1)
    whole = isinstance(box, list | tuple) and len(box) == 4 and all(isinstance(edge, int | np.integer) for edge in box)
    boxed = whole and permutation is not None and 0 <= box[0] <= box[2] and 0 <= box[1] <= box[3]
    differ = len(content) == 6 or (
        holds(content[6], torch.int64, count) and len(content[6].unique()) == count and bool((content[6] >= 0).all())
    )
    checks = {
        "item 5, logits float16 or float32 (B, K)": count > 0 and logits.dtype in (torch.float16, torch.float32),
        "item 0, crops float32 (B, 4), as fractions": within,
        "item 1, flips bool (B,)": holds(flips, torch.bool, count),
        "item 2, a permutation of the batch": permutes,
        "item 3, a weight between 0 and 1": weighs,
        "item 4, a box of four integers": box is None or boxed,
        "item 6, different positions int64 (B,)": differ,
    }
    if wrong := [what for what, good in checks.items() if not good]:
        raise DataError(f"{path} does not hold published labels: {'; '.join(wrong)}. {_AGAIN}")
    if not bool(torch.isfinite(logits).all()):
        raise DataError(f"{path} holds logits that are not finite. {_AGAIN}")
    mixing: Mixing = "none" if permutation is None else "mixup" if box is None else "cutmix"
    return StoredBatch(
        ids=content[6].numpy() if len(content) > 6 else np.arange(0) if ids is None else ids,
        crops=crops.numpy(),
        flips=flips.numpy(),
        permutation=np.arange(count) if permutation is None else permutation.numpy(),
        share=1.0 if permutation is None else float(share),
        box=None if box is None else (int(box[0]), int(box[1]), int(box[2]), int(box[3])),
        logits=logits,
        mixing=mixing,
        on_tensors=len(content) == 8,
    )
