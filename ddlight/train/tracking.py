"""Weights & Biases: one run per ddlight run, offline without a login. wandb is imported only where it is used."""

import logging
import netrc
import os
import sys
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

from ddlight.core.errors import UsageError
from ddlight.core.files import write_bytes

log = logging.getLogger("ddlight")
ID = "wandb_id"
"""File of a run folder: the id of its W&B run."""


def with_wandb(configured: Any, project: str, run: Path, write: bool) -> list[Any]:
    """Configured loggers and a WandbLogger, which takes the place of a configured one: that may be another run's.

    Args:
        configured: value of `trainer.logger`.
        project: W&B project.
        run: run folder; W&B's own files go there too.
        write: keep a new id in the run folder.

    Raises:
        UsageError: `trainer.logger` is true, which names no logger.
    """
    if configured is True:
        raise UsageError("trainer.logger is true; beside --wandb it takes names: --trainer.logger=CSVLogger, or none.")
    given = configured if isinstance(configured, list) else [configured] if configured else []
    others = [logger for logger in given if not str(logger.get("class_path")).endswith(".WandbLogger")]
    return [*others, wandb_logger(project, run, write)]


def wandb_logger(project: str, run: Path, write: bool) -> dict[str, Any]:
    """Config of a WandbLogger; a continued ddlight run goes on in the same W&B run.

    Args:
        project: W&B project.
        run: run folder; W&B's own files go there too.
        write: keep a new id in the run folder.
    """
    offline = os.environ.get("WANDB_MODE") in ("offline", "disabled")
    if not offline and not login(os.environ, Path.home())[0]:
        offline = True
        log.warning("W&B has no login here: logging offline to %s. 'wandb login', then 'wandb sync' sends it.", run)
    arguments = {
        "project": project,
        "name": "-".join(run.parts[-2:]),
        "id": wandb_id(run, write),
        "save_dir": str(run),
        "resume": "allow",
        "offline": offline,
    }
    return {"class_path": "lightning.pytorch.loggers.WandbLogger", "init_args": arguments}


def login(env: Mapping[str, str], home: Path) -> tuple[bool, str]:
    """Whether W&B needs no login or finds one, and what was found, in words. Keys are looked for, never shown.

    Args:
        env: environment variables.
        home: folder that holds .netrc, unless the variable NETRC names another file.
    """
    if (mode := env.get("WANDB_MODE", "online")) in ("offline", "dryrun", "disabled"):
        return True, f"{mode} by WANDB_MODE"
    if env.get("WANDB_API_KEY"):
        return True, "logged in by WANDB_API_KEY"
    host = urlparse(env.get("WANDB_BASE_URL") or "https://api.wandb.ai").hostname or ""
    places = [Path(env["NETRC"]).expanduser()] if env.get("NETRC") else [home / ".netrc", home / "_netrc"]
    for place in (p for p in places if p.is_file()):
        try:
            if netrc.netrc(place).authenticators(host):
                return True, f"logged in to {host} by {place}"
        except (netrc.NetrcParseError, OSError, UnicodeDecodeError):
            return False, f"{place} cannot be read"
    return False, "not logged in: runs are logged offline"


def wandb_id(run: Path, write: bool) -> str | None:
    """Id of a run folder's W&B run: the one in its file `wandb_id`, or a random one.

    Args:
        run: run folder.
        write: make the file where there is none; else the id is None then, as for ranks that do not log.
    """
    path = run / ID
    if write and not path.exists():
        write_bytes(path, f"{uuid.uuid4().hex[:12]}\n".encode())
    return path.read_text().strip() if path.exists() else None


def finish_wandb() -> None:
    """End this process's W&B run where there is one: a WandbLogger made later would go on in it."""
    if "wandb" in sys.modules:
        import wandb

        wandb.finish()
