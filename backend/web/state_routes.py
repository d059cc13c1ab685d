"""Routes that tell how the server is: health, models, metrics; and the page."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from flask import Flask, Response, send_from_directory
from prometheus_client import CONTENT_TYPE_LATEST

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
    """Add `/api/health`, `/api/ready`, `/api/models-info`, `/metrics` and the page."""
    began = time.monotonic()

    def state() -> answers.HealthAnswer:
        from web.answers import HealthAnswer

        running, waiting = service.queue.lengths()
        default = service.shelf.default
        reads = sorted(service.shelf.known(default).reads) if default else []
        return HealthAnswer(
            version=VERSION,
            timestamp=now(),
            mode=settings.mode,
            models_status=service.shelf.status,
            model=default,
            reason=service.shelf.not_ready_reason,
            device=service.shelf.device,
            gpu_info=service.shelf.gpu_info(),
            active_jobs=running,
            queue_length=waiting,
            capabilities={"image_to_3d": "image" in reads, "text_to_3d": "prompt" in reads, "reads": reads},
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
        from web.answers import ModelRow, ModelsAnswer
        from web.parameters import limits, model_parameters, request_schema

        gpu = service.shelf.gpu_info()
        return ModelsAnswer(
            version=VERSION,
            device=service.shelf.device,
            gpu_stats={"allocated_mb": gpu["allocated_mb"] if gpu else 0.0},
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
    @operation(download="text/plain")
    def metrics_text() -> Response:
        """For Prometheus."""
        return Response(metrics.text(), content_type=CONTENT_TYPE_LATEST)

    @app.get("/", defaults={"filename": "index.html"})
    @app.get("/<path:filename>")
    def page(filename: str) -> Response:
        """The studio: files of `frontend/`, and nothing else."""
        response = send_from_directory(PAGE, filename)
        if filename.endswith(".js"):
            response.mimetype = "text/javascript"  # Windows' registry may say otherwise
        return response
