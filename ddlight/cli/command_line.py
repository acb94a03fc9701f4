"""The commands that train or condense: fit, validate, test, condense. One YAML serves all of them."""

import hashlib
import io
import json
import logging
import os
import sys
import time
import warnings
from contextlib import redirect_stdout
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml
from filelock import FileLock, Timeout
from lightning import Callback, LightningModule
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from torch import nn

from ddlight.cli import parsing, words
from ddlight.cli.dry_run import describe_run
from ddlight.cli.regime import with_regime
from ddlight.cli.tiny import changes, make_tiny, tiny_teachers
from ddlight.core import discover, files
from ddlight.core.errors import BusyError, FinishedError, UsageError
from ddlight.core.result import FILE as RESULT
from ddlight.core.result import Result, Seconds
from ddlight.networks.export import bring_classes, load_student
from ddlight.regimes.base import Regime
from ddlight.sets.module import CondensedDataModule
from ddlight.train.record import condense_seconds, record
from ddlight.train.tracking import finish_wandb, with_wandb
from ddlight.train.trainer import Trainer

log = logging.getLogger("ddlight")
LOCK_SECONDS = 0.2
"""A run whose lock another process has for this long is that process's."""
SHAPING = ("precision", "accumulate_grad_batches", "gradient_clip_val", "sync_batchnorm")
"""Trainer options that change what a run computes."""


def rank_from_environment() -> int:
    """Rank of this process before any process group exists; on nodes after the first, some number above 0.

    LOCAL_RANK comes before SLURM_PROCID: in an interactive SLURM shell, Lightning's own children inherit the latter.
    """
    rank = int(next((os.environ[v] for v in ("RANK", "LOCAL_RANK", "SLURM_PROCID") if v in os.environ), 0))
    node = int(next((os.environ[v] for v in ("NODE_RANK", "GROUP_RANK") if v in os.environ), 0))
    return rank or node


def quiet() -> None:
    """Let ddlight speak and Lightning only warn; hide warnings that are about neither the user's data nor the run."""
    ours = logging.getLogger("ddlight")
    if not ours.handlers:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(message)s"))
        ours.addHandler(handler)
        ours.propagate = False
    ours.setLevel(logging.INFO if rank_from_environment() == 0 else logging.ERROR)
    for name in ("lightning", "lightning.pytorch", "lightning.fabric", "lightning.pytorch.utilities.rank_zero"):
        logging.getLogger(name).setLevel(logging.ERROR)
    for text in (".*LeafSpec.*", ".*args parameter is intended.*", ".*does not have many workers.*", ".*log_every_n.*"):
        warnings.filterwarnings("ignore", message=text)
    for text in (".*Total length of `list`.*", ".*srun.*", ".*litlogger.*", ".*Checkpoint directory.*"):
        warnings.filterwarnings("ignore", message=text)
    warnings.filterwarnings("ignore", category=DeprecationWarning)
    warnings.filterwarnings("ignore", module="jsonargparse")


