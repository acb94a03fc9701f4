"""Released: a set that somebody else made and published, to be judged like any other."""

import logging
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

from ddlight.core.artefact import Unit
from ddlight.core.errors import DataError, UsageError
from ddlight.data.base import RealDataset
from ddlight.sets.module import CondensedDataModule
from ddlight.sets.readers.released import read_released, source_digest
from ddlight.sets.readers.released_set import ReleasedSet, Space
from ddlight.sets.store import Selection, Synthesis
from ddlight.views.whiten import WHITENINGS

log = logging.getLogger("ddlight")
SAMPLE = Path(__file__).parents[2] / "data" / "released_digits.npz"


class Released(CondensedDataModule):
    """Images and labels from a published folder, archive, tensor file or index list; it says what it found.

    Paper: whatever the files come from; their layouts are listed in ddlight/sets/readers/released.py.
    `seed` names a replicate; it has no effect on the images.
    Numbered class folders of an ImageNet-1K set are cut to the dataset's classes where that has fewer (as arXiv
    2606.18209 does for ImageNet-100).

    Args:
        dataset: the real dataset that the set condenses.
        path: the file or folder, which must be given.
        ipc: images per class: the first of each; null takes all.
        space: of float images where names, values and layout do not tell: pixel, scaled ([-1, 1]), normalised, zca (as
            MTT, TESLA and DATM whiten), zca_frepo or zca_kip. Test images are brought to the same space.
    """

    recipe_version: ClassVar[int] = 3
    cost_recorded: ClassVar[bool] = False
    one_unit = True
    tiny: ClassVar[dict[str, Any]] = {"path": str(SAMPLE)}

    def __init__(
        self,
        dataset: RealDataset,
        path: str = "",
        ipc: int | None = None,
        space: Space | Literal["scaled"] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(dataset, 1 if ipc is None else ipc, **kwargs)
        self.path, self.first_images, self.given_space = path, ipc, space

    @cached_property
    def released(self) -> ReleasedSet:
        """The set as it was read. Raises DataError or UsageError as `read_released`."""
        released = read_released(self._source(), self.dataset, self.given_space)
        for line in released.lines():
            log.info("%s", line)
        return released if self.first_images is None else released.first(self.first_images)

    def _source(self) -> Path:
        if not self.path:
            raise UsageError("Released needs the file or folder that was published: --data.path=...")
        path = Path(self.path).expanduser()
        if not path.exists():
            raise DataError(f"There is no released set {path}.")
        return path

    @property
    def ipc(self) -> int:
        """Images per class, as given or read."""
        return self.first_images or self.released.ipc

    @ipc.setter
    def ipc(self, value: int) -> None:
        self.first_images = value

    # known once the files are read, which is when they are first asked for

    @property
    def space(self) -> str:  # type: ignore[override]
        """Where float images live."""
        return self.released.space

    @property
    def label_kind(self) -> str:  # type: ignore[override]
        """hard, probabilities, logits or centred."""
        return self.released.kind

    @property
    def learns_lr(self) -> bool:  # type: ignore[override]
        """Whether a learning rate was published with the set."""
        return self.released.lr is not None

    @property
    def expected_images(self) -> int:
        """Size of the set."""
        return len(self.released.labels)

    @cached_property
    def arguments(self) -> dict[str, Any]:
        """The content of the files, not their place; what was given; and that they are whitened, if so."""
        whitened = self.released.space if self.released.space in WHITENINGS else None
        given = {"ipc": self.first_images, "space": self.given_space or whitened}
        content = source_digest(self._source())
        return {"source_sha256": content, **{name: value for name, value in given.items() if value is not None}}

    def make(self, unit: Unit) -> Selection | Synthesis:
        """The released images; how many real ones went into them is not known, and counts as none."""
        if self.released.rows is not None:
            return Selection(self.released.rows)
        images, labels = np.ascontiguousarray(self.released.images), self.released.labels
        return Synthesis(images, labels, learned_lr=self.released.lr)
