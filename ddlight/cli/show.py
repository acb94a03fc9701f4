"""`ddlight show`: what a condensed set or a finished run is, in one screen, and the set's images as one picture."""

import argparse
import csv
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ddlight.cli.listing import fact_lines, write_lines
from ddlight.core.errors import DataError, UsageError
from ddlight.core.files import make_folder
from ddlight.sets.opened import CONFIG, MANIFEST, find, hard_classes, open_dataset
from ddlight.sets.pictures import grid, stretch

if TYPE_CHECKING:
    from ddlight.core.result import Result
    from ddlight.sets.store import StoredSet


def main(argv: Sequence[str]) -> int:
    """Run `ddlight show PATH`. Returns the exit code: 3 where a set is not what was sealed.

    Raises:
        DataError: PATH is neither a condensed set nor a run, or the dataset that a grid needs is missing.
        UsageError: a grid is asked for where none can be drawn.
    """
    options = _parse(argv)
    folder = find(options.path)
    if (folder / MANIFEST).is_file():
        return _show_set(folder, options)
    if options.grid is not None:
        raise UsageError(f"{folder} is a run: --grid needs a condensed set. Its set is named by: ddlight show {folder}")
    from ddlight.core.result import Result

    return write_lines(run_lines(folder, Result.read(folder)))


def set_lines(manifest: Mapping[str, Any], per_class: Sequence[int] | None, checked: str) -> list[str]:
    """Describe a condensed set.

    Args:
        manifest: content of its manifest.json.
        per_class: images of each class, in class order; None where they could not be counted.
        checked: what comparing its files with their checksums said.
    """
    m = manifest
    classes = m["classes"]
    shape = "x".join(map(str, m["shape"])) if m.get("shape") else ""
    title = f"{m['method']}: ipc {m['ipc']} of {m['dataset']}, seed {m['seed']}"
    facts = {
        "images": " ".join(filter(None, [f"{m['images']:,}", shape, _kind(m)])),
        "labels": m["labels"],
        "classes": f"{len(classes)}: {', '.join(classes[:10])}{', ...' * (len(classes) > 10)}",
        "per class": _per_class(per_class, classes),
        "source": f"{m['source_images']:,} real images",
        "tiles": f"{m['tile_factor']}x{m['tile_factor']} per image" if m.get("tile_factor", 1) > 1 else "",
        "arguments": ", ".join(f"{key}={_value(value)}" for key, value in m["args"].items()) or "all at their defaults",
        "learned lr": "" if m.get("learned_lr") is None else f"{m['learned_lr']:g}",
        "steps": f"{m['steps']} that were learned, which protocol own repeats" if m.get("steps") else "",
        "chosen on": {"none": "nothing was chosen"}.get(m["selected_on"], f"the {m['selected_on']} split"),
        "choice": _choice(m.get("search")),
        "made in": f"{_duration(m['seconds'])}, at most {_bytes(m['peak_memory_bytes'])} of memory",
        "scoring": _scoring(m),
        "on disk": f"images {_bytes(m['bytes_images'])}, labels {_bytes(m['bytes_labels'])}",
        "recipe": m["fingerprint"],
        "content": m["content_sha256"],
        "versions": _versions(m["versions"]),
        "checksums": checked,
    }
    return [title, *fact_lines(facts)]


def scoring_lines(manifest: Mapping[str, Any], checked: str) -> list[str]:
    """Describe a scoring run.

    Args:
        manifest: content of its manifest.json.
        checked: what comparing its files with their checksums said.
    """
    m = manifest
    held_out = m["held_out_acc"]
    facts = {
        "student": f"{m['student']['class']}{_arguments({k: v for k, v in m['student'].items() if k != 'class'})}",
        "protocol": m["protocol"],
        "length": f"{m['passes']} passes over the data, {m['images_seen']:,} images",
        "clean": f"{m['readings']} passes over the images as they are",
        "held out": f"{held_out:.1f} %" if held_out is not None else "",
        "took": _duration(m["seconds"]),
        "statistics": f"{_bytes(m['state_bytes'])} while it trained",
        "recipe": m["fingerprint"],
        "versions": _versions(m["versions"]),
        "checksums": checked,
    }
    return [f"scoring run of {m['dataset']}, seed {m['seed']}", *fact_lines(facts)]


