"""The routes of the Hunyuan3D servers, so that their add-ons work unchanged; same queue, cache and limits."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

from flask import Flask, Response, g, request

from errors import BusyError, JobCancelledError, NotOfferedError, OrfeasError, bad_field
from web.operations import MODEL_TYPES, operation
from web.responses import CLIENT_GONE, stream
from work.jobs import Job
from work.records import JobStatus

if TYPE_CHECKING:
    from web import answers
    from work.service import Service

SYNC_SECONDS = 3600.0
"""Longest that `POST /generate` waits for its job."""
_START_ERRORS = (
    "bad_request", "too_large", "not_an_image", "empty_image", "not_offered", "loading", "model_not_ready",
    "queue_full", "stopped", "disk_full",
)  # fmt: skip
_RUN_ERRORS = (
    *_START_ERRORS, "bad_shape", "busy", "cancelled", "empty_mesh", "model_unavailable", "out_of_memory", "shape_lost",
    "result_evicted", "upload_lost", "interrupted",
)  # fmt: skip


class _FailedError(OrfeasError):
    """A failed job's reason, said again with its own code."""


def register_routes(app: Flask, service: Service) -> None:
    """Add `/generate`, `/send`, `/status/<uid>` and `/health`."""

    def start() -> Job:
        from web.schemas import HunyuanBody, json_object, parse

        body = parse(HunyuanBody, json_object())
        wishes = body.wishes()
        if body.mesh is not None:
            raise NotOfferedError("mesh: texturing a given mesh is not offered", {"mesh": "is not offered"})
        if body.image is None and body.text:
            if service.shelf.chosen(None).needs_image:
                raise bad_field("text", "the loaded model makes no shapes from text: send an image")
            job = service.prompt_only(wishes, g.caller)
        else:
            data = body.image_bytes()
            service.shelf.chosen(None)  # before anything is kept
            job = service.receive(data, "image", g.caller)
        service.make(job, wishes)
        return job

    @app.post("/generate")
    @operation(body="HunyuanBody", query="DownloadQuery", download=MODEL_TYPES, errors=_RUN_ERRORS)
    def hunyuan_generate() -> Response:
        """Picture in, file out, in one call."""
        job = start()
        service.jobs.wait(job, SYNC_SECONDS, request.environ.get(CLIENT_GONE), final=True)
        view = service.view(job)
        if (failure := view.failure) is not None:
            error = _FailedError(failure.error, failure.details)
            error.code = failure.error_type  # type: ignore[misc]  # of this one error
            raise error
        if view.status is JobStatus.CANCELLED:
            raise JobCancelledError
        if view.delivery is None:  # the client has gone, or too many of them wait
            service.cancel(job)
            raise BusyError("too many requests wait for their result", {"retry_after": 5})
        filename = view.delivery.filename
        return stream(*service.fetch(job, filename), filename)

    @app.post("/send")
    @operation(body="HunyuanBody", errors=_START_ERRORS)
    def hunyuan_send() -> answers.SentAnswer:
        """Picture in, job out."""
        from web.answers import SentAnswer

        return SentAnswer(uid=start().id)

    @app.get("/status/<job_id>")
    @operation(errors=("not_found", "shape_lost", "result_evicted", "upload_lost", "empty_mesh", "out_of_memory"))
    def hunyuan_status(job_id: str) -> answers.HunyuanStatusAnswer:
        """How a job of `/send` stands, with the file once it is there."""
        from web.answers import HunyuanStatusAnswer

        job = service.jobs.get(job_id, g.caller)
        view = service.view(job)
        if view.failure is not None:
            return HunyuanStatusAnswer(status="error", message=view.failure.error)
        if view.status is JobStatus.CANCELLED:
            return HunyuanStatusAnswer(status="error", message="the job was cancelled")
        if view.delivery is None:
            return HunyuanStatusAnswer(status="processing")
        file, _, _ = service.fetch(job, view.delivery.filename)
        with file:
            return HunyuanStatusAnswer(status="completed", model_base64=base64.b64encode(file.read()).decode())

    @app.get("/health")
    @operation()
    def hunyuan_health() -> answers.HunyuanHealthAnswer:
        """Alive."""
        from web.answers import HunyuanHealthAnswer

        return HunyuanHealthAnswer(worker_id="orfeas")
