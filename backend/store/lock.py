"""A folder belongs to one process at a time. The lock dies with its process, however that ends."""

from __future__ import annotations

import os
from pathlib import Path
from typing import IO

from errors import DataFolderError

NAME = "server.lock"
_FAR = 1 << 30
"""Where Windows' lock lies: what is locked there cannot be read by others, and the process number has to be."""


class FolderLock:
    """Holds a folder until `release`, or until the process ends; DataFolderError says which process holds it."""

    def __init__(self, folder: Path) -> None:
        self._file: IO[str] | None = (folder / NAME).open("a+", encoding="ascii")
        try:
            _lock(self._file)
        except OSError:
            self._file.seek(0)
            holder = self._file.read(20).strip()
            self._file.close()
            said = f"process {holder}" if holder.isdigit() else "another process"
            raise DataFolderError(
                f"the folder {folder} is in use by {said}: stop it, or set another DATA_DIR"
            ) from None
        self._file.truncate(0)
        self._file.write(str(os.getpid()))
        self._file.flush()

    def release(self) -> None:
        """Let others have it."""
        if self._file is not None:
            self._file.close()
            self._file = None


if os.name == "nt":
    import msvcrt

    def _lock(file: IO[str]) -> None:
        file.seek(_FAR)
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined,unused-ignore]
        file.seek(0)

else:
    import fcntl

    def _lock(file: IO[str]) -> None:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
