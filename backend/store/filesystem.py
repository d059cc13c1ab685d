"""The calls that keep a file: whole or not there, and after `keep` there for good.

A file is written under a temporary name and fsynced, then renamed, then its folder is fsynced: after a power cut its
name stands for the old bytes or for the new ones. Tests put a `FileSystem` in the place of this one that records or
fails.
"""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from operator import attrgetter
from pathlib import Path

from errors import DiskFullError, StorageError, WorkError

Fingerprint = tuple[int, int, int]
"""Size, time of the last change and number of a file: they differ once somebody has written to it."""
fingerprint: Callable[[os.stat_result], Fingerprint] = attrgetter("st_size", "st_mtime_ns", "st_ino")
"""Of a file."""

_FULL = {errno.ENOSPC, errno.EDQUOT}


def is_full(error: OSError) -> bool:
    """Whether it says that the disk has no room, or its user no more."""
    return error.errno in _FULL


def storage_error(error: OSError) -> WorkError:
    """What a user should know of it."""
    if is_full(error):
        return DiskFullError()
    return StorageError(f"a file could not be read or written: {error.strerror or error}")


@contextmanager
def told() -> Iterator[None]:
    """What the disk refuses in the body, as a user should know it."""
    try:
        yield
    except OSError as error:
        raise storage_error(error) from error


class FileSystem:
    """`make_room(path, bytes)` is asked when the disk is full; True: something was deleted, so try again."""

    def __init__(self) -> None:
        self.make_room: Callable[[Path, int], bool] = lambda path, size: False

    # ── what a test may record, or let fail ──────────────────────────────────────────────────────────────────────

    def write(self, path: Path, data: bytes) -> None:
        """Create the file and put its bytes on the disk."""
        with path.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())

    def rename(self, source: Path, target: Path) -> None:
        """In one step, over whatever is there."""
        os.replace(source, target)

    def link(self, there: Path, path: Path) -> None:
        """Give a file a second name, for good."""
        os.link(there, path)
        self.sync_folder(path.parent)

    def sync_folder(self, folder: Path) -> None:
        """Put its names on the disk; Windows does that by itself."""
        if os.name != "nt":
            descriptor = os.open(folder, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)

    def read(self, path: Path) -> bytes:
        """All of it."""
        return path.read_bytes()

    def remove(self, path: Path) -> None:
        """Delete the file, if it is there."""
        path.unlink(missing_ok=True)

    # ── what the store asks for ──────────────────────────────────────────────────────────────────────────────────

    def keep(self, path: Path, data: bytes) -> None:
        """Replace the file by these bytes: a reader sees the old ones or the new ones, never a part. OSError."""
        while True:
            try:
                return self._keep(path, data)
            except OSError as error:
                if not is_full(error) or not self.make_room(path, len(data)):
                    raise

    def _keep(self, path: Path, data: bytes) -> None:
        temporary = path.parent / f".orfeas-{secrets.token_hex(8)}.tmp"
        try:
            try:
                self.write(temporary, data)
            except FileNotFoundError:
                path.parent.mkdir(parents=True, exist_ok=True)
                self.sync_folder(path.parent.parent)
                self.write(temporary, data)
            self.rename(temporary, path)
        except BaseException:
            self.remove(temporary)
            raise
        self.sync_folder(path.parent)


def clear_leftovers(folder: Path) -> None:
    """Delete what an earlier process left half-written in a folder, and in those in it."""
    for inside in [folder, *(Path(entry) for entry in os.scandir(folder) if entry.is_dir())]:
        for name in os.listdir(inside):
            if name.startswith(".orfeas-") and name.endswith(".tmp"):
                (inside / name).unlink(missing_ok=True)