class CLI(LightningCLI):
    """LightningCLI over regimes and condensed sets.

    Args:
        args: command line without the program's name.
        tiny: rewrite the resolved config to something that runs in seconds.
        dry_run: say what would be done, and do nothing.
    """

    trainer: Trainer
    model: Regime
    datamodule: CondensedDataModule

    def __init__(self, args: list[str], tiny: bool = False, dry_run: bool = False) -> None:
        self.tiny, self.dry_run, self.started = tiny, dry_run, time.perf_counter()
        self.lock: FileLock | None = None
        self.command = args[0]
        kwargs = {"logger": parsing.parser_logger(), "allow_abbrev": False}
        super().__init__(
            Regime,
            CondensedDataModule,
            trainer_class=Trainer,
            parser_class=parsing.Parser,
            parser_kwargs={**kwargs, **dict.fromkeys(self.subcommands(), kwargs)},
            save_config_callback=None,
            subclass_mode_model=True,
            subclass_mode_data=True,
            auto_configure_optimizers=False,
            load_from_checkpoint_support=False,
            seed_everything_default=False,
            args=args,
        )

    def subcommands(self) -> dict[str, set[str]]:  # type: ignore[override]
        """The one command that is run, with the arguments of the Trainer's method that the CLI fills in itself.

        Parsers of the others would take a third of a second to build.
        """
        loaders = {"dataloaders", "train_dataloaders", "val_dataloaders"}
        return {self.command: {"model", "datamodule", "ckpt_path", "weights_only", "verbose", *loaders}}

    def add_default_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """No `--seed_everything`: `--data.seed` seeds the set, `--model.seed` the training."""

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Options that belong to the run as a whole."""
        parser.add_argument("--wandb", type=str | None, default=None, help="W&B project to log to; offline-safe.")

    def _set_seed(self) -> None:
        """Seeds are arguments of data and model."""

    @property
    def options(self) -> Any:
        """The parsed config of the chosen command."""
        return self.config[self.config["subcommand"]]

    def instantiate_trainer(self, **kwargs: Any) -> Any:
        """Build the Trainer. Raises UsageError where Lightning refuses its options on this machine."""
        try:
            return super().instantiate_trainer(**kwargs)
        except (TypeError, ValueError, MisconfigurationException) as error:
            own = parsing.own_error(error)
            raise own or UsageError(f"The trainer's options cannot be used here: {str(error).strip()}") from error

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Parse, shrink where asked to, and choose the run folder."""
        super().parse_arguments(parser, args)
        command = self.config["subcommand"]
        for key in words.needed(command):
            if self.options.get(key) is None:
                raise UsageError(words.missing_class(key, command))
        name = f"tiny/{self.config_name}" if self.tiny else self.config_name
        if self.tiny:
            self._shrink(parser)
        if self.options.trainer.run is None:
            finished = command in ("test", "validate")
            self.options.trainer.run = str(choose_run(name, self.plain_config(), finished))
        if self.options.wandb:
            trainer, first = self.options.trainer, rank_from_environment() == 0 and not self.dry_run
            trainer.logger = with_wandb(trainer.logger, self.options.wandb, Path(trainer.run), first)

    def _shrink(self, parser: LightningArgumentParser) -> None:
        before, command = self.plain_config(), self.config["subcommand"]
        after = make_tiny(before)
        if not self.dry_run and rank_from_environment() == 0:
            for arguments in tiny_teachers(after):
                run(["fit", *arguments])
        log.info("--tiny changed:\n  %s", "\n  ".join(changes(before, after)))
        self.config = parser.parse_object({"subcommand": command, command: after})

    def plain_config(self) -> dict[str, Any]:
        """The chosen command's config as plain YAML types."""
        text = self.parser.dump(self.config, skip_none=False)
        content = yaml.safe_load(text)
        return dict(content.get(self.config["subcommand"], content))

    @cached_property
    def config_name(self) -> str:
        """Stem of the last config file given, fragments in `base/` left out; without files, the method's name."""
        given = self.options.get("config") or []
        paths = [Path(str(p)) for p in (given if isinstance(given, list) else [given])]
        paths = [p for p in paths if "base" not in p.parts] or paths
        return paths[-1].stem if paths else str(self.options.data.class_path).rsplit(".", 1)[-1].lower()

    def _run_subcommand(self, subcommand: str) -> None:
        if self.dry_run:
            sys.stdout.write("\n".join(describe_run(subcommand, self.trainer, self.model, self.datamodule)) + "\n")
            return
        getattr(self, f"_{subcommand}")()

    def _condense(self) -> None:
        self.trainer.condense(None, self.datamodule, self.options.files, self.options.copy)

    def _score(self) -> None:
        self.trainer.score(None, self.datamodule, self.options.csv)

    def _experts(self) -> None:
        self.trainer.experts(None, self.datamodule)

    def _generator(self) -> None:
        self.trainer.generator(None, self.datamodule)

    def _trained(self) -> nn.Module:
        """The run's student, its logits in the order of the dataset's classes. Raises UsageError as `bring_classes`."""
        network, card = load_student(self.trainer.run)
        info = self.datamodule.dataset.info
        bring_classes(network, card.classes, info.classes, f"The student of {self.trainer.run}", info.name)
        return network

    def _test(self) -> None:
        self.model.network = self._trained()
        self.trainer.test(self.model, datamodule=self.datamodule, verbose=False)
        log.info("acc %.1f %%  %s", self.model.scores["test"].acc, self.trainer.run)

    def _validate(self) -> None:
        self.model.network = self._trained()
        self.trainer.validate(self.model, datamodule=self.datamodule, verbose=False)
        if "held_out" not in self.model.scores:
            raise UsageError("This dataset holds nothing out: give --data.dataset.held_out (images per class).")
        log.info("held-out acc %.1f %%  %s", self.model.scores["held_out"].acc, self.trainer.run)

    def _fit(self) -> None:
        trainer, model, data = self.trainer, self.model, self.datamodule
        trainer.callbacks.insert(0, Header(self.plain_config()))  # type: ignore[attr-defined]
        try:
            if rank_from_environment() == 0:
                self._take_run(trainer.run)
            trainer.fit_run(model, data)
            if trainer.is_global_zero:
                self._finish(trainer, model, data)
        finally:
            self._give_run_back()
            finish_wandb()

    def _take_run(self, folder: Path) -> None:
        """Lock an unfinished run's folder and drop what a killed process was writing there."""
        _refuse_finished(folder)
        files.make_folder(folder)
        self.lock = _locked(folder / ".lock")
        _refuse_finished(folder)  # by the process that had the lock a moment ago
        for part in folder.glob("*.part"):
            part.unlink()

    def _give_run_back(self) -> None:
        if self.lock is not None:
            Path(self.lock.lock_file).unlink(missing_ok=True)
            self.lock.release()

    def _finish(self, trainer: Trainer, model: Regime, data: CondensedDataModule) -> None:
        total = time.perf_counter() - self.started
        setup = (trainer.clock.started or self.started) - self.started
        seconds = Seconds(condense_seconds(data), setup, trainer.clock.seconds, trainer.evaluate_seconds)
        path = record(trainer, model, data, self.config_name, seconds).write(trainer.run / RESULT)
        (trainer.run / "last.ckpt").unlink(missing_ok=True)
        log.info("acc %.1f %%  %.0f s  %s", model.scores["test"].acc, total, path)


