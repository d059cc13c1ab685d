"""Files on disk: pictures, outputs, shapes and job records. Every write goes to a temporary name, then is renamed.

DATA_DIR/server.lock                              held by the one server of these folders, and in the two others too
UPLOADS_DIR/<job id>.<ext>                        the front picture as it came
UPLOADS_DIR/<job id>.<view>-<digest>.<ext>        a picture that was added: another side, or another front
OUTPUTS_DIR/<job id>/mask-<digest>.png            the object in the front picture, if the user said so
OUTPUTS_DIR/<job id>/thumbnail                    a small picture of the model, if the page made one
OUTPUTS_DIR/<job id>/model_<job id>.<ext>         what the job delivered
OUTPUTS_DIR/<job id>/job.json                     the job's record, read again after a restart
DATA_DIR/shapes/<shape key>.npz                   the model's mesh, from which other formats are converted
DATA_DIR/set-aside/<job id>/                      what belongs to a record that this version cannot read
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import secrets
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from errors import DataFolderError
from store.lock import FolderLock

_JOB_ID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_ID_LENGTH = 36
_SHAPE_NAME = re.compile(rb"shape:([0-9a-f]{64})")
_RECORD = "job.json"

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class StoredRecord:
    """A job's record as it lies on disk."""

    job_id: str
    data: bytes
    aside: bool
    """Whether an earlier start could not read it."""


