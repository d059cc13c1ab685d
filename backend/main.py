"""The front door: `OrfeasUnifiedServer` wires the rooms and registers the routes; `main` serves them."""

from __future__ import annotations

import base64
import logging
import math
import sys
import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from flask import Flask, Response, g, request

from cache_manager import LRUCache
from errors import DataFolderError, JobCancelledError, NotFoundError, bad_field
from memory import give_back, keep_little
from models.shelf import Shelf
from settings import Settings, SettingsError, load_settings
from store.disk import Disk
from store.files import Files
from store.results import Results
from version import VERSION
from web import hunyuan_routes, picture_routes, state_routes
from web.metrics import Metrics
from web.operations import MODEL_TYPES, operation
from web.responses import (
    CLIENT_GONE,
    JsonFlask,
    install_error_handlers,
    job_answer,
    now,
    preview_url,
    stream,
)
from web.security import Guard
from web.serve import listen, serve
from work.keeping import Limits
from work.records import JobStatus
from work.service import Service

if TYPE_CHECKING:  # with pydantic, which the start does not wait for
    from web import answers


class OrfeasUnifiedServer:
    """One server: its models, its caches, its jobs and its Flask app. DataFolderError: another one has its folder."""

    def __init__(self, settings: Settings | None = None) -> None:
        self.settings = settings = settings or load_settings()
        self.files = Files(settings.data_dir, settings.uploads_dir, settings.outputs_dir)
        self.lru_cache = LRUCache(
            settings.cache_max_size,
            settings.cache_max_memory_mb,
            settings.cache_ttl_seconds,
            policy=settings.cache_policy,
        )
        self.result_cache: dict[str, Any] = {}
        self.results = Results(
            self.lru_cache,
            self.result_cache,
            Disk(self.files, settings.cache_disk_mb),
            enabled=not settings.disable_result_cache,
            backend=settings.cache_backend,
        )
        idle_seconds = 60 * settings.model_idle_minutes
        self.shelf = Shelf(settings.candidates, settings.model_paths, settings.device, idle_seconds=idle_seconds)
        self.metrics = Metrics(lambda: self.service.jobs.counts(), self._get_cache_stats)
        limits = Limits(
            *(settings.max_upload_bytes, settings.max_image_pixels, settings.max_queued_jobs, settings.workers),
            *(settings.uploads_disk_mb * 1e6 or math.inf, settings.retention_days * 86400 or None),
        )
        self.service = Service(
            self.shelf,
            self.results,
            self.files,
            limits,
            look=self._check_cache,
            keep=self._save_to_cache,
            timer=self.metrics.generation_seconds.labels,
        )
        self.answered = threading.Event()
        """Set once any request was answered."""
        self.app = self._make_app()

    # ── life ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def load_model(self) -> None:
        """Load what the mode asks for, and go on with what an earlier process left; a model that fails leaves the
        server up, with the reason."""
        self.shelf.load_default()
        self.service.resume()

    def close(self) -> None:
        """Cancel what runs, refuse what comes, free the models and the folders."""
        self.service.stop(timeout=3.0)
        self.shelf.close()
        self.files.close()

    # ── the cache, by the names that the original server gave these ──────────────────────────────────────────────

    def _check_cache(self, key: str) -> Any:
        """The cached value under that key, or None."""
        return self.results.find(key)

    def _save_to_cache(self, key: str, value: Any, size_mb: float) -> None:
        """Store a value of `size_mb` (10^6 bytes)."""
        self.results.set(key, value, size_mb)

    def _get_cache_stats(self) -> dict[str, Any]:
        """The cache's counters; requests that joined a run count as coalesced, as if the cache had merged them.

        `seconds_saved` is that of all jobs: a hit saves every step before it, while the cache knows each step's own
        seconds alone.
        """
        stats = self.results.stats()
        coalesced = stats["coalesced"] + self.service.queue.coalesced
        return {**stats, "coalesced": coalesced, "seconds_saved": round(self.service.seconds_saved, 4)}

    # ── the app ──────────────────────────────────────────────────────────────────────────────────────────────────

    def _make_app(self) -> Flask:
        app = JsonFlask(self.metrics.requests, self.answered)
        # Base64 in JSON is a third longer than the picture; the form around a file is small.
        app.config["MAX_CONTENT_LENGTH"] = self.settings.max_upload_bytes * 4 // 3 + 1_000_000
        app.json.sort_keys = False  # type: ignore[attr-defined]
        Guard(self.settings, state_routes.page_paths()).install(app)
        install_error_handlers(app)
        self._register_generation_routes(app)
        self._register_cache_routes(app)
        picture_routes.register_routes(app, self.service)
        hunyuan_routes.register_routes(app, self.service)
        state_routes.register_routes(app, self.service, self.settings, self.metrics)
        return app

    def _register_generation_routes(self, app: Flask) -> None:
        app.add_url_rule("/api/upload-image", view_func=self.upload_image, methods=["POST"])
        app.add_url_rule("/api/generate-3d", view_func=self.generate_3d, methods=["POST"])
        app.add_url_rule("/api/job-status/<job_id>", view_func=self.job_status)
        app.add_url_rule("/api/jobs", view_func=self.list_jobs)
        app.add_url_rule("/api/jobs/<job_id>", view_func=self.delete_job, methods=["DELETE"])
        app.add_url_rule("/api/download/<job_id>/<filename>", view_func=self.download)
        app.add_url_rule("/api/download-base64/<job_id>/<filename>", view_func=self.download_base64)

    def _register_cache_routes(self, app: Flask) -> None:
        app.add_url_rule("/api/cache/stats", view_func=self.cache_stats)
        app.add_url_rule("/api/cache/config", view_func=self.cache_config)
        app.add_url_rule("/api/cache/config", view_func=self.change_cache_config, methods=["POST"])
        app.add_url_rule("/api/cache/clear", view_func=self.clear_cache, methods=["POST"])
        app.add_url_rule("/api/cache/entries", view_func=self.cache_entries)
        entry = "/api/cache/entries/<path:key>"
        app.add_url_rule(entry, view_func=self.delete_cache_entry, methods=["DELETE"])
        app.add_url_rule(f"{entry}/pin", view_func=self.pin_cache_entry, methods=["PUT"])
        app.add_url_rule(f"{entry}/pin", view_func=self.unpin_cache_entry, methods=["DELETE"])

    # ── generation ───────────────────────────────────────────────────────────────────────────────────────────────

    @operation(
        form="UploadForm",
        query="UploadQuery",
        errors=("bad_request", "not_found", "job_busy", "too_large", "not_an_image", "disk_full"),
    )
    def upload_image(self) -> answers.UploadAnswer:
        """Keep a picture as a new job, or with `?job_id=` as a further view of one; or all pictures of an object."""
        from web.answers import ImageInfo, UploadAnswer
        from web.schemas import UploadQuery, parse, sent_pictures

        query, sent = parse(UploadQuery, request.args), sent_pictures(self.service.limits.max_upload_bytes)
        if query.job_id is None and query.view == "front":
            job = self.service.receive_all(sent, g.caller)
        elif sent.keys() != {"front"}:
            raise bad_field("image", "the one picture of that view belongs here")
        else:
            other = self.service.jobs.get(query.job_id, g.caller) if query.job_id else None
            job = self.service.receive(*sent["front"], g.caller, job=other, view=query.view)
        picture = job.pictures[query.view]
        url = preview_url(picture.name)
        return UploadAnswer(
            job_id=job.id,
            view=query.view,
            filename=picture.name,
            original_filename=picture.original_filename,
            preview_url=url,
            image_url=url,
            image_info=ImageInfo.model_validate(picture.image_info),
        )

    @operation(
        body="GenerateBody",
        form="GenerateForm",
        errors=(
            *("bad_request", "not_found", "job_busy", "too_large", "not_an_image", "empty_image", "empty_mesh"),
            *("loading", "model_not_ready", "queue_full", "stopped", "out_of_memory", "disk_full"),
        ),
    )
    def generate_3d(self) -> answers.JobAnswer:
        """Start a job: JSON that names an uploaded one, or a form with the pictures themselves."""
        from web.schemas import GenerateBody, GenerateForm, json_object, parse, sent_pictures

        form = request.mimetype == "multipart/form-data"
        body: GenerateBody = parse(GenerateForm, request.form) if form else parse(GenerateBody, json_object())
        wishes = body.wishes()
        if form and request.files:
            self.shelf.chosen(wishes.model)  # before anything is kept
            job = self.service.receive_all(sent_pictures(self.service.limits.max_upload_bytes), g.caller)
        elif body.job_id is not None:
            job = self.service.jobs.get(body.job_id, g.caller)
        elif wishes.prompt:
            job = self.service.prompt_only(wishes, g.caller)
        else:
            raise bad_field("job_id", "is missing: upload a picture first, or send it as the form field image")
        self.service.make(job, wishes)
        answer = job_answer(self.service.view(job), self.shelf.default)
        return answer if answer.status == JobStatus.COMPLETED else answer.model_copy(update={"status": "generating_3d"})

    @operation(query="StatusQuery", errors=("bad_request", "not_found", "cancelled"))
    def job_status(self, job_id: str) -> answers.JobAnswer:
        """How a job stands: at once or, with `?wait=`, when something has changed."""
        from web.schemas import StatusQuery, parse

        query = parse(StatusQuery, request.args)
        job = self.service.jobs.get(job_id, g.caller)
        if query.wait:
            final, gone = query.until == "final", request.environ.get(CLIENT_GONE)
            self.service.jobs.wait(job, query.wait, gone, final=final, since=query.since)
        if self.service.jobs.is_gone(job):
            raise JobCancelledError
        return job_answer(self.service.view(job), self.shelf.default)

    @operation(query="JobsQuery", errors=("bad_request",))
    def list_jobs(self) -> answers.JobsAnswer:
        """The jobs, newest first, all or those of one status."""
        from web.answers import JobsAnswer
        from web.schemas import JobsQuery, parse

        query = parse(JobsQuery, request.args)
        page, total = self.service.jobs.page(query.limit, query.offset, query.status, g.caller)
        jobs = [job_answer(self.service.view(job), self.shelf.default) for job in page]
        return JobsAnswer(jobs=jobs, total=total, limit=query.limit, offset=query.offset)

    @operation(errors=("not_found", "job_busy"))
    def delete_job(self, job_id: str) -> answers.DeletedAnswer:
        """Cancel a job while it waits or runs, else forget it with its files."""
        from web.answers import DeletedAnswer

        job = self.service.jobs.get(job_id, g.caller)
        if self.service.cancel(job):
            return DeletedAnswer(job_id=job_id, status="cancelled", message="the job was cancelled")
        self.service.keeping.forget(job)
        return DeletedAnswer(job_id=job_id, status="deleted", message="the job and its files were deleted")

    @operation(
        download=MODEL_TYPES,
        query="DownloadQuery",
        errors=(
            *("not_found", "shape_lost", "result_evicted", "upload_lost", "empty_mesh", "out_of_memory"),
            "requested_range_not_satisfiable",
        ),
        statuses=(200, 206, 304),
    )
    def download(self, job_id: str, filename: str) -> Response:
        """The file that a job made, in any of the formats."""
        job = self.service.jobs.get(job_id, g.caller)
        return stream(*self.service.fetch(job, filename), filename)

    @operation(errors=("not_found", "shape_lost", "result_evicted", "upload_lost", "empty_mesh", "out_of_memory"))
    def download_base64(self, job_id: str, filename: str) -> answers.Base64Answer:
        """The same file as text."""
        from web.answers import Base64Answer

        file, size, _ = self.service.fetch(self.service.jobs.get(job_id, g.caller), filename)
        with file:
            data = base64.b64encode(file.read()).decode()
        return Base64Answer(data=data, original_size=size, filename=filename)

    # ── cache ────────────────────────────────────────────────────────────────────────────────────────────────────

    @operation()
    def cache_stats(self) -> answers.CacheStatsAnswer:
        """What the cache has counted."""
        from web.answers import CacheStats, CacheStatsAnswer

        return CacheStatsAnswer(
            cache_enabled=self.results.enabled,
            backend=self.results.backend,
            fallback_reason=self.results.fallback_reason,
            stats=CacheStats.model_validate(self._get_cache_stats()),
            timestamp=now(),
        )

    @operation()
    def cache_config(self) -> answers.CacheConfigAnswer:
        """The limits of the cache."""
        return self._limits_in_force()

    @operation(body="CacheConfigBody", errors=("bad_request",))
    def change_cache_config(self) -> answers.CacheConfigAnswer:
        """Change the limits of the cache, all that are given or none."""
        from web.schemas import CacheConfigBody, json_object, parse

        self.lru_cache.update_config(**parse(CacheConfigBody, json_object()).changes())
        return self._limits_in_force()

    def _limits_in_force(self) -> answers.CacheConfigAnswer:
        from web.answers import CacheConfigAnswer, CacheLimits

        config = CacheLimits.model_validate(self.lru_cache.get_config())
        return CacheConfigAnswer(message="these limits are in force", config=config)

    @operation(query="TierQuery", errors=("bad_request",))
    def clear_cache(self) -> answers.ClearedAnswer:
        """Drop every entry, of all tiers or of one."""
        from web.answers import ClearedAnswer
        from web.schemas import TierQuery, parse

        cleared = self.results.clear(parse(TierQuery, request.args).tier)
        give_back()
        return ClearedAnswer(message=f"{cleared} entries were dropped", cleared=cleared)

    @operation(query="PageQuery", errors=("bad_request",))
    def cache_entries(self) -> answers.CacheEntriesAnswer:
        """The entries of the cache."""
        from web.answers import CacheEntriesAnswer
        from web.schemas import PageQuery, parse

        query = parse(PageQuery, request.args)
        entries: list[Any] = self.results.entries(query.limit, query.offset)
        return CacheEntriesAnswer(entries=entries, total=len(self.results), timestamp=now())

    @operation(errors=("not_found",))
    def delete_cache_entry(self, key: str) -> answers.EntryDeletedAnswer:
        """Drop one entry."""
        from web.answers import EntryDeletedAnswer

        if not self.results.delete(key):
            raise NotFoundError("there is no such entry")
        return EntryDeletedAnswer(message="the entry was dropped", key=key)

    @operation(errors=("not_found", "disk_full"))
    def pin_cache_entry(self, key: str) -> answers.PinAnswer:
        """Keep an entry on the disk: it neither expires nor makes room for others."""
        return self._pin(key, True)

    @operation(errors=("not_found", "disk_full"))
    def unpin_cache_entry(self, key: str) -> answers.PinAnswer:
        """Let it go when its time comes."""
        return self._pin(key, False)

    def _pin(self, key: str, pinned: bool) -> answers.PinAnswer:
        from web.answers import PinAnswer

        if not self.results.pin(key, pinned):
            raise NotFoundError("there is no such entry on the disk")
        return PinAnswer(key=key, pinned=pinned)


