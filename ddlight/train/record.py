"""From a finished run to its `result.json`."""

from dataclasses import asdict
from pathlib import Path

import torch
from torch import nn

from ddlight.core import result
from ddlight.core.errors import UsageError
from ddlight.networks.flops import TRAINING, forward_flops
from ddlight.networks.teachers import RunTeacher, Teacher
from ddlight.regimes.base import Regime
from ddlight.sets.module import CondensedDataModule
from ddlight.train.callbacks.test_curve import TestCurve
from ddlight.train.trainer import Trainer


def record(
    trainer: Trainer, model: Regime, data: CondensedDataModule, config: str, seconds: result.Seconds
) -> result.Result:
    """Collect everything that a run reports, after `fit_run`; `config` is the stem of the configuration file."""
    if "test" not in model.scores:
        raise UsageError("The test split was not read: call Trainer.fit_run before recording a result.")
    test, run, cuda = model.scores["test"], model.run, torch.cuda
    device_memory = cuda.max_memory_allocated() if cuda.is_available() else None
    on_gpu = trainer.strategy.root_device.type == "cuda"
    precision = f"{trainer.precision}{', compiled' * model.compiled}"
    device_name = cuda.get_device_name() if on_gpu else f"CPU, {torch.get_num_threads()} threads"
    return result.Result(
        run=trainer.run.name,
        config=config,
        finished=result.utc_now(),
        set=_set(data, model.label_bytes(run, data.dataset.num_classes)),
        regime=model.title,
        protocol=model.protocol,
        recipe=asdict(run.plan.recipe),
        augment=asdict(run.plan.augment),
        student=result.StudentRecord(type(model.student).__name__, vars(model.student), _parameters(model.network)),
        teachers=tuple(
            result.TeacherRecord(t.name, t.fingerprint(), _parameters(t.network), _teacher_accuracy(t))
            for t in model.all_teachers
        ),
        seed=model.seed,
        budget=_budget(model),
        flops=_flops(model, data),
        acc=_accuracy(trainer, model),
        nll=test.nll,
        ece=test.ece,
        seconds=seconds,
        peak_memory_bytes=result.PeakMemory(host=result.peak_host_memory(), device=device_memory),
        machine=result.Machine(device_name, trainer.world_size, trainer.num_nodes, precision),
        versions=result.versions(),
    )


def _set(data: CondensedDataModule, label_bytes: int) -> result.SetRecord:
    manifest = data.require().manifest
    copied = ("dataset", "method", "args", "fingerprint", "content_sha256", "images", "source_images", "bytes_images")
    return result.SetRecord(
        **{name: manifest[name] for name in (*copied, "selected_on")},
        ipc=data.ipc,
        seed=data.seed,
        classes=data.dataset.num_classes,
        bytes_labels=manifest["bytes_labels"] + label_bytes,
        path=str(data.folder),
    )


def _parameters(network: nn.Module | None) -> int:
    return sum(p.numel() for p in network.parameters()) if network is not None else 0


def _budget(model: Regime) -> result.BudgetRecord:
    run = model.run
    seen = model.images_seen(run.steps)
    return result.BudgetRecord(
        unit=run.plan.budget.unit,
        asked=run.plan.budget.asked,
        steps=run.steps,
        batch=run.batch,
        images_seen=seen,
        passes=seen / run.images,
        full_epochs=seen / run.full_images,
    )


def _flops(model: Regime, data: CondensedDataModule) -> result.Flops:
    info, seen = data.dataset.info, model.images_seen(model.run.steps)
    assert model.network is not None
    student = forward_flops(model.network, info.channels, info.size) * TRAINING * seen
    teachers = sum(t.flops for t in model.all_teachers) * model.labelled_images()
    scoring, synthesis = (_recorded(data, f"flops_{what}") for what in ("scoring", "synthesis"))
    return result.Flops(student=student, teachers=teachers, scoring=scoring, synthesis=synthesis)


def condense_seconds(data: CondensedDataModule) -> float | None:
    """Time to make the set, its scoring run included; None where others made it."""
    return _recorded(data, "seconds", "scoring_seconds")


def _recorded(data: CondensedDataModule, *costs: str) -> float | None:
    """Sum of those costs in the set's manifest, one that is not there being none; None where nobody recorded any."""
    manifest = data.require().manifest
    return sum(float(manifest.get(name, 0.0)) for name in costs) if data.cost_recorded else None


def _accuracy(trainer: Trainer, model: Regime) -> result.Accuracy:
    test, held_out = model.scores["test"], model.scores.get("held_out")
    curves = [c.readings for c in trainer.callbacks if isinstance(c, TestCurve)]  # type: ignore[attr-defined]
    readings = [reading["acc"] for reading in curves[0]] if curves else []
    return result.Accuracy(
        test=test.acc,
        test_top5=test.top5,
        per_class=tuple(test.per_class),
        held_out=held_out.acc if held_out else None,
        best_on_test=max([*readings, test.acc]) if readings else None,
        test_reads=len(readings) + 1,
        test_images=test.images,
    )


def _teacher_accuracy(teacher: Teacher) -> float | None:
    """Test accuracy of the ddlight run that a teacher comes from, where it is its final student."""
    if not isinstance(teacher, RunTeacher) or teacher.checkpoint_epoch is not None:
        return None
    file = Path(teacher.run).expanduser() / "result.json"
    return result.Result.read(file).acc.test if file.exists() else None
