"""From a batch to what the student sees: every draw of a pass made at once, then the protocol's steps in order."""

from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy.special import ndtri
from torch import Tensor

from ddlight.core.errors import UsageError
from ddlight.core.randomness import generator
from ddlight.data.table import DatasetInfo
from ddlight.recipes.plan import Augment
from ddlight.views import colour, crop, dsa, mix, patches
from ddlight.views._tensors import beside
from ddlight.views.loader import Batch
from ddlight.views.normalise import denormalise, normalise
from ddlight.views.pixels import FullSize, Pixels
from ddlight.views.whiten import Whitening


@dataclass(frozen=True)
class View:
    """A rank's part of a batch as the student sees it.

    Args:
        images: (B, C, H, W), normalised or whitened, augmented and mixed.
        labels: the images' own labels, (B,) or (B, K).
        partner_labels: labels of what was mixed in; `labels` where nothing was.
        share: (B,): how much of each image is its own; 1 where nothing was mixed in.
        ids: (B,) positions in the condensed set.
        partner_ids: (B,) positions of the partners.
        mixed: whether anything was mixed in.
        stored: (B, K) logits that were stored for this very view; None where none were.
    """

    images: Tensor
    labels: Tensor
    partner_labels: Tensor
    share: Tensor
    ids: Tensor
    partner_ids: Tensor
    mixed: bool
    stored: Tensor | None = None


