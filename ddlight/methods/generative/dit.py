"""DiT: plain samples of a class-conditional diffusion, the baseline that every guided method is compared with."""

from collections.abc import Sequence

from torch import Tensor

from ddlight.methods.generative.engine import GenerativeSynthesiser


class DiT(GenerativeSynthesiser):
    """Plain samples of a class-conditional diffusion, by 50 ancestral steps with guidance 4.

    Paper: arXiv 2212.09748; sampled as arXiv 2311.15529 and arXiv 2505.18963 have their baseline.
    """

    def draw(self, label: int, images: Sequence[int]) -> Tensor:
        """Plain sampling."""
        return self.sample(label, images)
