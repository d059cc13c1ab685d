"""Immutable files, each named by the SHA-256 of its bytes: results that are kept, once, whoever names them.

A file stays as long as a result or a job in the index names it, or somebody is about to (`holding`). It is checked when
it is first used in a process, and again if it was changed since. What is not what it was is dropped and counted, and
whoever asks for it has it made anew.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from store.filesystem import FileSystem, Fingerprint, fingerprint, is_full
from store.index import Index

_NAME = re.compile(r"[0-9a-f]{64}")

log = logging.getLogger(__name__)


class Blobs:
    """The files of one folder. Nothing here is held in memory but which of them were checked."""

    def __init__(self, folder: Path, index: Index, system: FileSystem) -> None:
        self._folder, self._index, self._system = folder, index, system
        self._checked: dict[str, Fingerprint] = {}
        self._held = Counter[str]()
        self._released: set[str] = set()
        """What somebody gave up while another held it."""
        self.missing: set[str] = set()
        """What a job names and is not there any more."""
        self.damaged = 0
        """Files that were not what they had been, since the start."""

    def path(self, sha256: str) -> Path:
        """Where that content lies."""
        return self._folder / sha256

    # ── keeping ──────────────────────────────────────────────────────────────────────────────────────────────────

    @contextmanager
    def holding(self, *contents: tuple[str, bytes | Callable[[], bytes | None]]) -> Iterator[None]:
        """While the body runs these contents are there and stay; the body makes the row that names them.

        Each comes with its bytes, or with what gives them if they are not there yet, None if they are not to be had.
        The first has to be there: OSError. Another that does not fit on the disk is missing.
        """
        with self._index.lock:
            self._held.update(sha256 for sha256, _ in contents)
        written = set[str]()
        try:
            for number, (sha256, given) in enumerate(contents):
                if not self._is_safe(sha256):
                    written.add(sha256)
                    try:
                        self._put(sha256, given)
                    except OSError as error:
                        if number == 0 or not is_full(error):
                            raise
                        self.missing.add(sha256)
            yield
        finally:
            with self._index.lock:
                self._held -= Counter(sha256 for sha256, _ in contents)
                late = written | self._released.intersection(sha256 for sha256, _ in contents)
                self._released -= {sha256 for sha256 in late if not self._held[sha256]}
            if late:
                self.release(late)

    def _put(self, sha256: str, given: bytes | Callable[[], bytes | None]) -> None:
        data = given() if callable(given) else given
        if data is None:
            self.missing.add(sha256)
            return
        self._system.keep(self.path(sha256), data)
        self._note(sha256)

    def adopt(self, path: Path) -> tuple[str, int] | None:
        """Take over a file of an earlier release, which stays where it is: content and size; None: there is none."""
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            return None
        sha256 = hashlib.sha256(data).hexdigest()
        if not self._is_safe(sha256):
            try:
                os.link(path, self.path(sha256))
                self._system.sync_folder(self._folder)
            except OSError:  # another disk, or none that has links
                self._system.keep(self.path(sha256), data)
            self._note(sha256)
        return sha256, len(data)

    def _note(self, sha256: str, found: Fingerprint | None = None) -> None:
        """It is there, and sound."""
        self._checked[sha256] = found or fingerprint(os.stat(self.path(sha256)))
        self.missing.discard(sha256)

    def _is_safe(self, sha256: str) -> bool:
        """Whether it is there, sound, and for good. What is there and nobody names may be what a killed process, or
        another thread just now, has renamed and not yet synced."""
        found = self._now(sha256)
        if found is None or self._checked.get(sha256) == found:
            return found is not None
        return self._index.names(sha256) and self.read(sha256) is not None

    # ── using ────────────────────────────────────────────────────────────────────────────────────────────────────

    def open(self, sha256: str, size: int) -> BinaryIO | None:
        """The content as a stream; None when it is not there, was damaged, or cannot be read."""
        try:
            return self._open(sha256, size)
        except FileNotFoundError:
            self._lose(sha256, None)
        except OSError as error:
            log.warning("the file %s cannot be read: %s", self.path(sha256), error)
        return None

    def _open(self, sha256: str, size: int) -> BinaryIO | None:
        file = self.path(sha256).open("rb")
        found = fingerprint(os.fstat(file.fileno()))
        if self._checked.get(sha256) == found:
            return file
        if found[0] == size and hashlib.file_digest(file, "sha256").hexdigest() == sha256:
            self._note(sha256, found)
            file.seek(0)
            return file
        file.close()
        self._lose(sha256, found)
        return None

    def read(self, sha256: str, size: int | None = None) -> bytes | None:
        """Its bytes; None when it is not there, was damaged, or cannot be read."""
        path, before = self.path(sha256), None
        try:
            before = fingerprint(os.stat(path))
            data = self._system.read(path)
        except FileNotFoundError:
            self._lose(sha256, before)
            return None
        except OSError as error:
            log.warning("the file %s cannot be read: %s", path, error)
            return None
        if self._checked.get(sha256) == before and len(data) == before[0]:
            return data
        if size in (None, len(data)) and hashlib.sha256(data).hexdigest() == sha256:
            self._note(sha256, before)
            return data
        self._lose(sha256, before)
        return None

    def _lose(self, sha256: str, seen: Fingerprint | None) -> None:
        """Drop what is not what it was (`seen`; None: it was not there), unless it was written anew in between. What
        had to make room was never damaged."""
        with self._index.lock:
            try:
                named = self._index.result_names(sha256), self._index.job_names(sha256) and sha256 not in self.missing
            except OSError as error:
                log.error("the file %s cannot be used, and it is not known who names it: %s", sha256, error)
                return
            if not any(named) or self._now(sha256) not in (seen, None):
                return
            self.damaged += 1
            self.drop([sha256])
        log.warning("the file %s was damaged or gone: dropped; what it held is made again when it is asked for", sha256)

    def _now(self, sha256: str) -> Fingerprint | None:
        try:
            return fingerprint(os.stat(self.path(sha256)))
        except FileNotFoundError:
            return None

    # ── giving up ────────────────────────────────────────────────────────────────────────────────────────────────

    def release(self, contents: Iterable[str]) -> None:
        """Delete those that nobody names any more; that is on the disk before they go. OSError."""
        with self._index.lock:
            asked = set(contents)
            free = {sha256 for sha256 in asked if not self._held[sha256]}
            self._released |= asked - free
            unnamed = [sha256 for sha256 in free if not self._index.names(sha256)]
            if unnamed:
                self._index.sync()
            for sha256 in unnamed:
                self._delete(sha256)
                self.missing.discard(sha256)

    def drop(self, contents: Iterable[str]) -> int:
        """Delete these whoever names them, except what is held; bytes that were freed. Results of them are forgotten,
        jobs go on naming them."""
        with self._index.lock:
            free = [sha256 for sha256 in contents if not self._held[sha256]]
            freed = sum(map(self._delete, free))  # first: the index may need the room
            try:
                self.missing |= set(filter(self._index.job_names, free))
                rows = [(sha256,) for sha256 in free]
                self._index.change(lambda db: db.executemany("DELETE FROM results WHERE sha256 = ?", rows))
            except OSError as error:  # it will be noticed that they are gone
                log.error("results that are gone could not be taken out of the index: %s", error)
        return freed

    def _delete(self, sha256: str) -> int:
        path = self.path(sha256)
        try:
            size = path.stat().st_size
            self._system.remove(path)
        except FileNotFoundError:
            size = 0
        except OSError as error:  # on Windows while it is being downloaded: the next start takes it
            log.warning("the file %s could not be deleted: %s", path, error)
            size = 0
        self._checked.pop(sha256, None)
        return size

    def sweep(self, *, delete: bool = True) -> None:
        """Note which files are missing and, if `delete`, take those that nothing names: their process ended between two
        writes."""
        with self._index.lock:
            there = {entry.name for entry in os.scandir(self._folder) if _NAME.fullmatch(entry.name)}
            for sha256 in there - self._index.all_named() if delete else ():
                if not self._held[sha256]:
                    self._delete(sha256)
            self.missing = self._index.named_by_jobs() - there

    def size(self, sha256: str) -> int:
        """Bytes that deleting it would free; 0 while it is held, or is not there."""
        if self._held.get(sha256):
            return 0
        try:
            return self.path(sha256).stat().st_size
        except FileNotFoundError:
            return 0

    def free_space(self) -> int:
        """Bytes that may still be written."""
        return shutil.disk_usage(self._folder).free

    def same_disk(self, path: Path) -> bool:
        """Whether deleting something here makes room there."""
        while not path.exists():  # there may have been no room for its folder
            path = path.parent
        return os.stat(self._folder).st_dev == os.stat(path).st_dev
