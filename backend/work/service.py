"""The one counter of the house: receive pictures, make models, fetch results. Every door calls it; it knows no HTTP."""

from __future__ import annotations

import hashlib
import io
import logging
import threading
import uuid
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, BinaryIO

from cache_manager import LRUCache
from errors import (
    EmptyImageError,
    JobBusyError,
    NotFoundError,
    OrfeasError,
    ShapeLostError,
    StoppedError,
    TooLargeError,
    UploadLostError,
    bad_field,
)
from mesh.formats import FORMATS
from models.shelf import Known, Shelf
from store.files import Files
from store.results import Results
from work.jobs import Caller, Job, Jobs, unexpected
from work.plan import plan
from work.queue import Queue, Run, Ticket
from work.records import Delivery, Failure, JobStatus
from work.request import Outcome, Picture, Request, Wishes

if TYPE_CHECKING:  # with numpy and Pillow, which the start does not wait for
    from picture.facts import Facts
    from work.pipeline import Pipeline

log = logging.getLogger(__name__)
STOPPED = "the server stopped before this was done; start it again"


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
    filename: str

    def picture(self, job_id: str, view: str) -> Picture:
        """As the job holds it."""
        facts, stem = self.facts, job_id if view == "front" else f"{job_id}.{view}"
        return Picture(
            name=f"{stem}.{facts.extension}",
            original_filename=self.filename,
            extension=facts.extension,
            sha256=facts.sha256,
            image_info=facts.image_info,
            empty=facts.empty,
            hidden=facts.hidden,
        )


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
        timed: Callable[[str], AbstractContextManager[Any]] = nullcontext,
    ) -> None:
        self.shelf, self.results, self.files, self.limits = shelf, results, files, limits
        self._look, self._keep, self._timed = look, keep, timed
        self._changed = threading.Condition()
        self.jobs = Jobs(files, self._changed)
        self.queue = Queue(self, self._changed, max_queued=limits.max_queued)
        self._pipeline: Pipeline | None = None
        # The same bytes again need no decoding: only what is known of the picture is kept, about 1 kB each.
        self._facts = LRUCache(max_size=1000, max_memory_mb=4.0)
        self._restore()

    def _restore(self) -> None:
        for job in self.jobs.restore():
            if job.active:
                with self._changed:
                    self._settle(job, StoppedError(STOPPED))
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
        if job is None and view != "front":
            raise bad_field("job_id", f"is missing: the {view} belongs to the job of a front picture")
        checked = self._checked(data, filename, view)
        return self._new_job({view: checked}, caller) if job is None else self._add_view(job, view, checked)

    def receive_all(self, pictures: dict[str, tuple[bytes, str]], caller: Caller) -> Job:
        """Several pictures of one object, by view, with their file names: all are checked, then all are kept."""
        if "front" not in pictures:
            raise bad_field("front", "is missing: other sides need a front picture beside them")
        return self._new_job({view: self._checked(*sent, view) for view, sent in pictures.items()}, caller)

    def _checked(self, data: bytes, filename: str, view: str) -> _Checked:
        from picture.facts import facts

        field = "image" if view == "front" else view
        if not data:
            raise bad_field(field, "is empty")
        if len(data) > self.limits.max_upload_bytes:
            message = f"the picture is larger than {self.limits.max_upload_bytes / 1e6:g} MB"
            raise TooLargeError(message, {field: message})
        key = hashlib.sha256(data).hexdigest()
        found = self._facts.get_or_compute(key, lambda: facts(data, self.limits.max_image_pixels))
        return _Checked(found, data, filename[:255])

    def _new_job(self, checked: dict[str, _Checked], caller: Caller) -> Job:
        job_id = str(uuid.uuid4())
        pictures = {view: each.picture(job_id, view) for view, each in checked.items()}
        for view, each in checked.items():
            self.files.save(self.files.upload(pictures[view].name), each.data)
        return self._added(Job(id=job_id, owner=caller.owner, created_at=self.jobs.now(), pictures=pictures))

    def _added(self, job: Job) -> Job:
        for old in self.jobs.add(job):
            with suppress(JobBusyError):  # started since
                self.forget(old)
        return job

    def _add_view(self, job: Job, view: str, checked: _Checked) -> Job:
        picture = checked.picture(job.id, view)
        with self._changed:
            self._check_idle(job)
            self.files.save(self.files.upload(picture.name), checked.data)
            before = job.pictures.get(view)
            job.pictures = {**job.pictures, view: picture}
            if view == "front":
                job.mask = None  # it was drawn for another picture
                self.files.save_mask(job.id, None, b"")
            self.jobs.changed(job)
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
        return self._added(Job(id=str(uuid.uuid4()), owner=caller.owner, created_at=self.jobs.now(), pictures={}))

    def set_mask(self, job: Job, data: bytes | None) -> None:
        """Use the user's mask of the front from now on, or none; not while the job waits or runs.

        White or opaque is the object. Any size will do that has the picture's proportions.
        """
        digest, png = (None, b"") if data is None else self._checked_mask(job, data)
        with self._changed:
            self._check_idle(job)
            self.files.save_mask(job.id, digest, png)
            job.mask = digest
            self.jobs.changed(job)

    def _checked_mask(self, job: Job, data: bytes) -> tuple[str, bytes]:
        from picture.cutout import mask_png
        from picture.decode import decode

        mask = decode(data, self.limits.max_image_pixels)
        alpha = mask.rgba[..., 3] if mask.has_transparency else mask.rgba[..., 0]
        info = self._front(job).image_info
        width, height = info["width"], info["height"]
        if abs(mask.width * height - mask.height * width) > max(width, height) * max(mask.width, mask.height) * 0.01:
            raise bad_field("mask", f"must have the proportions of the picture, {width} × {height}")
        if not alpha.any():
            raise EmptyImageError("the mask is empty", {"mask": "is empty"})
        return hashlib.sha256(f"{alpha.shape}".encode() + alpha.tobytes()).hexdigest(), mask_png(alpha)

    def set_thumbnail(self, job: Job, data: bytes) -> None:
        """Keep a small picture of the job's model."""
        with self._changed:
            self.files.save(self.files.thumbnail(job.id), data)
            job.has_thumbnail = True
            self.jobs.changed(job)

    # ── making ───────────────────────────────────────────────────────────────────────────────────────────────────

    def request(self, job: Job, wishes: Wishes, model: str) -> Request:
        """The job's pictures and mask as they are now, with those wishes."""
        return Request(job.id, job.pictures, job.mask, wishes, model)

    def make(self, job: Job, wishes: Wishes) -> None:
        """Answer from the cache, or queue the job.

        JobBusyError, EmptyImageError, RequestError for a wish that cannot be met, UnavailableError.
        """
        known = self.shelf.chosen(wishes.model)
        with self._changed:
            self._check_idle(job)
            request = self.request(job, wishes, known.id)
        self._check_possible(request, known)
        keys = plan(request, known.revision, known.reads) if known.revision else None
        if keys and (outcome := self.pipeline.known(keys, wishes)) is not None:
            with self._changed:
                self.jobs.begin(job, wishes, None)
                self.jobs.started(job)
                attempt = job.attempt
            self._deliver(job, attempt, outcome, known)
            return
        with self._changed:
            self._check_idle(job)
            key = keys.file if keys and self.results.enabled else None
            ticket = self.queue.submit(request, keys, key, self.limits.workers if known.thread_safe else 1)
            self.jobs.begin(job, wishes, ticket)
            if ticket.run.started is not None:
                self.jobs.started(job)
            if ticket.run.stage:
                job.status = JobStatus.PROCESSING
            self.jobs.save(job)

    def _check_idle(self, job: Job) -> None:
        if job.active:
            raise JobBusyError

    def _check_possible(self, request: Request, known: Known) -> None:
        front = request.pictures.get("front")
        if front is None:
            if request.pictures or known.needs_image:
                raise bad_field("front", "is missing: the model needs a picture of the front")
            if not request.wishes.prompt:
                raise bad_field("prompt", "is missing: there is no picture either")
        elif not request.mask and (reason := front.empty.get(request.wishes.remove_background)):
            raise EmptyImageError(reason, {"image": reason})

    # ── the queue's office ───────────────────────────────────────────────────────────────────────────────────────

    def execute(self, run: Run) -> Outcome:
        """Do the work of a run, from the inputs of whichever of its requests still has them."""
        tried: set[str] = set()
        with self.shelf.use(run.lane) as model, self.queue.slot(run, _slot(model.device)), self._timed(model.id):
            while True:
                request = self._next_request(run, tried)
                tried.add(request.job_id)
                keys = run.plan
                if keys is None or keys.revision != model.revision:
                    keys = plan(request, model.revision, model.reads)
                try:
                    return self.pipeline.make(
                        request,
                        keys,
                        model,
                        lambda fraction, stage: self._progress(run, fraction, stage),
                        run.cancelled.is_set,
                    )
                except UploadLostError:
                    # The job was deleted; another one may have brought the same picture.
                    if self._untried(run, tried) is None:
                        raise

    def _untried(self, run: Run, tried: set[str]) -> Request | None:
        with self._changed:
            return next((ticket.request for ticket in run.tickets if ticket.request.job_id not in tried), None)

    def _next_request(self, run: Run, tried: set[str]) -> Request:
        request = self._untried(run, tried)
        if request is None:
            raise UploadLostError
        return request

    def _progress(self, run: Run, fraction: float, stage: str) -> None:
        with self._changed:
            first = not run.stage
            self.queue.report(run, fraction, stage)
            if first:
                for job in self._holders(run.tickets):
                    job.status = JobStatus.PROCESSING

    def started(self, run: Run) -> None:
        """A worker has taken the run."""
        for job in self._holders(run.tickets):
            self.jobs.started(job)

    def ended(self, tickets: list[Ticket], result: Outcome | Exception) -> None:
        """Deliver the result, or say why there is none, to all who still wait for it."""
        with self._changed:
            waiting = [(job, job.attempt) for job in self._holders(tickets)]
            if not isinstance(result, Outcome):
                for job, _ in waiting:
                    self._settle(job, result)
                return
        for job, attempt in waiting:
            self._deliver(job, attempt, result, self.shelf.known(tickets[0].request.model))

    def _holders(self, tickets: list[Ticket]) -> list[Job]:
        """The jobs that hold these tickets; with the lock held."""
        jobs = ((ticket, self.jobs.find(ticket.request.job_id)) for ticket in tickets)
        return [job for ticket, job in jobs if job is not None and job.ticket is ticket]

    def _settle(self, job: Job, error: Exception) -> None:
        failure = (
            Failure(str(error), error.code, error.details) if isinstance(error, OrfeasError) else unexpected(error)
        )
        self.jobs.settle(job, JobStatus.FAILED, failure=failure, delivery=None)

    def _deliver(self, job: Job, attempt: int, outcome: Outcome, known: Known) -> None:
        """Write the job's own file, then say completed, unless the job was cancelled or begun anew in between."""
        filename = f"model_{job.id}.{job.wishes.format}"
        delivery = Delivery(
            filename=filename,
            file_size=len(outcome.file.data),
            etag=outcome.file_key.rpartition(":")[2],
            shape_key=outcome.shape_key,
            model=known.id,
            cached=outcome.cached,
            mesh=dict(outcome.file.report or {}),
            timings=dict(outcome.timings),
            seconds_saved=outcome.seconds_saved,
            model_note=known.note,
        )
        facts: dict[str, Any]
        try:
            self.files.save_output(job.id, filename, outcome.file.data)
        except OSError as error:
            log.error("the output of job %s could not be written: %s", job.id, error)
            failure = Failure(f"the file could not be written: {error.strerror}", "storage")
            status, facts = JobStatus.FAILED, {"failure": failure, "delivery": None}
        else:
            status, facts = JobStatus.COMPLETED, {"delivery": delivery}
        with self._changed:
            if job.active and job.attempt == attempt:
                self.jobs.settle(job, status, **facts)
                # The last job of the shape may have been forgotten meanwhile; this one may want another format of it.
                if not self.files.has_shape(outcome.shape_key) and (shape := self.results.peek(outcome.shape_key)):
                    self.files.save_shape(outcome.shape_key, shape.data)

    # ── what becomes of a job ────────────────────────────────────────────────────────────────────────────────────

    def view(self, job: Job) -> View:
        """The job and its run at one instant."""
        with self._changed:
            run = job.ticket.run if job.ticket else None
            position = self.queue.position(run) if run else 0
            return View(
                job=job,
                version=self.jobs.version(job),
                status=job.status,
                progress=100 if job.status is JobStatus.COMPLETED else int(100 * run.progress) if run else 0,
                step=run.stage if run is not None and run.stage else job.status.value,
                queue_position=position,
                eta_seconds=self.queue.eta(run, position) if run else None,
                wishes=job.wishes,
                delivery=job.delivery,
                failure=job.failure,
                started_at=job.started_at,
                finished_at=job.finished_at,
            )

    def cancel(self, job: Job) -> bool:
        """Stop an active job; False when it is not active."""
        with self._changed:
            if not job.active:
                return False
            if job.ticket is not None:
                self.queue.leave(job.ticket)
            self.jobs.settle(job, JobStatus.CANCELLED)
            return True

    def forget(self, job: Job) -> None:
        """Drop a job that is not active, with its files; JobBusyError."""
        with self._changed:
            self._check_idle(job)
            if not self.jobs.remove(job):
                return
            if job.delivery and not self.jobs.names_shape(job.delivery.shape_key):
                self.files.forget_shape(job.delivery.shape_key)
        self.files.forget_job(job.id)

    def fetch(self, job: Job, filename: str) -> tuple[BinaryIO, int, str]:
        """The delivered file, or its shape converted to another format: stream, bytes, entity tag.

        NotFoundError; ShapeLostError when the shape is gone, UploadLostError when its picture is gone too.
        """
        stem, _, extension = filename.rpartition(".")
        if stem not in ("model", f"model_{job.id}") or extension not in FORMATS:
            raise NotFoundError(f"a job's files are model.{', model.'.join(FORMATS)}")
        with self._changed:
            delivery, wishes, status = job.delivery, job.wishes, job.status
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
        return self.pipeline.mask(self.request(job, wishes, ""))

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
                self._settle(job, StoppedError(STOPPED))
            self.jobs.stop()
        self.queue.join(timeout)


def _slot(device: str) -> str | None:
    """Models on one GPU share its slot; the processor has room for all."""
    return None if device == "cpu" else device
