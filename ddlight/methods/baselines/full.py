"""FullData: the whole training split, as the reference that every condensed set is measured against."""

import numpy as np

from ddlight.core.artefact import Unit
from ddlight.sets.module import CondensedDataModule
from ddlight.sets.store import Selection


class FullData(CondensedDataModule):
    """All training images; `ipc` is the column that this row stands in, from which protocols take their rules.

    Paper: the "full" rows of arXiv 2604.18811 (Table 1), trained at the same budget as the subsets.
    """

    one_unit = True

    def make(self, unit: Unit) -> Selection:
        """Every index, in order."""
        return Selection(np.arange(len(self.dataset.index("train"))))

    @property
    def expected_images(self) -> int:
        """Size of the training split."""
        return self.dataset.info.train
