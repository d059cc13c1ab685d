"""Jobs: what a client holds. A job is a record on disk, and while it is active a ticket for a run.

`Jobs` owns the records and knows who may see them. It shares one lock, `changed`, with the queue: a job and its run are
always seen at one instant.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from errors import JobBusyError, NotFoundError
from store.files import Files
from work import records
from work.records import Failure, JobStatus, Record
from work.request import Wishes

if TYPE_CHECKING:
    from work.queue import Ticket

KEEP_JOBS = 500
"""Jobs that are remembered with their files; the oldest settled ones are forgotten first."""
MAX_WAITERS = 20
"""Requests that may wait for a change at once; a further one is answered as things stand."""
GONE_AFTER_SECONDS = 60.0
"""A cancelled job answers 410 after this long: old pages take only completed and failed for final."""

ACTIVE = frozenset({JobStatus.QUEUED, JobStatus.INITIALIZING, JobStatus.PROCESSING})
FINAL = frozenset({JobStatus.COMPLETED, JobStatus.FAILED, JobStatus.CANCELLED})

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
    attempt: int = 0
    """Counts how often it was begun: what an earlier attempt made is not this one's."""

    @property
    def active(self) -> bool:
        """Waiting or running."""
        return self.status in ACTIVE


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
                job = Job(**records.load(stored.data))
                if job.id != stored.job_id:
                    raise records.RecordError(f"it says that it belongs to job {job.id}")
            except records.RecordError as error:
                if not stored.aside:
                    folder = self._files.set_aside(stored.job_id)
                    log.warning("the record of job %s cannot be read (%s): moved to %s", stored.job_id, error, folder)
                continue
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

    def find(self, job_id: str) -> Job | None:
        """The job, whoever's it is, or None."""
        return self._jobs.get(job_id)

    def now(self) -> float:
        """Seconds since the epoch, by the clock that all records go by."""
        return self._clock()

    def page(
        self, limit: int, offset: int, status: JobStatus | None = None, caller: Caller = EVERYONE
    ) -> tuple[list[Job], int]:
        """The caller's, newest first, all or those of one status, and how many of these there are."""
        with self._changed:
            wanted = [job for job in self._jobs.values() if caller.may_see(job) and status in (None, job.status)]
        newest = sorted(wanted, key=lambda job: job.created_at, reverse=True)
        return newest[offset : offset + limit], len(newest)

    def counts(self) -> dict[JobStatus, int]:
        """How many jobs are in each state."""
        with self._changed:
            statuses = [job.status for job in self._jobs.values()]
        return {status: statuses.count(status) for status in JobStatus}

    def names_shape(self, key: str) -> bool:
        """Whether some job's result was made from that shape."""
        with self._changed:
            return any(job.delivery and job.delivery.shape_key == key for job in self._jobs.values())

    def all_active(self) -> list[Job]:
        """Those that wait or run."""
        return [job for job in self._jobs.values() if job.active]

    def is_gone(self, job: Job) -> bool:
        """A job cancelled more than a minute ago."""
        return job.status is JobStatus.CANCELLED and self._clock() - (job.finished_at or 0) > GONE_AFTER_SECONDS

    # ── changing: the caller holds `changed` wherever it decides by what it has seen ────────────────────────────────

    def add(self, job: Job) -> list[Job]:
        """Keep a new job; those that are too many now, for the caller to forget."""
        with self._changed:
            self._jobs[job.id] = job
            self.save(job)
            if len(self._jobs) <= KEEP_JOBS:
                return []
            settled = (job for job in self._jobs.values() if not job.active)
            return sorted(settled, key=lambda job: job.created_at)[: len(self._jobs) - KEEP_JOBS]

    def remove(self, job: Job) -> bool:
        """Drop it; False if it was dropped before."""
        with self._changed:
            return self._jobs.pop(job.id, None) is not None

    def begin(self, job: Job, wishes: Wishes, ticket: Ticket | None) -> None:
        """It waits for its run, or (without a ticket) is being answered at once; JobBusyError."""
        if job.active:
            raise JobBusyError
        job.wishes, job.status, job.ticket = wishes, JobStatus.QUEUED, ticket
        job.attempt += 1
        job.failure = job.started_at = job.finished_at = None
        self._touch(job)

    def started(self, job: Job) -> None:
        """A worker has taken it."""
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
            self._files.save_record(job.id, records.dump(job))
        except OSError as error:
            log.error("the record of job %s could not be written: %s", job.id, error)

    # ── waiting ──────────────────────────────────────────────────────────────────────────────────────────────────

    def version(self, job: Job) -> int:
        """Grows with every change of the job or of its run, until the server stops."""
        return job.version + (job.ticket.run.version if job.ticket else 0)

    def wait(
        self,
        job: Job,
        seconds: float,
        gone: Callable[[], bool] = lambda: False,
        *,
        final: bool = False,
        since: int | None = None,
    ) -> None:
        """Return when the job changes (or, with `final`, settles), the time is up, or the client has gone.

        `since`: the version that the client has seen; without it a change just before the call goes unnoticed.
        """
        deadline = time.monotonic() + seconds
        with self._changed:
            if self._waiters >= MAX_WAITERS:
                return
            self._waiters += 1
            seen = self.version(job) if since is None else since
            try:
                while (
                    job.status not in FINAL
                    and (final or self.version(job) == seen)
                    and not self._stopped
                    and (left := deadline - time.monotonic()) > 0
                    and not gone()
                ):
                    self._changed.wait(min(left, 1.0))
            finally:
                self._waiters -= 1

    def stop(self) -> None:
        """Let nobody wait any more."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()


def unexpected(error: Exception) -> Failure:
    """The kind and the first line of an error, for a user to report; the log has the traceback."""
    first_line = str(error).strip().partition("\n")[0][:300]
    return Failure(f"{type(error).__name__}: {first_line}".rstrip(": "), "internal")
