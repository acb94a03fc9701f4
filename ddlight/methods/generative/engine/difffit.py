"""DiffFit: the few numbers of a DiT that are tuned: biases, the table of classes, and scales that begin at 1."""

from torch import Tensor, nn

from ddlight.core.errors import UsageError
from ddlight.methods.generative.engine.backbone import Denoiser


class Scaled(nn.Module):
    """A linear layer whose output is multiplied by vectors.

    Args:
        layer: the layer.
        scales: number of vectors.
    """

    def __init__(self, layer: nn.Module, scales: int) -> None:
        super().__init__()
        assert isinstance(layer, nn.Linear)
        self.layer = layer
        self.gammas = nn.ParameterList(layer.weight.new_ones(layer.out_features) for _ in range(scales))

    def forward(self, x: Tensor) -> Tensor:
        """The layer's output, scaled."""
        x = self.layer(x)
        for gamma in self.gammas:
            x = x * gamma
        return x


def difffit_parameters(model: Denoiser) -> dict[str, nn.Parameter]:
    """Add scales to the first half of a DiT's blocks; only what is to be tuned has gradients from here on.

    Returns these parameters by name: biases, weights of affine norms, the table of classes, scales. A generator that is
    tuned is one that nothing else uses. Raises UsageError where it is no DiT.
    """
    found = model.tuned_parts()
    if found is None:
        raise UsageError("Minimax tunes a DiT: take --data.backbone=TrainedDiT or --data.backbone=PretrainedDiT.")
    network, (blocks, layers, table) = model.network.requires_grad_(False), found
    for block in blocks[: len(blocks) // 2 or 1]:
        for name, scales in layers.items():
            parent, _, child = name.rpartition(".")
            holder = block.get_submodule(parent)
            setattr(holder, child, Scaled(holder.get_submodule(child), scales))
    norms = {id(p) for m in network.modules() if isinstance(m, nn.LayerNorm) for p in m.parameters()}
    chosen = {
        name: p
        for name, p in network.named_parameters()
        if name.endswith("bias") or ".gammas." in name or p is table.weight or id(p) in norms
    }
    for p in chosen.values():
        p.requires_grad_(True)
    return chosen
