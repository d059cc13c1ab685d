"""A folder belongs to one process at a time. The lock dies with its process, however that ends."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
from pathlib import Path
from typing import IO
from weakref import WeakSet

from errors import DataFolderError

NAME = "server.lock"
_FAR = 1 << 30
"""Where Windows' lock lies: what is locked there cannot be read by others, and the process number has to be."""
_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP}

log = logging.getLogger(__name__)


class FolderLock:
    """Holds a folder until `release`, or until the process ends; DataFolderError says which process holds it."""

    def __init__(self, folder: Path) -> None:
        try:
            self._file: IO[str] | None = (folder / NAME).open("a+", encoding="ascii", errors="replace")
        except OSError as error:
            raise DataFolderError(f"the folder {folder} cannot be used: {error.strerror}") from error
        try:
            _lock(self._file)
        except OSError as error:
            if error.errno in _NO_LOCKS:
                log.warning("the file system of %s has no locks: use this folder with one server at a time", folder)
            else:
                holder = self._holder()
                message = f"the folder {folder} is in use by {holder}: stop it, or set another DATA_DIR"
                raise DataFolderError(message) from None
        with contextlib.suppress(OSError):  # a full disk: then nobody learns the number
            self._file.truncate(0)
            self._file.write(str(os.getpid()))
            self._file.flush()
        _held.add(self)

    def _holder(self) -> str:
        assert self._file is not None
        self._file.seek(0)
        number = self._file.read(20).strip()
        self._file.close()
        return f"process {number}" if number.isdigit() else "another process"

    def release(self) -> None:
        """Let others have it."""
        if self._file is not None:
            with contextlib.suppress(OSError):
                _unlock(self._file)
            self._file.close()
            self._file = None

    def forget(self) -> None:
        """In a forked child: the lock is the parent's, and must die with it."""
        if self._file is not None:
            self._file.close()
            self._file = None


_held: WeakSet[FolderLock] = WeakSet()


def _forget_all() -> None:
    for lock in list(_held):
        lock.forget()


if os.name == "nt":
    import msvcrt

    def _lock(file: IO[str]) -> None:
        file.seek(_FAR)
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined,unused-ignore]
        file.seek(0)

    def _unlock(file: IO[str]) -> None:
        file.seek(_FAR)
        msvcrt.locking(file.fileno(), msvcrt.LK_UNLCK, 1)  # type: ignore[attr-defined,unused-ignore]

else:
    import fcntl

    os.register_at_fork(after_in_child=_forget_all)

    def _lock(file: IO[str]) -> None:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def _unlock(file: IO[str]) -> None:
        fcntl.flock(file, fcntl.LOCK_UN)