def artefact_lines(manifest: Mapping[str, Any], checked: str) -> list[str]:
    """Describe what is neither a set nor a scoring run, such as stored labels. The arguments are as there."""
    shown = {name: str(value) for name, value in manifest.items() if isinstance(value, str | int | float)}
    last = {"recipe": manifest["fingerprint"], "versions": _versions(manifest["versions"]), "checksums": checked}
    facts = {name: value for name, value in shown.items() if name not in ("schema", "what", "fingerprint")}
    return [manifest["what"], *fact_lines({**facts, **last})]


def run_lines(folder: Path, result: "Result") -> list[str]:
    """Describe a finished run.

    Args:
        folder: the run's folder.
        result: content of its result.json.
    """
    r, a, b = result, result.acc, result.budget
    title = f"{r.run}: {r.set.method} ipc {r.set.ipc} of {r.set.dataset}, {r.regime}, seed {r.seed}"
    facts = {
        "acc": f"{a.test:.1f} % on {a.test_images:,} test images, last step, read {_times(a.test_reads)}",
        "also": _some({"top-5": a.test_top5, "held out": a.held_out, "best on test": a.best_on_test}),
        "per class": f"{min(a.per_class):.1f} to {max(a.per_class):.1f} %",
        "nll, ece": f"{r.nll:.3f}, {r.ece:.3f}",
        "set": f"{r.set.images:,} images of {r.set.source_images:,} real ones, made with seed {r.set.seed}",
        "lies in": r.set.path,
        "chosen on": {"none": "nothing was chosen"}.get(r.set.selected_on, f"the {r.set.selected_on} split"),
        "protocol": r.protocol,
        "student": f"{r.student.class_name}{_arguments(r.student.args)}, {r.student.parameters:,} parameters",
        "teachers": ", ".join(t.name for t in r.teachers) or "none",
        "budget": f"{b.asked:g} {b.unit}: {b.steps:,} steps of {b.batch:,} images",
        "seen": f"{b.images_seen:,} images: {b.passes:.4g} passes over the set, {b.full_epochs:.4g} over the full data",
        "flops": _some(dict(vars(r.flops)), "{:.3g}"),
        "seconds": _some(dict(vars(r.seconds)), "{:.1f}"),
        "memory": f"host {_bytes(r.peak_memory_bytes.host)}"
        + ("" if r.peak_memory_bytes.device is None else f", device {_bytes(r.peak_memory_bytes.device)}"),
        "machine": f"{r.machine.device}, {r.machine.ranks} ranks on {r.machine.nodes} nodes, {r.machine.precision}",
        "versions": _versions(vars(r.versions)),
        "finished": r.finished,
        "again": f"ddlight fit --config {folder / CONFIG}" if (folder / CONFIG).is_file() else "",
    }
    return [title, *fact_lines(facts)]


def _show_set(folder: Path, options: argparse.Namespace) -> int:
    from ddlight.core.artefact import read_manifest, verify
    from ddlight.sets import store

    manifest = read_manifest(folder)
    if options.grid is not None:
        _check_grid(options.grid, folder)
    what, again = manifest["what"], {"condensed set": "'ddlight condense'", "scoring run": "'ddlight score'"}
    if what != "condensed set" and options.grid is not None:
        raise UsageError(f"{folder} is a {what}: --grid needs a condensed set.")
    lines: Any = {"condensed set": partial(set_lines, per_class=None), "scoring run": scoring_lines}
    describe = lines.get(what, artefact_lines)
    try:
        files = len(verify(folder, again.get(what, "the same command"))["files"])
    except DataError as error:
        write_lines(describe(manifest, checked=f"wrong. {error}"))
        return error.code
    if what != "condensed set":
        return write_lines(describe(manifest, checked=f"right: {files:,} file{'s' * (files != 1)}"))
    counts = _count(_labels(folder, manifest), len(manifest["classes"]))
    write_lines(set_lines(manifest, counts, f"right: {files:,} file{'s' * (files != 1)}"))
    if options.grid is not None:
        dataset = open_dataset(manifest, options.root) if manifest["kind"] == "indices" else None
        write_lines([_draw(store.load(folder, dataset), options)])
    return 0


def _draw(stored: "StoredSet", options: argparse.Namespace) -> str:
    """Write the grid and say what is on it."""
    from PIL import Image

    manifest, labels = stored.manifest, hard_classes(np.asarray(stored.labels))
    names = manifest["classes"][: options.classes]
    rows = [(name, np.flatnonzero(labels == c)[: options.per_class]) for c, name in enumerate(names)]
    picture = grid(np.asarray(stored.images), rows, *stretch(stored))
    make_folder(options.grid.parent)
    Image.fromarray(picture).save(options.grid)
    shown = sum(len(chosen) for _, chosen in rows)
    return (
        f"{options.grid}: {shown:,} of {len(labels):,} images, "
        f"{len(rows):,} of {len(manifest['classes']):,} classes (--per-class, --classes)"
    )


