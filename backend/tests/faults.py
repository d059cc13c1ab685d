"""Disks that fill up, fail and tell what was asked of them; results to put on them."""

from __future__ import annotations

import errno
import hashlib
import os
import sqlite3
import threading
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path

from store.files import Files
from store.filesystem import FileSystem
from store.made import Made


def full(path="") -> OSError:
    return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))


def unreadable(path="") -> OSError:
    return OSError(errno.EIO, os.strerror(errno.EIO), str(path))


def no_pages() -> sqlite3.OperationalError:
    """What SQLite says on a full disk."""
    error = sqlite3.OperationalError("database or disk is full")
    error.sqlite_errorcode = sqlite3.SQLITE_FULL
    return error


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def result(text="a result", size=0, *, seconds=1.0, sources=(), shape=None) -> Made:
    """What a step made: these bytes, and dots up to that size."""
    data = text.encode().ljust(size, b".")
    return Made(data, digest(data), len(data) / 1e6, {"step": seconds}, seconds, tuple(sources), None, shape)


@contextmanager
def folders(path: Path, system: FileSystem | None = None):
    """Those of one server, nobody else's meanwhile."""
    files = Files(path, path / "uploads", path / "outputs", system)
    try:
        yield files
    finally:
        files.close()


def contents(files: Files) -> set[str]:
    """The names in the folder of results, whatever lies there."""
    return {path.name for path in (files.data_dir / "results").iterdir()}


def name_by_job(files: Files, job_id: str, file: bytes | None, shape: bytes | None = None) -> None:
    """A job's row that names these contents, which are there: as a job that is completed leaves them."""
    named = [data for data in (file, shape) if data is not None]
    with files.blobs.holding(*((digest(data), data) for data in named)):
        files.index.save_job(job_id, b"{}", file and digest(file), shape and digest(shape))


def drop_job(files: Files, job_id: str) -> None:
    """The row goes, and what it alone named."""
    row = files.index.row("SELECT file_sha256, shape_sha256 FROM jobs WHERE id = ?", job_id)
    files.index.change(lambda db: db.execute("DELETE FROM jobs WHERE id = ?", (job_id,)))
    files.blobs.release(sha256 for sha256 in row or () if sha256)


def change_bytes(path: Path, data: bytes) -> None:
    """Overwrite the file in its place, as a failing disk or a careless program does; its time of change moves on."""
    before = os.stat(path)
    with path.open("r+b") as file:
        file.write(data)
        file.truncate()
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns + 1_000_000_000))


class Disk(FileSystem):
    """A disk of so many bytes for results, that does at a given moment what the test wants of it.

    `at` maps a call, by its name or as `written` (the bytes are there, under the temporary name), to what happens just
    before it; once. What is raised there is the call's error.
    """

    def __init__(self, results: Path | None = None, capacity: int | None = None) -> None:
        super().__init__()
        self.results, self.capacity = results, capacity
        self.at: dict[str, list[Callable[[], None]]] = {}
        self.calls: list[tuple[str, Path]] = []

    def _note(self, call: str, path: Path) -> None:
        self.calls.append((call, path))
        if self.at.get(call):
            self.at[call].pop(0)()

    def used(self) -> int:
        """By the results."""
        assert self.results is not None
        return sum(entry.stat().st_size for entry in os.scandir(self.results))

    def free(self) -> int:
        assert self.capacity is not None
        return max(0, self.capacity - self.used())

    def write(self, path: Path, data: bytes) -> None:
        self._note("write", path)
        if self.capacity is not None and path.parent == self.results and len(data) > self.free():
            super().write(path, data[: self.free()])  # so it is found: the file that could not be finished
            raise full(path)
        super().write(path, data)
        self._note("written", path)

    def rename(self, source: Path, target: Path) -> None:
        self._note("rename", target)
        super().rename(source, target)

    def link(self, there: Path, path: Path) -> None:
        self._note("link", path)
        super().link(there, path)

    def sync_folder(self, folder: Path) -> None:
        self._note("sync_folder", folder)
        super().sync_folder(folder)

    def read(self, path: Path) -> bytes:
        self._note("read", path)
        return super().read(path)

    def remove(self, path: Path) -> None:
        self._note("remove", path)
        super().remove(path)


def fails(error: OSError) -> Callable[[], None]:
    """Something to happen `at` a call: that error."""

    def fail() -> None:
        raise error

    return fail


def elsewhere(action: Callable[[], object]) -> Callable[[], None]:
    """Something to happen `at` a call: another thread does this, from beginning to end."""

    def happen() -> None:
        errors: list[BaseException] = []

        def run() -> None:
            try:
                action()
            except BaseException as error:
                errors.append(error)

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        thread.join(10)
        assert not thread.is_alive(), "what others do waits for what is under way"
        if errors:
            raise errors[0]

    return happen
