"""Jobs: what a client holds. A job is a record on disk, and while it is active a ticket for a run.

`Jobs` owns the records and knows who may see them. It shares one lock, `changed`, with the queue: a job and its run are
always seen at one instant.

A record is written whole, as JSON, and says its version; a change of any field of `Record` is a new version. Version 1
(ORFEAS 0.1, which said none) had one picture, `upload`, and the wishes as `body`.
"""

from __future__ import annotations

import functools
import json
import logging
import math
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from errors import JobBusyError, NotFoundError, OrfeasError
from mesh.formats import FORMATS
from store.files import Files
from work.request import LEAST_QUALITY, MOST_QUALITY, Picture, Wishes

if TYPE_CHECKING:
    from work.queue import Ticket

RECORD_VERSION = 2
"""What is written; earlier ones are read."""
KEEP_JOBS = 500
"""Jobs that are remembered with their files; the oldest settled ones are forgotten first."""
MAX_WAITERS = 20
"""Requests that may wait for a change at once; a further one is answered as things stand."""
BREATH_SECONDS = 0.5
"""A request that waits for a change is not answered sooner, unless the job is over."""
GONE_AFTER_SECONDS = 60.0
"""A cancelled job answers 410 after this long: old pages take only completed and failed for final."""

log = logging.getLogger(__name__)


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


_FIELDS = tuple(each.name for each in fields(Record))


def dump_record(record: Record) -> bytes:
    """The record as it is written."""
    values = {name: getattr(record, name) for name in _FIELDS}
    return json.dumps({"version": RECORD_VERSION, **values}, default=asdict).encode()


def load_record(data: bytes) -> dict[str, Any]:
    """The fields of a record of this or an earlier version; RecordError."""
    try:
        raw = json.loads(data)
        version = raw.get("version", 1)
    except (ValueError, AttributeError, RecursionError) as error:
        raise RecordError("it is no JSON object") from error
    if type(version) is not int or version not in (1, RECORD_VERSION):
        raise RecordError(f"its version is {version!r}, this server knows 1 to {RECORD_VERSION}")
    try:
        record = _reader().validate_python(_converted(raw) if version == 1 else raw)
        _check_record(record)
    except (LookupError, TypeError, AttributeError, ValueError, OverflowError) as error:
        raise RecordError(f"a field is missing or wrong: {str(error).splitlines()[0]}") from error
    return {name: getattr(record, name) for name in _FIELDS}


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
    json.dumps(asdict(record), ensure_ascii=False, allow_nan=False).encode()  # half of a surrogate pair is no text


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


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks. Without keys there is one owner, who sees everything; what was made then belongs to the first key."""

    owner: str | None = None
    """Names the key, without telling it."""
    first: bool = True

    def may_see(self, record: Record) -> bool:
        """Whether the job is this caller's."""
        return self.owner is None or record.owner == self.owner or (self.first and record.owner is None)


EVERYONE = Caller()


@dataclass(slots=True, eq=False, kw_only=True)
class Job(Record):
    """A record, and what of it does not survive a restart."""

    ticket: Ticket | None = None
    version: int = 0
    """Grows with every change of the record, until the server stops."""
    attempt: int = 0
    """Counts how often it was begun: what an earlier attempt made is not this one's."""


