"""Jobs: what a client holds. A job is a record on disk, and while it is active a ticket for a run.

`Jobs` owns the records and knows who may see them. It shares one lock, `changed`, with the queue: a job and its run are
always seen at one instant.
"""

from __future__ import annotations

import json
import logging
import math
import sqlite3
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

from errors import JobBusyError, JobInterruptedError, NotFoundError, OrfeasError
from store.earlier import Earlier
from store.files import Files
from work.records import (
    ACTIVE,
    FIELDS,
    FINAL,
    RECORD_VERSION,
    Delivery,
    Failure,
    JobStatus,
    Record,
    RecordError,
    load_record,
)
from work.request import Wishes

if TYPE_CHECKING:
    from work.queue import Ticket

KEEP_JOBS = 500
"""Jobs that are remembered with their files; the oldest settled ones are forgotten first."""
MAX_WAITERS = 20
"""Requests that may wait for a change at once; a further one is answered as things stand."""
BREATH_SECONDS = 0.5
"""A request that waits for a change is not answered sooner, unless the job is over."""
GONE_AFTER_SECONDS = 60.0
"""A cancelled job answers 410 after this long: old pages take only completed and failed for final."""

log = logging.getLogger(__name__)


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

    @property
    def contents(self) -> tuple[str | None, str | None]:
        """What it names of the files of results: the delivered file, the shape."""
        return (self.delivery.sha256, self.delivery.shape_sha256) if self.delivery else (None, None)

    @property
    def upload_bytes(self) -> int:
        """Of its pictures."""
        return sum(picture.image_info.get("file_size", 0) for picture in self.pictures.values())

    def dump(self) -> bytes:
        """Its record, as it is written."""
        values = {name: getattr(self, name) for name in FIELDS}
        return json.dumps({"version": RECORD_VERSION, **values}, default=_fields_of).encode()


@dataclass(frozen=True, slots=True)
class View:
    """A job and its run as they are at one instant."""

    job: Job
    version: int
    status: JobStatus
    progress: int
    step: str
    queue_position: int
    eta_seconds: float | None
    wishes: Wishes
    delivery: Delivery | None
    failure: Failure | None
    started_at: float | None
    finished_at: float | None


@dataclass(frozen=True, slots=True)
class Ending:
    """How a job of that version is over."""

    version: int
    facts: dict[str, Any]


