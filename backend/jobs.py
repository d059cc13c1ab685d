"""Jobs: a bounded queue, its worker threads, and what a client may know of each job.

A *job* is what a client holds: an uploaded picture and what became of it. A *run* is one execution. Identical requests
that are under way at once share a run; a job that is cancelled leaves its run, and a run that all its jobs have left
is told to stop. All state has one owner, `JobQueue`, and one lock.
"""

from __future__ import annotations

import logging
import statistics
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from functools import partial
from typing import Any

from pydantic import BaseModel, ConfigDict, PrivateAttr, ValidationError

from models.base import Cancelled, GenerationCancelledError, Progress
from schemas import GenerateBody
from storage import Storage

KEEP_JOBS = 500
"""Jobs that are remembered with their files; the oldest settled ones are forgotten first."""
MAX_WAITERS = 20
"""Requests that may wait for a change at once; a further one is answered as things stand."""
GONE_AFTER_SECONDS = 60.0
"""A cancelled job answers 410 after this long: old pages take only completed and failed for final."""

log = logging.getLogger(__name__)


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


class QueueFullError(Exception):
    """The bound on waiting runs is reached; `retry_after` seconds may help."""

    def __init__(self, retry_after: int) -> None:
        super().__init__("too many jobs are waiting")
        self.retry_after = retry_after


class JobBusyError(Exception):
    """The job is already waiting or running."""


class StoppedError(Exception):
    """The server is shutting down."""


class JobFailedError(Exception):
    """A run failed for a known reason: `error_type` is a word for programs, the text is for people."""

    def __init__(self, error_type: str, message: str, details: dict[str, Any] | None = None) -> None:
        super().__init__(message)
        self.error_type = error_type
        self.details = details or {}


class _Record(BaseModel):
    model_config = ConfigDict(defer_build=True)


class Upload(_Record):
    """The picture a job starts from."""

    extension: str
    original_filename: str
    sha256: str
    image_info: dict[str, Any]
    empty: dict[str, str]
    """For each choice of `remove_background` that finds nothing in the picture at a glance: what is seen."""


class Delivery(_Record):
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


class Failure(_Record):
    """Why a job failed."""

    error: str
    error_type: str
    details: dict[str, Any] = {}


