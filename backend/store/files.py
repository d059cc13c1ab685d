"""The folders of one server: what they hold, and the files of single jobs.

DATA_DIR/server.lock                              held by the one server of these folders, and in the two others too
DATA_DIR/index.db                                 SQLite: the job's records, and what is known of every result
DATA_DIR/results/<SHA-256>                        results: cut-outs, shapes, files that are delivered; each content once
DATA_DIR/set-aside/                               what this version cannot read: records of jobs, a damaged index
UPLOADS_DIR/<job id>.<ext>                        the front picture as it came
UPLOADS_DIR/<job id>.<view>-<digest>.<ext>        a picture that was added: another side, or another front
OUTPUTS_DIR/<job id>/mask-<digest>.png            the object in the front picture, if the user said so
OUTPUTS_DIR/<job id>/thumbnail                    a small picture of the model, if the page made one
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterable
from pathlib import Path

from errors import DataFolderError
from store.blobs import Blobs
from store.filesystem import FileSystem, Fingerprint, clear_leftovers, fingerprint
from store.index import Index
from store.lock import FolderLock

JOB_ID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
EARLIER_RECORD = "job.json"
"""In the folder of a job's outputs, until the job is taken over."""
_ID_LENGTH = 36
_SHARED = 1000
"""Uploads whose bytes may be given a further name."""


class Files:
    """The folders of one server, and of no other at the same time: DataFolderError. Creates them, and clears what an
    earlier process left half-written."""

    def __init__(self, data_dir: Path, uploads_dir: Path, outputs_dir: Path, system: FileSystem | None = None) -> None:
        self.data_dir, self.uploads_dir, self.outputs_dir = data_dir, uploads_dir, outputs_dir
        self.aside_dir, results = data_dir / "set-aside", data_dir / "results"
        for folder in (uploads_dir, outputs_dir, results):
            try:
                folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise DataFolderError(f"the folder {folder} cannot be used: {error.strerror}") from error
        self.system = system or FileSystem()
        self._locks: list[FolderLock] = []
        try:
            # Each of them, as another server may have its own DATA_DIR and yet use a folder inside this one's.
            for folder in dict.fromkeys(each.resolve() for each in (data_dir, uploads_dir, outputs_dir)):
                self._locks.append(FolderLock(folder))
            self.index = Index(data_dir / "index.db", self.aside_dir)
        except BaseException:
            self._release()
            raise
        self.blobs = Blobs(results, self.index, self.system)
        for folder in (uploads_dir, outputs_dir, results):
            clear_leftovers(folder)
        self._uploaded: dict[str, tuple[Path, Fingerprint]] = {}
        """By the SHA-256 of their bytes, those kept last."""
        self._uploads_found, self._outputs_found = os.listdir(uploads_dir), os.listdir(outputs_dir)

    def close(self) -> None:
        """Let another server have the folders."""
        self.index.close()
        self._release()

    def _release(self) -> None:
        for lock in self._locks:
            lock.release()

    # ── what belongs to a job alone ──────────────────────────────────────────────────────────────────────────────

    def upload(self, name: str) -> Path:
        """Where the upload of that stored name lies."""
        return self.uploads_dir / name

    def mask(self, job_id: str, digest: str) -> Path:
        """Where the user's own mask of that digest lies."""
        path = self.new_mask(job_id, digest)
        earlier = path.with_name("mask.png")  # as releases before 0.2 called it
        return earlier if not path.exists() and earlier.exists() else path

    def thumbnail(self, job_id: str) -> Path:
        """Where the thumbnail lies."""
        return self.outputs_dir / job_id / "thumbnail"

    def keep_upload(self, name: str, data: bytes, sha256: str) -> None:
        """Keep an upload for good; bytes that an upload of this process holds already get a further name. OSError."""
        path, (there, known) = self.uploads_dir / name, self._uploaded.get(sha256, (None, None))
        try:
            if there is None or fingerprint(os.stat(there)) != known:
                raise FileNotFoundError
            self.system.link(there, path)
        except OSError:  # it is new, deleted or changed, or the file system knows no links
            self.system.keep(path, data)
        self._uploaded[sha256] = path, fingerprint(os.stat(path))
        if len(self._uploaded) > _SHARED:
            self._uploaded.pop(next(iter(self._uploaded)), None)

    def save(self, path: Path, data: bytes) -> None:
        """Replace `path` by `data` in one step, and for good; OSError."""
        self.system.keep(path, data)

    def new_mask(self, job_id: str, digest: str) -> Path:
        """Where a mask of the user's belongs."""
        return self.outputs_dir / job_id / f"mask-{digest[:16]}.png"

    def keep_mask(self, job_id: str, digest: str | None) -> None:
        """Delete the job's masks but this one."""
        kept = digest and self.new_mask(job_id, digest)
        for other in (self.outputs_dir / job_id).glob("mask*.png"):
            if other != kept:
                self.system.remove(other)

    def forget_job(self, job_id: str, uploads: Iterable[str]) -> None:
        """Delete the files that a job has alone: its uploads, by their names, and those that this class names."""
        for name in uploads:
            self.system.remove(self.upload(name))
        folder = self.outputs_dir / job_id
        if folder.is_dir():
            for path in [*folder.glob("mask*.png"), self.thumbnail(job_id)]:
                self.system.remove(path)
            with contextlib.suppress(OSError):  # the user keeps files of their own in it
                folder.rmdir()

    def sweep(self) -> None:
        """Delete the files of an earlier process's jobs that are no more, and results that nothing names: it ended
        between two writes.

        Not where there never was a job, as this may not be the folder that it used to be; nor beside a damaged index,
        whose jobs may yet be read; nor what a record of an earlier release names that could not be read.
        """
        known = self.index.had_jobs() and not any(self.aside_dir.glob("index-*"))
        self.blobs.sweep(delete=known)
        jobs = self.index.job_ids()
        found = dict[str, list[str]]((name, []) for name in self._outputs_found)
        for name in self._uploads_found:
            if name[_ID_LENGTH:][:1] == ".":
                found.setdefault(name[:_ID_LENGTH], []).append(name)
        for job_id, uploads in found.items() if known else ():
            unread = self.outputs_dir / job_id / EARLIER_RECORD
            if JOB_ID.fullmatch(job_id) and job_id not in jobs and not unread.exists():
                self.forget_job(job_id, uploads)
