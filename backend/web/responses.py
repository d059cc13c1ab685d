"""What answers look like: errors as JSON, files as streams, and every field of a job's status."""

from __future__ import annotations

import logging
import re
import threading
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, BinaryIO
from urllib.parse import quote

from flask import Flask, Response, jsonify, request
from prometheus_client import Counter
from werkzeug.exceptions import HTTPException
from werkzeug.http import parse_range_header
from werkzeug.wsgi import wrap_file

from errors import OrfeasError
from mesh.formats import FORMATS
from picture import VIEWS

if TYPE_CHECKING:  # with pydantic, which the start does not wait for
    from web.answers import JobAnswer
    from work.jobs import View

CLIENT_GONE = "waitress.client_disconnected"
"""Where a request's environment has a function that tells whether the client has closed the connection."""

CHUNK = 262_144
"""Bytes per write: six downloads of 125 MB at once cost 38 MB this way, not 753."""

STATUS = {
    "bad_request": 400,
    "unauthorized": 401,
    "forbidden_host": 403,
    "forbidden_origin": 403,
    "not_found": 404,
    "method_not_allowed": 405,
    "job_busy": 409,
    "shape_lost": 409,
    "result_evicted": 409,
    "cancelled": 410,
    "upload_lost": 410,
    "too_large": 413,
    "not_an_image": 415,
    "requested_range_not_satisfiable": 416,
    "empty_image": 422,
    "empty_mesh": 422,
    "bad_shape": 422,
    "rate_limited": 429,
    "internal": 500,
    "storage": 500,
    "not_offered": 501,
    "busy": 503,
    "interrupted": 503,
    "loading": 503,
    "model_not_ready": 503,
    "model_unavailable": 503,
    "queue_full": 503,
    "stopped": 503,
    "out_of_memory": 507,
    "disk_full": 507,
}
"""The HTTP status of each code in `errors.py`."""

_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": "default-src 'self'; img-src 'self' blob: data:; connect-src 'self' blob:; "
    "style-src 'self'; script-src 'self'; worker-src 'self' blob:; object-src 'none'; base-uri 'none'; "
    "frame-ancestors 'none'; form-action 'self'",
}
"""What keeps a page of ours from being used against its visitor."""

log = logging.getLogger(__name__)


class JsonFlask(Flask):
    """A Flask whose views may return one of the models in `answers`, or such a one and a status.

    It counts every answer in `counter`, sets `answered` with the first, and gives each the headers that browsers heed.
    """

    def __init__(self, counter: Counter, answered: threading.Event) -> None:
        super().__init__("orfeas", static_folder=None)
        self.url_map.merge_slashes = False  # a redirect is no answer to a program, and keys may hold two of them
        self._counter, self._answered = counter, answered

    def process_response(self, response: Response) -> Response:
        """As Flask does, with headers and count."""
        for name, value in _HEADERS.items():
            response.headers.setdefault(name, value)
        route = request.url_rule.rule if request.url_rule else "none"
        self._counter.labels(request.method, route, response.status_code).inc()
        self._answered.set()
        return super().process_response(response)

    def make_response(self, rv: Any) -> Response:
        """As Flask does, models included."""
        model, status = rv if isinstance(rv, tuple) and len(rv) == 2 else (rv, 200)
        if hasattr(model, "model_dump_json"):
            return self.response_class(model.model_dump_json() + "\n", status, mimetype="application/json")
        return super().make_response(rv)


def install_error_handlers(app: Flask) -> None:
    """Every error leaves as `{error, code, details}`; a traceback goes to the log alone."""
    app.register_error_handler(OrfeasError, _known_error)
    app.register_error_handler(HTTPException, _http_error)
    app.register_error_handler(Exception, _unexpected_error)


def _error(status: int, code: str, message: str, details: dict[str, Any] | None = None) -> Response:
    details = details or {}
    response = jsonify({"error": message, "code": code, "details": details})
    response.status_code = status
    if "retry_after" in details:
        response.headers["Retry-After"] = str(details["retry_after"])
    return response


def _known_error(error: OrfeasError) -> Response:
    return _error(STATUS.get(error.code, 500), error.code, str(error), error.details)


_OF_FRAMEWORK = {
    404: "not_found",
    405: "method_not_allowed",
    413: "too_large",
    416: "requested_range_not_satisfiable",
}


