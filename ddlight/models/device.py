"""Where networks answer outside Lightning's loops."""

import torch


def own_device() -> torch.device:
    """This process's GPU where there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
