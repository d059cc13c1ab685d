"""The one counter of the house: receive pictures, make models, fetch results. Every door calls it; it knows no HTTP."""

from __future__ import annotations

import hashlib
import io
import logging
import threading
import time
import uuid
from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol

from cache_manager import LRUCache
from errors import (
    EmptyImageError,
    JobBusyError,
    NotFoundError,
    OrfeasError,
    ResultEvictedError,
    ShapeLostError,
    TooLargeError,
    UploadLostError,
    bad_field,
)
from mesh.formats import FORMATS
from models.shelf import Known, Shelf
from store.files import Files
from store.filesystem import storage_error, told
from store.made import Made
from store.results import Results
from work.jobs import Caller, Job, Jobs, View, failure_of
from work.keeping import Keeping, Limits
from work.plan import Plan, plan
from work.queue import Queue, Run, Ticket
from work.records import ACTIVE, Delivery, JobStatus
from work.request import Outcome, Picture, Reporter, Request, Wishes, check_possible

if TYPE_CHECKING:  # with numpy and Pillow, which the start does not wait for
    from picture.decode import Facts
    from work.pipeline import Pipeline

log = logging.getLogger(__name__)
_FACTS_MB = 0.002
"""What the facts of one picture hold, roughly."""


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
        self.jobs = Jobs(files, self._changed, max_upload_bytes=limits.max_uploads_bytes)
        self.queue = Queue(
            lock,
            self._changed,
            execute=self._execute,
            started=self.jobs.started,
            ended=self._ended,
            max_queued=limits.max_queued,
        )
        self._pipeline: Pipeline | None = None
        self._stopped = False
        self.seconds_saved = 0.0
        """Of all jobs since the start."""
        # The same bytes again need no decoding: only what is known of the picture is kept.
        self._facts = LRUCache(max_size=1000, max_memory_mb=1000 * _FACTS_MB)
        self.keeping = Keeping(self.jobs, self.queue, results, files, self._facts, limits)

    def resume(self) -> None:
        """Queue the jobs that the last process left, now that there is a model; begin to sweep."""
        for job in self.jobs.all():
            with self._changed:
                if job.status is JobStatus.QUEUED and job.ticket is None and not self._stopped:
                    self._resume(job)
                elif job.delivery and not job.delivery.cached and job.started_at and job.finished_at:
                    seconds = max(0.0, job.finished_at - job.started_at)
                    self.queue.remember((job.delivery.model, job.wishes.quality), seconds)
        self.keeping.start()

    def _resume(self, job: Job) -> None:
        try:
            known = self.shelf.chosen(job.wishes.model)
            request = Request(job.id, job.pictures, job.mask, job.wishes, known.id)
            keys = plan(request, known.revision, known.reads) if known.revision else None
            self.jobs.queue_again(job, self._ticket(request, keys, known, bounded=False))
        except OrfeasError as error:
            self._settle(job, error)

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
        try:
            for picture in job.pictures.values():
                self.files.keep_upload(picture.name, uploads[picture.name], picture.file_sha256 or "")
            if surplus := self.jobs.add(job):  # else it is on the disk with the next job that is asked for
                self.files.index.sync()
            for old in surplus:
                self.files.forget_job(old.id, [picture.name for picture in old.pictures.values()])
        except OSError as error:
            self.files.forget_job(job.id, uploads)
            raise storage_error(error) from error

    def _add_view(self, job: Job, view: str, checked: _Checked) -> Job:
        # A run may be under way that was asked for the earlier one: what a name stands for never changes.
        picture = checked.picture(f"{job.id}.{view}-{checked.facts.sha256[:12]}")
        with self._changed:
            self.jobs.check_idle(job)
            before = job.pictures.get(view)
            facts: dict[str, Any] = {"pictures": {**job.pictures, view: picture}}
            if view == "front":  # the mask was drawn, and the model made, for another picture
                facts |= {"mask": None, "status": JobStatus.UPLOADED, "delivery": None, "failure": None}
            with told():
                self.files.save(self.files.upload(picture.name), checked.data)
                self.jobs.change(job, **facts)
            if view == "front":
                self.files.keep_mask(job.id, None)
        if before is not None and before.name != picture.name:
            self.files.system.remove(self.files.upload(before.name))
            self.keeping.forget_results([before])
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
            with told():
                if digest is not None:
                    self.files.save(self.files.new_mask(job.id, digest), png)
                self.jobs.change(job, mask=digest)  # the record first: it must never name a mask that is gone
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
            with told():
                self.files.save(self.files.thumbnail(job.id), data)
                self.jobs.change(job, has_thumbnail=True)

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
            check_possible(request, known.reads, known.needs_image)
        keys = plan(request, known.revision, known.reads) if known.revision else None
        with self._as_long_as_kept(job):
            outcome = pipeline.known(keys, wishes) if keys is not None else None
        if outcome is not None:
            with self._changed:
                attempt = self.jobs.begin(job, wishes)
            self._deliver(job, attempt, replace(outcome, note=known.note), request)
        else:
            self._enqueue(job, request, keys, known)

    def _enqueue(self, job: Job, request: Request, keys: Plan | None, known: Known) -> None:
        with self._changed:
            self.jobs.check_idle(job)
            ticket = self._ticket(request, keys, known)
            self.jobs.begin(job, request.wishes, ticket)
            try:
                self.jobs.save(job)
            except OSError as error:  # a restart would not know of it
                self.queue.leave(ticket)
                self._settle(job, storage_error(error))
        with told():
            self.files.index.sync()

    def _ticket(self, request: Request, keys: Plan | None, known: Known, *, bounded: bool = True) -> Ticket:
        key = keys.file if keys and self.results.enabled else None
        workers = self.limits.workers if known.thread_safe else 1
        return self.queue.submit(request, keys, key, workers, bounded=bounded)

    # ── runs ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def _execute(self, run: Run, reporter: Reporter) -> Outcome:
        """Do the work of a run, from the inputs of whichever of its requests still has them."""
        tried = dict[str, Request]()
        try:
            return self._with_model(run, reporter, tried)
        finally:
            for request in tried.values():
                if not self.jobs.is_kept(request.job_id):  # deleted meanwhile: nothing of it stays
                    shape = self.results.peek(run.plan.shape) if run.plan else None
                    self.keeping.forget_results(request.pictures.values(), shape and shape.sha256)

    def _with_model(self, run: Run, reporter: Reporter, tried: dict[str, Request]) -> Outcome:
        lost = None
        with self.shelf.use(run.lane) as model, self._timer(model.id).time():
            if model.device != "cpu":  # the processor has room for all
                self.queue.hold(run, "cuda:0" if model.device == "cuda" else model.device)
            while (request := self._untried(run, tried)) is not None:
                tried[request.job_id] = request
                keys = run.plan
                if keys is None or keys.revision != model.revision:
                    keys = run.plan = plan(request, model.revision, model.reads)
                try:
                    return self.pipeline.make(request, keys, model, reporter, run.cancelled.is_set)
                except UploadLostError as error:  # its job was deleted; another one may have brought the same picture
                    lost = error
            raise lost or UploadLostError

    def _untried(self, run: Run, tried: Collection[str]) -> Request | None:
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
        """Name the result in the job's record and say completed, unless it was cancelled or begun anew in between."""
        file = outcome.file
        delivery = Delivery(
            filename=f"model_{job.id}.{request.wishes.format}",
            file_size=len(file.data),
            file_key=outcome.file_key,
            sha256=file.sha256,
            shape_key=outcome.shape_key,
            shape_sha256=file.shape_sha256,
            model=request.model,
            cached=outcome.cached,
            mesh=dict(file.report or {}),
            timings=dict(outcome.timings),
            seconds_saved=outcome.seconds_saved,
            model_note=outcome.note,
            wishes=request.wishes,
        )

        def shape() -> bytes | None:
            found = outcome.shape or self.results.peek(outcome.shape_key)
            return found.data if found is not None and found.sha256 == file.shape_sha256 else None

        assert file.shape_sha256 is not None, "a file is made from a shape"
        try:
            with self.files.blobs.holding((file.sha256, file.data), (file.shape_sha256, shape)):
                with self._changed:
                    if job.status not in ACTIVE or job.attempt != attempt:
                        return
                    ending = self.jobs.write_completed(job, delivery)
                self.files.index.sync()  # before anybody is told, and without the lock
                with self._changed:
                    if job.status in ACTIVE and job.attempt == attempt:
                        self.jobs.end(job, ending)
                        self.seconds_saved += outcome.seconds_saved
        except OSError as error:
            log.error("the result of job %s could not be kept: %s", job.id, error)
            with self._changed:
                if job.status in ACTIVE and job.attempt == attempt:
                    self._settle(job, storage_error(error))

    # ── what becomes of a job ────────────────────────────────────────────────────────────────────────────────────

    def view(self, job: Job) -> View:
        """The job and its run at one instant."""
        with self._changed:
            run, status = job.ticket.run if job.ticket else None, self.jobs.status(job)
            position, eta = self.queue.place(run) if run else (0, None)
            evicted = status is JobStatus.FAILED and job.status is JobStatus.COMPLETED
            return View(
                job=job,
                version=job.version + (run.version if run else 0),
                status=status,
                progress=100 if status is JobStatus.COMPLETED else int(100 * run.progress) if run else 0,
                step=run.stage if run is not None and run.stage else status.value,
                queue_position=position,
                eta_seconds=eta,
                wishes=job.wishes,
                delivery=job.delivery if status is JobStatus.COMPLETED else None,
                failure=failure_of(ResultEvictedError()) if evicted else job.failure,
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

    def fetch(self, job: Job, filename: str) -> tuple[BinaryIO, int, str]:
        """The delivered file, or its shape converted to another format: stream, bytes, entity tag.

        NotFoundError; where it is gone ResultEvictedError or, of another format, ShapeLostError, UploadLostError when
        its picture is gone, too.
        """
        stem, _, extension = filename.rpartition(".")
        if stem not in ("model", f"model_{job.id}") or extension not in FORMATS:
            raise NotFoundError(f"a job's files are model.{', model.'.join(FORMATS)}")
        with self._changed:
            delivery, status = job.delivery, job.status
        if delivery is None:
            raise NotFoundError(f"the job has no result: it is {status}")
        own = delivery.filename.endswith(f".{extension}")
        if own and delivery.sha256:
            file = self.files.blobs.open(delivery.sha256, delivery.file_size)
            if file is not None:
                return file, delivery.file_size, delivery.sha256
        made = self._converted(job, delivery, extension, own)
        return io.BytesIO(made.data), len(made.data), made.sha256

    def _converted(self, job: Job, delivery: Delivery, extension: str, own: bool) -> Made:
        wishes = replace(delivery.wishes or job.wishes, format=extension)
        sources = tuple(picture.sha256 for picture in job.pictures.values())
        try:
            with self._as_long_as_kept(job):
                made = self.pipeline.convert(delivery.shape_key, delivery.shape_sha256, sources, wishes).file
        except ShapeLostError:
            if all(self.files.upload(picture.name).exists() for picture in job.pictures.values()):
                raise (ResultEvictedError() if own else ShapeLostError()) from None
            raise UploadLostError("the result and the picture are gone: upload the picture again") from None
        if own and made.sha256 == delivery.sha256 and self.files.blobs.free_space() > 2 * len(made.data):
            with suppress(OSError), self.files.blobs.holding((made.sha256, made.data)):
                pass  # the job names it already
        return made

    def mask(self, job: Job, wishes: Wishes) -> bytes:
        """What of the job's front picture is taken for the object: an 8-bit grey PNG of the picture's size."""
        self._front(job)
        with self._as_long_as_kept(job):
            return self.pipeline.mask(Request(job.id, job.pictures, job.mask, wishes, ""))

    @contextmanager
    def _as_long_as_kept(self, job: Job) -> Iterator[None]:
        """What the body makes for a job that is deleted meanwhile goes, too; then NotFoundError."""
        try:
            yield
        finally:
            if not self.jobs.is_kept(job.id):
                self.keeping.forget_results(job.pictures.values(), job.contents[1])
                raise NotFoundError("there is no such job")

    def _front(self, job: Job) -> Picture:
        if "front" not in job.pictures:
            raise NotFoundError("the job has no picture")
        return job.pictures["front"]

    def stop(self, timeout: float) -> None:
        """Refuse new jobs, leave those that wait or run to the next process, wait up to `timeout` seconds for the
        workers."""
        self.keeping.stop()
        with self._changed:
            self._stopped = True
            self.queue.stop()
            for job in self.jobs.all():
                if job.ticket is not None:
                    self.queue.leave(job.ticket)
                    self.jobs.queue_again(job, None)
            self.jobs.stop()
        self.queue.join(timeout)
        self.results.write_uses()
