"""The one counter of the house: receive pictures, make models, fetch results. Every door calls it; it knows no HTTP."""

from __future__ import annotations

import hashlib
import io
import logging
import threading
import time
import uuid
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol

from cache_manager import LRUCache
from errors import (
    EmptyImageError,
    JobBusyError,
    NotFoundError,
    ShapeLostError,
    StoppedError,
    StorageError,
    TooLargeError,
    UploadLostError,
    bad_field,
)
from mesh.formats import FORMATS
from models.shelf import Known, Shelf
from store.files import Files
from store.results import Results
from work.jobs import ACTIVE, Caller, Delivery, Failure, Job, Jobs, JobStatus, failure_of
from work.plan import Plan, plan
from work.queue import Queue, Run, Ticket
from work.request import Outcome, Picture, Reporter, Request, Wishes

if TYPE_CHECKING:  # with numpy and Pillow, which the start does not wait for
    from picture.decode import Facts
    from work.pipeline import Pipeline

log = logging.getLogger(__name__)
_FACTS_MB = 0.002
"""What the facts of one picture hold, roughly."""


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
class Limits:
    """What bounds uploads and runs."""

    max_upload_bytes: int
    max_image_pixels: int
    max_queued: int
    workers: int


@dataclass(frozen=True, slots=True)
class _Checked:
    """An upload that may be kept."""

    facts: Facts
    data: bytes
    file_sha256: str
    filename: str

    def picture(self, stem: str) -> Picture:
        """As the job holds it; the upload's name begins with `stem`."""
        facts = self.facts
        return Picture(
            name=f"{stem}.{facts.extension}",
            original_filename=self.filename,
            extension=facts.extension,
            sha256=facts.sha256,
            image_info=facts.image_info,
            empty=facts.empty,
            hidden=facts.hidden,
            file_sha256=self.file_sha256,
        )


class Timer(Protocol):
    """Takes the time of the runs of one model."""

    def time(self) -> AbstractContextManager[Any]:
        """Of the body."""


