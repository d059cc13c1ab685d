"""The routes of the Hunyuan3D servers, so that their add-ons work unchanged; same queue, cache and limits."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

from flask import Flask, Response

from jobs import Job, JobFailedError, JobStatus
from responses import client_gone, json_object, stream
from schemas import HunyuanBody, RequestError, bad_field, parse

if TYPE_CHECKING:
    from main import OrfeasUnifiedServer

SYNC_SECONDS = 3600.0
"""Longest that `POST /generate` waits for its job."""


def register_routes(app: Flask, server: OrfeasUnifiedServer) -> None:
    """Add `/generate`, `/send`, `/status/<uid>` and `/health`."""

    def start() -> Job:
        body = parse(HunyuanBody, json_object())
        if body.mesh is not None:
            raise RequestError(501, "not_implemented", "texturing a given mesh is not offered", {"mesh": "not offered"})
        if body.image is None and body.text:
            raise bad_field("text", "the loaded model makes no shapes from text: send an image")
        data = body.image_bytes()
        server.ready_generation()
        job = server.add_job(data, "image")
        server.start(job, body.as_generate())
        return job

    @app.post("/generate")
    def hunyuan_generate() -> Response:
        job = start()
        server.jobs.wait(job, SYNC_SECONDS, client_gone(), final=True)
        view = server.jobs.view(job)
        if (failure := view["failure"]) is not None:
            raise JobFailedError(failure.error_type, failure.error, failure.details)
        if view["delivery"] is None:  # the client has gone, or too many of them wait
            server.jobs.cancel(job)
            raise RequestError(503, "busy", "too many requests wait for their result", {"retry_after": 5})
        filename = view["delivery"].filename
        file, size, etag = server.open_result(job.id, filename)
        return stream(file, size, etag, filename)

    @app.post("/send")
    def hunyuan_send() -> dict[str, Any]:
        return {"uid": start().id}

    @app.get("/status/<job_id>")
    def hunyuan_status(job_id: str) -> dict[str, Any]:
        view = server.jobs.view(server.job(job_id))
        if view["failure"] is not None:
            return {"status": "error", "message": view["failure"].error}
        if view["status"] == JobStatus.CANCELLED:
            return {"status": "error", "message": "the job was cancelled"}
        if view["delivery"] is None:
            return {"status": "processing"}
        file, _, _ = server.open_result(job_id, view["delivery"].filename)
        with file:
            return {"status": "completed", "model_base64": base64.b64encode(file.read()).decode()}

    @app.get("/health")
    def hunyuan_health() -> dict[str, Any]:
        return {"status": "healthy", "worker_id": "orfeas"}
