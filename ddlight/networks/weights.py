"""State dicts: read from any usual file, fitted to a network with a readable complaint, and named by their content."""

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from ddlight.core.errors import DataError
from ddlight.networks.layers import heads
from ddlight.networks.torch_file import read_torch_file

WRAPPERS = ("state_dict", "model")
PREFIXES = ("module.", "_orig_mod.", "student.")


def read_state_dict(file: str | Path) -> dict[str, Tensor]:
    """Read the tensors of a .safetensors, .pt, .pth or .ckpt file onto the CPU, by their names in the network.

    Unwraps {"state_dict": ...} and {"model": ...} and drops the prefixes "module." (DataParallel), "_orig_mod."
    (torch.compile) and "student." (a ddlight checkpoint, of which only the student is kept). Nothing in the file is
    executed: pickles are read with weights_only=True. DataError where the file is missing, damaged, or no state dict.
    """
    path = Path(file).expanduser()
    if not path.is_file():
        raise DataError(
            f"No weights at {path}: the file does not exist. Check the path; it is relative to {Path.cwd()}."
        )
    content = _content(path)
    for key in WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    state = {k: v for k, v in content.items() if isinstance(v, Tensor)} if isinstance(content, Mapping) else {}
    if not state:
        wrappers = " or ".join(WRAPPERS)
        raise DataError(f"{path} holds no state dict: expected names and tensors, or one under {wrappers}.")
    return _without_prefixes(state)


def _content(path: Path) -> object:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        if path.suffix == ".safetensors":
            return load_file(path)
    except (SafetensorError, OSError) as error:
        raise DataError(f"{path} is not a readable safetensors file: {error}. Fetch or write it again.") from error
    try:
        return read_torch_file(path)
    except DataError as error:
        raise DataError(
            f"{error} Only tensors are read: save network.state_dict() alone, best as .safetensors."
        ) from error


def _without_prefixes(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Drop wrappers' prefixes, however nested: "student." keeps what has it, the others must be on every name."""
    for prefix in PREFIXES:
        inside = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
        if inside and (prefix == "student." or len(inside) == len(state)):
            return _without_prefixes(inside)
    return state


def load_into(network: nn.Module, state: Mapping[str, Tensor], source: str) -> None:
    """Copy `state` into `network`, all of it and nothing else; counters of batch normalisation may be missing.

    DataError where names or shapes differ: it calls the state by `source`, and lists the first of each kind.
    """
    expected = network.state_dict()
    other = [k for k in expected if k in state and state[k].shape != expected[k].shape]
    complaints = {
        "missing": [k for k in expected if k not in state and not k.endswith("num_batches_tracked")],
        "unexpected": [k for k in state if k not in expected],
        "of another shape": [f"{k} {tuple(state[k].shape)} for {tuple(expected[k].shape)}" for k in other],
    }
    parts = [
        f"{len(keys)} {kind} ({', '.join(keys[:3])}{', ...' if len(keys) > 3 else ''})"
        for kind, keys in complaints.items()
        if keys
    ]
    if parts:
        raise DataError(
            f"{source} does not fit {type(network).__name__}: {'; '.join(parts)}. "
            "Give the network that these weights were trained with."
        )
    network.load_state_dict(state, strict=False)


def network_from(state: Mapping[str, Tensor], build: Callable[[int], nn.Module], guess: int, source: str) -> nn.Module:
    """Build the network that has as many classes as `state`, probably `guess`, and load `state` with `load_into`."""
    network = build(guess)
    rows = [state[f"{name}.weight"].shape[0] for name in heads(network) if f"{name}.weight" in state]
    if rows and rows[0] != guess:
        network = build(rows[0])
    load_into(network, state, source)
    return network


def digest(state: Mapping[str, Tensor]) -> str:
    """Return the sha256 of names, types, shapes and values, the same on any device and out of any file format."""
    sha = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].detach().cpu().contiguous()
        sha.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        sha.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return sha.hexdigest()
