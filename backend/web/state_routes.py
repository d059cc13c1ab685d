"""Routes that tell how the server is: health, models, metrics; and the page."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from flask import Flask, Response, jsonify, request, send_from_directory
from prometheus_client import CONTENT_TYPE_LATEST
from werkzeug.exceptions import MethodNotAllowed

from settings import ROOT, Settings
from version import VERSION
from web.operations import operation
from web.responses import now

if TYPE_CHECKING:
    from web import answers
    from web.metrics import Metrics
    from work.service import Service

PAGE = ROOT / "frontend"


def page_paths() -> frozenset[str]:
    """The paths of the page's own files."""
    files = (path.relative_to(PAGE).as_posix() for path in PAGE.rglob("*") if path.is_file())
    return frozenset({"/", *(f"/{file}" for file in files)})


def register_routes(app: Flask, service: Service, settings: Settings, metrics: Metrics) -> None:
    """Add `/api/health`, `/api/ready`, `/api/models-info`, `/metrics`, the API's own description, and the page."""
    began = time.monotonic()

    def state() -> answers.HealthAnswer:
        from web.answers import Capabilities, GpuInfo, HealthAnswer

        running, waiting = service.queue.lengths()
        default = service.shelf.default
        reads = sorted(service.shelf.known(default).reads) if default else []
        gpu = service.shelf.gpu_info()
        return HealthAnswer(
            version=VERSION,
            timestamp=now(),
            mode=settings.mode,
            models_status=service.shelf.status,
            model=default,
            reason=service.shelf.not_ready_reason,
            device=service.shelf.device,
            gpu_info=GpuInfo.model_validate(gpu) if gpu else None,
            active_jobs=running,
            queue_length=waiting,
            capabilities=Capabilities(image_to_3d="image" in reads, text_to_3d="prompt" in reads, reads=reads),
            uptime_seconds=round(time.monotonic() - began, 1),
        )

    @app.get("/api/health")
    @operation()
    def health() -> answers.HealthAnswer:
        """Alive, whatever the models do."""
        return state()

    @app.get("/api/ready")
    @operation(statuses=(200, 503))
    def ready() -> tuple[answers.HealthAnswer, int]:
        """200 once a model can work, else 503."""
        return state(), 200 if service.shelf.default else 503

    @app.get("/api/models-info")
    @operation()
    def models_info() -> answers.ModelsAnswer:
        """The models, what each reads, and what may be asked for."""
        from web.answers import GpuMemory, ModelRow, ModelsAnswer
        from web.parameters import limits, model_parameters, request_schema

        gpu = service.shelf.gpu_info()
        return ModelsAnswer(
            version=VERSION,
            device=service.shelf.device,
            gpu_stats=GpuMemory(allocated_mb=gpu["allocated_mb"] if gpu else 0.0),
            models_status=service.shelf.status,
            reason=service.shelf.not_ready_reason,
            default=service.shelf.default,
            models=[
                ModelRow(
                    **row,
                    parameters=model_parameters(tuple(row["reads"])),
                    expected_seconds=service.queue.expected_seconds(row["id"]),
                )
                for row in service.shelf.rows()
            ],
            request=request_schema(),
            limits=limits(settings),
        )

    @app.get("/metrics")
    @operation(download=("text/plain",))
    def metrics_text() -> Response:
        """For Prometheus."""
        return Response(metrics.text(), content_type=CONTENT_TYPE_LATEST)

    def described() -> dict[str, Any]:
        from web.openapi import document, routes

        return document(routes(app), needs_key=bool(settings.api_keys))

    @app.get("/api/openapi.json")
    @operation(download=("application/json",))
    def openapi() -> Response:
        """This description of the API, as OpenAPI 3.1."""
        return jsonify(described())

    @app.get("/api/docs")
    @operation(download=("text/html",))
    def docs() -> Response:
        """The same for people."""
        from web.reference import page_of

        return Response(page_of(described()), mimetype="text/html")

    def check_method() -> None:
        """The page's route takes every path, also those that are another route's for another method."""
        known = set(app.create_url_adapter(request).allowed_methods()) - {"GET", "HEAD"}  # type: ignore[union-attr]
        if known != {"OPTIONS"}:
            raise MethodNotAllowed(sorted(known))

    @app.get("/", defaults={"filename": "index.html"}, endpoint="index")
    @app.get("/<path:filename>")
    @operation(
        download=("text/html", "text/css", "text/javascript", "image/svg+xml"),
        errors=("not_found", "method_not_allowed", "requested_range_not_satisfiable"),
        statuses=(200, 206, 304),
    )
    def page(filename: str) -> Response:
        """The studio: files of `frontend/`, and nothing else."""
        check_method()
        response = send_from_directory(PAGE, filename)
        if filename.endswith(".js"):
            response.mimetype = "text/javascript"  # Windows' registry may say otherwise
        return response
