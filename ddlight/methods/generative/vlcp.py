"""VLCP: prototypes of images and of their captions, cluster by cluster, redrawn by a generator that reads.

outliers   of a class's latents, by the local outlier factor (10 neighbours, 10 %)
images     centres of k-means over what is left
texts      per cluster the 30 words that most captions have, stop words, the class's own name and words of nearly
           all captions of the class left out; the caption whose words count most is the cluster's, in full
redrawn    as in D4M, each from its centre with its caption as the prompt
"""

import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS
from sklearn.neighbors import LocalOutlierFactor
from torch import Tensor

from ddlight.core.errors import DataError, UsageError
from ddlight.core.files import sha256
from ddlight.methods.generative.engine import GenerativeSynthesiser
from ddlight.methods.generative.engine.latents import Latents
from ddlight.methods.generative.mgd3 import kmeans

NEIGHBOURS = 10
"""Of the local outlier factor."""


def inliers(points: np.ndarray, contamination: float) -> np.ndarray:
    """Which points (n, D) are no outliers: bool (n,). All where none are to be found, or there are too few to tell."""
    if not contamination or len(points) <= NEIGHBOURS:
        return np.ones(len(points), bool)
    return LocalOutlierFactor(n_neighbors=NEIGHBOURS, contamination=contamination).fit_predict(points) > 0


def words(text: str) -> list[str]:
    """A text's words, small letters."""
    return re.findall(r"[a-z]+", text.lower())


def text_prototype(captions: Sequence[str], common: Iterable[str], name: str, count: int) -> int:
    """Position of the caption that says most of what a cluster's captions say.

    Args:
        captions: of one cluster.
        common: words of nearly all captions of the class, which are left out.
        name: of the class, whose parts are left out.
        count: words that are kept.
    """
    left_out = {*ENGLISH_STOP_WORDS, *common}
    said = Counter(w for text in captions for w in words(text) if w not in left_out and w not in name.lower())
    kept = sorted(said.items(), key=lambda item: (-item[1], item[0]))[:count]
    scores = [sum(times for word, times in kept if word in text) for text in captions]
    return int(np.argmax(scores))


def common_words(captions: Sequence[str], threshold: float) -> set[str]:
    """Words that at least this share of captions have."""
    seen = Counter(word for text in captions for word in set(words(text)))
    return {word for word, times in seen.items() if times >= threshold * len(captions)}


def read_captions(path: Path) -> dict[str, str]:
    """Captions by sample id, from lines {"file_name": ..., "text": ...} or one JSON object. Raises DataError."""
    if not path.is_file():
        raise DataError(f"There is no file of captions {path}. Give another --data.captions, or none.")
    text = path.read_text(encoding="utf-8")
    try:
        if path.suffix == ".jsonl":
            lines = [json.loads(line) for line in text.splitlines() if line.strip()]
            return {str(line["file_name"]): str(line["text"]) for line in lines}
        return {str(name): str(caption) for name, caption in json.loads(text).items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f'{path} holds no captions: {error}. Expected: lines {{"file_name": "n01440764/x.JPEG", "text": "..."}} in '
            'a .jsonl, or {"n01440764/x.JPEG": "..."} in a .json.'
        ) from error


class VLCP(GenerativeSynthesiser):
    """Prototypes of images with prototypes of their captions, redrawn by a generator that reads texts.

    Paper: arXiv 2506.23580; numbers from its scripts for ImageNette and ImageNet-1K. Deviation: Stable Diffusion is
    not tuned on the captions here; name the folder of a tuned one in `backbone.weights`. Steps are DDIM's. Words are
    runs of letters, and stop words scikit-learn's, where the code has NLTK's. Without captions, or with a generator
    that knows classes alone, what is left are k-means prototypes of inliers.

    Args:
        captions: JSON or JSON lines with a caption of each training image, by the end of its id; null takes the names
            of the classes.
        strength: share of the steps that are taken, and so of the noise.
        contamination: share of a class's images that are outliers; 0 keeps all.
        threshold: share of a class's captions from which on a word is common.
        top_words: words of a cluster that count.
    """

    tiny: ClassVar[dict[str, Any]] = {**GenerativeSynthesiser.tiny, "captions": None}
    uses_real = True

    def __init__(
        self,
        *args: Any,
        captions: str | None = None,
        strength: float = 0.7,
        contamination: float = 0.1,
        threshold: float = 0.7,
        top_words: int = 30,
        guidance: float = 10.0,
        batch: int = 1,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, guidance=guidance, batch=batch, **kwargs)
        if not 0 < strength <= 1 or not 0 <= contamination <= 0.5:
            raise UsageError(
                f"strength is above 0, at most 1, and contamination 0 to 0.5; given: {strength}, {contamination}."
            )
        self.strength = self.share = strength
        self.captions, self.contamination = captions, contamination
        self.threshold, self.top_words = threshold, top_words
        self.prototypes: Callable[[int], tuple[np.ndarray, list[str]]] = lru_cache(1)(self._prototypes)

    @cached_property
    def arguments(self) -> dict[str, Any]:
        """As every method's, the captions by what the file holds."""
        file = {} if self.captions is None else {"captions": sha256(Path(self.captions).expanduser())}
        return {**super().arguments, **file}

    def prepare(self) -> None:
        """Read the captions first. Raises DataError where an image has none."""
        if self.captions is not None:
            _ = self.texts
        super().prepare()

    @cached_property
    def texts(self) -> list[str]:
        """A caption of each training image."""
        given = read_captions(Path(self.captions or "").expanduser())
        ids, texts = self.dataset.index("train").ids.tolist(), []
        for name in ids:
            parts = name.split("/")
            found = next((given[end] for k in range(len(parts)) if (end := "/".join(parts[k:])) in given), None)
            if found is None:
                raise DataError(f"{self.captions} has no caption of {name}, by its id or the end of it.")
            texts.append(found)
        return texts

    @property
    def needed(self) -> list[Latents]:
        """A draw of each real image's posterior; pictures are squashed to squares."""
        return [self.latents(sampled=True, crop="squash")]

    def _prototypes(self, label: int) -> tuple[np.ndarray, list[str]]:
        """Centres of a class, float32 (ipc, C h w), and a caption each; none where there are no captions."""
        store = self.needed[0]
        points, rows = store.points(label), store.rows(label)
        inside = inliers(points, self.contamination)
        clusters = kmeans(points[inside], self.ipc, self.seed, n_init=10)
        centres = clusters.cluster_centers_.astype(np.float32)
        if self.captions is None:
            return centres, []
        captions, prompts = [self.texts[row] for row in rows[inside].tolist()], []
        common = common_words(captions, self.threshold)
        for k in range(self.ipc):
            own = [text for text, cluster in zip(captions, clusters.labels_.tolist(), strict=True) if cluster == k]
            name = self.dataset.info.classes[label]
            prompts.append(own[text_prototype(own, common, name, self.top_words)] if own else name)
        return centres, prompts

    def condition(self, label: int, images: Sequence[int]) -> Tensor:
        """The captions of the images' clusters, to a generator that reads."""
        _, prompts = self.prototypes(label)
        chosen = [prompts[k] for k in images] if prompts else None
        return self.model.condition([label] * len(images), chosen)

    def draw(self, label: int, images: Sequence[int]) -> Tensor:
        """Redraw each image's prototype."""
        return self.redraw(label, images, self.prototypes(label)[0])