class Jobs:
    """Every job of the server, by id, in the order in which they came."""

    def __init__(
        self,
        files: Files,
        changed: threading.Condition,
        clock: Callable[[], float] = time.time,
        max_upload_bytes: float = math.inf,
    ) -> None:
        """`max_upload_bytes`: of the pictures of all jobs together."""
        self._files, self._changed, self._clock, self._max_upload_bytes = files, changed, clock, max_upload_bytes
        self._by_id: dict[str, Job] = {}
        self._read = False
        self._upload_bytes = 0
        self._waiters = 0
        self._stopped = False

    @property
    def _jobs(self) -> dict[str, Job]:
        if not self._read:
            self.restore()
        return self._by_id

    def restore(self) -> None:
        """Take over the jobs of an earlier process, those of earlier releases too; the first who asks for a job has it
        done, so that the start does not wait for it.

        A record that cannot be read stays where it is in the index; one in a file is set aside. What ended in the
        middle of its run is run once more, and no more, as it may be the reason.
        """
        with self._changed:
            if not self._read:
                self._restore()
                self._read = True

    def _restore(self) -> None:
        for job_id, data in self._files.index.jobs():
            try:
                self._known(_read(job_id, data))
            except RecordError as error:
                log.warning("the record of job %s cannot be read (%s): it stays in the index", job_id, error)
        self._take_over(Earlier(self._files))
        self._files.sweep()
        for job in self._by_id.values():
            if job.status in ACTIVE and job.status is not JobStatus.QUEUED:
                if job.interruptions:
                    self.settle(job, JobStatus.FAILED, failure=failure_of(JobInterruptedError()), delivery=None)
                else:
                    job.interruptions += 1
                    self.queue_again(job, None)

    def _known(self, job: Job) -> None:
        self._by_id[job.id] = job
        self._upload_bytes += job.upload_bytes

    def _take_over(self, earlier: Earlier) -> None:
        found = list[tuple[Job, bool]]()
        for stored in earlier.records():
            try:
                found.append((_read(stored.job_id, stored.data), stored.aside))
            except RecordError as error:
                if not stored.aside:
                    folder = earlier.set_aside(stored.job_id)
                    log.warning("the record of job %s cannot be read (%s): moved to %s", stored.job_id, error, folder)
        found.sort(key=lambda each: (each[1], each[0].created_at))
        for job, aside in found:
            if aside and job.id in self._by_id:
                continue  # there is a readable one beside it
            if aside:
                earlier.take_back(job.id)
                log.warning("the record of job %s can be read again: taken back", job.id)
            if job.delivery is not None:
                job.delivery = _kept(earlier, job.id, job.delivery)
            self._files.index.save_job(job.id, job.dump(), *job.contents)
            earlier.forget(job.id)
            if job.id not in self._by_id:
                self._known(job)
        if found:
            log.warning("%d jobs of an earlier release were taken over", len(found))
        earlier.sweep()

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
        return wanted[::-1][offset : offset + limit], len(wanted)

    def counts(self) -> dict[JobStatus, int]:
        """How many jobs are in each state."""
        with self._changed:
            statuses = [self.status(job) for job in self._jobs.values()]
        return {status: statuses.count(status) for status in JobStatus}

    def all(self) -> list[Job]:
        """Every job, oldest first."""
        with self._changed:
            return list(self._jobs.values())

    def is_gone(self, job: Job) -> bool:
        """A job cancelled more than a minute ago."""
        return job.status is JobStatus.CANCELLED and self._clock() - (job.finished_at or 0) > GONE_AFTER_SECONDS

    def is_kept(self, job_id: str) -> bool:
        """Whether there is such a job."""
        return job_id in self._jobs

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

    def add(self, job: Job) -> list[Job]:
        """Keep a new job, whose pictures are kept already. Those that are too many now, and were dropped for it: their
        files are the caller's to delete. OSError."""
        with self._changed:
            surplus = self._too_many(job)

            def write(db: sqlite3.Connection) -> None:
                self.save(job)
                db.executemany("DELETE FROM jobs WHERE id = ?", ((old.id,) for old in surplus))

            self._files.index.change(write)
            self._known(job)
            for old in surplus:
                self._drop(old)
            return surplus

    def _too_many(self, job: Job) -> list[Job]:
        many = len(self._jobs) + 1 - KEEP_JOBS
        much = self._upload_bytes + job.upload_bytes - self._max_upload_bytes
        surplus = list[Job]()
        for old in self._jobs.values() if many > 0 or much > 0 else ():
            if many <= 0 and much <= 0:
                break
            if old.status not in ACTIVE and (many > 0 or old.upload_bytes):
                surplus.append(old)
                many, much = many - 1, much - old.upload_bytes
        return surplus

    def remove(self, job: Job) -> None:
        """Drop it, and the contents that it alone names; JobBusyError, NotFoundError, OSError."""
        with self._changed:
            self.check_idle(job)
            self._files.index.change(lambda db: db.execute("DELETE FROM jobs WHERE id = ?", (job.id,)))
            self._drop(job)

    def _drop(self, job: Job) -> None:
        del self._jobs[job.id]
        self._upload_bytes -= job.upload_bytes
        self._release(job.contents, None)

    def _release(self, before: tuple[str | None, ...], job: Job | None) -> None:
        """Give up the contents that it named before, and does not any more."""
        after = job.contents if job else ()
        if gone := [sha256 for sha256 in before if sha256 and sha256 not in after]:
            self._files.blobs.release(gone)

    def begin(self, job: Job, wishes: Wishes, ticket: Ticket | None = None) -> int:
        """It waits for its run, or (without a ticket) is being answered at once. The attempt; JobBusyError."""
        self.check_idle(job)
        job.wishes, job.status, job.ticket = wishes, JobStatus.QUEUED, ticket
        job.attempt += 1
        job.interruptions = 0
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
            self._try_to_save(job)

    def queue_again(self, job: Job, ticket: Ticket | None) -> None:
        """It waits for its run once more: in this process or, without a ticket, in the next one."""
        job.status, job.ticket, job.started_at = JobStatus.QUEUED, ticket, None
        self._touch(job)
        self._try_to_save(job)

    def settle(self, job: Job, status: JobStatus, **facts: Any) -> None:
        """It is over. What it named before, and names no more, goes unless others name it. OSError where a completed
        one cannot be written: then it is not over."""
        ending = self._ending(job, status, facts)
        try:
            self._write(job, ending)
        except OSError as error:
            if status is JobStatus.COMPLETED:
                raise
            log.error("the record of job %s could not be written: %s", job.id, error)
        self.end(job, ending)

    def write_completed(self, job: Job, delivery: Delivery) -> Ending:
        """Write that it is completed, for `end` to tell once that is on the disk. OSError."""
        ending = self._ending(job, JobStatus.COMPLETED, {"delivery": delivery})
        self._write(job, ending)
        return ending

    def _ending(self, job: Job, status: JobStatus, facts: dict[str, Any]) -> Ending:
        return Ending(job.version, {"status": status, "finished_at": self._clock(), "ticket": None, **facts})

    def _write(self, job: Job, ending: Ending) -> None:
        before = {name: getattr(job, name) for name in ending.facts}
        _set(job, ending.facts)
        try:
            self.save(job)
        finally:
            _set(job, before)

    def end(self, job: Job, ending: Ending) -> None:
        """What was written so is so."""
        run_version, contents = job.ticket.run.version if job.ticket else 0, job.contents
        _set(job, ending.facts)
        if job.version != ending.version:  # it was written again in between, as one that goes on
            self._try_to_save(job)
        job.version += run_version
        self._touch(job)
        self._release(contents, job)

    def change(self, job: Job, **facts: Any) -> None:
        """Something else of it is different from now on; OSError: then nothing is."""
        before, contents, size = {name: getattr(job, name) for name in facts}, job.contents, job.upload_bytes
        try:
            _set(job, facts)
            self.save(job)
            self._files.index.sync()  # before anything goes that the record named
        except OSError:
            _set(job, before)
            raise
        self._upload_bytes += job.upload_bytes - size
        self._touch(job)
        self._release(contents, job)

    def _touch(self, job: Job) -> None:
        job.version += 1
        self._changed.notify_all()

    def save(self, job: Job) -> None:
        """A record is a few hundred bytes: written under the lock, so that none overtakes another. OSError."""
        self._files.index.save_job(job.id, job.dump(), *job.contents)

    def _try_to_save(self, job: Job) -> None:
        try:
            self.save(job)
        except OSError as error:
            log.error("the record of job %s could not be written: %s", job.id, error)

    # ── waiting ──────────────────────────────────────────────────────────────────────────────────────────────────

    def status(self, job: Job) -> JobStatus:
        """Its status at this instant: a run that has told of a stage is being processed, and a result that had to make
        room is none."""
        if job.ticket and job.ticket.run.stage:
            return JobStatus.PROCESSING
        return JobStatus.FAILED if self.is_evicted(job) else job.status

    def is_evicted(self, job: Job) -> bool:
        """Whether neither what it delivered nor what it could be converted from is there any more."""
        missing = self._files.blobs.missing
        return job.status is JobStatus.COMPLETED and all(each is None or each in missing for each in job.contents)

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


