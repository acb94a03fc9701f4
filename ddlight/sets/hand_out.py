"""The chosen images of a selection as plain files: a folder of class folders, of links or of copies."""

import shutil
from pathlib import Path
from typing import Any

from ddlight.core.errors import DataError, UsageError
from ddlight.core.files import make_folder
from ddlight.sets.store import read_selection


def hand_out(data: Any, folder: Path, copy: bool = False) -> int:
    """Link or copy the files of a sealed selection into `folder`/<class>/, and list them in `folder`/files.txt.

    Args:
        data: the data module, whose set is sealed and whose dataset is a folder of images.
        folder: empty or not there yet.
        copy: copy the files instead of linking them.

    Returns:
        Number of files.

    Raises:
        UsageError: the set's images are no files, or the folder holds something.
        DataError: two chosen files would have one name.
    """
    encoded = data.dataset.encoded("train")
    if not encoded or not (data.folder / "selection.csv").exists():
        raise UsageError(
            f"--files links image files, and {type(data).__name__} of {data.dataset.info.name} is no choice of files. "
            "'ddlight show' prints what it is."
        )
    if folder.exists() and any(folder.iterdir()):
        raise UsageError(f"--files: {folder} is not empty. Give a new folder.")
    data.artefact.verified()
    indices, _ = read_selection(data.folder)
    labels, classes = data.dataset.index("train").labels, data.dataset.info.classes
    pairs = [(encoded[i], folder / classes[labels[i]] / encoded[i].name) for i in indices.tolist()]
    if len({target for _, target in pairs}) < len(pairs):
        raise DataError("Two of the chosen files have one name and class, so that one folder cannot hold both.")
    for source, target in pairs:
        make_folder(target.parent)
        if copy:
            shutil.copy2(source, target)
        else:
            target.symlink_to(source.resolve())
    (folder / "files.txt").write_text("".join(f"{source}\n" for source, _ in pairs))
    return len(pairs)
