"""The front door: `OrfeasUnifiedServer` wires the rooms and registers the routes; `main` serves them."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import io
import logging
import select
import signal
import socket
import sys
import threading
import time
from dataclasses import replace
from types import FrameType
from typing import TYPE_CHECKING, Any, BinaryIO

from flask import Flask, Response, request, send_from_directory
from prometheus_client import CONTENT_TYPE_LATEST

import hunyuan
import pictures
from cache_manager import LRUCache, get_cache
from jobs import ACTIVE, Job, JobBusyError, JobQueue, JobStatus, Upload, run_kind
from metrics import Metrics
from models import registry
from models.base import Model, ModelUnavailableError
from responses import client_gone, install_error_handlers, job_status, json_object, now, preview_urls, stream
from result_cache import ResultCache
from schemas import (
    CacheConfigBody,
    GenerateBody,
    RequestError,
    bad_field,
    parse,
    parse_choice,
    parse_page,
    parse_since,
    parse_wait,
)
from security import Guard
from settings import ROOT, Settings, SettingsError, load_settings
from storage import Storage

if TYPE_CHECKING:  # with numpy and Pillow, which the start does not wait for
    from generation import Generation

VERSION = "0.1.0"
THREADS = 32
"""HTTP threads: more than may wait for jobs at once, so that health is always answered."""
log = logging.getLogger("orfeas")


class OrfeasUnifiedServer:
    """One server: its model, its caches, its jobs and its Flask app."""

    def __init__(self, settings: Settings | None = None) -> None:
        self.settings = settings = settings or load_settings()
        self.storage = Storage(settings.data_dir, settings.uploads_dir, settings.outputs_dir)
        self.lru_cache = get_cache(
            settings.cache_max_size, settings.cache_max_memory_mb, settings.cache_ttl_seconds, settings.cache_policy
        )
        self.result_cache: dict[str, Any] = {}
        self.cache = ResultCache(
            self.lru_cache,
            self.result_cache,
            enabled=not settings.disable_result_cache,
            backend=settings.cache_backend,
        )
        self.jobs = JobQueue(self.storage, max_queued=settings.max_queued_jobs, workers=settings.workers)
        self.model: Model | None = None
        self.generation: Generation | None = None
        self.not_ready_reason: str | None = None
        self.metrics = Metrics(self.jobs.counts, self._get_cache_stats)
        self.answered = threading.Event()
        """Set once any request was answered."""
        self._started = time.monotonic()
        # The same bytes again need no decoding: only what is known of the picture is kept, about 1 kB each.
        self._pictures = LRUCache(max_size=1000, max_memory_mb=4.0)
        self._decoding = threading.BoundedSemaphore(4)  # a 50 megapixel picture takes 200 MB while it is decoded
        self.app = self._make_app()

    # ── the model ────────────────────────────────────────────────────────────────────────────────────────────────

    def load_model(self) -> None:
        """Load what the mode asks for; a model that fails leaves the server up, with the reason."""
        from generation import Generation

        settings, reasons = self.settings, []
        for model_id in dict.fromkeys(_candidates(settings)):
            path = settings.model_path if model_id == settings.model else None
            try:
                model = registry.create(model_id, path, settings.device)
                model.load()
            except Exception as error:
                known = isinstance(error, ModelUnavailableError | ValueError)
                log.error("model %s could not be loaded: %s", model_id, error, exc_info=None if known else error)
                reasons.append(f"{model_id}: {error}" if known else f"{model_id}: {type(error).__name__}: {error}")
            else:
                self.not_ready_reason = "; ".join(reasons) or None
                generation = Generation(model, self.cache, self.storage, settings.max_image_pixels)
                self.model, self.generation = model, generation
                return
        self.not_ready_reason = "; ".join(reasons)

    @property
    def models_status(self) -> str:
        """loading, ready or not_ready."""
        return "ready" if self.generation else "not_ready" if self.not_ready_reason else "loading"

    def ready_generation(self) -> Generation:
        """What makes shapes; RequestError 503 while no model is ready."""
        if self.generation is None:
            if self.not_ready_reason:
                raise RequestError(503, "model_not_ready", f"no model is ready: {self.not_ready_reason}")
            raise RequestError(503, "loading", "the model is still loading", {"retry_after": 2})
        return self.generation

    def close(self) -> None:
        """Cancel what runs, refuse what comes, free the model."""
        self.jobs.stop(timeout=3.0)
        if self.model is not None:
            self.model.unload()

    # ── the cache, by the names that the original server gave these ──────────────────────────────────────────────

    def _check_cache(self, key: str) -> Any:
        """The cached value under that key, or None."""
        return self.cache.get(key)

    def _save_to_cache(self, key: str, value: Any, size_mb: float) -> None:
        """Store a value of `size_mb` (10^6 bytes)."""
        self.cache.set(key, value, size_mb)

    def _get_cache_stats(self) -> dict[str, Any]:
        """The cache's counters; jobs that joined a run count as coalesced, as if the cache had merged them."""
        stats = self.cache.stats()
        return {**stats, "coalesced": stats["coalesced"] + self.jobs.coalesced}

    # ── the app ──────────────────────────────────────────────────────────────────────────────────────────────────

    def _make_app(self) -> Flask:
        app = Flask("orfeas", static_folder=None)
        # Base64 in JSON is a third longer than the picture; the form around a file is small.
        app.config["MAX_CONTENT_LENGTH"] = self.settings.max_upload_bytes * 4 // 3 + 1_000_000
        app.json.sort_keys = False  # type: ignore[attr-defined]
        Guard(self.settings).install(app)
        install_error_handlers(app)
        app.after_request(self._count_request)
        self._register_generation_routes(app)
        self._register_cache_routes(app)
        pictures.register_routes(app, self)
        hunyuan.register_routes(app, self)
        self._register_state_routes(app)
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
        app.add_url_rule("/api/cache/entries/<path:key>", view_func=self.delete_cache_entry, methods=["DELETE"])

    def _register_state_routes(self, app: Flask) -> None:
        app.add_url_rule("/api/health", view_func=self.health)
        app.add_url_rule("/api/ready", view_func=self.ready)
        app.add_url_rule("/api/models-info", view_func=self.models_info)
        app.add_url_rule("/metrics", view_func=self.metrics_text)
        app.add_url_rule("/", view_func=self.page, defaults={"filename": "index.html"})
        app.add_url_rule("/<path:filename>", view_func=self.page)

    def _count_request(self, response: Response) -> Response:
        route = request.url_rule.rule if request.url_rule else "none"
        self.metrics.requests.labels(request.method, route, response.status_code).inc()
        self.answered.set()
        return response

    # ── generation ───────────────────────────────────────────────────────────────────────────────────────────────

    def upload_image(self) -> dict[str, Any]:
        """`POST /api/upload-image`."""
        job = self._upload_from_form()
        return {
            "job_id": job.id,
            "filename": job.picture_name,
            "original_filename": job.upload.original_filename,
            **preview_urls(job),
            "status": "uploaded",
            "image_info": job.upload.image_info,
        }

    def generate_3d(self) -> dict[str, Any]:
        """`POST /api/generate-3d`: JSON that names an uploaded job, or a form with the picture itself."""
        if request.mimetype == "multipart/form-data":
            body = parse(GenerateBody, request.form)
            self.ready_generation()
            job = self._upload_from_form() if "image" in request.files else self._named_job(body)
        else:
            body = parse(GenerateBody, json_object())
            job = self._named_job(body)
        self.start(job, body)
        status = self._status(job)
        return status if status["status"] == JobStatus.COMPLETED else {**status, "status": "generating_3d"}

    def _upload_from_form(self) -> Job:
        sent = request.files.get("image")
        if sent is None:
            raise bad_field("image", "a multipart form with the picture in the field image is needed")
        return self.add_job(sent.stream.read(self.settings.max_upload_bytes + 1), sent.filename or "image")

    def add_job(self, data: bytes, original_filename: str) -> Job:
        """Check a picture and keep it; RequestError 400, 413, 415."""
        from generation import receive

        if not data:
            raise bad_field("image", "is empty")
        if len(data) > self.settings.max_upload_bytes:
            raise RequestError(413, "too_large", f"the picture is larger than {self.settings.max_upload_mb:g} MB")

        def decode() -> Upload:
            with self._decoding:
                return receive(data, self.settings.max_image_pixels)

        seen = self._pictures.get_or_compute(hashlib.sha256(data).hexdigest(), decode)
        upload = seen.model_copy(update={"original_filename": original_filename[:255]})
        return self.jobs.add(data, upload)

    def _named_job(self, body: GenerateBody) -> Job:
        if body.job_id is None:
            raise bad_field("job_id", "is missing: upload a picture first, or send it as the form field image")
        return self.job(body.job_id)

    def job(self, job_id: str) -> Job:
        """The job; RequestError 404."""
        job = self.jobs.get(job_id)
        if job is None:
            raise RequestError(404, "not_found", "there is no such job")
        return job

    def start(self, job: Job, body: GenerateBody) -> None:
        """Answer from the cache, or queue the job."""
        generation = self.ready_generation()
        if job.status in ACTIVE:
            raise JobBusyError
        if not job.mask and (reason := job.upload.empty.get(body.remove_background)):
            raise RequestError(422, "empty_image", reason, {"image": reason})
        if (outcome := generation.cached(job, body)) is not None:
            self.jobs.complete(job, body, outcome)
            return

        def work(progress: Any, cancelled: Any) -> Any:
            with self.metrics.generation_seconds.labels(generation.model.id).time():
                return generation.generate(job, body, progress, cancelled)

        kind = run_kind(generation.model.id, body.quality)
        self.jobs.submit(job, body, generation.run_key(job, body), kind, work)

    def job_status(self, job_id: str) -> dict[str, Any]:
        """`GET /api/job-status/<job_id>`, at once or, with `?wait=`, when something has changed."""
        job = self.job(job_id)
        if wait := parse_wait(request.args):
            self.jobs.wait(job, wait, client_gone(), since=parse_since(request.args))
        if self.jobs.is_gone(job):
            raise RequestError(410, "cancelled", "the job was cancelled")
        return self._status(job)

    def _status(self, job: Job) -> dict[str, Any]:
        return job_status(job, self.jobs.view(job), self.model.id if self.model else None)

    def list_jobs(self) -> dict[str, Any]:
        """`GET /api/jobs`, newest first, all or those of one status."""
        limit, offset = parse_page(request.args, default=50)
        status = parse_choice(request.args, "status", tuple(JobStatus))
        page, total = self.jobs.page(limit, offset, JobStatus(status) if status else None)
        return {"jobs": [self._status(job) for job in page], "total": total, "limit": limit, "offset": offset}

    def delete_job(self, job_id: str) -> dict[str, Any]:
        """`DELETE /api/jobs/<job_id>`: cancel it while it waits or runs, else forget it with its files."""
        job = self.job(job_id)
        if self.jobs.cancel(job):
            return {"job_id": job_id, "status": "cancelled", "message": "the job was cancelled"}
        self.jobs.forget(job)
        return {"job_id": job_id, "status": "deleted", "message": "the job and its files were deleted"}

    def download(self, job_id: str, filename: str) -> Response:
        """`GET /api/download/<job_id>/<filename>`."""
        file, size, etag = self.open_result(job_id, filename)
        return stream(file, size, etag, filename)

    def download_base64(self, job_id: str, filename: str) -> dict[str, Any]:
        """`GET /api/download-base64/<job_id>/<filename>`."""
        file, size, _ = self.open_result(job_id, filename)
        with file:
            return {"data": base64.b64encode(file.read()).decode(), "original_size": size, "filename": filename}

    def open_result(self, job_id: str, filename: str) -> tuple[BinaryIO, int, str]:
        """The delivered file, or its shape converted to another format: stream, bytes, entity tag."""
        from meshes import FORMATS

        job = self.job(job_id)
        view = self.jobs.view(job)
        body, delivery = view["body"], view["delivery"]
        stem, _, extension = filename.rpartition(".")
        if stem not in ("model", f"model_{job_id}") or extension not in FORMATS:
            raise RequestError(404, "not_found", f"a job's files are model.{', model.'.join(FORMATS)}")
        if delivery is None:
            raise RequestError(404, "not_found", f"the job has no result: it is {view['status']}")
        if extension == body.format:
            with contextlib.suppress(FileNotFoundError):  # deleted by hand: made again below
                return self.storage.output(job_id, delivery.filename).open("rb"), delivery.file_size, delivery.etag
        wanted = body.model_copy(update={"format": extension})
        outcome = self.ready_generation().convert(job, wanted, delivery.shape_key)
        return io.BytesIO(outcome.data), len(outcome.data), outcome.delivery.etag

    # ── cache ────────────────────────────────────────────────────────────────────────────────────────────────────

    def cache_stats(self) -> dict[str, Any]:
        """`GET /api/cache/stats`."""
        return {
            "status": "success",
            "cache_enabled": self.cache.enabled,
            "backend": self.cache.backend,
            "fallback_reason": self.cache.fallback_reason,
            "stats": self._get_cache_stats(),
            "timestamp": now(),
        }

    def cache_config(self) -> dict[str, Any]:
        """`GET /api/cache/config`."""
        return {"status": "success", "config": self.lru_cache.get_config()}

    def change_cache_config(self) -> dict[str, Any]:
        """`POST /api/cache/config`: all or nothing."""
        changes = parse(CacheConfigBody, json_object()).changes()
        self.lru_cache.update_config(**changes)
        return {"status": "success", "message": "the limits are in force", "config": self.lru_cache.get_config()}

    def clear_cache(self) -> dict[str, Any]:
        """`POST /api/cache/clear`."""
        cleared = self.cache.clear()
        return {"status": "success", "message": f"{cleared} entries were dropped", "cleared": cleared}

    def cache_entries(self) -> dict[str, Any]:
        """`GET /api/cache/entries`."""
        limit, offset = parse_page(request.args)
        entries = self.cache.entries(limit, offset)
        return {"status": "success", "entries": entries, "total": len(self.cache), "timestamp": now()}

    def delete_cache_entry(self, key: str) -> dict[str, Any]:
        """`DELETE /api/cache/entries/<key>`."""
        if not self.cache.delete(key):
            raise RequestError(404, "not_found", "there is no such entry")
        return {"status": "success", "message": "the entry was dropped", "key": key}

    # ── state ────────────────────────────────────────────────────────────────────────────────────────────────────

    def health(self) -> dict[str, Any]:
        """`GET /api/health`: alive, whatever the model does."""
        running, waiting = self.jobs.lengths()
        reads = sorted(self.model.reads) if self.model else []
        return {
            "status": "healthy",
            "server": "orfeas",
            "version": VERSION,
            "timestamp": now(),
            "mode": self.settings.mode,
            "models_status": self.models_status,
            "model": self.model.id if self.model else None,
            "reason": self.not_ready_reason,
            "device": self.model.device if self.model else self.settings.device,
            "gpu_info": _gpu_info(),
            "active_jobs": running,
            "queue_length": waiting,
            "capabilities": {"image_to_3d": "image" in reads, "text_to_3d": "prompt" in reads, "reads": reads},
            "uptime_seconds": round(time.monotonic() - self._started, 1),
        }

    def ready(self) -> tuple[dict[str, Any], int]:
        """`GET /api/ready`: 200 once a model can work, else 503."""
        return self.health(), 200 if self.generation else 503

    def models_info(self) -> dict[str, Any]:
        """`GET /api/models-info`."""
        loaded = self.model.id if self.model else None
        note = self.model.note if self.model else None
        models = [
            {
                **row,
                "loaded": row["id"] == loaded,
                "note": note if row["id"] == loaded else None,
                "expected_seconds": self.jobs.expected_seconds(row["id"]),
            }
            for row in registry.available(self.settings.model_path)
        ]
        gpu = _gpu_info()
        return {
            "device": self.model.device if self.model else self.settings.device,
            "gpu_stats": {"allocated_mb": gpu["allocated_mb"] if gpu else 0.0},
            "models_status": self.models_status,
            "reason": self.not_ready_reason,
            "models": models,
        }

    def metrics_text(self) -> Response:
        """`GET /metrics`."""
        return Response(self.metrics.text(), content_type=CONTENT_TYPE_LATEST)

    def page(self, filename: str) -> Response:
        """The studio: files of `frontend/`, and nothing else."""
        response = send_from_directory(ROOT / "frontend", filename)
        if filename.endswith(".js"):
            response.mimetype = "text/javascript"  # Windows' registry may say otherwise
        return response


