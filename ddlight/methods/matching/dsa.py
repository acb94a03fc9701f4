"""DSA: DC in which real and synthetic images of a class are augmented alike before their gradients are compared.

For each class and image step one differentiable operation A, with one parameter for all images, is drawn:

    D_c = D(grad CE(f_w(A(s_c)), c), grad CE(f_w(A(x_c)), c))

The gradient flows through A to the images. In the inner loop each image is augmented by itself.
"""

from typing import Any, ClassVar

from torch import Tensor

from ddlight.methods.matching.dc import GradientMatching
from ddlight.methods.matching.engine import Learned, MatchingSynthesiser, Published


class DSA(MatchingSynthesiser):
    """Images whose gradients match those of real images that are augmented as they are (Siamese augmentation).

    Paper: arXiv 2102.08259, Equation 6; numbers from its code (github.com/VICO-UoE/DatasetCondensation).

    Args:
        dsa: operations, such as color_crop; null takes the published ones, with flips where images may be mirrored.
        outer: image steps of an iteration; null takes DC's number.
        inner: epochs of the network between two of them; null takes DC's number.
        lr_net: learning rate of the network.
        batch_real: real images of a class in an image step; all of a class that has fewer.
    """

    tiny: ClassVar[dict[str, Any]] = {**MatchingSynthesiser.tiny, "outer": 2, "inner": 1, "batch_real": 8}

    def __init__(
        self,
        *args: Any,
        dsa: str | None = None,
        outer: int | None = None,
        inner: int | None = None,
        lr_net: float = 0.01,
        batch_real: int = 256,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.dsa, self.outer, self.inner, self.lr_net, self.batch_real = dsa, outer, inner, lr_net, batch_real
        self.require_positive("outer", "inner", "lr_net", "batch_real")
        self.matching = GradientMatching(self, outer, inner, lr_net, batch_real, self.augmentation(dsa))

    def published(self) -> Published:
        """DC's, on real images."""
        return Published(1001, lr=0.1, init="real")

    def step(self, learned: Learned, iteration: int) -> dict[str, Tensor]:
        """An iteration of DC, augmented."""
        return self.matching.step(learned, iteration)

    def graph_images(self) -> float:
        """DC's."""
        return self.matching.graph_images()

    def operations(self) -> float:
        """DC's."""
        return self.matching.operations()
