"""Files of torch.save, read on the CPU: checksums compared, and nothing executed that they may hold."""

import pickle
import re
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ddlight.core.errors import DataError
from ddlight.core.files import require_file

SAFE: list[Any] = [
    *((np.int64(0).__reduce__()[0], f"numpy.{core}.multiarray.scalar") for core in ("_core", "core")),
    *(np.dtype, *(type(np.dtype(kind)) for kind in np.typecodes["AllInteger"] + np.typecodes["Float"] + "?")),
]
"""What an honest file may name besides tensors: the parts of a numpy number, as accuracies and boxes are written."""


def read_torch_file(path: Path) -> Any:
    """Content of a file of torch.save: tensors and numbers, in whatever lists and dictionaries they were saved.

    The checksums of its archive are compared, which torch does not do. Raises DataError where the file is missing,
    damaged, or reading it could run code.
    """
    require_file(path)
    try:
        with path.open("rb") as file:
            if zipfile.is_zipfile(file):
                with zipfile.ZipFile(file) as archive:
                    wrong = archive.testzip()
                if wrong is not None:
                    raise DataError(f"{path} is damaged: the checksum of its part {wrong} is wrong. Get it again.")
            file.seek(0)
            with warnings.catch_warnings(), torch.serialization.safe_globals(SAFE):
                warnings.simplefilter("ignore")  # of old ways to pickle, which a user cannot change
                return torch.load(file, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise DataError(f"{path} is missing.") from None
    except pickle.UnpicklingError as error:
        name = re.search(r"(?:GLOBAL|class|function) ([\w.]+)", str(error))
        raise DataError(
            f"{path} holds more than tensors and numbers{f' ({name[1]})' if name else ''}, and reading it could run "
            "code, so it was not read."
        ) from error
    except DataError:
        raise
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}.") from error
    except Exception as error:  # whatever a damaged file makes of it
        reason = next(iter(str(error).splitlines()), repr(error))
        raise DataError(f"{path} is damaged or not a file of torch.save: {reason}. Get it again.") from error
