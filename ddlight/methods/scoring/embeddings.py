"""CLIP embeddings of a whole training split: made chunk by chunk, sealed, shared by every method that asks for them."""

import hashlib
import logging
from dataclasses import asdict, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save

from ddlight.core.artefact import Artefact, Unit, Workspace
from ddlight.core.errors import DataError
from ddlight.data.base import RealDataset
from ddlight.methods.scoring.clip import Clip, LoadedClip
from ddlight.views.loader import eval_batch

log = logging.getLogger("ddlight")
RECIPE_VERSION = 1
"""Raised by hand when other embeddings are made from the same arguments."""
CHUNK = 1024
"""Images of a file: what is lost at most when a process is killed."""


class Embeddings(Artefact):
    """Embeddings of a dataset's training images as they are, of length 1, in half precision.

    1.28 million images take 1.3 GB at 512 numbers each. No more than one batch is decoded and one chunk held at once.

    Args:
        clip: the model.
        dataset: whose training split is embedded.
        cache: folder of condensed sets; the embeddings lie in <cache>/<dataset>/embeddings/<fingerprint>.
    """

    kind = "folder of embeddings"

    def __init__(self, clip: Clip, dataset: RealDataset, cache: Path) -> None:
        super().__init__(cache / dataset.info.name / "embeddings")
        self.clip, self.dataset = clip, dataset

    def identity(self) -> dict[str, Any]:
        """Weights of the model, and data."""
        weights, data = self.clip.fingerprint(), self.dataset.identity()
        return {"version": RECIPE_VERSION, "weights": weights, "dataset_identity": data}

    @cached_property
    def network(self) -> LoadedClip:
        """The loaded model. Raises as `Clip.load`."""
        return self.clip.load()

    @property
    def ids(self) -> np.ndarray:
        """Sample ids, in the order of the rows: str (N,)."""
        return self.dataset.index("train").ids

    def ensure(self, begin: float = 0.0) -> Path:
        """Make what is missing, as any artefact, and say so."""
        if not self.exists:
            log.info("embedding %s: %d images with %s", self.dataset.info.name, len(self.ids), self.clip.fingerprint())
        return super().ensure(begin)

    def units(self) -> list[Unit]:
        """Chunks of the training split."""
        return [Unit(number) for number in range(-(-len(self.ids) // CHUNK))]

    def make_unit(self, work: Workspace, unit: Unit) -> None:
        """Embed a chunk.

        Raises:
            UsageError, DataError: as `Clip.load`; or the network gives numbers that are not finite.
        """
        first = unit.number * CHUNK
        rows = np.arange(first, min(first + CHUNK, len(self.ids)))
        size = eval_batch(replace(self.dataset.info, channels=3, size=self.network.taken.size))
        batches = [rows[start : start + size] for start in range(0, len(rows), size)]
        embeddings = np.concatenate([self.network.images(self.dataset.take("train", batch)) for batch in batches])
        wrong = ~np.isfinite(embeddings).all(1)
        if wrong.any():
            raise DataError(
                f"{self.clip.fingerprint()} gives {int(wrong.sum())} of {len(rows)} images embeddings that are not "
                f"finite, {self.ids[rows[wrong][0]]} among them. Its weights are damaged, or another model's: take "
                "others with --data.clip.pretrained."
            )
        work.write(unit, save({"embeddings": embeddings.astype(np.float16)}))

    def collect(self, place: Path, work: Workspace) -> dict[str, Any]:
        """Write the chunks; what they took."""
        for unit in self.units():
            work.link(unit, place)
        return {
            "seconds": self.seconds,
            "flops": self.network.flops * len(self.ids),
            "dataset": self.dataset.info.name,
            "clip": asdict(self.clip),
            "images": len(self.ids),
            "ids_sha256": ids_digest(self.ids),
        }

    def read(self) -> tuple[np.ndarray, dict[str, Any]]:
        """Verify the embeddings and read them: float16 (N, D), and their manifest.

        Raises:
            DataError: they are missing, were changed, or belong to other data.
        """
        manifest = self.verified()
        if manifest["ids_sha256"] != ids_digest(self.ids):
            raise DataError(
                f"{self.folder} holds embeddings of other images than {self.dataset.info.name} has here. Move it away "
                "and run the same command again."
            )
        parts, row = (load_file(path)["embeddings"] for path in sorted(self.folder.glob("*.safetensors"))), 0
        for part in parts:
            if row == 0:
                embeddings = np.empty((len(self.ids), part.shape[1]), np.float16)
            embeddings[row : row + len(part)] = part
            row += len(part)
        return embeddings, manifest


def ids_digest(ids: np.ndarray) -> str:
    """Hash of sample ids in their order."""
    return hashlib.sha256("\n".join(ids.tolist()).encode()).hexdigest()
