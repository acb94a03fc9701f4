"""`--tiny`: the resolved config rewritten to something that runs anywhere in seconds, teachers included."""

import copy
import importlib
from pathlib import Path
from typing import Any

STEPS = 20
DATASET = {"class_path": "ddlight.Digits", "init_args": {"held_out": 5, "size": 32}}
IPC = 10


def make_tiny(config: dict[str, Any]) -> dict[str, Any]:
    """Digits at 32 px, width-8 networks, 20 steps, teachers that are trained on the spot.

    Args:
        config: a resolved config of `fit` as plain values; it is not changed.
    """
    tiny = copy.deepcopy(config)
    data = tiny["data"]["init_args"]
    data.update(dataset=copy.deepcopy(DATASET), ipc=min(data.get("ipc") or IPC, IPC))
    _shrink_teachers(data)
    for name, value in _method_values(tiny["data"]).items():
        given = data.get(name)
        data[name] = {**given, **value} if isinstance(given, dict) and isinstance(value, dict) else value
    if tiny.get("model"):
        _shrink_model(tiny["model"]["init_args"])
    run = tiny["trainer"]["run"]
    kept = run if run and "tiny" in Path(run).parts else None  # a folder of tiny runs, never one of real ones
    tiny["trainer"].update(devices=1, num_nodes=1, strategy="auto", run=kept)
    return tiny


def _method_values(data: dict[str, Any]) -> dict[str, Any]:
    """What the method itself says is tiny for it."""
    module, name = data["class_path"].rsplit(".", 1)
    return dict(getattr(importlib.import_module(module), name).tiny)


def _shrink_model(model: dict[str, Any]) -> None:
    model["student"] = network(3)
    model["budget"] = {"steps": STEPS, "epochs": None, "images": None, "full_epochs": None}
    if model.get("recipe"):
        model["recipe"].update(batch=None, lighting=None)
    _shrink_teachers(model)
    others = {"published": None, "labels": "teacher"}  # labels that tiny sets do not have
    model.update({name: value for name, value in others.items() if name in model})


def _shrink_teachers(arguments: dict[str, Any]) -> None:
    if "teacher" in arguments:
        arguments["teacher"] = teacher(0)
    if "teachers" in arguments:
        arguments["teachers"] = [teacher(k) for k in range(len(arguments["teachers"] or [""]))]


def network(depth: int) -> dict[str, Any]:
    """Config of a width-8 student."""
    arguments = {"depth": depth, "width": 8, "norm": "batch"}
    return {"class_path": "ddlight.ConvNet", "init_args": arguments}


def teacher(k: int) -> dict[str, Any]:
    """Config of tiny teacher number k, a run of `tiny_teachers`."""
    arguments = {"run": f"runs/tiny/teacher{k}", "checkpoint_epoch": None}
    return {"class_path": "ddlight.RunTeacher", "init_args": arguments}


def tiny_teachers(config: dict[str, Any]) -> list[list[str]]:
    """Arguments of the `fit` commands that train the tiny teachers a config needs and that do not exist yet."""
    parts = [(config.get(key) or {}).get("init_args", {}) for key in ("model", "data")]
    given = [t for part in parts for t in (part.get("teacher"), *(part.get("teachers") or [])) if t]
    runs = sorted({t["init_args"]["run"] for t in given})
    return [_fit(k, run) for k, run in enumerate(runs) if not (Path(run) / "result.json").exists()]


def _fit(k: int, run: str) -> list[str]:
    return [
        "--data=FullData",
        "--data.dataset=Digits",
        "--model=HardLabel",
        "--model.student=ConvNet",
        f"--model.student.depth={k % 3 + 1}",
        "--model.student.width=8",
        "--model.student.norm=batch",
        f"--model.seed={k}",
        "--model.protocol=rethinkdc_hard",
        f"--model.budget.steps={STEPS}",
        f"--trainer.run={run}",
        "--trainer.devices=1",
    ]


def changes(before: Any, after: Any, at: str = "") -> list[str]:
    """One line per value that differs: 'data.ipc: 50 -> 10'."""
    if isinstance(before, dict) and isinstance(after, dict) and before.get("class_path") == after.get("class_path"):
        keys = [*before, *(k for k in after if k not in before)]
        lines = [changes(before.get(k), after.get(k), f"{at}.{k}" if at else k) for k in keys]
        return [line for group in lines for line in group]
    return [] if before == after else [f"{at.replace('.init_args', '')}: {_short(before)} -> {_short(after)}"]


def _short(value: Any) -> str:
    if isinstance(value, dict) and "class_path" in value:
        given = {k: v for k, v in (value.get("init_args") or {}).items() if v is not None}
        return f"{value['class_path'].rsplit('.', 1)[-1]}({', '.join(f'{k}={v}' for k, v in given.items())})"
    return "[" + ", ".join(map(_short, value)) + "]" if isinstance(value, list) else str(value)
