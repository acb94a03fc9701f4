"""Published soft labels in the layout of FKD: read, checked, and replayed as views.

SRe2L, CDA, CV-DD, FADRM, G-VBSM, EDC, LPLD, LPQLD and HALD save the teacher's answers, one list per batch in the files
of `fkd_files`, and with them everything that made the batch's views:

| item | content |
|---|---|
| 0 | crops, float32 (B, 4): top, left, height, width as fractions of the image |
| 1 | flips, bool (B,) |
| 2 | permutation of CutMix or mixup, int64 (B,); None where nothing is mixed |
| 3 | its weight, a number; None where nothing is mixed |
| 4 | box of CutMix: first row, first column, end row, end column, numpy integers; None for mixup |
| 5 | logits of the mixed views before softmax and temperature, float16 or float32 (B, K) |
| 6 | positions in the listing, int64 (B,): G-VBSM and EDC only |
| 6 | classes of the logits, whole numbers (B, k): LPQLD only, whose item 5 is the k largest of each view, (B, k) |
| 7 | patch orders, all zero and unused: EDC only |

LPQLD and HALD save crops in float16 and the other items as small integers. HALD's item 5 is probabilities, softened
already: rows that are not negative and sum to 1 are taken as such. Batches that do not name their images have them in
the order that is written beside the files, or else in that of `SamplerOrder`. Positions count the files of the set
sorted by class folder and name.

Source: FKD (arXiv 2112.01528), as SRe2L (arXiv 2306.13092) and G-VBSM (arXiv 2311.17950) extend it.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from scipy.stats import binomtest
from torch import Tensor

from ddlight.core.errors import DataError, UsageError
from ddlight.data.table import DatasetInfo
from ddlight.sets.readers.fkd_files import NOT_COMPLETE, find_labels
from ddlight.views import crop, mix
from ddlight.views.normalise import normalise
from ddlight.views.view import View

log = logging.getLogger("ddlight")
SEED = 42
"""Seed of the published sampler."""
CHECKED_VIEWS = 1000
"""Views that are enough to tell labels in the right order from others."""
SMALL = (torch.uint8, torch.int16, torch.int32)
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

    `logits` are (B, K), -inf for classes whose logits were not kept, or `probabilities`. Where nothing is mixed, each
    row of `permutation` is itself and `share` is 1; labels that need CutMix's true share take it from the box, whose
    ends are left out. EDC cut the views from float tensors (`on_tensors`), the others from PIL images.
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
    probabilities: bool = False

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
    `batch_size` (the last batch may hold fewer images, or what fills no batch may have no labels), `classes` K, how
    batches are mixed (`mixing`), whether labels are `probabilities`, and the number of `items`: 6 (SRe2L, CDA, CV-DD,
    FADRM, LPLD, HALD), 7 (G-VBSM, LPQLD) or 8 (EDC).

    Args:
        folder: as in the table of `fkd_files`.
        images: size of the set that the labels belong to, N.
        draws: permutations that a pass of the published sampler consumed, 2 or 1; see `SamplerOrder`.
        classes: of the dataset, K: labels that hold the largest logits alone do not say it.

    Raises:
        DataError: the folder or files of it are missing, truncated or damaged, or belong to a set of another size.
        UsageError: `draws` is neither 1 nor 2.
    """

    def __init__(self, folder: Path | str, images: int, draws: int = 2, classes: int | None = None) -> None:
        if draws not in (1, 2):
            raise UsageError(f"The published sampler draws 1 or 2 permutations a pass; draws={draws} was given.")
        self.folder, self.images, self._classes = Path(folder), images, classes
        self._files = found = find_labels(self.folder, images)
        self.places = found.places
        """Pass and batch within it of everything that is stored, in order: int64 (P, 2)."""
        self.epochs, self.batches = (found.places.max(0) + 1).tolist()
        self.sizes = np.zeros((self.epochs, self.batches), np.int64)
        """Bytes of the batches, int64 (epochs, batches); 0 for those that the last pass lacks."""
        self.sizes[tuple(found.places.T)] = found.sizes
        ends = [(0, 0), (0, self.batches - 1)]
        contents = [found.read(*place) for place in ends]
        first, last = (_parse(c, found.path(*place), None, classes) for c, place in zip(contents, ends, strict=True))
        self.batch_size, self.classes = first.logits.shape
        self.items, self.mixing, self.probabilities = len(contents[0]), first.mixing, first.probabilities
        self.largest_only = self.items == 7 and contents[0][6].ndim == 2
        """Whether labels hold the largest logits alone."""
        self.order: Callable[[int], np.ndarray] | None = None  # where batches name their images
        if not len(first.ids):
            self.order = found.order.__getitem__ if found.order else SamplerOrder(images, draws)
        self._check_count(self.batch_size * (self.batches - 1) + len(last.logits))
        bytes_needed = [sum(content[item].nbytes for item in (0, 1, 5)) for content in contents]
        needed = [*[bytes_needed[0]] * (self.batches - 1), bytes_needed[1]]
        small = found.sizes < np.array(needed)[found.places[:, 1]]
        for epoch, index in found.places[small & found.one_each][:1].tolist():
            raise DataError(
                f"{found.path(epoch, index)} is truncated: {self.sizes[epoch, index]} bytes, and its numbers need "
                f"{needed[index]}. {_AGAIN}"
            )

    def _check_count(self, held: int) -> None:
        """Raise DataError where a pass labels `held` images and that is not this set's number, or files are missing."""
        written, whole = self._files.order, self.images - self.images % self.batch_size
        if written:
            rows = np.minimum(self.batch_size, held - self.places[:, 1] * self.batch_size)
            stored = np.bincount(self.places[:, 0], rows).astype(int).tolist()
            said = [len(written.get(epoch, ())) for epoch in range(self.epochs)]
            if stored != said:
                raise DataError(
                    f"The labels in {self.folder} are of {stored[0]} to {stored[-1]} images a pass, and the order that "
                    f"is written beside them of {said[0]} to {said[-1]}: files are missing or of other labels."
                )
            if max(int(positions.max()) for positions in written.values()) >= self.images:
                raise DataError(f"The order in {self.folder} names images beyond the set's {self.images}. {_OTHER_SET}")
        elif self._files.missing and held == self.images and held != whole:  # pruned labels leave the remainder out
            raise DataError(NOT_COMPLETE.format(self.folder, self._files.missing[0]))
        elif self._files.missing:
            log.warning(
                "%s ends within a pass, as pruned labels do: %s is missing", self.folder, self._files.missing[0]
            )
        single = bool(written) and self.epochs == 1  # pruned to less than a pass
        if held not in (self.images, whole) and not single:
            raise DataError(
                f"The labels in {self.folder} are for {held} images; the condensed set has {self.images}. {_OTHER_SET}"
            )

    def batch(self, epoch: int, index: int) -> StoredBatch:
        """Read one batch of a stored pass; a longer run asks for its pass mod `epochs`.

        Raises:
            DataError: the file is missing, damaged, would run code, or holds something else than its neighbours.
            UsageError: the labels have no such pass or batch.
        """
        if not (0 <= epoch < self.epochs and 0 <= index < self.batches and self.sizes[epoch, index]):
            raise UsageError(
                f"{self.folder} holds passes 0 to {self.epochs - 1} with batches 0 to {self.batches - 1}; "
                f"batch {index} of pass {epoch} was asked for."
            )
        path = self._files.path(epoch, index)
        rows = slice(index * self.batch_size, min((index + 1) * self.batch_size, self.images))
        ids = None if self.order is None else self.order(epoch)[rows]
        stored = _parse(self._files.read(epoch, index), path, ids, self._classes)
        facts = (*stored.logits.shape, stored.mixing, stored.on_tensors, stored.probabilities)
        expected = (rows.stop - rows.start, self.classes, self.mixing, self.items == 8, self.probabilities)
        if facts != expected:
            names = "images, classes, mixing, views cut from tensors, probabilities"
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
        late = self.places[self.places[:, 0] > 0] if self.epochs > 1 else self.places
        places = late[np.lexsort((late[:, 1], -late[:, 0]))][: -(-CHECKED_VIEWS // self.batch_size)].tolist()
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


# --- one batch ---


def _parse(content: Any, path: Path, ids: np.ndarray | None, classes: int | None) -> StoredBatch:
    """Check the items of one batch, where `ids` are those of unnamed images, if known. Raises DataError."""
    if not isinstance(content, list | tuple) or len(content) not in (6, 7, 8):
        what = f"{len(content)} items" if isinstance(content, list | tuple) else type(content).__name__
        raise DataError(f"{path} holds {what}; published label files hold a list of 6, 7 or 8 items.")
    crops, flips, permutation, share, box, logits = content[:6]
    count = len(logits) if isinstance(logits, Tensor) and logits.ndim == 2 else 0
    most = torch.finfo(torch.float32).max if len(content) == 8 else 1.0  # EDC divides a row by the width
    kept = content[6] if len(content) == 7 and isinstance(content[6], Tensor) and content[6].ndim == 2 else None
    named = len(content) > 6 and kept is None
    # small numbers of LPQLD and HALD, brought to the types of the others
    crops = crops.float() if isinstance(crops, Tensor) and crops.dtype == torch.float16 else crops
    if isinstance(permutation, Tensor) and permutation.dtype in SMALL:
        permutation = permutation.long()
    if isinstance(box, list | tuple):
        box = [
            edge.item() if isinstance(edge, Tensor) and edge.dtype in SMALL and edge.ndim == 0 else edge for edge in box
        ]

    def holds(value: Any, dtype: torch.dtype, *shape: int) -> bool:
        return isinstance(value, Tensor) and value.dtype == dtype and value.shape == shape

    within = holds(crops, torch.float32, count, 4) and bool(((crops >= 0) & (crops <= most)).all())
    permutes = permutation is None or (
        holds(permutation, torch.int64, count) and torch.equal(permutation.sort().values, torch.arange(count))
    )
    weighs = permutation is None or (isinstance(share, float | int | np.number) and 0 <= share <= 1)
    whole = isinstance(box, list | tuple) and len(box) == 4 and all(isinstance(edge, int | np.integer) for edge in box)
    boxed = whole and permutation is not None and 0 <= box[0] <= box[2] and 0 <= box[1] <= box[3]
    differ = not named or (
        holds(content[6], torch.int64, count) and len(content[6].unique()) == count and bool((content[6] >= 0).all())
    )
    chosen = kept is None or (
        kept.dtype in (*SMALL, torch.int64)
        and kept.shape == logits.shape
        and bool((kept >= 0).all())
        and all(len(row.unique()) == len(row) for row in kept)
    )
    checks = {
        "item 5, logits float16 or float32 (B, K)": count > 0 and logits.dtype in (torch.float16, torch.float32),
        "item 0, crops float32 (B, 4), as fractions": within,
        "item 1, flips bool (B,)": holds(flips, torch.bool, count),
        "item 2, a permutation of the batch": permutes,
        "item 3, a weight between 0 and 1": weighs,
        "item 4, a box of four integers": box is None or boxed,
        "item 6, different positions int64 (B,), or classes (B, k)": differ and chosen,
    }
    if wrong := [what for what, good in checks.items() if not good]:
        raise DataError(f"{path} does not hold published labels: {'; '.join(wrong)}. {_AGAIN}")
    if not bool(torch.isfinite(logits).all()):
        raise DataError(f"{path} holds logits that are not finite. {_AGAIN}")
    sums = logits.float().sum(1)
    probabilities = bool((logits >= 0).all()) and bool((sums < 1.01).all())
    if kept is None:
        probabilities = probabilities and bool((sums > 0.99).all())
    elif classes is None or int(kept.max()) >= classes:
        raise DataError(f"{path} names class {int(kept.max())}, and the dataset has {classes} classes. {_OTHER_SET}")
    else:
        rest = torch.full((count, classes), 0.0 if probabilities else -torch.inf, dtype=logits.dtype)
        logits = rest.scatter(1, kept.long(), logits)
    mixing: Mixing = "none" if permutation is None else "mixup" if box is None else "cutmix"
    return StoredBatch(
        ids=content[6].numpy() if named else np.arange(0) if ids is None else ids,
        crops=crops.numpy(),
        flips=flips.numpy(),
        permutation=np.arange(count) if permutation is None else permutation.numpy(),
        share=1.0 if permutation is None else float(share),
        box=None if box is None else (int(box[0]), int(box[1]), int(box[2]), int(box[3])),
        logits=logits,
        mixing=mixing,
        on_tensors=len(content) == 8,
        probabilities=probabilities,
    )
