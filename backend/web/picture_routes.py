"""Routes around a job's pictures: the uploads, the mask of the object in the front, the thumbnail of the result."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flask import Flask, Response, g, request, send_file

from errors import NotAnImageError, NotFoundError, TooLargeError
from picture import FORMATS
from web.operations import operation

if TYPE_CHECKING:
    from web import answers
    from work.jobs import Job
    from work.service import Service

MAX_THUMBNAIL_BYTES = 500_000
_SIGNATURES = {b"\x89PNG\r\n\x1a\n": "image/png", b"RIFF": "image/webp"}
THUMBNAIL_TYPES = tuple(_SIGNATURES.values())


def register_routes(app: Flask, service: Service) -> None:
    """Add `/api/preview/…`, `/api/jobs/<job_id>/mask` and `/api/jobs/<job_id>/thumbnail`."""

    def job_of_caller(job_id: str) -> Job:
        return service.jobs.get(job_id, g.caller)

    def body(limit: int, field: str) -> bytes:
        data = request.get_data(cache=False)
        if len(data) > limit:
            message = f"the picture is larger than {limit / 1e6:g} MB"
            raise TooLargeError(message, {field: message})
        return data

    @app.get("/api/preview/<filename>")
    @operation(
        download=tuple(f"image/{each.lower()}" for each in FORMATS),
        errors=("not_found", "requested_range_not_satisfiable"),
        statuses=(200, 206, 304),
    )
    def preview(filename: str) -> Response:
        """An uploaded picture."""
        job = job_of_caller(filename.partition(".")[0])
        picture = next((each for each in job.pictures.values() if each.name == filename), None)
        if picture is None or not (path := service.files.upload(filename)).is_file():
            raise NotFoundError("there is no such picture")
        return send_file(path, mimetype=f"image/{picture.extension}", conditional=True)

    @app.get("/api/jobs/<job_id>/mask")
    @operation(
        query="MaskQuery",
        download=("image/png",),
        errors=(
            *("bad_request", "not_found", "upload_lost", "too_large", "not_an_image", "empty_image"),
            "out_of_memory",
        ),
    )
    def mask(job_id: str) -> Response:
        """What of the front picture is taken for the object: a grey PNG of its size."""
        from web.schemas import MaskQuery, parse
        from work.request import Wishes

        query = parse(MaskQuery, request.args)
        png = service.mask(job_of_caller(job_id), Wishes(remove_background=query.remove_background))
        return Response(png, mimetype="image/png")

    @app.put("/api/jobs/<job_id>/mask")
    @operation(
        upload=("image/png",),
        errors=("bad_request", "not_found", "job_busy", "too_large", "not_an_image", "empty_image", "disk_full"),
    )
    def set_mask(job_id: str) -> answers.MaskAnswer:
        """Decide what the object is: white or opaque; any size with the picture's proportions."""
        from web.answers import MaskAnswer

        service.set_mask(job_of_caller(job_id), body(service.limits.max_upload_bytes, "mask"))
        return MaskAnswer(job_id=job_id, mask="user")

    @app.delete("/api/jobs/<job_id>/mask")
    @operation(errors=("not_found", "job_busy"))
    def delete_mask(job_id: str) -> answers.MaskAnswer:
        """Return to what the server finds."""
        from web.answers import MaskAnswer

        service.set_mask(job_of_caller(job_id), None)
        return MaskAnswer(job_id=job_id, mask="auto")

    @app.get("/api/jobs/<job_id>/thumbnail")
    @operation(download=THUMBNAIL_TYPES, errors=("not_found",))
    def thumbnail(job_id: str) -> Response:
        """A small picture of the model."""
        path = service.files.thumbnail(job_of_caller(job_id).id)
        if not path.is_file():
            raise NotFoundError("the job has no thumbnail")
        data = path.read_bytes()
        kind = next(kind for start, kind in _SIGNATURES.items() if data.startswith(start))
        response = Response(data, mimetype=kind)
        response.add_etag()
        return response

    @app.put("/api/jobs/<job_id>/thumbnail")
    @operation(upload=THUMBNAIL_TYPES, errors=("not_found", "too_large", "not_an_image", "disk_full"))
    def set_thumbnail(job_id: str) -> answers.ThumbnailAnswer:
        """Keep a small picture of the model, PNG or WebP up to 0.5 MB."""
        from web.answers import ThumbnailAnswer

        job, data = job_of_caller(job_id), body(MAX_THUMBNAIL_BYTES, "body")
        if not data.startswith(tuple(_SIGNATURES)):
            raise NotAnImageError("a thumbnail is PNG or WebP", {"body": "must be PNG or WebP"})
        service.set_thumbnail(job, data)
        return ThumbnailAnswer(job_id=job_id, thumbnail_url=f"/api/jobs/{job_id}/thumbnail")