def _set(job: Job, facts: dict[str, Any]) -> None:
    for name, value in facts.items():
        setattr(job, name, value)


def _fields_of(part: Any) -> dict[str, Any]:
    """`asdict` of one level, without a copy of everything below it."""
    return {each.name: getattr(part, each.name) for each in fields(part)}


def _read(job_id: str, data: bytes) -> Job:
    job = Job(**load_record(data))
    if job.id != job_id:
        raise RecordError(f"it says that it belongs to job {job.id}")
    return job


def _kept(earlier: Earlier, job_id: str, delivery: Delivery) -> Delivery:
    """As it is delivered now."""
    sha256, size = earlier.keep_output(job_id, delivery.filename) or (None, delivery.file_size)
    shape, _ = earlier.keep_shape(delivery.shape_key) or (None, 0)
    return replace(delivery, sha256=sha256, file_size=size, shape_sha256=shape)


def _version(job: Job) -> int:
    return job.version + (job.ticket.run.version if job.ticket else 0)


def failure_of(error: Exception) -> Failure:
    """What a user should know of an error. Of one that nobody expected: its kind and first line; the log has more."""
    if isinstance(error, OrfeasError):
        return Failure(str(error), error.code, json.loads(json.dumps(error.details, default=str)))
    first_line = str(error).strip().partition("\n")[0][:300]
    return Failure(f"{type(error).__name__}: {first_line}".rstrip(": "), "internal")