class Jobs:
    """Every job of the server, by id."""

    def __init__(self, files: Files, changed: threading.Condition, clock: Callable[[], float] = time.time) -> None:
        self._files, self._changed, self._clock = files, changed, clock
        self._jobs: dict[str, Job] = {}
        self._waiters = 0
        self._stopped = False

    def restore(self) -> list[Job]:
        """Take over the records of an earlier process; what cannot be read is set aside. The jobs, oldest first."""
        for stored in self._files.records():
            try:
                job = Job(**load_record(stored.data))
                if job.id != stored.job_id:
                    raise RecordError(f"it says that it belongs to job {job.id}")
            except RecordError as error:
                if not stored.aside:
                    folder = self._files.set_aside(stored.job_id)
                    log.warning("the record of job %s cannot be read (%s): moved to %s", stored.job_id, error, folder)
                continue
            if stored.aside and job.id in self._jobs:
                continue  # there is a readable one beside it
            if stored.aside:
                self._files.take_back(stored.job_id)
                log.warning("the record of job %s can be read again: taken back", stored.job_id)
            self._jobs[job.id] = job
        self._files.sweep()
        return sorted(self._jobs.values(), key=lambda job: job.created_at)

    # ── finding ──────────────────────────────────────────────────────────────────────────────────────────────────

    def get(self, job_id: str, caller: Caller = EVERYONE) -> Job:
        """The job; NotFoundError when there is none, or it is somebody else's."""
        job = self._jobs.get(job_id)
        if job is None or not caller.may_see(job):
            raise NotFoundError("there is no such job")
        return job

    def page(
        self, limit: int, offset: int, status: JobStatus | None = None, caller: Caller = EVERYONE
    ) -> tuple[list[Job], int]:
        """The caller's, newest first, all or those of one status, and how many of these there are."""
        with self._changed:
            mine = [job for job in self._jobs.values() if caller.may_see(job)]
            wanted = [job for job in mine if status is None or self.status(job) is status]
        newest = sorted(wanted, key=lambda job: job.created_at, reverse=True)
        return newest[offset : offset + limit], len(newest)

    def counts(self) -> dict[JobStatus, int]:
        """How many jobs are in each state."""
        with self._changed:
            statuses = [self.status(job) for job in self._jobs.values()]
        return {status: statuses.count(status) for status in JobStatus}

    def names_shape(self, key: str) -> bool:
        """Whether some job's result was made from that shape."""
        with self._changed:
            return any(job.delivery and job.delivery.shape_key == key for job in self._jobs.values())

    def all_active(self) -> list[Job]:
        """Those that wait or run."""
        return [job for job in self._jobs.values() if job.status in ACTIVE]

    def is_gone(self, job: Job) -> bool:
        """A job cancelled more than a minute ago."""
        return job.status is JobStatus.CANCELLED and self._clock() - (job.finished_at or 0) > GONE_AFTER_SECONDS

    def check_kept(self, job: Job) -> None:
        """NotFoundError when it was deleted meanwhile."""
        if self._jobs.get(job.id) is not job:
            raise NotFoundError("there is no such job")

    def check_idle(self, job: Job) -> None:
        """NotFoundError when it was deleted meanwhile, JobBusyError while it waits or runs."""
        self.check_kept(job)
        if job.status in ACTIVE:
            raise JobBusyError

    # ── changing: the caller holds `changed` wherever it decides by what it has seen ────────────────────────────────

    def add(self, job: Job, uploads: dict[str, bytes]) -> list[Job]:
        """Keep a new job with its pictures, by name; those that are too many now, for the caller to forget."""
        self._files.save_job(job.id, uploads, dump_record(job))
        with self._changed:
            self._jobs[job.id] = job
            if len(self._jobs) <= KEEP_JOBS:
                return []
            settled = (job for job in self._jobs.values() if job.status not in ACTIVE)
            return sorted(settled, key=lambda job: job.created_at)[: len(self._jobs) - KEEP_JOBS]

    def remove(self, job: Job) -> None:
        """Drop it."""
        del self._jobs[job.id]

    def begin(self, job: Job, wishes: Wishes, ticket: Ticket | None = None) -> int:
        """It waits for its run, or (without a ticket) is being answered at once. The attempt; JobBusyError."""
        self.check_idle(job)
        job.wishes, job.status, job.ticket = wishes, JobStatus.QUEUED, ticket
        job.attempt += 1
        job.failure = job.started_at = job.finished_at = None
        if ticket is None or ticket.run.started is not None:
            job.status, job.started_at = JobStatus.INITIALIZING, self._clock()
        self._touch(job)
        return job.attempt

    def holders(self, tickets: list[Ticket]) -> list[Job]:
        """The jobs that hold these tickets."""
        jobs = ((ticket, self._jobs.get(ticket.request.job_id)) for ticket in tickets)
        return [job for ticket, job in jobs if job is not None and job.ticket is ticket]

    def started(self, tickets: list[Ticket]) -> None:
        """A worker has taken the run of these tickets."""
        for job in self.holders(tickets):
            job.status, job.started_at = JobStatus.INITIALIZING, self._clock()
            self._touch(job)

    def settle(self, job: Job, status: JobStatus, **facts: Any) -> None:
        """It is over."""
        run_version = job.ticket.run.version if job.ticket else 0
        job.status, job.finished_at, job.ticket = status, self._clock(), None
        for name, value in facts.items():
            setattr(job, name, value)
        job.version += run_version
        self._touch(job)
        self.save(job)

    def changed(self, job: Job) -> None:
        """Something else of it is different now: keep it, tell who waits."""
        self._touch(job)
        self.save(job)

    def _touch(self, job: Job) -> None:
        job.version += 1
        self._changed.notify_all()

    def save(self, job: Job) -> None:
        """A record is a few hundred bytes: written under the lock, so that records never overtake each other."""
        try:
            self._files.save_record(job.id, dump_record(job))
        except OSError as error:
            log.error("the record of job %s could not be written: %s", job.id, error)

    # ── waiting ──────────────────────────────────────────────────────────────────────────────────────────────────

    def status(self, job: Job) -> JobStatus:
        """Its status at this instant: a run that has told of a stage is being processed."""
        return JobStatus.PROCESSING if job.ticket and job.ticket.run.stage else job.status

    def wait(
        self,
        job: Job,
        seconds: float,
        gone: Callable[[], bool] | None = None,
        *,
        final: bool = False,
        since: int | None = None,
    ) -> None:
        """Return when the job has changed (or, with `final`, settled), the time is up, or the client has gone.

        `since`: the version that the client has seen; without it a change just before the call goes unnoticed. Stages
        follow each other within milliseconds: a change is told after a breath, unless it is the last.
        """
        now = time.monotonic()
        deadline, breath = now + seconds, now + min(BREATH_SECONDS, seconds)
        with self._changed:
            if self._waiters >= MAX_WAITERS:
                return
            self._waiters += 1
            seen = _version(job) if since is None else since
            try:
                while job.status not in FINAL and not self._stopped and now < deadline:
                    if not final and _version(job) != seen and now >= breath:
                        break
                    until = deadline if final or now >= breath else breath
                    if not self._changed.wait(min(until - now, 1.0)) and gone is not None and gone():
                        break
                    now = time.monotonic()
            finally:
                self._waiters -= 1

    def stop(self) -> None:
        """Let nobody wait any more."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()


def _version(job: Job) -> int:
    return job.version + (job.ticket.run.version if job.ticket else 0)


def failure_of(error: Exception) -> Failure:
    """What a user should know of an error. Of one that nobody expected: its kind and first line; the log has more."""
    if isinstance(error, OrfeasError):
        return Failure(str(error), error.code, json.loads(json.dumps(error.details, default=str)))
    first_line = str(error).strip().partition("\n")[0][:300]
    return Failure(f"{type(error).__name__}: {first_line}".rstrip(": "), "internal")
