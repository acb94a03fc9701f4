"""`ddlight analyze SETS`: what condensed sets are like, without training on them.

Representativeness and diversity in a network's features (minimax and mean coverage, class by class and, in the CSV,
pooled), FID and KID, entropy of labels, duplicates of test images, bytes, and cost charged both ways.
"""

import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ddlight.analyze.analysis import Analysis, Analyst
from ddlight.analyze.rows import PAIRS, csv_text, screen
from ddlight.analyze.sets import find_sets
from ddlight.cli.command_line import quiet
from ddlight.cli.parsing import Parser, parser_logger
from ddlight.core.errors import DataError, DDLightError, UsageError
from ddlight.core.files import write_bytes
from ddlight.networks.export import CARD
from ddlight.networks.teachers import Teacher, TorchvisionTeacher

log = logging.getLogger("ddlight")

NETWORKS = {
    "--features": "whose features: a run's folder, or a class such as TorchvisionTeacher with --features.model="
    "resnet18 (that one, trained on ImageNet-1K, by default where its weights are here)",
    "--fid_features": "likewise, for FID and KID: --features by default; where neither is given, torchvision's "
    "inception_v3 if its weights are here (they are not those of published FIDs)",
}
FILES = {"out": "also write every column there", "pairs": "write the duplicates there"}


def parser() -> Parser:
    """The command's options."""
    options = Parser(prog="ddlight analyze", description=__doc__, allow_abbrev=False, logger=parser_logger())
    options.add_argument("sets", nargs="*", type=str, help="folders of sets, of runs, or that hold such at any depth")
    for name, text in NETWORKS.items():
        options.add_argument(name, type=Teacher | None, default=None, help=text)
    root = "folder of the real images, if not the one that runs and sets name"
    options.add_argument("--root", type=str | None, default=None, help=root)
    threshold = "cosine from which a test image is a near duplicate"
    options.add_argument("--threshold", type=float, default=0.999, help=threshold)
    for name, text in FILES.items():
        options.add_argument(f"--{name}", type=str | None, default=None, metavar="FILE.csv", help=text)
    return options


def main(argv: Sequence[str]) -> int:
    """Run the command. Returns the exit code: of the first set that could not be analysed, after all others, or 0.

    Raises:
        UsageError: an option is wrong.
        DataError: a folder is missing, or no set could be analysed.
    """
    options = parser()
    chosen = options.instantiate_classes(options.parse_args(as_classes(argv)))
    quiet()
    _check(chosen)
    sets = find_sets([Path(text).expanduser() for text in chosen.sets])
    network, fid_network = networks(chosen.features, chosen.fid_features)
    analyst = Analyst(network, fid_network, chosen.root, chosen.threshold)
    analyses: list[Analysis] = []
    errors: list[DDLightError] = []
    for number, one in enumerate(sets, 1):
        if len(sets) > 1:
            log.info("%d of %d: %s", number, len(sets), one.run or one.folder)
        try:
            analyses.append(analyst.analyse(one))
        except DDLightError as error:
            errors.append(error)
    if not analyses:
        raise errors[0]
    rows, pairs = [a.row for a in analyses], [row for a in analyses for row in a.pairs]
    about = [line for real in analyst.reals.values() for line in real.lines()]
    missing = [] if network else ["No network: representativeness and diversity need --features FOLDER_OF_A_RUN."]
    sys.stdout.write("\n".join([*about, *missing, "", *screen(rows), ""]))
    for file, text in ((chosen.out, csv_text(list(rows[0]), rows)), (chosen.pairs, csv_text(PAIRS, pairs))):
        if file is not None:
            write_bytes(Path(file), text.encode())
            sys.stdout.write(f"{file}\n")
    for failure in errors:
        sys.stderr.write(f"ddlight analyze: left out: {failure}\n")
    return errors[0].code if errors else 0


def as_classes(argv: Sequence[str]) -> list[str]:
    """The arguments, with a run's folder that is given as a network written as the class that opens it."""
    words, before = [], ""
    for word in argv:
        name, equals, value = word.partition("=") if word.startswith("--") else (before, "", word)
        if name in NETWORKS and value and _is_run(value):
            words += [name] * (name != before or bool(equals))
            words += ["RunTeacher", f"{name}.run={value}"]
        else:
            words.append(word)
        before = word if word in NETWORKS else ""
    return words


def _is_run(text: str) -> bool:
    """Whether a network is named by a run's folder rather than by a class."""
    folder = Path(text).expanduser()
    if folder.is_dir() and not (folder / CARD).is_file():
        raise DataError(f"{text} is no folder of a finished run: it holds no {CARD}.")
    if "/" in text and not folder.exists():
        raise DataError(f"There is no folder {text}. A network is a run's folder or a class: --features RUN")
    return folder.is_dir()


def networks(features: Teacher | None, fid_features: Teacher | None) -> tuple[Teacher | None, Teacher | None]:
    """The networks to take, from those given; ImageNet-1K's of torchvision where none is, if nothing is downloaded."""
    if features is None and fid_features is None:
        fid_features = _at_hand("inception_v3")
    features = features or _at_hand("resnet18")
    return features, fid_features or features


def _at_hand(model: str) -> Teacher | None:
    teacher = TorchvisionTeacher(model)
    return teacher if teacher.at_hand() else None


def _check(options: Any) -> None:
    if not options.sets:
        raise UsageError("Which sets? Give one or more folders of sets, or of runs: ddlight analyze FOLDER")
    if not -1 <= options.threshold <= 1:
        raise UsageError(f"threshold is a cosine, -1 to 1; given: {options.threshold}. For example --threshold=0.999")
    for name in FILES:
        file = getattr(options, name)
        if file is not None and not file.endswith(".csv"):
            raise UsageError(
                f"--{name} writes a CSV file; '{file}' was given: --{name}={Path(file).with_suffix('.csv')}"
            )
