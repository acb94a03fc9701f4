"""Trajectories in half the bytes: the first weights in fp32, what each pass changed in fp16, scaled tensor by tensor.

What a pass changes is about a hundredth of the weights, and trajectory matching lives on differences of a few passes:
rounded as weights, fp16 would lose a few percent of them. Each change is taken from the weights as they will be read
back, so that errors do not add up: weights are off by the rounding of one pass's change, 2 to 5 in 10,000 of it.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor

from ddlight.core.errors import DataError

ALIKE = (
    "All of its weights are those of its end: on a CPU, MTT's buffer.py keeps the living weights instead of copies. "
    "Train experts anew ('ddlight experts')."
)


def pack(snapshots: Iterable[Tensor], sizes: Sequence[int]) -> dict[str, Tensor]:
    """Bring a trajectory into the form in which it is stored.

    Args:
        snapshots: the weights at first and after each pass, float32 (P,) each: all tensors one after another.
        sizes: number of weights of each tensor, P together.

    Returns:
        `start` float32 (P,); `changes` float16 (E, P); `exponents` int8 (E, T), of the powers of two that a tensor's
        changes are multiplied by; `error` float64 (1,): the largest distance of weights from what is read back, over
        what their pass changed.

    Raises:
        DataError: all snapshots are alike.
    """
    rest = iter(snapshots)
    start = next(rest).clone()
    read, before = start.clone(), start
    changes, exponents, error = [], [], 0.0
    for weights in rest:
        change = weights - read
        largest = torch.stack([part.abs().max() for part in change.split(list(sizes))])
        exponent = torch.frexp(largest).exponent.clamp(-126, 126)
        scaled = torch.ldexp(change, -_spread(exponent, sizes)).half()
        read = read + torch.ldexp(scaled.float(), _spread(exponent, sizes))
        moved = float((weights - before).double().norm())
        error = max(error, float((weights - read).double().norm()) / moved) if moved else error
        changes.append(scaled)
        exponents.append(exponent.to(torch.int8))
        before = weights.clone()
    packed = {"start": start, "changes": torch.stack(changes), "exponents": torch.stack(exponents)}
    if not packed["changes"].any():
        raise DataError(ALIKE)
    return {**packed, "error": torch.tensor([error], dtype=torch.float64)}


def _spread(exponents: Tensor, sizes: Sequence[int]) -> Tensor:
    """A tensor's exponent beside each of its weights: (T,) to (P,)."""
    return exponents.to(torch.int32).repeat_interleave(torch.tensor(sizes, device=exponents.device))


@dataclass(frozen=True)
class Trajectory:
    """A stored trajectory, read as far as it is asked for.

    Args:
        file: what `pack` gave, as safetensors.
        sizes: number of weights of each tensor.
    """

    file: Path
    sizes: Sequence[int]

    def at(self, *passes: int, device: torch.device) -> list[Tensor]:
        """Weights after so many passes, in ascending order: float32 (P,) each, on the device."""
        with safe_open(self.file, "pt") as stored:
            weights, last = stored.get_tensor("start").to(device), max(passes)
            changes = stored.get_slice("changes")[:last].to(device)
            exponents = stored.get_slice("exponents")[:last].to(device)
        found = {0: weights}
        for number, (change, exponent) in enumerate(zip(changes, exponents, strict=True), 1):
            weights = weights + torch.ldexp(change.float(), _spread(exponent, self.sizes))
            if number in passes:
                found[number] = weights
        return [found[number] for number in passes]
