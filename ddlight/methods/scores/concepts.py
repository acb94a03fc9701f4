"""Concepts: CCS by the margins of a linear layer over CLIP's similarities between images and texts of concepts."""

import time
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from safetensors.numpy import save
from torch import Tensor
from torch.nn import functional as F

from ddlight.core import files
from ddlight.core.artefact import Artefact, Unit, Workspace
from ddlight.core.errors import UsageError
from ddlight.core.files import cache_folder
from ddlight.core.randomness import generator
from ddlight.methods.base import Selector
from ddlight.methods.scores.aum import MarginSpace
from ddlight.methods.scores.ccs import Binning, ccs
from ddlight.methods.scoring import samplers
from ddlight.methods.scoring.clip import Clip
from ddlight.methods.scoring.cost import operations_per_second
from ddlight.methods.scoring.embeddings import Embeddings
from ddlight.methods.scoring.phrases import Phrases
from ddlight.methods.scoring.table import COLUMNS, IDS, ScoreTable, read_table
from ddlight.networks.device import current_device
from ddlight.train import signals

Source = Literal["concepts", "probe"]
SCORES_VERSION = 1
"""Raised by hand when other scores come from the same arguments."""
PHRASES = "phrases.json"
SPACES = ("prob", "logit")
COSINE_SCALE = 100.0
"""CLIP's own factor from cosines to logits, for similarities that are not standardised."""
ROWS_AT_ONCE = 8192