def _refuse_finished(folder: Path) -> None:
    if (folder / RESULT).exists():
        acc = Result.read(folder).acc.test
        raise FinishedError(
            f"The run {folder} is finished (acc {acc:.1f} %). Give another folder with --trainer.run, or none."
        )


def _locked(path: Path) -> FileLock:
    """The lock file of a run, locked.

    The process that had it removes it when it ends: a lock on a file that is gone is none, and filelock tries again.

    Raises:
        BusyError: another process has it.
    """
    lock = FileLock(path)
    try:
        lock.acquire(timeout=LOCK_SECONDS, poll_interval=LOCK_SECONDS / 10)
    except Timeout:
        raise BusyError(f"Another process is writing the run {path.parent}. Give another --trainer.run.") from None
    return lock


class Header(Callback):
    """Says what is about to run and writes `config.yaml` with every resolved number.

    Args:
        config: the parsed config.
    """

    def __init__(self, config: dict[str, Any]) -> None:
        self.config = config

    def on_fit_start(self, trainer: Any, pl_module: LightningModule) -> None:
        """Write and speak, on rank 0."""
        if not trainer.is_global_zero:
            return
        resolved = resolved_config(self.config, pl_module)
        files.write_bytes(trainer.run / "config.yaml", yaml.safe_dump(resolved, sort_keys=False).encode())
        for logger in trainer.loggers:
            logger.log_hyperparams(resolved)
        for line in header(trainer, pl_module):
            log.info("%s", line)