class Service:
    """Owns the jobs and the queue; the shelf, the results and the files are its server's."""

    def __init__(
        self,
        shelf: Shelf,
        results: Results,
        files: Files,
        limits: Limits,
        look: Callable[[str], Any],
        keep: Callable[[str, Any, float], None],
        timer: Callable[[str], Timer],
    ) -> None:
        self.shelf, self.results, self.files, self.limits = shelf, results, files, limits
        self._look, self._keep, self._timer = look, keep, timer
        lock = threading.RLock()
        self._changed = threading.Condition(lock)
        self.jobs = Jobs(files, self._changed)
        self.queue = Queue(
            lock,
            self._changed,
            execute=self._execute,
            started=self.jobs.started,
            ended=self._ended,
            max_queued=limits.max_queued,
        )
        self._pipeline: Pipeline | None = None
        self.seconds_saved = 0.0
        """Of all jobs since the start."""
        # The same bytes again need no decoding: only what is known of the picture is kept.
        self._facts = LRUCache(max_size=1000, max_memory_mb=1000 * _FACTS_MB)
        self._restore()

    def _restore(self) -> None:
        for job in self.jobs.restore():
            if job.status in ACTIVE:
                with self._changed:
                    self._settle(job, StoppedError())
            elif job.delivery and not job.delivery.cached and job.started_at and job.finished_at:
                seconds = max(0.0, job.finished_at - job.started_at)
                self.queue.remember((job.delivery.model, job.wishes.quality), seconds)

    @property
    def pipeline(self) -> Pipeline:
        """What does the work; numpy comes with it."""
        if self._pipeline is None:
            from work.pipeline import Pipeline

            self._pipeline = Pipeline(self.results, self.files, self.limits.max_image_pixels, self._look, self._keep)
        return self._pipeline

    # ── receiving ────────────────────────────────────────────────────────────────────────────────────────────────

    def receive(
        self, data: bytes, filename: str, caller: Caller, *, job: Job | None = None, view: str = "front"
    ) -> Job:
        """Check a picture and keep it, as a new job or as a further view of one; RequestError, PictureError."""
        if job is None:
            return self.receive_all({view: (data, filename)}, caller)
        return self._add_view(job, view, self._checked(data, filename, view))

    def receive_all(self, pictures: dict[str, tuple[bytes, str]], caller: Caller) -> Job:
        """Pictures of one object, by view, with their file names, as a new job: all are checked, then all are kept."""
        if "front" not in pictures:
            raise bad_field("front", "is missing: other sides need a front picture beside them, or the job_id of one")
        return self._new_job({view: self._checked(*sent, view) for view, sent in pictures.items()}, caller)

    def _checked(self, data: bytes, filename: str, view: str) -> _Checked:
        from picture.decode import facts

        field = "image" if view == "front" else view
        if not data:
            raise bad_field(field, "is empty")
        if len(data) > self.limits.max_upload_bytes:
            message = f"the picture is larger than {self.limits.max_upload_bytes / 1e6:g} MB"
            raise TooLargeError(message, {field: message})
        key = hashlib.sha256(data).hexdigest()
        look = partial(facts, data, self.limits.max_image_pixels, field)
        found = self._facts.get_or_compute(key, look, size_mb=_FACTS_MB)
        return _Checked(found, data, key, filename[:255])

    def _new_job(self, checked: dict[str, _Checked], caller: Caller) -> Job:
        job_id = str(uuid.uuid4())
        pictures = {
            view: each.picture(job_id if view == "front" else f"{job_id}.{view}") for view, each in checked.items()
        }
        job = Job(id=job_id, owner=caller.owner, created_at=time.time(), pictures=pictures)
        self._keep_job(job, {pictures[view].name: each.data for view, each in checked.items()})
        return job

    def _keep_job(self, job: Job, uploads: dict[str, bytes]) -> None:
        for old in self.jobs.add(job, uploads):
            with suppress(JobBusyError, NotFoundError):  # started or deleted since
                self.forget(old)

    def _add_view(self, job: Job, view: str, checked: _Checked) -> Job:
        # A run may be under way that was asked for the earlier one: what a name stands for never changes.
        picture = checked.picture(f"{job.id}.{view}-{checked.facts.sha256[:12]}")
        with self._changed:
            self.jobs.check_idle(job)
            self.files.save(self.files.upload(picture.name), checked.data)
            before = job.pictures.get(view)
            job.pictures = {**job.pictures, view: picture}
            if view == "front":  # the mask was drawn, and the model made, for another picture
                job.mask, job.status, job.delivery, job.failure = None, JobStatus.UPLOADED, None, None
            self.jobs.changed(job)
            if view == "front":
                self.files.keep_mask(job.id, None)
        if before is not None and before.name != picture.name:
            self.files.upload(before.name).unlink(missing_ok=True)
        return job

    def prompt_only(self, wishes: Wishes, caller: Caller) -> Job:
        """A job without a picture, for a model that makes shapes from a prompt alone; RequestError."""
        known = self.shelf.chosen(wishes.model)
        if known.needs_image:
            raise bad_field(
                "prompt",
                f"the model {known.id} needs a picture: upload one first, or send it as the form field image",
            )
        job = Job(id=str(uuid.uuid4()), owner=caller.owner, created_at=time.time(), pictures={})
        self._keep_job(job, {})
        return job

    def set_mask(self, job: Job, data: bytes | None) -> None:
        """Use the user's mask of the front from now on, or none; not while the job waits or runs.

        White or opaque is the object. Any size will do that has the picture's proportions.
        """
        digest, png = (None, b"") if data is None else self._checked_mask(job, data)
        with self._changed:
            self.jobs.check_idle(job)
            if digest is not None:
                self.files.save(self.files.new_mask(job.id, digest), png)
            job.mask = digest
            self.jobs.changed(job)  # the record first: it must never name a mask that is gone
            self.files.keep_mask(job.id, digest)

    def _checked_mask(self, job: Job, data: bytes) -> tuple[str, bytes]:
        from picture.cutout import mask_digest, mask_png
        from picture.decode import decode

        mask = decode(data, self.limits.max_image_pixels, "mask")
        alpha = mask.rgba[..., 3] if mask.has_transparency else mask.rgba[..., 0]
        info = self._front(job).image_info
        width, height = info["width"], info["height"]
        if abs(mask.width * height - mask.height * width) > max(width, height) * max(mask.width, mask.height) * 0.01:
            raise bad_field("mask", f"must have the proportions of the picture, {width} × {height}")
        if not alpha.any():
            raise EmptyImageError("the mask is empty", {"mask": "is empty"})
        return mask_digest(alpha), mask_png(alpha)

    def set_thumbnail(self, job: Job, data: bytes) -> None:
        """Keep a small picture of the job's model."""
        with self._changed:
            self.jobs.check_kept(job)
            self.files.save(self.files.thumbnail(job.id), data)
            job.has_thumbnail = True
            self.jobs.changed(job)

    # ── making ───────────────────────────────────────────────────────────────────────────────────────────────────

    def make(self, job: Job, wishes: Wishes) -> None:
        """Answer from the cache, or queue the job.

        JobBusyError, EmptyImageError, RequestError for a wish that cannot be met, UnavailableError.
        """
        pipeline, known = self.pipeline, self.shelf.chosen(wishes.model)
        with self._changed:
            if job.status in ACTIVE:
                raise JobBusyError
            request = Request(job.id, job.pictures, job.mask, wishes, known.id)
        front = request.pictures.get("front")
        if front is None or (request.mask is None and wishes.remove_background in front.empty):
            _check_possible(request, known)
        keys = plan(request, known.revision, known.reads) if known.revision else None
        if keys is not None and (outcome := pipeline.known(keys, wishes)) is not None:
            with self._changed:
                attempt = self.jobs.begin(job, wishes)
            self._deliver(job, attempt, replace(outcome, note=known.note), request)
        else:
            self._enqueue(job, request, keys, known)

    def _enqueue(self, job: Job, request: Request, keys: Plan | None, known: Known) -> None:
        with self._changed:
            self.jobs.check_idle(job)
            key = keys.file if keys and self.results.enabled else None
            ticket = self.queue.submit(request, keys, key, self.limits.workers if known.thread_safe else 1)
            self.jobs.begin(job, request.wishes, ticket)
            self.jobs.save(job)

    # ── runs ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def _execute(self, run: Run, reporter: Reporter) -> Outcome:
        """Do the work of a run, from the inputs of whichever of its requests still has them."""
        tried, lost = set[str](), None
        with self.shelf.use(run.lane) as model, self._timer(model.id).time():
            if model.device != "cpu":  # the processor has room for all
                self.queue.hold(run, "cuda:0" if model.device == "cuda" else model.device)
            while (request := self._untried(run, tried)) is not None:
                tried.add(request.job_id)
                keys = run.plan
                if keys is None or keys.revision != model.revision:
                    keys = plan(request, model.revision, model.reads)
                try:
                    return self.pipeline.make(request, keys, model, reporter, run.cancelled.is_set)
                except UploadLostError as error:  # its job was deleted; another one may have brought the same picture
                    lost = error
            raise lost or UploadLostError

    def _untried(self, run: Run, tried: set[str]) -> Request | None:
        with self._changed:
            return next((ticket.request for ticket in run.tickets if ticket.request.job_id not in tried), None)

    def _ended(self, tickets: list[Ticket], result: Outcome | Exception) -> None:
        """Deliver the result, or say why there is none, to all who still wait for it."""
        with self._changed:
            waiting = [(job, job.attempt, job.ticket) for job in self.jobs.holders(tickets)]
            if not isinstance(result, Outcome):
                for job, _, _ in waiting:
                    self._settle(job, result)
                return
        for job, attempt, ticket in waiting:
            if ticket is not None:
                self._deliver(job, attempt, result, ticket.request)

    def _settle(self, job: Job, error: Exception) -> None:
        failure = failure_of(error)
        self.jobs.settle(job, JobStatus.FAILED, failure=failure, delivery=None)

    def _deliver(self, job: Job, attempt: int, outcome: Outcome, request: Request) -> None:
        """Put the job's own file in place and say completed, unless it was cancelled or begun anew in between."""
        filename = f"model_{job.id}.{request.wishes.format}"
        delivery = Delivery(
            filename=filename,
            file_size=len(outcome.file.data),
            etag=outcome.file_key.rpartition(":")[2],
            shape_key=outcome.shape_key,
            model=request.model,
            cached=outcome.cached,
            mesh=dict(outcome.file.report or {}),
            timings=dict(outcome.timings),
            seconds_saved=outcome.seconds_saved,
            model_note=outcome.note,
            wishes=request.wishes,
        )
        try:
            staged = self.files.stage_output(job.id, outcome.file.data)
            with self._changed:
                if job.status not in ACTIVE or job.attempt != attempt:
                    staged.unlink(missing_ok=True)
                    return
                self.files.place_output(staged, job.id, filename)
                self.jobs.settle(job, JobStatus.COMPLETED, delivery=delivery)
                self.seconds_saved += outcome.seconds_saved
                # The last job of the shape may have been forgotten meanwhile; this one may want another format of it.
                if not self.files.has_shape(outcome.shape_key):
                    shape = outcome.shape or self.results.peek(outcome.shape_key)
                    if shape is not None:
                        self.files.save_shape(outcome.shape_key, shape.data)
        except OSError as error:
            log.error("the output of job %s could not be written: %s", job.id, error)
            with self._changed:
                if job.status in ACTIVE and job.attempt == attempt:
                    self._settle(job, StorageError(f"the file could not be written: {error.strerror or error}"))

    # ── what becomes of a job ────────────────────────────────────────────────────────────────────────────────────

    def view(self, job: Job) -> View:
        """The job and its run at one instant."""
        with self._changed:
            run = job.ticket.run if job.ticket else None
            position, eta = self.queue.place(run) if run else (0, None)
            working = run is not None and bool(run.stage)
            return View(
                job=job,
                version=job.version + (run.version if run else 0),
                status=JobStatus.PROCESSING if working else job.status,
                progress=100 if job.status is JobStatus.COMPLETED else int(100 * run.progress) if run else 0,
                step=run.stage if run is not None and run.stage else job.status.value,
                queue_position=position,
                eta_seconds=eta,
                wishes=job.wishes,
                delivery=job.delivery if job.status is JobStatus.COMPLETED else None,
                failure=job.failure,
                started_at=job.started_at,
                finished_at=job.finished_at,
            )

    def cancel(self, job: Job) -> bool:
        """Stop an active job; False when it is not active."""
        with self._changed:
            if job.status not in ACTIVE:
                return False
            if job.ticket is not None:
                self.queue.leave(job.ticket)
            self.jobs.settle(job, JobStatus.CANCELLED)
            return True

    def forget(self, job: Job) -> None:
        """Drop a job that is not active, with its files; JobBusyError."""
        with self._changed:
            self.jobs.check_idle(job)
            self.jobs.remove(job)
            shape = job.delivery.shape_key if job.delivery else None
            if shape and not self.jobs.names_shape(shape) and not self.queue.makes(shape):
                self.files.forget_shape(shape)
        self.files.forget_job(job.id)

    def fetch(self, job: Job, filename: str) -> tuple[BinaryIO, int, str]:
        """The delivered file, or its shape converted to another format: stream, bytes, entity tag.

        NotFoundError; ShapeLostError when the shape is gone, UploadLostError when its picture is gone too.
        """
        stem, _, extension = filename.rpartition(".")
        if stem not in ("model", f"model_{job.id}") or extension not in FORMATS:
            raise NotFoundError(f"a job's files are model.{', model.'.join(FORMATS)}")
        with self._changed:
            delivery, status = job.delivery, job.status
            wishes = (delivery and delivery.wishes) or job.wishes
        if delivery is None:
            raise NotFoundError(f"the job has no result: it is {status}")
        if delivery.filename.endswith(f".{extension}"):
            try:
                return self.files.output(job.id, delivery.filename).open("rb"), delivery.file_size, delivery.etag
            except FileNotFoundError:  # deleted by hand: converted again below
                pass
        try:
            outcome = self.pipeline.convert(delivery.shape_key, replace(wishes, format=extension))
        except ShapeLostError:
            if all(self.files.upload(picture.name).exists() for picture in job.pictures.values()):
                raise
            raise UploadLostError("the shape and the picture are gone: upload the picture again") from None
        return io.BytesIO(outcome.file.data), len(outcome.file.data), outcome.file_key.rpartition(":")[2]

    def mask(self, job: Job, wishes: Wishes) -> bytes:
        """What of the job's front picture is taken for the object: an 8-bit grey PNG of the picture's size."""
        self._front(job)
        return self.pipeline.mask(Request(job.id, job.pictures, job.mask, wishes, ""))

    def _front(self, job: Job) -> Picture:
        if "front" not in job.pictures:
            raise NotFoundError("the job has no picture")
        return job.pictures["front"]

    def stop(self, timeout: float) -> None:
        """Refuse new jobs, tell running ones to cancel, wait up to `timeout` seconds for the workers."""
        with self._changed:
            self.queue.stop()
            for job in self.jobs.all_active():
                if job.ticket is not None:
                    self.queue.leave(job.ticket)
                self._settle(job, StoppedError())
            self.jobs.stop()
        self.queue.join(timeout)


def _check_possible(request: Request, known: Known) -> None:
    """Refuse what is seen at a glance to come to nothing."""
    front = request.pictures.get("front")
    if front is None:
        if request.pictures or known.needs_image:
            raise bad_field("front", "is missing: the model needs a picture of the front")
        if not request.wishes.prompt:
            raise bad_field("prompt", "is missing: there is no picture either")
    elif "image" in known.reads and (reason := front.empty.get(request.wishes.remove_background)):
        raise EmptyImageError(reason, {"image": reason})