class Concepts(Selector):
    """Images over strata of how clearly their class follows from human-readable concepts, the hardest share left out.

    Paper: arXiv 2502.16733; CCS per class as Algorithm 1 of arXiv 2606.18209.

    (1) CLIP embeds the training images V(x) and texts of concepts E. (2) A linear layer W is trained by cross-entropy
    on the similarities V(x) E^T; encoders and concepts stay as they are. (3) The margin of the own class, read from
    every step's own logits, is averaged over the epochs. (4) CCS per class by minus that mean.

    The paper as we know it fixes CLIP ViT-B/32, 100 epochs, cross-entropy, the mean margin and CCS. Guesses: Adam and
    its rate, the batch, W starting at zero, standardised similarities, margins of probabilities, the template, cutoff.
    Embeddings and margins lie in the cache, shared by all ipc and cutoffs.
    Deviation: without `concepts`, a shipped list of generic attributes stands in for texts per class by LLaVA.

    Args:
        clip: the model; `pip install 'ddlight[clip]'`.
        source: "concepts", as published; "probe" trains the layer on the image embeddings themselves, without texts:
            with as many concepts as an embedding has numbers, W E is such a layer.
        concepts: JSON file {class name: [phrases]}; or a hook "my_module:function", called once with the class names
            and {class name: images uint8 (n, C, H, W)}, that returns the same, from a captioning model; null takes a
            shipped list of some 100 generic attributes.
        examples: images of each class that a hook is shown.
        template: what the text encoder reads; {concept} stands for the phrase.
        epochs: passes of the linear layer over the full data.
        lr: of Adam, constant.
        batch: images per step of the linear layer.
        standardise: similarities to mean 0 and std 1 over the training images; else 100 x cosine.
        margin_space: margins of probabilities ("prob") or of logits ("logit").
        cutoff: beta: share of the class that is dropped, hardest first. arXiv 2606.18209 chose, on test accuracy, for
            ipc 10 and 50: 0.9 and 0.9 (ImageNette), 0.7 and 0.7 (ImageNet-100), 0.9 and 0.5 (ImageNet-1K).
        bins: number of strata.
        binning: strata of equal "width", as published, or of equal population ("quantile").
        even: with fewer images than strata, spread them over the whole range; the published allocation then takes the
            most populated strata.
    """

    tiny: ClassVar[dict[str, Any]] = {"clip": {"model": "tiny", "pretrained": "random"}, "epochs": 5}

    def __init__(
        self,
        *args: Any,
        clip: Clip = Clip(),
        source: Source = "concepts",
        concepts: str | None = None,
        examples: int = 10,
        template: str = "{concept}",
        epochs: int = 100,
        lr: float = 1e-3,
        batch: int = 256,
        standardise: bool = True,
        margin_space: MarginSpace = "prob",
        cutoff: float = 0.7,
        bins: int = 50,
        binning: Binning = "width",
        even: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.clip, self.source, self.concepts, self.examples = clip, source, concepts, examples
        self.template, self.epochs, self.lr, self.batch = template, epochs, lr, batch
        self.standardise, self.margin_space = standardise, margin_space
        self.cutoff, self.bins, self.binning, self.even = cutoff, bins, binning, even
        self._check()

    def _check(self) -> None:
        """Raise UsageError for numbers out of range and options that would have no effect."""
        for name in ("epochs", "batch", "bins", "examples"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name} is {getattr(self, name)}; allowed: 1 or more.")
        if self.lr <= 0:
            raise UsageError(f"lr is {self.lr}; allowed: more than 0, such as --data.lr=0.001.")
        if "{concept}" not in self.template:
            raise UsageError(
                f"template is {self.template!r}, and {{concept}} must stand in it, such as "
                "--data.template='a photo of {concept}'."
            )
        if self.source == "probe" and (self.concepts is not None or self.template != "{concept}"):
            raise UsageError(
                "source=probe reads no texts, and concepts or a template were given. Leave them out, or type "
                "--data.source=concepts."
            )

    # --- what it is chosen by ---

    @property
    def embeddings(self) -> Embeddings:
        """Embeddings of the training images."""
        return Embeddings(self.clip, self.dataset, cache_folder(self.cache))

    @property
    def phrases(self) -> Phrases:
        """The concepts."""
        return Phrases(self.concepts, self.examples, self.dataset, cache_folder(self.cache))

    @cached_property
    def arguments(self) -> dict[str, Any]:
        """Arguments that shape the set; the concepts by their content, a hook by its source."""
        arguments = super().arguments
        return {**arguments, "concepts": self.phrases.digest} if self.source == "concepts" else arguments

    @cached_property
    def margins(self) -> "Margins":
        """The margins on disk."""
        return Margins(self)

    @cached_property
    def table(self) -> ScoreTable:
        """The verified margins."""
        margins = read_table(self.margins.folder, self.margins.verified())
        return margins.require_ids(self.dataset.index("train").ids, self.dataset.info.name)

    @cached_property
    def difficulty(self) -> np.ndarray:
        """Minus the mean margin of the own class: (N,)."""
        return -self.table[f"margin_{self.margin_space}"]

    def select(self, unit: Unit, candidates: np.ndarray) -> np.ndarray:
        """CCS of one class's images."""
        rng = generator(self.seed, "Concepts", unit.number)
        strata = (self.cutoff, self.bins, self.binning, self.even)
        return candidates[ccs(self.difficulty[candidates], self.ipc, rng, *strata)]

    # --- making it ---

    def prepare(self) -> None:
        """Read the concepts, embed the images, train the layer; each only where it is missing."""
        if self.margins.exists:
            return
        if self.source == "concepts":
            self.phrases.read()
        self.embeddings.ensure()
        self.margins.ensure()

    def facts(self) -> dict[str, Any]:
        """Cost of the margins, embedding included: the set's own seconds leave it out."""
        facts = self.table.facts
        return {
            "scoring": [facts["fingerprint"]],
            "scoring_seconds": facts["seconds"],
            "scoring_images": len(self.table.ids),
            "flops_scoring": facts["flops"],
            "concepts": facts["concepts"],
        }

    def estimate_seconds(self) -> float:
        """Time of what is missing: a ViT-B/32 took 67 ms an image on one CPU core; a guess of 1 ms beside a GPU."""
        if self.margins.exists:
            return 0.0
        info = self.dataset.info
        embed = 0.0 if self.embeddings.exists else info.train * (1e-3 if torch.cuda.is_available() else 7e-2)
        concepts, width = (512, 0) if self.source == "probe" else (1024, 512)
        operations = 2.0 * self.epochs * info.train * concepts * (width + 2 * info.num_classes)
        return embed + operations / operations_per_second()


class Margins(Artefact):
    """The margins of a linear layer over CLIP embeddings, on disk, shared by all sets that differ in CCS alone.

    Args:
        method: whose margins they are.
    """

    kind = "table of margins"

    def __init__(self, method: Concepts) -> None:
        super().__init__(cache_folder(method.cache) / method.dataset.info.name / "concepts")
        self.method = method

    def identity(self) -> dict[str, Any]:
        """Everything that shapes them, and nothing that CCS alone reads."""
        m = self.method
        shaping = ("source", "template", "epochs", "lr", "batch", "standardise", "seed")
        return {
            "version": SCORES_VERSION,
            "embeddings": m.embeddings.fingerprint,
            "texts": m.phrases.digest if m.source == "concepts" else None,
            **{name: getattr(m, name) for name in shaping},
        }

    def make_unit(self, work: Workspace, unit: Unit) -> None:
        """Train the layer. Raises DataError where a margin is not finite."""
        start, m, device = time.perf_counter(), self.method, current_device()
        embeddings = m.embeddings
        rows, manifest = embeddings.read()
        phrases = m.phrases.read() if m.source == "concepts" else ()
        texts = self._texts(phrases, embeddings, device) if phrases else None
        images = torch.from_numpy(rows).to(device)
        labels = torch.tensor(m.dataset.index("train").labels, device=device)
        view = Bottleneck.of(images, texts, m.standardise)
        classes = m.dataset.num_classes
        margins = mean_margins(images, labels, classes, view, m.epochs, m.lr, m.batch, m.seed)
        samplers.require_finite(margins[1].cpu().numpy(), f"Margins of the linear layer at lr={m.lr}")
        facts = {
            "seconds": manifest["seconds"] + time.perf_counter() - start,
            "flops": manifest["flops"] + layer_flops(len(images), view, classes, m.epochs),
            "concepts": len(phrases),
        }
        files.write_json(work.folder / "facts.json", facts)
        files.write_json(work.folder / PHRASES, list(phrases))
        columns = {f"margin_{space}": row.cpu().numpy() for space, row in zip(SPACES, margins, strict=True)}
        work.write(unit, save(columns))

    def _texts(self, phrases: tuple[str, ...], embeddings: Embeddings, device: torch.device) -> Tensor:
        template = self.method.template
        texts = embeddings.network.texts([template.replace("{concept}", phrase) for phrase in phrases])
        samplers.require_finite(texts.reshape(-1), f"Text embeddings by {embeddings.clip.fingerprint()}")
        return torch.from_numpy(texts).to(device)

    def collect(self, place: Path, work: Workspace) -> dict[str, Any]:
        """Write margins, ids and phrases; what they took."""
        files.write_bytes(place / COLUMNS, work.read(Unit(0)))
        files.write_json(place / IDS, self.method.dataset.index("train").ids.tolist())
        files.write_bytes(place / PHRASES, (work.folder / PHRASES).read_bytes())
        info, clip = self.method.dataset.info, asdict(self.method.clip)
        return {"dataset": info.name, "clip": clip, **files.read_json(work.folder / "facts.json")}


# --- the linear layer ---


@dataclass(frozen=True)
class Bottleneck:
    """What the linear layer sees of an image: its similarities to K concepts, moved and scaled.

    N x K similarities never exist; each batch's are made when it comes.

    Attributes:
        texts: float32 (K, D), E; None where the layer sees the embedding itself (K = D).
        shift: float32 (K,), subtracted from the similarities.
        scale: float32 (K,), multiplied after.
    """

    texts: Tensor | None
    shift: Tensor
    scale: Tensor

    @classmethod
    def of(cls, images: Tensor, texts: Tensor | None, standardise: bool) -> "Bottleneck":
        """The bottleneck of some images.

        Args:
            images: (N, D) embeddings.
            texts: (K, D), or None.
            standardise: to mean 0 and std 1 over the images; else the cosine times 100.
        """
        width = images.shape[1] if texts is None else len(texts)
        if not standardise:
            ones = torch.ones(width, device=images.device)
            return cls(texts, 0 * ones, COSINE_SCALE * ones)
        mean, covariance = moments(images)
        wide = torch.eye(width, dtype=torch.float64, device=images.device) if texts is None else texts.double()
        variance = ((wide @ covariance) * wide).sum(1)
        return cls(texts, (wide @ mean).float(), variance.clamp(min=1e-12).rsqrt().float())

    def __call__(self, images: Tensor) -> Tensor:
        """Return what the layer sees of some embeddings: float32 (B, D) -> (B, K)."""
        similarities = images.float() if self.texts is None else images.float() @ self.texts.T
        return (similarities - self.shift) * self.scale


def moments(images: Tensor) -> tuple[Tensor, Tensor]:
    """Mean (D,) and covariance (D, D) of embeddings (N, D), in float64, a part of the rows at a time."""
    parts = images.split(ROWS_AT_ONCE)
    mean = torch.stack([part.double().sum(0) for part in parts]).sum(0) / len(images)
    covariance = torch.zeros(len(mean), len(mean), dtype=torch.float64, device=images.device)
    for part in parts:
        centred = part.double() - mean
        covariance += centred.T @ centred
    return mean, covariance / len(images)


@torch.enable_grad()
def mean_margins(
    images: Tensor, labels: Tensor, classes: int, view: Bottleneck, epochs: int, lr: float, batch: int, seed: int
) -> Tensor:
    """Train the linear layer and average the margins of the own class over its epochs: float32 (2, N), prob and logit.

    An image's margin in an epoch is read from the logits of the step that trains on it, before the update, as AUM's
    are (arXiv 2001.10528). The layer starts at zero, so that no draw but the order of the images matters.

    Args:
        images: (N, D) embeddings.
        labels: int64 (N,).
        classes: C.
        view: what the layer sees of them.
        epochs: passes.
        lr: of Adam.
        batch: images a step.
        seed: of the order.
    """
    device = images.device
    weight = torch.zeros(classes, len(view.shift), device=device, requires_grad=True)
    bias = torch.zeros(classes, device=device, requires_grad=True)
    optimizer = torch.optim.Adam([weight, bias], lr)
    sums = torch.zeros(len(SPACES), len(images), device=device)
    for epoch in range(epochs):
        order = torch.from_numpy(generator(seed, "concepts", epoch).permutation(len(images))).to(device)
        for rows in order.split(batch):
            logits = F.linear(view(images[rows]), weight, bias)
            margins = signals.of_class(logits.detach(), labels[rows])
            sums[:, rows] += torch.stack([margins["margin_prob"], margins["margin_logit"]])
            optimizer.zero_grad()
            F.cross_entropy(logits, labels[rows]).backward()
            optimizer.step()
    return sums / epochs


def layer_flops(images: int, view: Bottleneck, classes: int, epochs: int) -> float:
    """Operations of training the linear layer: similarities forward, the layer forward and backward."""
    concepts = len(view.shift)
    similarities = 0 if view.texts is None else 2 * view.texts.numel()
    return float(epochs * images * (similarities + 2 * 2 * concepts * classes))
