import json

import pytest

from ddlight.core.result import Result

PROTOCOLS = {"HardLabel": "ht_small_hard", "SoftLabel": "ht_small_soft", "TeacherLabel": "rded"}


class Study:
    """Writes a folder of runs: `add` one training, `fail` one failed run."""

    def __init__(self, root):
        self.root = root
        self.count = 0

    def folder(self):
        self.count += 1
        folder = self.root / f"part{self.count % 3}" / f"run{self.count:04d}"
        folder.mkdir(parents=True)
        return folder

    def add(self, method, acc, ipc=10, *, set_seed=0, seed=0, regime="HardLabel", **changes):
        """One training; `changes` are fields by dotted name with "__" for "."."""
        folder = self.folder()
        images = 1000 if ipc is None or method == "FullData" else 10 * ipc
        name = f"{method}/{ipc}/{set_seed}"
        content = {
            "schema": 2,
            "run": folder.name,
            "config": "example",
            "finished": "2026-01-31T12:00:00+00:00",
            "set": {
                "dataset": "Digits",
                "method": method,
                "args": {},
                "ipc": ipc,
                "seed": set_seed,
                "fingerprint": f"recipe {name}",
                "content_sha256": f"content {name}",
                "images": images,
                "source_images": images,
                "classes": 2,
                "bytes_images": 64 * images,
                "bytes_labels": 8 * images,
                "selected_on": "none",
                "path": f"cache/{name}",
            },
            "regime": regime,
            "protocol": PROTOCOLS[regime],
            "recipe": {"lr": 0.01, "batch": min(64, images)},
            "augment": {"flip": False},
            "student": {"class": "ConvNet", "args": {"width": 8, "depth": 3}, "parameters": 1234},
            "teachers": [],
            "seed": seed,
            "budget": {
                "unit": "full_epochs",
                "asked": 6,
                "steps": 600,
                "batch": 64,
                "images_seen": 6000,
                "passes": 6000 / images,
                "full_epochs": 6.0,
            },
            "flops": {"student": 1e12, "teachers": 0.0, "scoring": 0.0, "synthesis": 0.0},
            "acc": {
                "test": acc,
                "test_top5": None,
                "per_class": [acc, acc],
                "held_out": None,
                "best_on_test": None,
                "test_reads": 1,
                "test_images": 10000,
            },
            "nll": 1.25,
            "ece": 0.05,
            "seconds": {"condense": 0.1, "setup": 0.2, "fit": 3.5, "evaluate": 0.4},
            "peak_memory_bytes": {"host": 1024, "device": None},
            "machine": {"device": "cpu", "ranks": 1, "nodes": 1, "precision": "32-true"},
            "versions": dict.fromkeys(
                ("ddlight", "python", "torch", "torchvision", "lightning", "timm", "numpy"), "1.0"
            ),
        }
        for key, value in changes.items():
            *parents, last = key.replace("class_", "class").split("__")
            part = content
            for parent in parents:
                part = part[parent]
            part[last] = value
        return Result.from_json(content).write(folder)

    def sets(self, method, accs, ipc=10, **changes):
        """One training on each of several sets."""
        for index, acc in enumerate(accs):
            self.add(method, acc, ipc, set_seed=index, **changes)

    def fail(self, cell, error="RuntimeError: out of memory"):
        path = self.folder() / "failed.json"
        path.write_text(json.dumps({"cell": cell, "error": error}))
        return path


@pytest.fixture
def study(tmp_path):
    return Study(tmp_path / "runs")
