"""The trained student on disk: `student.safetensors` and the `student.json` that says how to build it."""

import json
import logging
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from torch import nn

from ddlight.core import files
from ddlight.core.class_names import match_classes
from ddlight.core.errors import DataError, UsageError
from ddlight.networks import students
from ddlight.networks.layers import keep_classes
from ddlight.networks.students import Student
from ddlight.networks.weights import load_into, read_state_dict

log = logging.getLogger("ddlight")
CARD = "student.json"


@dataclass(frozen=True)
class StudentCard:
    """What `student.json` says: the student that was trained, and the images that it takes.

    `mean` and `std`, one number per channel, normalise images in [0, 1]; or the recipe `whitening` whitens them in
    their place. `files` holds the sha256 of the files of weights beside it, by name.
    """

    spec: Student
    num_classes: int
    channels: int
    size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    classes: tuple[str, ...] = ()
    whitening: str | None = None
    files: Mapping[str, str] = field(default_factory=dict)


def weights_file(folder: str | Path, epoch: int | None = None) -> Path:
    """Return the path of the weights in a run's folder: the final ones, or those after `epoch` epochs."""
    return Path(folder).expanduser() / ("student.safetensors" if epoch is None else f"student_epoch{epoch}.safetensors")


def save_student(folder: str | Path, network: nn.Module, card: StudentCard, epoch: int | None = None) -> Path:
    """Write weights and `student.json` into `folder`; each file appears whole or not at all. Call it on one rank.

    The weights are those of `network` under its own names, so that they load in plain timm or torchvision where the
    student comes from there; those after some epochs lie beside the final ones. The card's `files` is filled in here.
    Returns the path of the weights.
    """
    from safetensors.torch import save

    path = weights_file(folder, epoch)
    state = {k: v.detach().cpu().contiguous().clone() for k, v in network.state_dict().items()}
    files.write_bytes(path, save(state, metadata={"format": "pt"}))
    said, kind = asdict(card), type(card.spec)
    name = kind.__name__ if kind.__module__ == students.__name__ else f"{kind.__module__}.{kind.__qualname__}"
    head = {"class": name, "args": said.pop("spec")}
    hashes = {p.name: files.sha256(p) for p in sorted(path.parent.glob("student*.safetensors"))}
    files.write_json(path.with_name(CARD), files.signed({**head, **said, "files": hashes}))
    return path


def read_card(folder: str | Path) -> StudentCard:
    """Read `student.json` of a run; DataError where it is missing, damaged, or its student is not imported already."""
    path = Path(folder).expanduser() / CARD
    config = path.with_name("config.yaml")
    if not path.is_file() and config.is_file():
        raise DataError(
            f"The run {path.parent} has no {CARD}: it did not finish. Finish it:\n  ddlight fit --config {config}"
        )
    if not path.is_file():
        raise DataError(
            f"There is no run at {path.parent}: a run's folder holds student.safetensors and {CARD}. Train one, then "
            "give the folder that it prints:\n  ddlight fit --config YOUR_TEACHER.yaml"
        )
    try:
        said = files.unsigned(json.loads(path.read_bytes()))
        name = said.pop("class")
        module, _, attribute = name.rpartition(".")
        if module and module not in sys.modules:  # nothing is imported because a file says so
            raise TypeError(f"{name} is none of ddlight's students")
        kind = getattr(sys.modules[module or students.__name__], attribute)
        if not (isinstance(kind, type) and issubclass(kind, Student)):
            raise TypeError(f"{name} is not a Student")
        spec: Any = kind(**said.pop("args"))
        rows: dict[str, Any] = {name: tuple(said.pop(name)) for name in ("mean", "std", "classes")}
        return StudentCard(spec, **rows, **said)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}.") from error
    except (ValueError, KeyError, TypeError, AttributeError, DataError, UsageError, RecursionError) as error:
        raise DataError(f"{path} is damaged or of another version: {error!r}. Train the student again.") from error


def load_student(folder: str | Path, checkpoint_epoch: int | None = None) -> tuple[nn.Module, StudentCard]:
    """Rebuild the student of a run with its final weights, or those after some epochs: on the CPU, in training mode.

    DataError where there is no such run or epoch (with the line that makes it), or its files do not fit each other.
    """
    card = read_card(folder)
    path = weights_file(folder, checkpoint_epoch)
    if not path.is_file():
        kept = sorted(int(p.stem.removeprefix("student_epoch")) for p in path.parent.glob("student_epoch*.safetensors"))
        raise DataError(
            f"{path.parent} has no {path.name}. Epochs kept there: {', '.join(map(str, kept)) or 'none'}; "
            f"checkpoint_epoch: null takes the last weights. To train it again:\n"
            f"  ddlight fit --config {path.parent / 'config.yaml'}"
        )
    if card.files.get(path.name) not in (None, files.sha256(path)):
        raise DataError(
            f"{path} is not what {CARD} beside it was written for: it is damaged, of another run, or its run did not "
            f"finish. Train it again:\n  ddlight fit --config {path.parent / 'config.yaml'}"
        )
    network = card.spec.untrained().build(card.num_classes, card.channels, card.size)
    load_into(network, read_state_dict(path), str(path))
    return network, card


def bring_classes(network: nn.Module, known: Sequence[str], classes: Sequence[str], what: str, of: str) -> bool:
    """Bring a network's logits into the order of a dataset's classes, by name. Whether that changed them.

    Args:
        network: its head is changed in place.
        known: classes that it was trained on; none known are taken to be the dataset's.
        classes: of the dataset.
        what: the network, for messages.
        of: the dataset, for messages.

    Raises:
        UsageError: they are other classes.
    """
    if not known or tuple(known) == tuple(classes):
        return False
    try:
        matched = match_classes(known, classes, of)
        labels = [matched.labels[name] for name in known]
    except DataError:
        labels = []
    if len(known) != len(classes) or sorted(c for c in labels if c is not None) != list(range(len(classes))):
        some = [", ".join(names[:5]) + ", ..." * (len(names) > 5) for names in (known, classes)]
        raise UsageError(
            f"{what} was trained on other classes than those of {of}: {some[0]}; the dataset has {some[1]}. Give one "
            "that was trained on this dataset."
        )
    keep_classes(network, [labels.index(c) for c in range(len(classes))])
    log.info("%s has the classes of %s in another order, told %s: its logits are reordered", what, of, matched.how)
    return True