def create_app(settings: Settings | None = None) -> Flask:
    """The Flask app with its model loading in the background, for a WSGI server of your own (one process)."""
    server = OrfeasUnifiedServer(settings)
    threading.Thread(target=server.load_model, name="model-loader", daemon=True).start()
    return server.app


def _serve(settings: Settings) -> None:
    listener = listen(settings.host, settings.port)
    settings = replace(settings, port=listener.getsockname()[1])
    server = OrfeasUnifiedServer(settings)

    def load() -> None:
        # The imports of a model keep the interpreter busy: a health check at the very start goes first.
        server.answered.wait(timeout=0.25)
        server.load_model()
        host = f"[{settings.host}]" if ":" in settings.host else settings.host
        default, reason = server.shelf.default, server.shelf.not_ready_reason
        state = f"model {default}, device {server.shelf.device}" if default else f"no model: {reason}"
        print(f"ORFEAS {VERSION} on http://{host}:{settings.port}, {state}", flush=True)

    serve(server.app, listener, load, server.close)


def main() -> None:
    """Start the server, or say in one line why not."""
    try:
        settings = load_settings()
    except SettingsError as error:
        sys.exit(f"ORFEAS cannot start: {error}")
    keep_little()
    logging.basicConfig(level=settings.log_level, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    try:
        _serve(settings)
    except DataFolderError as error:
        sys.exit(f"ORFEAS cannot start: {error}")
    except OSError as error:
        sys.exit(f"ORFEAS cannot start on {settings.host} port {settings.port}: {error.strerror or error}")


if __name__ == "__main__":
    main()