def header(trainer: Trainer, model: Any) -> list[str]:
    """The lines before training: set, regime, teachers, student, budget, devices, run folder."""
    run, data, parameters = model.run, model.data, sum(p.numel() for p in model.network.parameters())
    manifest = data.require().manifest
    teachers = ", ".join(t.name for t in model.all_teachers) or "none"
    return [
        f"set       {manifest['method']} of {manifest['dataset']}, ipc {data.ipc}: {run.images} images, {data.folder}",
        f"regime    {type(model).__name__}, protocol {model.protocol}; teachers: {teachers}",
        f"student   {model.student}, {parameters:,} parameters",
        f"budget    {run.plan.budget.asked:g} {run.plan.budget.unit}: {run.steps} steps of {run.batch} images",
        f"devices   {trainer.world_size} x {trainer.strategy.root_device.type}, {trainer.precision}",
        f"run       {trainer.run}",
    ]


def resolved_config(config: dict[str, Any], model: Any) -> dict[str, Any]:
    """The parsed config with the protocol's explicit numbers in place of nulls, and the precision in place of auto."""
    plan = model.run.plan
    arguments = {**config["model"].get("init_args", {})}
    arguments["recipe"] = plan.as_override()
    arguments["budget"] = {unit: getattr(plan.budget, unit) for unit in vars(plan.budget)}
    trainer = {**config["trainer"], "precision": str(model.trainer.precision)}
    content = {**config, "trainer": trainer, "model": {**config["model"], "init_args": arguments}}
    return {key: value for key, value in content.items() if key != "config"}


def _without_modules(value: Any) -> Any:
    """A config whose classes go by their names alone, so that a class may move without renaming its runs."""
    if isinstance(value, list):
        return [_without_modules(item) for item in value]
    if not isinstance(value, dict):
        return value
    return {k: str(v).rsplit(".", 1)[-1] if k == "class_path" else _without_modules(v) for k, v in value.items()}


def choose_run(name: str, config: dict[str, Any], finished: bool = False) -> Path:
    """Folder of a run: the same for the same config while it is unfinished, a new one afterwards.

    Args:
        name: of the config.
        config: the parsed config.
        finished: give the newest finished run of this config instead, where there is one.
    """
    trainer = {key: config["trainer"][key] for key in SHAPING}
    shaping = json.dumps(_without_modules([config["model"], config["data"], trainer]), sort_keys=True)
    arguments = (config["model"] or {}).get("init_args", {})
    base = f"seed{arguments.get('seed', 0)}-{hashlib.sha256(shaping.encode()).hexdigest()[:6]}"
    folder, number = Path("runs") / name / base, 1
    last = folder
    while (folder / RESULT).exists():
        number, last = number + 1, folder
        folder = Path("runs") / name / f"{base}-{number}"
    return last if finished else folder


def run(arguments: list[str]) -> CLI:
    """Run one of the training commands.

    Args:
        arguments: command and options; `--tiny` and `--dry-run` may stand anywhere.

    Raises:
        UsageError, DataError: what the user gave cannot be used.
    """
    quiet()
    flags, rest = words.split_flags(arguments)
    rest = with_regime(rest)
    checked = words.Words(rest[0], discover.sources()).check(rest[1:])
    parsing.import_choices(checked.named)
    try:
        return CLI(rest, tiny="tiny" in flags, dry_run="dry-run" in flags)
    except (ValueError, TypeError) as error:
        own = parsing.own_error(error)
        if own is None or "DDLIGHT_DEBUG" in os.environ:
            raise
        raise own from None
    except OSError as error:
        raise files.explain(error, Path(error.filename or Path.cwd())) from error


def module_of(arguments: list[str]) -> CondensedDataModule:
    """The data module that a command line means; nothing is made and nothing printed. Raises as `run`."""
    with redirect_stdout(io.StringIO()):
        return run([*arguments, "--dry-run"]).datamodule