def _check_grid(file: Path, folder: Path) -> None:
    """Raise UsageError unless a grid may be written to `file`."""
    if file.suffix.lower() != ".png":
        raise UsageError(f"--grid writes a PNG file; '{file}' was given: --grid {file.with_suffix('.png')}")
    if folder.resolve() in file.resolve().parents:
        raise UsageError(f"{file} lies in the set, which must stay as it was sealed: --grid {file.name}")


def _labels(folder: Path, manifest: Mapping[str, Any]) -> np.ndarray:
    """Read a set's labels without its images: int (N,), or float (N, K)."""
    if manifest["kind"] == "indices":
        with (folder / "selection.csv").open(newline="") as rows:
            return np.array([int(row["label"]) for row in csv.DictReader(rows)], np.int64)
    if (folder / "set.safetensors").is_file():
        from safetensors import safe_open

        with safe_open(folder / "set.safetensors", framework="numpy") as arrays:
            return arrays.get_tensor("labels")
    images = [Path(name) for name in manifest["files"] if name.startswith("images/")]
    return np.array([int(image.parent.name.split("_")[0]) for image in images], np.int64)


def _count(labels: np.ndarray, classes: int) -> list[int]:
    return np.bincount(hard_classes(labels), minlength=classes).tolist()


def _kind(manifest: Mapping[str, Any]) -> str:
    if manifest["kind"] == "indices":
        return "real images, stored as indices and sample ids"
    return manifest["kind"] if manifest["kind"] == "uint8" else f"{manifest['kind']}, {manifest['space']} space"


def _per_class(counts: Sequence[int] | None, classes: Sequence[str]) -> str:
    if not counts:
        return ""
    if len(set(counts)) == 1:
        return f"{counts[0]:,} each"
    few = Counter(dict(zip(classes, counts, strict=True))).most_common()[::-1][:5]
    return f"{min(counts):,} to {max(counts):,}; fewest: " + ", ".join(f"{name} {count:,}" for name, count in few)


def _some(values: Mapping[str, float | None], form: str = "{:.1f}") -> str:
    return ", ".join(f"{name} {form.format(value)}" for name, value in values.items() if value is not None)


def _value(value: Any) -> str:
    """An argument as it is typed: a class with what is given of it, lists and plain values as they are."""
    if not isinstance(value, dict):
        return str(value)
    given = ", ".join(f"{k}={_value(v)}" for k, v in value.items() if k != "class" and v is not None)
    return f"{value.get('class', '')}({given})"


def _scoring(manifest: Mapping[str, Any]) -> str:
    if not manifest.get("scoring"):
        return ""
    seconds, images = manifest["scoring_seconds"], manifest["scoring_images"]
    return f"{_duration(seconds)}, {images:,} images through the network, shared: {', '.join(manifest['scoring'])}"


def _choice(search: Mapping[str, Any] | None) -> str:
    if not search:
        return ""
    tried = ", ".join(f"{o:g}: {acc:.1f} %" for o, acc in zip(search["options"], search["acc"], strict=True))
    return f"{search['chosen']:g} of {tried} (held out); {_duration(search['seconds'])}"


def _arguments(arguments: Mapping[str, Any]) -> str:
    return f"({', '.join(f'{key}={value}' for key, value in arguments.items())})"


def _versions(versions: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {version}" for name, version in versions.items())


def _times(number: int) -> str:
    return "once" if number == 1 else f"{number} times"


def _bytes(number: float) -> str:
    for unit in ("B", "kB", "MB"):
        if number < 1000:
            return f"{number:.3g} {unit}"
        number /= 1000
    return f"{number:,.1f} GB"


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="ddlight show", description="Show a condensed set or a run and check the set's files.", allow_abbrev=False
    )
    parser.add_argument("path", type=Path, metavar="PATH", help="folder of a condensed set or of a run")
    parser.add_argument("--grid", type=Path, metavar="FILE.png", help="draw the set's images, one class a row")
    parser.add_argument("--per-class", type=_positive, default=10, metavar="N", help="images in a row of the grid (10)")
    parser.add_argument("--classes", type=_positive, default=20, metavar="N", help="rows of the grid (20)")
    parser.add_argument("--root", help="folder of the real images, if not the one that the set was made from")
    return parser.parse_args(argv)


def _positive(text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"'{text}' is not a number of 1 or more")
    return int(text)
