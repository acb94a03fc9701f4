"""`ddlight show`: what a condensed set or a finished run is, in one screen, and the set's images as one picture."""

import argparse
import csv
import inspect
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import yaml

from ddlight.errors import DataError, UsageError
from ddlight.files import make_folder

if TYPE_CHECKING:
    from ddlight.condensed.store import StoredSet
    from ddlight.datasets.base import RealDataset
    from ddlight.result import Result

MANIFEST = "manifest.json"
RESULT = "result.json"
CONFIG = "config.yaml"
TILE = 56
"""Images smaller than this many pixels are enlarged by a whole factor."""
GAP = 2
"""Pixels between two images of a grid."""


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
    from ddlight.result import Result

    return _write(run_lines(folder, Result.read(folder)))


def find(path: Path) -> Path:
    """Return the folder of a condensed set or run, given that folder, its manifest.json or its result.json.

    Raises:
        DataError: there is neither.
    """
    folder = path.parent if path.name in (MANIFEST, RESULT) else path
    if any((folder / name).is_file() for name in (MANIFEST, RESULT)):
        return folder
    if not path.exists():
        raise DataError(f"{path} does not exist. Give the folder of a condensed set or of a run: ddlight show FOLDER")
    if folder.name.endswith(".partial"):
        raise DataError(f"{path} is an unfinished set. Finish it: run its 'ddlight condense' command again.")
    raise DataError(
        f"{path} is neither a condensed set (no {MANIFEST}) nor a finished run (no {RESULT}). "
        f"Below it lie: {_below(folder) or 'none of them'}."
    )


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
    return [title, *_facts(facts)]


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
    return [f"scoring run of {m['dataset']}, seed {m['seed']}", *_facts(facts)]


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
    return [title, *_facts(facts)]


