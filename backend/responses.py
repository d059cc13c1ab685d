"""What answers look like: errors as JSON, files as streams, and every field of a job's status."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, BinaryIO
from urllib.parse import quote

from flask import Flask, Response, jsonify, request
from werkzeug.exceptions import HTTPException
from werkzeug.wsgi import wrap_file

from jobs import Job, JobBusyError, JobFailedError, QueueFullError, StoppedError
from schemas import RequestError

CHUNK = 262_144
"""Bytes per write: six downloads of 125 MB at once cost 38 MB this way, not 753."""
_FAILURE_STATUS = {
    "empty_image": 422,
    "empty_mesh": 422,
    "bad_image": 415,
    "upload_lost": 404,
    "shape_lost": 404,
    "out_of_memory": 507,
    "stopped": 503,
    "model_unavailable": 503,
}
log = logging.getLogger(__name__)


def install_error_handlers(app: Flask) -> None:
    """Every error leaves as `{error, code, details}`; a traceback goes to the log alone."""
    app.register_error_handler(RequestError, _request_error)
    app.register_error_handler(JobFailedError, _job_failed)
    app.register_error_handler(
        JobBusyError, lambda error: _error(409, "job_busy", "the job is already waiting or running")
    )
    app.register_error_handler(
        QueueFullError, lambda error: _error(503, "queue_full", str(error), {"retry_after": error.retry_after})
    )
    app.register_error_handler(
        StoppedError, lambda error: _error(503, "stopping", "the server is shutting down", {"retry_after": 10})
    )
    app.register_error_handler(HTTPException, _http_error)
    app.register_error_handler(Exception, _unexpected_error)


def _error(status: int, code: str, message: str, details: dict[str, Any] | None = None) -> Response:
    details = details or {}
    response = jsonify({"error": message, "code": code, "details": details})
    response.status_code = status
    if "retry_after" in details:
        response.headers["Retry-After"] = str(details["retry_after"])
    return response


def _request_error(error: RequestError) -> Response:
    return _error(error.http_status, error.code, str(error), error.details)


def _job_failed(error: JobFailedError) -> Response:
    return _error(_FAILURE_STATUS.get(error.error_type, 500), error.error_type, str(error), error.details)


def _http_error(error: HTTPException) -> Response:
    code = (error.name or "error").lower().replace(" ", "_")
    response = _error(error.code or 500, code, error.description or code)
    for name, value in error.get_headers(request.environ):
        if name.lower() not in ("content-type", "content-length"):
            response.headers[name] = value  # Allow, Content-Range
    return response


def _unexpected_error(error: Exception) -> Response:
    log.exception("%s %s failed", request.method, request.path, exc_info=error)
    return _error(500, "internal", "the server failed on this request; its log says why")


def json_object() -> Any:
    """The decoded JSON body, whatever its Content-Type: curl sends forms by default."""
    try:
        return request.get_json(force=True)
    except RecursionError:
        raise RequestError(400, "bad_request", "the JSON is nested too deeply", {"body": "nested too deeply"}) from None


def client_gone() -> Callable[[], bool]:
    """Tells whether the client has closed the connection; always False where the web server cannot know."""
    gone: Callable[[], bool] = request.environ.get("waitress.client_disconnected", lambda: False)
    return gone


def stream(file: BinaryIO, size: int, etag: str, filename: str) -> Response:
    """A download of `size` bytes: in pieces, with ETag, ranges and 304."""
    from meshes import FORMATS

    response = Response(wrap_file(request.environ, file, CHUNK), direct_passthrough=True)
    response.mimetype = FORMATS[filename.rpartition(".")[2]].mime
    response.content_length = size
    response.headers["Content-Disposition"] = _attachment(_saved_as(filename))
    response.set_etag(etag)
    response.make_conditional(request.environ, accept_ranges=True, complete_length=size)
    return response


def _saved_as(filename: str) -> str:
    """The name to save a download under: `?name=` with the file's own extension, else the file's name."""
    name = re.sub(r"[^\w .-]", "_", request.args.get("name", ""))[:100].strip(" .")
    return f"{name}.{filename.rpartition('.')[2]}" if name else filename


def _attachment(name: str) -> str:
    """RFC 6266: a name beyond ASCII is given a second time, encoded, for those who can read that."""
    if name.isascii():
        return f'attachment; filename="{name}"' if " " in name else f"attachment; filename={name}"
    plain = name.encode("ascii", "replace").decode().replace("?", "_")
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(name)}"


def now() -> str:
    """This instant, ISO 8601, UTC."""
    return datetime.now(UTC).isoformat()


def preview_urls(job: Job) -> dict[str, str]:
    """Where the uploaded picture can be seen."""
    url = f"/api/preview/{job.picture_name}"
    return {"preview_url": url, "image_url": url}


def job_status(job: Job, view: dict[str, Any], model: str | None) -> dict[str, Any]:
    """Every promised field, whatever the job's state; `view` is the queue's, `model` the one that is loaded."""
    body, delivery, failure = view["body"], view["delivery"], view["failure"]
    url = f"/api/download/{job.id}/{delivery.filename}" if delivery else None
    return {
        "job_id": job.id,
        "version": view["version"],
        "status": view["status"],
        "progress": view["progress"],
        "step": view["step"],
        "message": failure.error if failure else view["step"],
        "error": failure.error if failure else None,
        "error_type": failure.error_type if failure else None,
        "error_details": failure.details if failure else None,
        "job_type": "3d",
        **body.model_dump(exclude={"job_id"}),
        "model": delivery.model if delivery else model,
        "model_note": delivery.model_note if delivery else None,
        "cached": delivery.cached if delivery else False,
        "queue_position": view["queue_position"],
        "output_file": delivery.filename if delivery else None,
        "download_url": url,
        "model_url": url,
        **preview_urls(job),
        "thumbnail_url": f"/api/jobs/{job.id}/thumbnail" if job.has_thumbnail else None,
        "has_user_mask": job.mask is not None,
        "filename": delivery.filename if delivery else None,
        "original_filename": job.upload.original_filename,
        "file_size": delivery.file_size if delivery else None,
        "mesh": delivery.mesh if delivery else None,
        "timings": delivery.timings if delivery else {},
        "seconds_saved": delivery.seconds_saved if delivery else 0.0,
        "created_at": _iso(job.created_at),
        "started_at": _iso(view["started_at"]),
        "finished_at": _iso(view["finished_at"]),
        "eta_seconds": view["eta_seconds"],
    }


def _iso(seconds: float | None) -> str | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC).isoformat()
