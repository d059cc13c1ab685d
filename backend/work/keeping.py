"""What is deleted, and when: by a user, as too many, as too old. Never what is in use."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass

from cache_manager import LRUCache
from errors import JobBusyError, NotFoundError
from store.files import Files
from store.filesystem import told
from store.results import Results
from work.jobs import Job, Jobs
from work.queue import Queue
from work.request import Picture

_SWEEP_SECONDS = 60.0
"""Between two looks at what has become too old; less where things are kept for less than that."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Limits:
    """What bounds uploads, runs and what is kept."""

    max_upload_bytes: int
    max_image_pixels: int
    max_queued: int
    workers: int
    max_uploads_bytes: float = math.inf
    """Of the pictures of all jobs together."""
    retention_seconds: float | None = None
    """Jobs and results that nobody used for longer are deleted; None: never."""


class Keeping:
    """Deletes jobs with all that is theirs, and sweeps from time to time."""

    def __init__(
        self, jobs: Jobs, queue: Queue, results: Results, files: Files, facts: LRUCache, limits: Limits
    ) -> None:
        """`facts`: of pictures, by the SHA-256 of their files."""
        self._jobs, self._queue, self._results, self._files = jobs, queue, results, files
        self._facts, self._retention = facts, limits.retention_seconds
        self._stopping = threading.Event()

    # ── from time to time ────────────────────────────────────────────────────────────────────────────────────────

    def start(self) -> None:
        """Sweep now, and again and again in a thread of its own."""
        threading.Thread(target=self._sweep_now_and_then, name="sweeper", daemon=True).start()

    def stop(self) -> None:
        """Sweep no more."""
        self._stopping.set()

    def _sweep_now_and_then(self) -> None:
        period = min(_SWEEP_SECONDS, max(1.0, (self._retention or math.inf) / 4))
        while not self._stopping.is_set():
            try:
                self.sweep()
            except Exception:  # the next one may succeed
                if not self._stopping.is_set():
                    log.exception("what is too old could not be deleted")
            self._stopping.wait(period)

    def sweep(self) -> None:
        """Delete jobs that nobody touched for too long, results that nobody used for so long, and expired ones."""
        now = min(self._results.disk.clock(), time.time())  # a clock that was set makes nothing older than it is
        for job in self._jobs.all() if self._retention is not None else ():
            if now - max(job.created_at, job.finished_at or 0.0) > (self._retention or 0.0):
                with suppress(JobBusyError, NotFoundError):  # in use, or deleted since
                    self.forget(job, pinned=False)
        self._results.sweep(self._retention)

    # ── one job ──────────────────────────────────────────────────────────────────────────────────────────────────

    def forget(self, job: Job, *, pinned: bool = True) -> None:
        """Drop a job that is not active, with its pictures and with all that was made of them and that no other job
        names, what is `pinned` too; JobBusyError."""
        with told():
            self._jobs.remove(job)
            self._files.index.sync()  # before the pictures that the record named go
        self._files.forget_job(job.id, [picture.name for picture in job.pictures.values()])
        self.forget_results(job.pictures.values(), job.contents[1], pinned=pinned)

    def forget_results(
        self, pictures: Iterable[Picture], shape_sha256: str | None = None, *, pinned: bool = True
    ) -> None:
        """Of these pictures, or of the shape of that content where there was no picture."""
        pictures, others = list(pictures), self._jobs.all()
        stay = set[str]() if pinned else {key for key, is_pinned in self._results.disk.keys().items() if is_pinned}
        keys = {key for job in others if job.delivery for key in (job.delivery.file_key, job.delivery.shape_key)}
        seen = {picture.sha256 for job in others for picture in job.pictures.values()}

        def named(key: str, sources: tuple[str, ...]) -> bool:
            if key.startswith("cutout:"):
                return key in stay or seen.issuperset(sources)
            return key in stay or key in keys or self._queue.makes(key)

        shapes = [shape_sha256] if shape_sha256 and not pictures else []
        self._results.forget([picture.sha256 for picture in pictures], shapes, named)
        for picture in pictures:
            if picture.file_sha256 and picture.sha256 not in seen:
                self._facts.delete(picture.file_sha256)