def _http_error(error: HTTPException) -> Response:
    """Those of the framework, in our words: whatever else it refuses is a bad request."""
    status = error.code or 500
    code = _OF_FRAMEWORK.get(status, "bad_request" if status < 500 else "internal")
    response = _error(STATUS[code], code, error.description or code)
    for name, value in error.get_headers(request.environ):
        if name.lower() not in ("content-type", "content-length"):
            response.headers[name] = value  # Allow, Content-Range
    return response


def _unexpected_error(error: Exception) -> Response:
    log.exception("%s %s failed", request.method, request.path, exc_info=error)
    return _error(500, "internal", "the server failed on this request; its log says why")


def stream(file: BinaryIO, size: int, etag: str, filename: str) -> Response:
    """A download of `size` bytes: in pieces, with ETag, ranges and 304."""
    asked = parse_range_header(request.headers.get("Range"))
    if asked is None or asked.units != "bytes" or len(asked.ranges) != 1:
        request.environ.pop("HTTP_RANGE", None)  # not understood, so ignored: RFC 9110, section 14.2
    response = Response(wrap_file(request.environ, file, CHUNK), direct_passthrough=True)
    response.mimetype = FORMATS[filename.rpartition(".")[2]].mime
    response.content_length = size
    response.headers["Content-Disposition"] = _attachment(_saved_as(filename))
    response.set_etag(etag)
    response.make_conditional(request.environ, accept_ranges=True, complete_length=size)
    return response


def _saved_as(filename: str) -> str:
    """The name to save a download under: `?name=` with the file's own extension, else the file's name."""
    if not request.args:
        return filename
    from web.schemas import DownloadQuery, parse

    name = re.sub(r"[^\w .-]", "_", parse(DownloadQuery, request.args).name)[:100].strip(" .")
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


def preview_url(name: str) -> str:
    """Where an uploaded picture can be seen."""
    return f"/api/preview/{name}"


def job_answer(view: View, model: str | None) -> JobAnswer:
    """Every promised field, whatever the job's state; `model` is the server's default one."""
    from web.answers import DimensionsAnswer, JobAnswer, MeshAnswer

    job, wishes, delivery, failure = view.job, view.wishes, view.delivery, view.failure
    url = f"/api/download/{job.id}/{delivery.filename}" if delivery else None
    front = job.pictures.get("front")
    seen = preview_url(front.name) if front else None
    sides = wishes.dimensions
    return JobAnswer(
        job_id=job.id,
        version=view.version,
        status=view.status,
        progress=view.progress,
        step=view.step,
        message=failure.error if failure else view.step,
        error=failure.error if failure else None,
        error_type=failure.error_type if failure else None,
        error_details=failure.details if failure else None,
        format=wishes.format,
        quality=wishes.quality,
        dimensions=DimensionsAnswer(width=sides.width, height=sides.height, depth=sides.depth),
        fit=wishes.fit,
        prompt=wishes.prompt,
        seed=wishes.seed,
        scale=wishes.scale,
        target_faces=wishes.target_faces,
        remove_background=wishes.remove_background,
        model=delivery.model if delivery else wishes.model or model,
        model_note=delivery.model_note if delivery else None,
        cached=delivery.cached if delivery else False,
        queue_position=view.queue_position,
        output_file=delivery.filename if delivery else None,
        download_url=url,
        model_url=url,
        preview_url=seen,
        image_url=seen,
        views={side: preview_url(job.pictures[side].name) for side in VIEWS if side in job.pictures},
        thumbnail_url=f"/api/jobs/{job.id}/thumbnail" if job.has_thumbnail else None,
        has_user_mask=job.mask is not None,
        filename=delivery.filename if delivery else None,
        original_filename=front.original_filename if front else wishes.prompt[:60],
        file_size=delivery.file_size if delivery else None,
        mesh=MeshAnswer.model_validate(delivery.mesh) if delivery else None,
        timings=delivery.timings if delivery else {},
        seconds_saved=delivery.seconds_saved if delivery else 0.0,
        created_at=_iso(job.created_at) or "",
        started_at=_iso(view.started_at),
        finished_at=_iso(view.finished_at),
        eta_seconds=view.eta_seconds,
    )


def _iso(seconds: float | None) -> str | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC).isoformat()