class Files:
    """The folders of one server, and of no other at the same time: DataFolderError. Creates them, and clears what an
    earlier process left half-written."""

    def __init__(self, data_dir: Path, uploads_dir: Path, outputs_dir: Path) -> None:
        self.uploads_dir, self.outputs_dir = uploads_dir, outputs_dir
        self.shapes_dir, self.aside_dir = data_dir / "shapes", data_dir / "set-aside"
        for folder in (uploads_dir, outputs_dir, self.shapes_dir):
            try:
                folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise DataFolderError(f"the folder {folder} cannot be used: {error.strerror}") from error
        self._shapes_aside: frozenset[str] = frozenset()
        """The names of shapes in records that were set aside."""
        self._locks: list[FolderLock] = []
        try:
            # Each of them, as another server may have its own DATA_DIR and yet use a folder inside this one's.
            for folder in dict.fromkeys(each.resolve() for each in (data_dir, uploads_dir, outputs_dir)):
                self._locks.append(FolderLock(folder))
        except BaseException:
            self.close()
            raise
        for folder in (uploads_dir, outputs_dir, self.shapes_dir):
            for leftover in [*folder.glob(".orfeas-*.tmp"), *folder.glob("*/.orfeas-*.tmp")]:
                leftover.unlink(missing_ok=True)

    def close(self) -> None:
        """Let another server have the folders."""
        for lock in self._locks:
            lock.release()

    # ── what belongs to a job ────────────────────────────────────────────────────────────────────────────────────

    def upload(self, name: str) -> Path:
        """Where the upload of that stored name lies."""
        return self.uploads_dir / name

    def output(self, job_id: str, filename: str) -> Path:
        """Where a job's delivered file lies."""
        return self.outputs_dir / job_id / filename

    def mask(self, job_id: str, digest: str) -> Path:
        """Where the user's own mask of that digest lies."""
        path = self.new_mask(job_id, digest)
        earlier = path.with_name("mask.png")  # as releases before 0.2 called it
        return earlier if not path.exists() and earlier.exists() else path

    def thumbnail(self, job_id: str) -> Path:
        """Where the thumbnail lies."""
        return self.outputs_dir / job_id / "thumbnail"

    def save(self, path: Path, data: bytes) -> None:
        """Replace `path` by `data` in one step: a reader sees the old file or the new one, never a part."""
        _put(self._stage(path.parent, data), path)

    def _stage(self, folder: Path, data: bytes) -> Path:
        temporary = folder / f".orfeas-{secrets.token_hex(8)}.tmp"
        try:
            try:
                temporary.write_bytes(data)
            except FileNotFoundError:
                folder.mkdir(parents=True, exist_ok=True)
                temporary.write_bytes(data)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        return temporary

    def save_job(self, job_id: str, uploads: dict[str, bytes], record: bytes) -> None:
        """Keep a new job: its pictures by name, then its record."""
        for name, data in uploads.items():
            self.save(self.uploads_dir / name, data)
        self.save(self.outputs_dir / job_id / _RECORD, record)

    def stage_output(self, job_id: str, data: bytes) -> Path:
        """Write a job's file under a temporary name, for `place_output`; or `unlink` it."""
        return self._stage(self.outputs_dir / job_id, data)

    def place_output(self, staged: Path, job_id: str, filename: str) -> None:
        """Put the job's file in place; a file of another format that the job delivered before goes."""
        path = self.output(job_id, filename)
        _put(staged, path)
        for other in path.parent.glob("model_*"):
            if other.name != filename:
                other.unlink(missing_ok=True)

    def new_mask(self, job_id: str, digest: str) -> Path:
        """Where a mask of the user's belongs."""
        return self.outputs_dir / job_id / f"mask-{digest[:16]}.png"

    def keep_mask(self, job_id: str, digest: str | None) -> None:
        """Delete the job's masks but this one."""
        kept = digest and self.new_mask(job_id, digest)
        for other in (self.outputs_dir / job_id).glob("mask*.png"):
            if other != kept:
                other.unlink(missing_ok=True)

    def forget_job(self, job_id: str) -> None:
        """Delete all that a job has; only names that this class gives."""
        for path in self.uploads_dir.glob(f"{job_id}.*"):
            path.unlink(missing_ok=True)
        folder = self.outputs_dir / job_id
        for path in [*folder.glob("model_*"), *folder.glob("mask*.png"), self.thumbnail(job_id), folder / _RECORD]:
            path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # absent, or the user keeps files of their own in it
            folder.rmdir()

    # ── records ──────────────────────────────────────────────────────────────────────────────────────────────────

    def save_record(self, job_id: str, record: bytes) -> None:
        """Keep what a restarted server must know of the job."""
        self.save(self.outputs_dir / job_id / _RECORD, record)

    def records(self) -> list[StoredRecord]:
        """Every job record of an earlier process, those that were set aside too."""
        found = []
        for folder, aside in ((self.outputs_dir, False), (self.aside_dir, True)):
            for path in sorted(folder.glob(f"*/{_RECORD}")):
                if _JOB_ID.fullmatch(path.parent.name):
                    try:
                        found.append(StoredRecord(path.parent.name, path.read_bytes(), aside))
                    except OSError as error:
                        log.error("the record %s cannot be read and stays where it is: %s", path, error)
        return found

    def set_aside(self, job_id: str) -> Path:
        """Move all that belongs to a job whose record cannot be read to where no sweep comes."""
        folder = self.aside_dir / job_id
        if folder.exists():  # an earlier one of the same job: it stays as it is
            os.replace(folder, folder.with_name(f"{job_id}.{secrets.token_hex(4)}"))
        self._move(job_id, self.outputs_dir, self.uploads_dir, self.aside_dir, folder)
        return folder

    def take_back(self, job_id: str) -> None:
        """The way back, for a record that can be read now."""
        self._move(job_id, self.aside_dir, self.aside_dir / job_id, self.outputs_dir, self.uploads_dir)

    def _move(self, job_id: str, records: Path, uploads: Path, to_records: Path, to_uploads: Path) -> None:
        pictures = list(uploads.glob(f"{job_id}.*"))
        to_uploads.mkdir(parents=True, exist_ok=True)
        (to_records / job_id).mkdir(parents=True, exist_ok=True)
        for path in pictures:
            shutil.move(path, to_uploads / path.name)  # the folders may lie on different disks
        for path in sorted((records / job_id).iterdir(), key=lambda path: path.name == _RECORD):  # the record last
            shutil.move(path, to_records / job_id / path.name)
        (records / job_id).rmdir()

    def sweep(self) -> None:
        """Delete uploads and shapes that no record file names: their process ended between two writes.

        A record that cannot be understood still names its job by its folder, and its shape by the key in its text; a
        torn one may have lost that, and then no shape is deleted.
        """
        paths = [*self.outputs_dir.glob(f"*/{_RECORD}"), *self.aside_dir.glob(f"*/{_RECORD}")]
        try:
            records = {path: path.read_bytes() for path in paths}
        except OSError:
            return  # what it names is not known
        if not records:  # nothing was made yet, or this is not the folder of records that it used to be
            return
        folders = {path.name for folder in (self.outputs_dir, self.aside_dir) for path in _entries(folder)}
        jobs = folders.union(
            *(re.findall(_JOB_ID.pattern, record.decode(errors="replace")) for record in records.values())
        )
        for upload in self.uploads_dir.iterdir():
            job_id = upload.name[:_ID_LENGTH]
            if _JOB_ID.fullmatch(job_id) and upload.name[_ID_LENGTH:][:1] == "." and job_id not in jobs:
                upload.unlink(missing_ok=True)
        aside = [record for path, record in records.items() if self.aside_dir in path.parents]
        self._shapes_aside = _shapes_named(aside)
        named = _shapes_named(records.values())
        for shape in self.shapes_dir.glob("*.npz") if all(map(_is_whole, aside)) else ():
            if shape.stem not in named:
                shape.unlink(missing_ok=True)

    # ── shapes ───────────────────────────────────────────────────────────────────────────────────────────────────

    def shape(self, key: str) -> bytes | None:
        """The stored shape, or None."""
        try:
            return self._shape_path(key).read_bytes()
        except FileNotFoundError:
            return None

    def save_shape(self, key: str, data: bytes) -> None:
        """Keep a shape, so that a finished job can be converted after the cache has dropped it."""
        self.save(self._shape_path(key), data)

    def has_shape(self, key: str) -> bool:
        """Whether that shape is stored."""
        return self._shape_path(key).exists()

    def forget_shape(self, key: str) -> None:
        """Delete a shape that no job refers to any more, unless a record does that was set aside."""
        path = self._shape_path(key)
        if path.stem not in self._shapes_aside:
            path.unlink(missing_ok=True)

    def _shape_path(self, key: str) -> Path:
        return self.shapes_dir / f"{key.rpartition(':')[2]}.npz"


def _entries(folder: Path) -> Iterable[Path]:
    return folder.iterdir() if folder.is_dir() else ()


def _put(staged: Path, path: Path) -> None:
    try:
        os.replace(staged, path)
    except BaseException:
        staged.unlink(missing_ok=True)
        raise


def _shapes_named(records: Iterable[bytes]) -> frozenset[str]:
    return frozenset(name.decode() for record in records for name in _SHAPE_NAME.findall(record))


def _is_whole(record: bytes) -> bool:
    try:
        json.loads(record)
    except (ValueError, RecursionError):
        return False
    return True
