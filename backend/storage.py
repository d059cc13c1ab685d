"""Files on disk: pictures, outputs, shapes and job records. Every write goes to a temporary name, then is renamed.

UPLOADS_DIR/<job id>.<ext>                        the picture as it came
OUTPUTS_DIR/<job id>/mask.png                     the object in it, if the user said so
OUTPUTS_DIR/<job id>/thumbnail                    a small picture of the model, if the page made one
OUTPUTS_DIR/<job id>/model_<job id>.<ext>         what the job delivered
OUTPUTS_DIR/<job id>/job.json                     the job's record, read again after a restart
DATA_DIR/shapes/<shape key>.npz                   the model's mesh, from which other formats are converted
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
from collections.abc import Iterator
from pathlib import Path

_JOB_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_RECORD = "job.json"


class Storage:
    """The folders of one server; creates them, and clears what an earlier process left half-written."""

    def __init__(self, data_dir: Path, uploads_dir: Path, outputs_dir: Path) -> None:
        self.uploads_dir, self.outputs_dir, self.shapes_dir = uploads_dir, outputs_dir, data_dir / "shapes"
        for folder in (uploads_dir, outputs_dir, self.shapes_dir):
            folder.mkdir(parents=True, exist_ok=True)
            for leftover in [*folder.glob(".orfeas-*.tmp"), *folder.glob("*/.orfeas-*.tmp")]:
                leftover.unlink(missing_ok=True)

    def upload(self, filename: str) -> Path:
        """Where the upload of that stored name lies."""
        return self.uploads_dir / filename

    def output(self, job_id: str, filename: str) -> Path:
        """Where a job's delivered file lies."""
        return self.outputs_dir / job_id / filename

    def mask(self, job_id: str) -> Path:
        """Where the user's own mask lies."""
        return self.outputs_dir / job_id / "mask.png"

    def thumbnail(self, job_id: str) -> Path:
        """Where the thumbnail lies."""
        return self.outputs_dir / job_id / "thumbnail"

    def save(self, path: Path, data: bytes) -> None:
        """Put a file in place in one step."""
        _write(path, data)

    def save_output(self, job_id: str, filename: str, data: bytes) -> None:
        """Put the job's file in place; a file of another format that the job delivered before goes."""
        path = self.output(job_id, filename)
        _write(path, data)
        for other in path.parent.glob("model_*"):
            if other.name != filename:
                other.unlink(missing_ok=True)

    def save_record(self, job_id: str, record: bytes) -> None:
        """Keep what a restarted server must know of the job."""
        _write(self.outputs_dir / job_id / _RECORD, record)

    def records(self) -> Iterator[bytes]:
        """Every job record that an earlier process left."""
        for path in self.outputs_dir.glob(f"*/{_RECORD}"):
            if _JOB_ID.fullmatch(path.parent.name):
                with contextlib.suppress(OSError):
                    yield path.read_bytes()

    def shape(self, key: str) -> bytes | None:
        """The stored shape, or None."""
        try:
            return self._shape_path(key).read_bytes()
        except FileNotFoundError:
            return None

    def save_shape(self, key: str, data: bytes) -> None:
        """Keep a shape, so that a finished job can be converted after the cache has dropped it."""
        _write(self._shape_path(key), data)

    def has_shape(self, key: str) -> bool:
        """Whether that shape is stored."""
        return self._shape_path(key).exists()

    def forget_shape(self, key: str) -> None:
        """Delete a shape that no job refers to any more."""
        self._shape_path(key).unlink(missing_ok=True)

    def forget_job(self, job_id: str, upload_filename: str) -> None:
        """Delete all that a job has; only names that this class gives."""
        self.upload(upload_filename).unlink(missing_ok=True)
        folder = self.outputs_dir / job_id
        for path in [*folder.glob("model_*"), folder / _RECORD, self.mask(job_id), self.thumbnail(job_id)]:
            path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # absent, or the user keeps files of their own in it
            folder.rmdir()

    def forget_orphans(self, known_jobs: set[str], known_shapes: set[str]) -> None:
        """Delete uploads and shapes that no job record names: their process ended between two writes."""
        for path in self.uploads_dir.iterdir():
            if _JOB_ID.fullmatch(path.stem) and path.stem not in known_jobs:
                path.unlink(missing_ok=True)
        keep = {self._shape_path(key) for key in known_shapes}
        for path in self.shapes_dir.glob("*.npz"):
            if path not in keep:
                path.unlink(missing_ok=True)

    def _shape_path(self, key: str) -> Path:
        return self.shapes_dir / f"{key.rpartition(':')[2]}.npz"


def _write(path: Path, data: bytes) -> None:
    """Replace `path` by `data` in one step: a reader sees the old file or the new one, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".orfeas-{secrets.token_hex(8)}.tmp")
    try:
        temporary.write_bytes(data)
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
