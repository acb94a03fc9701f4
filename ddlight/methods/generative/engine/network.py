"""DiT: a transformer over patches of noisy latents that a class and a noise level modulate (arXiv 2212.09748)."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

FREQUENCIES = 256
"""Numbers that a noise level is told as."""


class Block(nn.Module):
    """Attention and MLP, each shifted, scaled and gated by the condition (adaLN-Zero)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.fc1, self.fc2 = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.ada = nn.Linear(width, 6 * width)

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        """Tokens (B, L, W) under a condition (B, W)."""
        shift, scale, gate, shift2, scale2, gate2 = self.ada(F.silu(c)).unsqueeze(1).chunk(6, -1)
        q, k, v = (
            part.unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for part in self.qkv(normed(x) * (1 + scale) + shift).chunk(3, -1)
        )
        x = x + gate * self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
        hidden = F.gelu(self.fc1(normed(x) * (1 + scale2) + shift2), approximate="tanh")
        return x + gate2 * self.fc2(hidden)


def normed(x: Tensor) -> Tensor:
    """LayerNorm without weights."""
    return F.layer_norm(x, x.shape[-1:], eps=1e-6)


class DiTNetwork(nn.Module):
    """Noise and variance in images or latents (B, C, S, S), both of that shape, side by side in the channels.

    Args:
        num_classes: classes; one more row of the table means no class.
        channels: C.
        size: S.
        patch: side of a patch, which divides S.
        width: of a token.
        depth: number of blocks.
        heads: of attention, which divide the width.
        seed: of the weights.
    """

    places: Tensor

    def __init__(
        self, num_classes: int, channels: int, size: int, patch: int, width: int, depth: int, heads: int, seed: int
    ) -> None:
        super().__init__()
        self.patch, self.channels, side = patch, channels, size // patch
        with torch.device("meta"):  # so that torch's own generator, which threads share, draws nothing
            self.embed = nn.Linear(channels * patch**2, width)
            self.level = nn.Sequential(nn.Linear(FREQUENCIES, width), nn.SiLU(), nn.Linear(width, width))
            self.label = nn.Embedding(num_classes + 1, width)
            self.blocks = nn.ModuleList(Block(width, heads) for _ in range(depth))
            self.ada, self.last = nn.Linear(width, 2 * width), nn.Linear(width, 2 * channels * patch**2)
        self.to_empty(device="cpu")
        self.register_buffer("places", sine_places(side, width), persistent=False)
        self._draw(torch.Generator().manual_seed(seed))

    @torch.no_grad()
    def _draw(self, rng: torch.Generator) -> None:
        """Weights to begin with: gates and the last layer at zero, so that every block is the identity."""
        for name, layer in self.named_modules():
            if isinstance(layer, nn.Linear):
                layer.bias.zero_()
                if name.endswith("ada") or name == "last":
                    layer.weight.zero_()
                elif name.startswith("level"):
                    layer.weight.normal_(std=0.02, generator=rng)
                else:
                    nn.init.xavier_uniform_(layer.weight, generator=rng)
        self.label.weight.normal_(std=0.02, generator=rng)

    def forward(self, x: Tensor, t: Tensor, labels: Tensor) -> Tensor:
        """Noise and variance, (B, 2 C, S, S), at levels (B,) for classes int64 (B,)."""
        side, p = x.shape[-1] // self.patch, self.patch
        tokens = F.pixel_unshuffle(x, p).flatten(2).transpose(1, 2)
        c = self.level(waves(t)) + self.label(labels)
        tokens = self.embed(tokens) + self.places
        for block in self.blocks:
            tokens = block(tokens, c)
        shift, scale = self.ada(F.silu(c)).unsqueeze(1).chunk(2, -1)
        answer = self.last(normed(tokens) * (1 + scale) + shift)
        return F.pixel_shuffle(answer.transpose(1, 2).unflatten(2, (side, side)), p)


def waves(t: Tensor) -> Tensor:
    """Cosines and sines of levels (B,) at geometric frequencies: (B, FREQUENCIES)."""
    half = FREQUENCIES // 2
    angles = t.float()[:, None] * torch.exp(-math.log(10_000) * torch.arange(half, device=t.device) / half)
    return torch.cat([angles.cos(), angles.sin()], 1)


def sine_places(side: int, width: int) -> Tensor:
    """Fixed embedding of a grid's places, a quarter each of sines and cosines of row and column: (side^2, width)."""
    rates = torch.exp(-math.log(10_000) * torch.arange(width // 4) / (width // 4))
    angles = torch.arange(side)[:, None] * rates
    one = torch.cat([angles.sin(), angles.cos()], 1)
    return torch.cat([one.repeat(side, 1), one.repeat_interleave(side, 0)], 1)
