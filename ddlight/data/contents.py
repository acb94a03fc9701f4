"""Files named by what they hold: a hash of each, from a few blocks of it, kept so that unchanged files are not read."""

import hashlib
import logging
import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from ddlight.core import files, naming
from ddlight.core.errors import DataError

BLOCK = 4096
"""Bytes at the start, in the middle and at the end of a file that its hash is made of."""
HASH = 16
SETTLED = 2 * 10**9
"""Nanoseconds after a change until which a further change may leave a file's times as they are."""
CHUNK = 256
THREADS = 32
"""More than there are cores: on a network's file system they wait, not compute."""
MANY = 20_000
"""Number of new files from which a line says that they are read, which may take minutes."""

log = logging.getLogger("ddlight")


def content_hashes(root: Path, names: Sequence[str], whole: bool = False) -> list[tuple[int, str]]:
    """Size in bytes and a hash of the content, 32 hex digits, of each of the files `names` below `root`.

    Each file is asked for its size and times once, and is read only where these, its inode or its path are not those of
    an earlier call, of any process. A hash is of the size and three blocks, or of all in a `whole` file. Raises
    DataError where a file cannot be read.
    """
    store = files.cache_folder() / "hashes" / naming.digest([str(root.absolute()), whole])
    known = _load(store)

    def hashed(name: str) -> tuple[int, bytes, bytes, bool]:
        """Size, key and record of a file, and whether the record is new and may be kept."""
        path = root / name
        try:
            stat = path.stat()
            times = (stat.st_mtime_ns, stat.st_ctime_ns)
            key, stamp = _hash(name.encode()), _hash(repr((stat.st_size, stat.st_ino, *times)).encode())
            record = known.get(key, b"")
            if record[:HASH] == stamp:
                return stat.st_size, key, record, False
            record = stamp + _hash(b"%d " % stat.st_size + _read(path, stat.st_size, whole))
        except OSError as error:
            raise DataError(f"{path} cannot be read: {error.strerror}. Replace or remove it.") from error
        return stat.st_size, key, record, time.time_ns() - max(times) > SETTLED

    if len(names) - len(known) > MANY:
        log.info("reading parts of %s files below %s, once, to name the data by content", f"{len(names):,}", root)
    chunks = [names[start : start + CHUNK] for start in range(0, len(names), CHUNK)]
    with ThreadPoolExecutor(THREADS) as pool:
        entries = [entry for part in pool.map(lambda chunk: [hashed(name) for name in chunk], chunks) for entry in part]
    if fresh := {key: record for _, key, record, is_fresh in entries if is_fresh}:
        with suppress(DataError, OSError):  # without it the files are read again
            files.write_bytes(store, files.sealed(b"".join(k + record for k, record in {**known, **fresh}.items())))
    return [(size, record[HASH:].hex()) for size, _, record, _ in entries]


def _load(store: Path) -> dict[bytes, bytes]:
    """Records by key: of a file's path, a hash of its size, inode and times, then that of its content."""
    try:
        content = files.unsealed(store.read_bytes())
    except (OSError, DataError):
        return {}
    starts = range(0, len(content), 3 * HASH)
    return {content[i : i + HASH]: content[i + HASH : i + 3 * HASH] for i in starts}


def _hash(content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=HASH).digest()


def _read(path: Path, size: int, whole: bool) -> bytes:
    with path.open("rb", buffering=0) as file:
        if whole or size <= 3 * BLOCK:
            return file.read()
        return b"".join(os.pread(file.fileno(), BLOCK, start) for start in (0, (size - BLOCK) // 2, size - BLOCK))
