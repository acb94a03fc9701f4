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
    """Config of a WandbLogger as of `with_wandb`; a continued ddlight run goes on in the same W&B run."""
    offline = os.environ.get("WANDB_MODE") in ("offline", "disabled")
    if not offline and not login(os.environ, Path.home())[0]:
        offline = True
        log.warning("W&B has no login here: logging offline to %s. 'wandb login', then 'wandb sync' sends it.", run)
    id_file = run / "wandb_id"
    if write and not id_file.exists():
        write_bytes(id_file, f"{uuid.uuid4().hex[:12]}\n".encode())
    arguments = {
        "project": project,
        "name": "-".join(run.parts[-2:]),
        "id": id_file.read_text().strip() if id_file.exists() else None,  # None on ranks that do not log
        "save_dir": str(run),
        "resume": "allow",
        "offline": offline,
    }
    return {"class_path": "lightning.pytorch.loggers.WandbLogger", "init_args": arguments}


def login(env: Mapping[str, str], home: Path) -> tuple[bool, str]:
    """Whether W&B needs no login or finds one, and what was found, in words. Keys are looked for, never shown.

    `env` are the environment variables, and `home` holds .netrc, unless the variable NETRC names another file.
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


def finish_wandb() -> None:
    """End this process's W&B run where there is one: a WandbLogger made later would go on in it."""
    if "wandb" in sys.modules:
        import wandb

        wandb.finish()