class Job(_Record):
    """One picture and what became of it; what is public here survives a restart. Times are seconds since the epoch."""

    id: str
    upload: Upload
    created_at: float
    status: JobStatus = JobStatus.UPLOADED
    body: GenerateBody = GenerateBody()
    delivery: Delivery | None = None
    failure: Failure | None = None
    started_at: float | None = None
    finished_at: float | None = None
    mask: str | None = None
    """SHA-256 of the user's own mask; None: the server finds the object."""
    has_thumbnail: bool = False

    _run: Run | None = PrivateAttr(default=None)
    _work: Work | None = PrivateAttr(default=None)
    _progress: float = PrivateAttr(default=0.0)
    _stage: str = PrivateAttr(default="")
    _version: int = PrivateAttr(default=0)

    @property
    def picture_name(self) -> str:
        """The upload's name on disk."""
        return f"{self.id}.{self.upload.extension}"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run made: the file and the facts that every job of the run delivers."""

    data: bytes
    delivery: Delivery
    """Its `filename` is filled in for each job."""


Work = Callable[[Progress, Cancelled], Outcome]
"""What a job wants done."""


@dataclass(eq=False, slots=True)
class Run:
    """One execution, shared by the jobs that asked for the same thing."""

    key: str | None
    """What makes two requests identical; None: shared with nobody."""
    kind: str
    """See `run_kind`."""
    jobs: list[Job] = field(default_factory=list)
    """Any of them can say what is to be done; the first one does."""
    cancelled: threading.Event = field(default_factory=threading.Event)
    started: float | None = None
    """Monotonic seconds."""


class JobQueue:
    """Owns every job and run of the server, and the threads that work on them."""

    def __init__(
        self,
        storage: Storage,
        *,
        max_queued: int,
        workers: int,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._storage, self._max_queued = storage, max_queued
        self._clock, self._monotonic = clock, monotonic
        self._changed = threading.Condition()
        self._jobs: dict[str, Job] = {}
        self._waiting: deque[Run] = deque()
        self._running: list[Run] = []
        self._past: dict[str, deque[float]] = {}
        self._waiters = 0
        self._stopped = False
        self.coalesced = 0
        self._restore()
        self._threads = [threading.Thread(target=self._work, name=f"worker-{i}", daemon=True) for i in range(workers)]
        for thread in self._threads:
            thread.start()

    # ── what clients do ──────────────────────────────────────────────────────────────────────────────────────────

    def add(self, data: bytes, upload: Upload) -> Job:
        """Keep an uploaded picture; beyond KEEP_JOBS the oldest settled job is forgotten."""
        job = Job(id=str(uuid.uuid4()), upload=upload, created_at=self._clock())
        self._storage.save(self._storage.upload(job.picture_name), data)
        with self._changed:
            self._jobs[job.id] = job
            self._save(job)
            surplus = self._surplus()
        for old in surplus:
            self.forget(old)
        return job

    def submit(self, job: Job, body: GenerateBody, key: str | None, kind: str, work: Work) -> None:
        """Queue the job, or let it join the run under way that has the same key."""
        with self._changed:
            self._check_free(job)
            run = next((r for r in (*self._running, *self._waiting) if key and r.key == key), None)
            if run is None:
                if len(self._waiting) >= self._max_queued:
                    raise QueueFullError(self._retry_after())
                run = Run(key, kind)
                self._waiting.append(run)
            else:
                self.coalesced += 1
            self._begin(job, body)
            run.jobs.append(job)
            job._run, job._work = run, work
            if run.started is not None:
                self._mark_started(job)
            self._save(job)
            self._changed.notify_all()

    def complete(self, job: Job, body: GenerateBody, outcome: Outcome) -> None:
        """Deliver what needs no run: a hit of the cache."""
        with self._changed:
            self._check_free(job)
            self._begin(job, body)
            self._mark_started(job)
        self._deliver(job, None, outcome)

    def get(self, job_id: str) -> Job | None:
        """The job, or None."""
        with self._changed:
            return self._jobs.get(job_id)

    def page(self, limit: int, offset: int, status: JobStatus | None = None) -> tuple[list[Job], int]:
        """Newest first, all or those of one status, and how many of these there are."""
        with self._changed:
            wanted = [job for job in self._jobs.values() if status is None or job.status is status]
        newest = sorted(wanted, key=lambda job: job.created_at, reverse=True)
        return newest[offset : offset + limit], len(newest)

    def cancel(self, job: Job) -> bool:
        """Stop an active job; False when it is not active."""
        with self._changed:
            if job.status not in ACTIVE:
                return False
            self._leave_run(job)
            self._settle(job, JobStatus.CANCELLED)
            return True

    def forget(self, job: Job) -> None:
        """Drop a job that is not active, with its files."""
        with self._changed:
            if self._jobs.pop(job.id, None) is None:
                return
            shape = job.delivery.shape_key if job.delivery else None
            shared = any(other.delivery and other.delivery.shape_key == shape for other in self._jobs.values())
        self._storage.forget_job(job.id, job.picture_name)
        if shape and not shared:
            self._storage.forget_shape(shape)

    def set_mask(self, job: Job, digest: str | None, png: bytes | None) -> None:
        """Use the user's mask for the job from now on, or none; not while it waits or runs."""
        with self._changed:
            if job.status in ACTIVE:
                raise JobBusyError
            if png is None:
                self._storage.mask(job.id).unlink(missing_ok=True)
            else:
                self._storage.save(self._storage.mask(job.id), png)
            job.mask = digest
            self._save(job)

    def set_thumbnail(self, job: Job, data: bytes) -> None:
        """Keep a small picture of the job's model."""
        with self._changed:
            self._storage.save(self._storage.thumbnail(job.id), data)
            job.has_thumbnail = True
            self._save(job)

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
        deadline = self._monotonic() + seconds
        with self._changed:
            if self._waiters >= MAX_WAITERS:
                return
            self._waiters += 1
            version = job._version if since is None else since
            try:
                while (
                    job.status not in FINAL
                    and (final or job._version == version)
                    and not self._stopped
                    and (left := deadline - self._monotonic()) > 0
                    and not gone()
                ):
                    self._changed.wait(min(left, 1.0))
            finally:
                self._waiters -= 1

    def stop(self, timeout: float) -> None:
        """Refuse new jobs, tell running ones to cancel, wait up to `timeout` seconds for the workers."""
        with self._changed:
            self._stopped = True
            for job in [job for run in (*self._running, *self._waiting) for job in run.jobs]:
                self._leave_run(job)
                failure = Failure(error="the server stopped before this was done; start it again", error_type="stopped")
                self._settle(job, JobStatus.FAILED, failure=failure)
            self._changed.notify_all()
        deadline = time.monotonic() + timeout
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))

    # ── what clients see ─────────────────────────────────────────────────────────────────────────────────────────

    def counts(self) -> dict[JobStatus, int]:
        """How many jobs are in each state."""
        with self._changed:
            statuses = [job.status for job in self._jobs.values()]
        return {status: statuses.count(status) for status in JobStatus}

    def lengths(self) -> tuple[int, int]:
        """Runs under way, runs that wait."""
        with self._changed:
            return len(self._running), len(self._waiting)

    def expected_seconds(self, model: str) -> dict[int, float]:
        """The median time of past runs of a model, for each quality that has been run."""
        with self._changed:
            past = {kind: statistics.median(times) for kind, times in self._past.items()}
        return {quality: round(past[kind], 3) for quality in range(1, 11) if (kind := run_kind(model, quality)) in past}

    def view(self, job: Job) -> dict[str, Any]:
        """The moving part of a job's status: everything that only the queue knows, read at one instant."""
        with self._changed:
            position = self._position(job)
            return {
                "version": job._version,
                "status": job.status,
                "progress": 100 if job.status is JobStatus.COMPLETED else int(100 * job._progress),
                "step": (job.status in ACTIVE and job._stage) or job.status.value,
                "queue_position": position,
                "eta_seconds": self._eta(job, position),
                "body": job.body,
                "delivery": job.delivery,
                "failure": job.failure,
                "started_at": job.started_at,
                "finished_at": job.finished_at,
            }

    def is_gone(self, job: Job) -> bool:
        """A job cancelled more than a minute ago."""
        return job.status is JobStatus.CANCELLED and self._clock() - (job.finished_at or 0) > GONE_AFTER_SECONDS

    def _position(self, job: Job) -> int:
        run = job._run
        return self._waiting.index(run) + 1 if run is not None and run in self._waiting else 0

    def _eta(self, job: Job, position: int) -> float | None:
        """Median time of past runs of the kind, less what has passed, after what stands before it in the queue."""
        if job._run is None:
            return None
        ahead = list(self._waiting)[:position] if position else [job._run]
        lefts = [self._time_left(run) for run in (*(self._running if position else ()), *ahead)]
        known = [left for left in lefts if left is not None]
        return round(sum(known) / len(self._threads), 2) if len(known) == len(lefts) else None

    def _time_left(self, run: Run) -> float | None:
        past = self._past.get(run.kind)
        if not past:
            return None
        elapsed = self._monotonic() - run.started if run.started is not None else 0.0
        return max(0.0, statistics.median(past) - elapsed)

    def _retry_after(self) -> int:
        lefts = [left for run in self._running if (left := self._time_left(run)) is not None]
        return max(1, round(min(lefts, default=5.0)))

    # ── state changes, all under the lock ────────────────────────────────────────────────────────────────────────

    def _check_free(self, job: Job) -> None:
        if self._stopped:
            raise StoppedError
        if job.status in ACTIVE:
            raise JobBusyError

    def _begin(self, job: Job, body: GenerateBody) -> None:
        job.body, job.status = body, JobStatus.QUEUED
        job.failure = job.started_at = job.finished_at = None
        job._progress, job._stage = 0.0, ""
        job._version += 1

    def _mark_started(self, job: Job) -> None:
        job.status, job.started_at = JobStatus.INITIALIZING, self._clock()
        job._version += 1

    def _settle(self, job: Job, status: JobStatus, **facts: Any) -> None:
        job.status, job.finished_at, job._run, job._work = status, self._clock(), None, None
        for name, value in facts.items():
            setattr(job, name, value)
        job._version += 1
        self._save(job)
        self._changed.notify_all()

    def _leave_run(self, job: Job) -> None:
        run = job._run
        if run is not None and job in run.jobs:
            run.jobs.remove(job)
            if not run.jobs:
                run.cancelled.set()
                run.key = None  # nobody may join a run that is told to stop
                if run in self._waiting:
                    self._waiting.remove(run)

    def _save(self, job: Job) -> None:
        """A record is a few hundred bytes: written under the lock, so that records never overtake each other."""
        try:
            self._storage.save_record(job.id, job.model_dump_json().encode())
        except OSError as error:
            log.error("the record of job %s could not be written: %s", job.id, error)

    def _surplus(self) -> Iterable[Job]:
        settled = (job for job in self._jobs.values() if job.status not in ACTIVE)
        return sorted(settled, key=lambda job: job.created_at)[: max(0, len(self._jobs) - KEEP_JOBS)]

    def _restore(self) -> None:
        """Take over the jobs of an earlier process; what was active then has failed."""
        for record in self._storage.records():
            try:
                job = Job.model_validate_json(record)
            except ValidationError:
                log.warning("a job record of another version was left out")
                continue
            self._jobs[job.id] = job
            if job.status in ACTIVE:
                failure = Failure(error="the server stopped before this was done; start it again", error_type="stopped")
                with self._changed:
                    self._settle(job, JobStatus.FAILED, failure=failure)
        for job in sorted(self._jobs.values(), key=lambda job: job.finished_at or 0):
            if job.delivery and not job.delivery.cached and job.started_at and job.finished_at:
                kind = run_kind(job.delivery.model, job.body.quality)
                self._remember_time(kind, max(0.0, job.finished_at - job.started_at))
        shapes = {job.delivery.shape_key for job in self._jobs.values() if job.delivery}
        self._storage.forget_orphans(set(self._jobs), shapes)

    # ── the workers ──────────────────────────────────────────────────────────────────────────────────────────────

    def _work(self) -> None:
        while (step := self._next_run()) is not None:
            run, work = step
            try:
                outcome = work(partial(self._report, run), run.cancelled.is_set)
            except GenerationCancelledError:
                self._end_run(run, Failure(error="cancelled", error_type="cancelled"))
            except JobFailedError as error:
                self._end_run(run, Failure(error=str(error), error_type=error.error_type, details=error.details))
            except BaseException as error:  # a fault in one job must never take the worker with it
                log.exception("a run failed unexpectedly")
                self._end_run(run, _unexpected(error))
            else:
                self._end_run(run, outcome)

    def _next_run(self) -> tuple[Run, Work] | None:
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._stopped)
            if self._stopped:
                return None
            run = self._waiting.popleft()
            self._running.append(run)
            run.started = self._monotonic()
            for job in run.jobs:
                self._mark_started(job)
            self._changed.notify_all()
            work = run.jobs[0]._work
            assert work is not None  # every job of a run has its own
            return run, work

    def _remember_time(self, kind: str, seconds: float) -> None:
        self._past.setdefault(kind, deque(maxlen=20)).append(seconds)

    def _report(self, run: Run, fraction: float, stage: str) -> None:
        with self._changed:
            for job in run.jobs:
                job.status = JobStatus.PROCESSING
                job._progress, job._stage = max(job._progress, min(fraction, 0.99)), stage
                job._version += 1
            self._changed.notify_all()

    def _end_run(self, run: Run, result: Outcome | Failure) -> None:
        with self._changed:
            self._running.remove(run)  # from here on nobody joins it
            jobs = list(run.jobs)
            if isinstance(result, Outcome) and not result.delivery.cached and run.started is not None:
                self._remember_time(run.kind, self._monotonic() - run.started)
            if isinstance(result, Failure):
                for job in jobs:
                    self._settle(job, JobStatus.FAILED, failure=result, delivery=None)
        if isinstance(result, Outcome):
            for job in jobs:
                self._deliver(job, run, result)

    def _deliver(self, job: Job, run: Run | None, outcome: Outcome) -> None:
        """Write the job's own file, then say completed, unless the job was cancelled or begun anew in between."""
        filename = f"model_{job.id}.{job.body.format}"
        status = JobStatus.COMPLETED
        facts: dict[str, Any] = {"delivery": outcome.delivery.model_copy(update={"filename": filename})}
        try:
            self._storage.save_output(job.id, filename, outcome.data)
        except OSError as error:
            log.error("the output of job %s could not be written: %s", job.id, error)
            failure = Failure(error=f"the file could not be written: {error.strerror}", error_type="storage")
            status, facts = JobStatus.FAILED, {"failure": failure, "delivery": None}
        with self._changed:
            if job.status in ACTIVE and job._run is run:
                self._settle(job, status, **facts)


def run_kind(model: str, quality: int) -> str:
    """Runs of one kind take about equally long."""
    return f"{model}/{quality}"


def _unexpected(error: BaseException) -> Failure:
    """The kind and the first line of an error, for a user to report; the log has the traceback."""
    first_line = str(error).strip().partition("\n")[0][:300]
    return Failure(error=f"{type(error).__name__}: {first_line}".rstrip(": "), error_type="internal")