def _candidates(settings: Settings) -> tuple[str, ...]:
    """The models to try, best first."""
    by_mode = {
        "full_ai": (settings.model,),
        "powerful_3d": ("builtin",),
        "safe_fallback": (settings.model, "builtin"),
    }
    return by_mode[settings.mode]


def _gpu_info() -> dict[str, Any] | None:
    """The GPU in use; None without one. Asks torch only once a model has loaded it."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available():
        return None
    free, total = torch.cuda.mem_get_info()
    return {
        "name": torch.cuda.get_device_name(),
        "allocated_mb": torch.cuda.memory_allocated() / 1e6,
        "free_mb": free / 1e6,
        "total_mb": total / 1e6,
    }


def create_app(settings: Settings | None = None) -> Flask:
    """The Flask app with its model loading in the background, for a WSGI server of your own (one process)."""
    server = OrfeasUnifiedServer(settings)
    threading.Thread(target=server.load_model, name="model-loader", daemon=True).start()
    return server.app


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, port), family=family, backlog=128)


def serve(settings: Settings) -> None:
    """Serve until Ctrl-C or SIGTERM."""
    from waitress import wasyncore
    from waitress.server import create_server

    listener = _listen(settings.host, settings.port)
    settings = replace(settings, port=listener.getsockname()[1])
    server = OrfeasUnifiedServer(settings)
    channels: dict[int, Any] = {}
    http = create_server(
        server.app,
        map=channels,
        sockets=[listener],
        threads=THREADS,
        channel_request_lookahead=1,  # without it a closed connection goes unnoticed
        # Flask refuses what is too large with a JSON answer; this only keeps the absurd from being read at all.
        max_request_body_size=2 * server.app.config["MAX_CONTENT_LENGTH"],
        ident="orfeas",
    )

    def load() -> None:
        # The imports of a model keep the interpreter busy: a health check at the very start goes first.
        server.answered.wait(timeout=0.25)
        server.load_model()
        host = f"[{settings.host}]" if ":" in settings.host else settings.host
        address = f"http://{host}:{settings.port}"
        if server.model is not None:
            print(f"ORFEAS {VERSION} on {address}, model {server.model.id}, device {server.model.device}", flush=True)
        else:
            print(f"ORFEAS {VERSION} on {address}, no model: {server.not_ready_reason}", flush=True)

    def stop(signum: int, frame: FrameType | None) -> None:
        raise SystemExit

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    loading = threading.Thread(target=load, name="model-loader", daemon=True)
    loading.start()
    closing = threading.Thread(target=server.close, name="closing", daemon=True)
    try:
        wasyncore.loop(timeout=1, map=channels, use_poll=hasattr(select, "poll"))
    except SystemExit:
        closing.start()  # first, as it wakes the requests that wait for a job
        http.task_dispatcher.shutdown(timeout=2)
        closing.join(timeout=3)
        loading.join(timeout=5)  # an interpreter that ends while it imports torch aborts


def main() -> None:
    """Start the server, or say in one line why not."""
    try:
        settings = load_settings()
    except SettingsError as error:
        sys.exit(f"ORFEAS cannot start: {error}")
    logging.basicConfig(level=settings.log_level, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    try:
        serve(settings)
    except OSError as error:
        sys.exit(f"ORFEAS cannot start on {settings.host} port {settings.port}: {error.strerror or error}")


if __name__ == "__main__":
    main()
