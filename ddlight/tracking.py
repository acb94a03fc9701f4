"""Weights & Biases: one run per ddlight run, offline without a login. wandb is imported only where it is used."""

import logging
import os
from pathlib import Path
from typing import Any

from ddlight.doctor import check_wandb

log = logging.getLogger("ddlight")


def wandb_logger(project: str, run: Path) -> list[dict[str, Any]]:
    """Config of a WandbLogger whose id is the run folder's, so that a continued run goes on in the same W&B run.

    Args:
        project: W&B project.
        run: run folder; W&B's own files go there too.
    """
    offline = os.environ.get("WANDB_MODE") in ("offline", "disabled")
    if not offline and check_wandb(os.environ, Path.home()).status != "ok":
        offline = True
        log.warning("W&B has no login here: logging offline to %s. 'wandb login', then 'wandb sync' sends it.", run)
    arguments = {
        "project": project,
        "name": "-".join(run.parts[-2:]),
        "id": "-".join(run.parts[-2:]).replace("/", "-"),
        "save_dir": str(run),
        "resume": "allow",
        "offline": offline,
    }
    return [{"class_path": "lightning.pytorch.loggers.WandbLogger", "init_args": arguments}]