@dataclass(eq=False)
class Viewer:
    """Builds views. What is drawn depends on seed, pass, image and batch alone, not on ranks or on the past.

    Args:
        augment: the protocol's augmentation.
        info: of the dataset: size, mean, std.
        space: where the set's images live: "pixel", "normalised" or a kind of whitening (`views.whiten`).
        batch: global batch.
        images: size of the condensed set.
        seed: of all draws.
        whitening: of a set that is whitened; needed where views are coloured.
    """

    augment: Augment
    info: DatasetInfo
    space: str
    batch: int
    images: int
    seed: int
    whitening: Whitening | None = None

    def __post_init__(self) -> None:
        self.strategy = dsa.Strategy(self.augment.dsa) if self.augment.dsa else None
        self._epoch = -1
        self._draws: dict[str, np.ndarray] = {}

    def __call__(self, batch: Batch) -> View:
        """Build the view of this rank's rows of the batch."""
        assert batch.labels is not None
        ids, rows = batch.ids.numpy(force=True), slice(*batch.rows)
        partners, crops, mixed = self._partners(batch), batch.crops or self._cuts(batch), self.augment.mix != "none"
        images = self._augmented(batch, crops[0], ids[rows])
        share = torch.ones(len(images), device=images.device)
        other = ids[partners][rows]
        if mixed:
            mates = self._augmented(batch, crops[1], other) if len(crops) > 1 else images[_index(partners, images)]
            images, share = self._mix(batch, images, mates, ids[rows])
        mine, paired = _index(ids[rows], images), _index(other, images)
        return View(images, batch.labels[mine], batch.labels[paired], share, mine, paired, mixed)

    def precut(self, batch: Batch) -> Batch:
        """Return a batch with its crops, which is all of a view that takes the set's images."""
        return replace(batch, images=None, crops=self._cuts(batch))

    def _cuts(self, batch: Batch) -> tuple[Tensor, ...]:
        """Crops of this rank's rows and, where it mixes and has not the whole batch, of their partners."""
        ids, rows = batch.ids.numpy(force=True), slice(*batch.rows)
        crops = self._cut(batch, ids[rows])
        if self.augment.mix == "none" or len(crops) == len(ids):
            return (crops,)
        return crops, self._cut(batch, ids[self._partners(batch)][rows])

    def _partners(self, batch: Batch) -> np.ndarray:
        """Row of the global batch that each row is mixed with."""
        if self.augment.mix == "none":
            return np.arange(len(batch.ids))
        first = batch.index * self.batch
        return np.argsort(self._draw("partner", batch.epoch, self.images)[first : first + len(batch.ids)])

    def _draw(self, purpose: str, epoch: int, rows: int, width: int = 0) -> np.ndarray:
        """Uniform numbers of one pass for one purpose: (rows,) or (rows, width)."""
        if epoch != self._epoch:
            self._epoch, self._draws = epoch, {}
        if purpose not in self._draws:
            shape = (rows, width) if width else (rows,)
            self._draws[purpose] = generator(self.seed, purpose, epoch).random(shape)
        return self._draws[purpose]

    def _cut(self, batch: Batch, ids: np.ndarray) -> Tensor:
        """Images (n, C, S, S) of the set, patches shuffled, cropped, mirrored, in the type and space of the store."""
        a, source = self.augment, batch.images

        def drawn(purpose: str, width: int = 0) -> np.ndarray:
            return self._draw(purpose, batch.epoch, self.images, width)[ids]

        mirrored = drawn("flip") < 0.5 if a.flip else None
        if isinstance(source, FullSize):
            if a.crop_scale is None or a.patches > 1 or a.tiles > 1:
                raise UsageError(
                    "full_size: images are cut from the whole picture, and this protocol does not crop at random, or "
                    "shuffles patches or crops tiles of squares. Use full_size: false, or a protocol such as dvc_hard."
                )
            return source.cut(ids, drawn("crop", crop.CROP_UNIFORMS), a.crop_scale, a.crop_ratio, mirrored)
        boxes = None
        if a.crop_scale is not None:
            side, u = source.shape[2], drawn("crop", crop.CROP_UNIFORMS)
            if a.tiles > 1:
                boxes = crop.tile_crop_boxes(drawn("tile"), u, side, a.tiles, a.crop_scale, a.crop_ratio)
            else:
                boxes = crop.crop_boxes(u, side, a.crop_scale, a.crop_ratio)
        if boxes is not None and a.patches == 1 and isinstance(source, Tensor):
            return crop.resized_crop(source, boxes, self.info.size, rows=ids, mirrored=mirrored)
        rows = _index(ids, source)  # index_select copies whole images, faster than indexing
        images = source.index_select(0, rows) if isinstance(source, Tensor) else source[rows]
        if a.patches > 1:
            orders = patches.patch_orders(drawn("patches", 2 * a.patches), a.patches)
            images = patches.shuffle_patches(images, a.patches, orders)
        if boxes is not None:
            return crop.resized_crop(images, boxes, self.info.size, mirrored=mirrored)
        return images if mirrored is None else crop.flip(images, mirrored)

    def _augmented(self, batch: Batch, images: Tensor, ids: np.ndarray) -> Tensor:
        """Crops as the student sees them, before mixing: coloured, normalised, on the labels' device."""
        assert batch.labels is not None
        images = self._coloured(batch, images.to(batch.labels.device), ids)
        if self.strategy is None:
            return images
        op = self._draw("dsa_op", batch.epoch, -(-self.images // self.batch))[batch.index]
        u = self._draw("dsa", batch.epoch, self.images, dsa.DSA_UNIFORMS)[ids]
        return dsa.apply(images, *dsa.draw(self.strategy, op, u, images.shape[2]))

    def _coloured(self, batch: Batch, images: Tensor, ids: np.ndarray) -> Tensor:
        a = self.augment
        if not a.jitter and not a.lighting:
            return to_input(images, self.info, self.whitening) if self.space == "pixel" else images
        images = to_unit(images, self.info, self.space, self.whitening)
        if a.jitter:
            u = self._draw("jitter", batch.epoch, self.images, colour.JITTER_UNIFORMS)[ids]
            images = colour.jitter(images, u, a.jitter)
        if a.lighting:
            normals = ndtri(self._draw("lighting", batch.epoch, self.images, 3)[ids])
            images = colour.lighting(images, normals, a.lighting)
        return to_input(images, self.info, self.whitening)

    def _mix(self, batch: Batch, images: Tensor, partners: Tensor, ids: np.ndarray) -> tuple[Tensor, Tensor]:
        a = self.augment
        if a.mix_per == "batch":
            u = self._draw("mix", batch.epoch, -(-self.images // self.batch), mix.CUTMIX_UNIFORMS)[batch.index]
        else:
            u = self._draw("mix", batch.epoch, self.images, mix.CUTMIX_UNIFORMS)[ids]
        if a.mix == "mixup":
            share = mix.beta_draw(u[..., 0], a.mix_alpha)
            mixed = mix.mixup(images, partners, share)
        else:
            box = mix.cutmix_draw(u, images.shape[2], a.mix_alpha)
            share, mixed = mix.kept_fraction(box, images.shape[2]), mix.cutmix(images, partners, box)
        shares = np.broadcast_to(share, len(images))
        return mixed, beside(shares, images, torch.float32)


def _index(rows: np.ndarray, images: Pixels) -> Tensor:
    return torch.from_numpy(rows).to(images.device, non_blocking=True)


def to_input(images: Tensor, info: DatasetInfo, whitening: Whitening | None = None) -> Tensor:
    """Images as the student takes them: normalised by the dataset's mean and std, or whitened where the set is.

    They are (B, C, H, W), uint8, or floating point in [0, 1].
    """
    return normalise(images, info.mean, info.std) if whitening is None else whitening.apply(images)


def to_unit(images: Tensor, info: DatasetInfo, space: str, whitening: Whitening | None = None) -> Tensor:
    """Images of a condensed set, uint8 or float32 in `space`, in [0, 1] (other spaces than "pixel" may leave it).

    Raises UsageError where the whitening cannot be undone.
    """
    if images.dtype == torch.uint8:
        return images.contiguous().float() / 255
    if whitening is not None:
        return whitening.undo(images)
    return denormalise(images, info.mean, info.std) if space == "normalised" else images
