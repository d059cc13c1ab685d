"""What releases before 0.3 left in the folders, to be taken over: one JSON file for each job, a copy of its result for
each, shapes by key.

OUTPUTS_DIR/<job id>/job.json                     the job's record
OUTPUTS_DIR/<job id>/model_<job id>.<ext>         what the job delivered
DATA_DIR/shapes/<shape key>.npz                   the model's mesh
DATA_DIR/set-aside/<job id>/                      what belongs to a record that could not be read

A job is taken over in this order: its contents are kept, its row is written, its files are deleted. So it can be done
again from the start, whenever the process ends in between.
"""

from __future__ import annotations

import json
import logging
import os
import re
import secrets
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from store.files import EARLIER_RECORD as _RECORD
from store.files import JOB_ID, Files

_SHAPE_NAME = re.compile(rb"shape:([0-9a-f]{64})")

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class StoredRecord:
    """A job's record as it lies on disk."""

    job_id: str
    data: bytes
    aside: bool
    """Whether an earlier start could not read it."""


class Earlier:
    """The jobs that are not in the index yet."""

    def __init__(self, files: Files) -> None:
        self._files = files
        self._shapes = files.data_dir / "shapes"

    def records(self) -> list[StoredRecord]:
        """Every job record of an earlier release, those that were set aside too."""
        found = []
        for folder, aside in ((self._files.outputs_dir, False), (self._files.aside_dir, True)):
            for path in sorted(folder.glob(f"*/{_RECORD}")):
                if JOB_ID.fullmatch(path.parent.name):
                    try:
                        found.append(StoredRecord(path.parent.name, path.read_bytes(), aside))
                    except OSError as error:
                        log.error("the record %s cannot be read and stays where it is: %s", path, error)
        return found

    def keep_output(self, job_id: str, filename: str) -> tuple[str, int] | None:
        """Keep what a job delivered: content and size; None: it is not there. OSError."""
        return self._files.blobs.adopt(self._files.outputs_dir / job_id / filename)

    def keep_shape(self, key: str) -> tuple[str, int] | None:
        """Keep a shape; as above."""
        return self._files.blobs.adopt(self._shapes / f"{key.rpartition(':')[2]}.npz")

    def forget(self, job_id: str) -> None:
        """Delete what the job had: it is in the index now."""
        folder = self._files.outputs_dir / job_id
        for path in [*folder.glob("model_*"), folder / _RECORD]:
            path.unlink(missing_ok=True)
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()

    def set_aside(self, job_id: str) -> Path:
        """Move all that belongs to a job whose record cannot be read to where no sweep comes."""
        folder = self._files.aside_dir / job_id
        if folder.exists():  # an earlier one of the same job: it stays as it is
            os.replace(folder, folder.with_name(f"{job_id}.{secrets.token_hex(4)}"))
        self._move(job_id, self._files.outputs_dir, self._files.uploads_dir, self._files.aside_dir, folder)
        return folder

    def take_back(self, job_id: str) -> None:
        """The way back, for a record that can be read now."""
        aside = self._files.aside_dir
        self._move(job_id, aside, aside / job_id, self._files.outputs_dir, self._files.uploads_dir)

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
        """Delete the shapes that were taken over, and those that no record names.

        A record that was set aside still names its shape by the key in its text; a torn one may have lost that, and one
        that cannot be read at all does not tell: then no shape is deleted.
        """
        if not self._shapes.is_dir():
            return
        try:
            folders = (self._files.aside_dir, self._files.outputs_dir)
            aside = [path.read_bytes() for folder in folders for path in folder.glob(f"*/{_RECORD}")]
        except OSError:
            return  # what it names is not known
        if not all(map(_is_whole, aside)) or not self._files.index.job_ids():
            return
        named = _shapes_named(aside)
        for shape in self._shapes.glob("*.npz"):
            if shape.stem not in named:
                shape.unlink(missing_ok=True)
        if not any(self._shapes.iterdir()):
            self._shapes.rmdir()


def _shapes_named(records: Iterable[bytes]) -> frozenset[str]:
    return frozenset(name.decode() for record in records for name in _SHAPE_NAME.findall(record))


def _is_whole(record: bytes) -> bool:
    try:
        json.loads(record)
    except (ValueError, RecursionError):
        return False
    return True
