"""A job's record on disk: what survives a restart, its version, and the records of earlier releases.

Version 1 (0.1) had one picture, `upload`, and the wishes as `body`, and said no version. Version 2 has the pictures by
view, the wishes, and the owner. A record is written whole, as JSON; a change of any field here is a new version.
"""

from __future__ import annotations

import functools
import json
from dataclasses import asdict, dataclass, field, fields
from enum import StrEnum
from typing import Any

from work.request import Picture, Wishes

VERSION = 2


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


@dataclass(frozen=True, slots=True)
class Delivery:
    """What a completed job has on disk."""

    filename: str
    file_size: int
    etag: str
    shape_key: str
    model: str
    cached: bool
    mesh: dict[str, Any]
    timings: dict[str, float]
    seconds_saved: float = 0.0
    """What the steps took that the cache answered, less the time of the answer."""
    model_note: str | None = None


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


_FIELDS = tuple(each.name for each in fields(Record))


def dump(record: Record) -> bytes:
    """The record as it is written."""
    values = {name: getattr(record, name) for name in _FIELDS}
    return json.dumps({"version": VERSION, **values}, default=asdict).encode()


def load(data: bytes) -> dict[str, Any]:
    """The fields of a record of this or an earlier version; RecordError."""
    try:
        raw = json.loads(data)
        version = raw.get("version", 1)
    except (ValueError, AttributeError, RecursionError) as error:
        raise RecordError("it is no JSON object") from error
    if version not in (1, VERSION):
        raise RecordError(f"its version is {version!r}, this server knows 1 to {VERSION}")
    try:
        values = _converted(raw) if version == 1 else raw
        record = _reader().validate_python(values)
    except (LookupError, TypeError, AttributeError, ValueError) as error:
        raise RecordError(f"a field is missing or wrong: {str(error).splitlines()[0]}") from error
    return {name: getattr(record, name) for name in _FIELDS}


@functools.cache
def _reader() -> Any:
    from pydantic import TypeAdapter  # a fresh folder needs no records, and the start does not wait for pydantic

    return TypeAdapter(Record)


def _converted(raw: dict[str, Any]) -> dict[str, Any]:
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
