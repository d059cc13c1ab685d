"""A job's record: what of a job outlives the process, and how it is written.

A record is a row of the index: JSON that says its version; a change of any field of `Record` is a new version. Earlier
ones lay in files (`store/earlier.py`): version 1 (ORFEAS 0.1, which said none) had one picture, `upload`, and the
wishes as `body`, version 2 a copy of the result for each job.
"""

from __future__ import annotations

import functools
import json
import math
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from mesh.formats import FORMATS
from work.request import LEAST_QUALITY, MOST_QUALITY, Picture, Wishes

RECORD_VERSION = 3
"""What is written; earlier ones are read."""


class RecordError(ValueError):
    """A record that this version cannot read; the text says why."""


class JobStatus(StrEnum):
    """The status words of the API."""

    UPLOADED = "uploaded"
    QUEUED = "queued"
    INITIALIZING = "initializing"
    PROCESSING = "processing"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


ACTIVE = frozenset({JobStatus.QUEUED, JobStatus.INITIALIZING, JobStatus.PROCESSING})
FINAL = frozenset({JobStatus.COMPLETED, JobStatus.FAILED, JobStatus.CANCELLED})


@dataclass(frozen=True, slots=True)
class Delivery:
    """What a completed job delivers: it names its result by key and by content, and has no copy of its own."""

    filename: str
    file_size: int
    file_key: str
    sha256: str | None
    """Of the file; None: it was lost before this release."""
    shape_key: str
    shape_sha256: str | None
    """What other formats are converted from; None: it is not kept."""
    model: str
    cached: bool
    mesh: dict[str, Any]
    timings: dict[str, float]
    seconds_saved: float = 0.0
    """What the steps that did not have to be run took when they were, less what else the answer took."""
    model_note: str | None = None
    wishes: Wishes | None = None
    """What it was made with: the job may have been started again with others since."""


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a job failed."""

    error: str
    error_type: str
    details: dict[str, Any] = field(default_factory=dict)


@dataclass(slots=True, kw_only=True)
class Record:
    """One job: its pictures and what became of them. Times are seconds since the epoch."""

    id: str
    owner: str | None
    """Names the key that made it; None: it was made while no key was set."""
    created_at: float
    pictures: dict[str, Picture]
    """By view."""
    mask: str | None = None
    """SHA-256 of the user's own mask of the front; None: the server finds the object."""
    status: JobStatus = JobStatus.UPLOADED
    wishes: Wishes = field(default_factory=Wishes)
    delivery: Delivery | None = None
    failure: Failure | None = None
    started_at: float | None = None
    finished_at: float | None = None
    has_thumbnail: bool = False
    interruptions: int = 0
    """How often the server ended in the middle of its run."""


FIELDS = tuple(each.name for each in fields(Record))
"""Of a record, as they are written."""


def load_record(data: bytes) -> dict[str, Any]:
    """The fields of a record of this or an earlier version; RecordError."""
    try:
        raw = json.loads(data)
        version = raw.get("version", 1)
    except (ValueError, AttributeError, RecursionError) as error:
        raise RecordError("it is no JSON object") from error
    if type(version) is not int or not 1 <= version <= RECORD_VERSION:
        raise RecordError(f"its version is {version!r}, this server knows 1 to {RECORD_VERSION}")
    try:
        # Neither NaN nor half of a surrogate pair could be answered.
        text = json.dumps(_converted(raw, version), ensure_ascii=False, allow_nan=False).encode()
        record = _reader().validate_json(text, strict=True)
        _check_record(record)
    except (LookupError, TypeError, AttributeError, ValueError, OverflowError) as error:
        raise RecordError(f"a field is missing or wrong: {str(error).splitlines()[0]}") from error
    return {name: getattr(record, name) for name in FIELDS}


def _check_record(record: Record) -> None:
    """ValueError for what no answer could be made of, and for what no request may ask for."""
    for name in ("created_at", "started_at", "finished_at"):
        if (value := getattr(record, name)) is not None:
            datetime.fromtimestamp(value, UTC)
    if not LEAST_QUALITY <= record.wishes.quality <= MOST_QUALITY or record.wishes.format not in FORMATS:
        raise ValueError("wishes: out of range")
    if record.delivery is not None:
        mesh = record.delivery.mesh
        sides, whole = mesh["extents_mm"], (mesh["vertices"], mesh["faces"])
        numbers = [*sides, mesh["volume_mm3"]]
        if len(sides) != 3 or not all(isinstance(n, int) for n in whole) or not all(math.isfinite(n) for n in numbers):
            raise ValueError("delivery.mesh: no report of a mesh")
    if record.status is JobStatus.COMPLETED and record.delivery is None:
        raise ValueError("delivery: is missing")


@functools.cache
def _reader() -> Any:
    from pydantic import TypeAdapter  # a fresh folder needs no records, and the start does not wait for pydantic

    return TypeAdapter(Record)


def _converted(raw: dict[str, Any], version: int) -> dict[str, Any]:
    """Of whichever version as the present one."""
    if version == 1:
        raw = _from_first(raw)
    if version < RECORD_VERSION and (old := raw.get("delivery")) is not None:
        kept = {name: value for name, value in old.items() if name != "etag"}
        raw = {**raw, "delivery": {**kept, "file_key": f"file:{old['etag']}", "sha256": None, "shape_sha256": None}}
    return raw


def _from_first(raw: dict[str, Any]) -> dict[str, Any]:
    """Version 1 as version 2."""
    upload, body = raw["upload"], raw["body"]
    picture = {
        "name": f"{raw['id']}.{upload['extension']}",
        **{name: upload[name] for name in ("extension", "original_filename", "sha256", "image_info", "empty")},
        "hidden": None,
    }
    wishes = {name: value for name, value in body.items() if name != "job_id"}
    kept = ("id", "created_at", "mask", "status", "delivery", "failure", "started_at", "finished_at", "has_thumbnail")
    return {
        "owner": None,
        "pictures": {"front": picture},
        "wishes": wishes,
        **{name: raw[name] for name in kept if name in raw},
    }