def grid(
    images: np.ndarray, rows: Sequence[tuple[str, np.ndarray]], mean: Sequence[float], std: Sequence[float]
) -> np.ndarray:
    """Draw classes as rows, their names at the left, as uint8 (height, width, 3).

    Args:
        images: uint8, or float32 of which (image * std + mean) lies in [0, 1]; (N, C, H, W), C = 1 or 3.
        rows: name of each class and the positions of its images, int (n,).
        mean: per channel; 0 where images are not normalised.
        std: per channel; 1 where images are not normalised.

    Raises:
        UsageError: the images have another number of channels.
    """
    height, width = images.shape[2:]
    scale = max(1, TILE // max(height, width))
    names = _names([name for name, _ in rows], height * scale)
    columns = max((len(chosen) for _, chosen in rows), default=0)
    down, right = height * scale + GAP, width * scale + GAP
    canvas = np.full((len(rows) * down, names.shape[2] + columns * right, 3), 255, np.uint8)
    for row, (_, chosen) in enumerate(rows):
        drawn = tiles(images[chosen], mean, std).repeat(scale, axis=1).repeat(scale, axis=2)
        y, x = row * down, names.shape[2]
        canvas[y : y + height * scale, :x] = names[row][..., None]
        for column, pixels in enumerate(drawn):
            left = x + column * right
            canvas[y : y + height * scale, left : left + width * scale] = pixels
    return canvas


def tiles(images: np.ndarray, mean: Sequence[float], std: Sequence[float]) -> np.ndarray:
    """Turn images as `grid` takes them into pixels: uint8 (N, H, W, 3). Raises UsageError as it does."""
    channels = images.shape[1]
    if channels not in (1, 3):
        raise UsageError(f"Images of {channels} channels cannot be drawn: --grid takes sets with 1 or 3.")
    return np.array([_pixels(image, mean, std) for image in images]).reshape(-1, *images.shape[2:], 3)


def _pixels(image: np.ndarray, mean: Sequence[float], std: Sequence[float]) -> np.ndarray:
    """Turn one image (C, H, W) into uint8 (H, W, 3)."""
    if image.dtype != np.uint8:
        shown = image * np.reshape(std, (-1, 1, 1)) + np.reshape(mean, (-1, 1, 1))
        image = np.rint(np.clip(shown, 0, 1) * 255).astype(np.uint8)
    return np.broadcast_to(image.transpose(1, 2, 0), (*image.shape[1:], 3))


def _names(names: Sequence[str], height: int) -> np.ndarray:
    """Draw names black on white, all equally wide, as uint8 (number, height, width)."""
    from PIL import Image, ImageDraw, ImageFont

    font = ImageFont.load_default()
    short = [name if len(name) <= 24 else f"{name[:23]}." for name in names]
    short = [name.encode("ascii", "replace").decode() for name in short]  # what the built-in font can draw
    width = max((int(font.getlength(name)) for name in short), default=0) + 8
    drawn = np.empty((len(short), height, width), np.uint8)
    for row, name in enumerate(short):
        image = Image.new("L", (width, height), 255)
        ImageDraw.Draw(image).text((4, height // 2), name, fill=0, font=font, anchor="lm")
        drawn[row] = np.asarray(image)
    return drawn


def _show_set(folder: Path, options: argparse.Namespace) -> int:
    from ddlight.condensed import store

    manifest = store.read_manifest(folder)
    if options.grid is not None:
        _check_grid(options.grid, folder)
    scores = manifest.get("what") == "scoring run"
    if scores and options.grid is not None:
        raise UsageError(f"{folder} is a scoring run: --grid needs a condensed set.")
    try:
        files = len(store.verify(folder)["files"])
    except DataError as error:
        _write((scoring_lines if scores else partial(set_lines, per_class=None))(manifest, checked=f"wrong. {error}"))
        return error.code
    if scores:
        return _write(scoring_lines(manifest, f"right: {files:,} files"))
    counts = _count(_labels(folder, manifest), len(manifest["classes"]))
    _write(set_lines(manifest, counts, f"right: {files:,} file{'s' * (files != 1)}"))
    if options.grid is not None:
        dataset = open_dataset(manifest, options.root) if manifest["kind"] == "indices" else None
        _write([_draw(store.load(folder, dataset), options)])
    return 0


def _draw(stored: "StoredSet", options: argparse.Namespace) -> str:
    """Write the grid and say what is on it."""
    from PIL import Image

    manifest, labels = stored.manifest, hard(np.asarray(stored.labels))
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


def stretch(stored: "StoredSet") -> tuple[list[float], list[float]]:
    """Mean and std that bring a set's floats to [0, 1]; whitened ones, which have no fixed range, to 0.5 +- 0.2.

    Source of the latter: how FRePo shows its images (lib/datadistillation/utils.py).
    """
    space = stored.manifest["space"]
    if space == "pixel":
        return [0.0], [1.0]
    if space == "normalised":
        return stored.manifest["mean"], stored.manifest["std"]
    return [0.5], [0.2 / max(float(np.std(stored.images)), 1e-12)]


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


def hard(labels: np.ndarray) -> np.ndarray:
    """Classes (N,) of labels (N,) or (N, K)."""
    return labels if labels.ndim == 1 else labels.argmax(1)


def _count(labels: np.ndarray, classes: int) -> list[int]:
    return np.bincount(hard(labels), minlength=classes).tolist()


def run_arguments(run: Path, of: str) -> dict[str, Any]:
    """Arguments of a run's `model` or `data`, from its config.yaml. Raises DataError where it is missing or damaged."""
    try:
        arguments: dict[str, Any] = yaml.safe_load((run / CONFIG).read_text(encoding="utf-8"))[of]["init_args"]
    except (OSError, ValueError, yaml.YAMLError, KeyError, TypeError) as error:
        raise DataError(f"{run / CONFIG} is missing or damaged: the arguments of its {of} cannot be found.") from error
    return arguments


def root_of(run: Path | None) -> str | None:
    """The folder of real data that a run was given (`data.dataset.root` of its config.yaml); None where it was none."""
    if run is None or not (run / CONFIG).is_file():
        return None
    arguments = run_arguments(run, "data")
    while "dataset" in arguments:  # that of NoisyLabels is given inside it
        arguments = arguments["dataset"].get("init_args", {})
    root: str | None = arguments.get("root")
    return root


def open_dataset(manifest: Mapping[str, Any], root: str | None) -> "RealDataset":
    """Construct the real dataset that a set was made from, with the options that shape its splits.

    Args:
        manifest: of the set.
        root: folder that holds the data; None means where they were when the set was made.

    Raises:
        DataError: the dataset is none of ddlight's.
    """
    place = root or manifest.get("dataset_root")
    return _construct(manifest["dataset_identity"], manifest["dataset"], manifest["classes"], place)


def _construct(identity: Mapping[str, Any], title: str, classes: Sequence[str], root: str | None) -> "RealDataset":
    """Construct a dataset from what names it, and the one that it changes, where it is such."""
    from ddlight import datasets

    kind = getattr(datasets, identity["name"], None)
    if kind is None:
        raise DataError(f"The set was made from {title}, which is none of ddlight's datasets: ddlight datasets")
    takes = inspect.signature(kind).parameters
    known = {"wnids": classes, **identity, "root": root}
    if "dataset" in identity:
        known["dataset"] = _construct(identity["dataset"], title, classes, root)
    opened: RealDataset = kind(**{key: value for key, value in known.items() if key in takes and value is not None})
    return opened


def _below(folder: Path) -> str:
    """Name the first few condensed sets and runs below a folder."""
    if not folder.is_dir():
        return ""
    found = sorted({p.parent for name in (MANIFEST, RESULT) for p in folder.rglob(name)})
    return ", ".join(map(str, found[:3])) + ", ..." * (len(found) > 3)


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


def _facts(facts: Mapping[str, str]) -> list[str]:
    """Write one `name  value` line each, where there is a value."""
    return [f"  {name:<10}  {value}" for name, value in facts.items() if value]


def _write(lines: Iterable[str]) -> int:
    sys.stdout.write("".join(f"{line}\n" for line in lines))
    return 0


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
