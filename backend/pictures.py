"""Routes around a job's pictures: the upload, the mask of the object in it, the thumbnail of the result."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flask import Flask, Response, request, send_file

from schemas import RequestError, parse_background

if TYPE_CHECKING:
    from main import OrfeasUnifiedServer

MAX_THUMBNAIL_BYTES = 500_000
_SIGNATURES = {b"\x89PNG\r\n\x1a\n": "image/png", b"RIFF": "image/webp"}


def register_routes(app: Flask, server: OrfeasUnifiedServer) -> None:
    """Add `/api/preview/…`, `/api/jobs/<job_id>/mask` and `/api/jobs/<job_id>/thumbnail`."""

    def body(limit: int) -> bytes:
        data = request.get_data(cache=False)
        if len(data) > limit:
            raise RequestError(413, "too_large", f"the picture is larger than {limit / 1e6:g} MB")
        return data

    @app.get("/api/preview/<filename>")
    def preview(filename: str) -> Response:
        job = server.job(filename.partition(".")[0])
        path = server.storage.upload(job.picture_name)
        if filename != job.picture_name or not path.is_file():
            raise RequestError(404, "not_found", "there is no such picture")
        return send_file(path, mimetype=f"image/{job.upload.extension}", conditional=True)

    @app.get("/api/jobs/<job_id>/mask")
    def mask(job_id: str) -> Response:
        from generation import known_failures, mask_png

        background = parse_background(request.args)
        with known_failures():
            png = mask_png(server.storage, server.job(job_id), background, server.settings.max_image_pixels)
        return Response(png, mimetype="image/png")

    @app.put("/api/jobs/<job_id>/mask")
    def set_mask(job_id: str) -> dict[str, Any]:
        from generation import receive_mask

        job = server.job(job_id)
        digest, png = receive_mask(body(server.settings.max_upload_bytes), job, server.settings.max_image_pixels)
        server.jobs.set_mask(job, digest, png)
        return {"job_id": job_id, "mask": "user"}

    @app.delete("/api/jobs/<job_id>/mask")
    def delete_mask(job_id: str) -> dict[str, Any]:
        server.jobs.set_mask(server.job(job_id), None, None)
        return {"job_id": job_id, "mask": "auto"}

    @app.get("/api/jobs/<job_id>/thumbnail")
    def thumbnail(job_id: str) -> Response:
        path = server.storage.thumbnail(server.job(job_id).id)
        if not path.is_file():
            raise RequestError(404, "not_found", "the job has no thumbnail")
        data = path.read_bytes()
        kind = next(kind for start, kind in _SIGNATURES.items() if data.startswith(start))
        response = Response(data, mimetype=kind)
        response.add_etag()
        return response

    @app.put("/api/jobs/<job_id>/thumbnail")
    def set_thumbnail(job_id: str) -> dict[str, Any]:
        job, data = server.job(job_id), body(MAX_THUMBNAIL_BYTES)
        if not data.startswith(tuple(_SIGNATURES)):
            raise RequestError(415, "not_an_image", "a thumbnail is PNG or WebP", {"body": "must be PNG or WebP"})
        server.jobs.set_thumbnail(job, data)
        return {"job_id": job_id, "thumbnail_url": f"/api/jobs/{job_id}/thumbnail"}
