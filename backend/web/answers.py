"""What the routes answer, typed; `/api/openapi.json` is made from these models."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from work.jobs import JobStatus


class _Answer(BaseModel):
    model_config = ConfigDict(defer_build=True, protected_namespaces=())


class ErrorAnswer(_Answer):
    """Every error."""

    error: str
    code: str
    details: dict[str, Any]
    """A field's name to what is wrong with it, or facts."""


class UploadAnswer(_Answer):
    """`POST /api/upload-image`."""

    job_id: str
    view: str
    filename: str
    original_filename: str
    preview_url: str
    image_url: str
    status: Literal["uploaded"] = "uploaded"
    image_info: dict[str, Any]


class DimensionsAnswer(_Answer):
    """As asked for."""

    width: float | None
    height: float | None
    depth: float | None


class MeshAnswer(_Answer):
    """Measured on the delivered file."""

    model_config = ConfigDict(extra="allow")

    vertices: int
    faces: int
    watertight: bool
    volume_mm3: float
    extents_mm: tuple[float, float, float]
    """Width, height, depth."""


class JobAnswer(_Answer):
    """A job's status."""

    job_id: str
    version: int
    status: JobStatus | Literal["generating_3d"]
    progress: int
    step: str
    message: str
    error: str | None
    error_type: str | None
    error_details: dict[str, Any] | None
    job_type: Literal["3d"] = "3d"
    format: str
    quality: int
    dimensions: DimensionsAnswer
    fit: str
    prompt: str
    seed: int
    scale: str
    target_faces: int | None
    remove_background: str
    model: str | None
    model_note: str | None
    cached: bool
    queue_position: int
    output_file: str | None
    download_url: str | None
    model_url: str | None
    preview_url: str | None
    image_url: str | None
    views: dict[str, str]
    """Where each picture can be seen, by the side that it shows."""
    thumbnail_url: str | None
    has_user_mask: bool
    filename: str | None
    original_filename: str
    file_size: int | None
    mesh: MeshAnswer | None
    timings: dict[str, float]
    seconds_saved: float
    created_at: str
    started_at: str | None
    finished_at: str | None
    eta_seconds: float | None


class JobsAnswer(_Answer):
    """`GET /api/jobs`."""

    jobs: list[JobAnswer]
    total: int
    limit: int
    offset: int


class DeletedAnswer(_Answer):
    """`DELETE /api/jobs/<job_id>`."""

    job_id: str
    status: Literal["cancelled", "deleted"]
    message: str


class Base64Answer(_Answer):
    """`GET /api/download-base64/…`."""

    data: str
    original_size: int
    filename: str


class MaskAnswer(_Answer):
    """Whose mask is in force."""

    job_id: str
    mask: Literal["user", "auto"]


class ThumbnailAnswer(_Answer):
    """Where the thumbnail is."""

    job_id: str
    thumbnail_url: str


class CacheStatsAnswer(_Answer):
    """`GET /api/cache/stats`."""

    status: Literal["success"] = "success"
    cache_enabled: bool
    backend: str
    fallback_reason: str | None
    stats: dict[str, Any]
    timestamp: str


class CacheConfigAnswer(_Answer):
    """The limits in force."""

    status: Literal["success"] = "success"
    message: str
    config: dict[str, Any]


class ClearedAnswer(_Answer):
    """`POST /api/cache/clear`."""

    status: Literal["success"] = "success"
    message: str
    cleared: int


class CacheEntryAnswer(_Answer):
    """One cached result."""

    key: str
    size_mb: float
    timestamp: float | None
    age_seconds: float | None
    access_count: int | None
    expires_at: float | None
    expired: bool


class CacheEntriesAnswer(_Answer):
    """`GET /api/cache/entries`."""

    status: Literal["success"] = "success"
    entries: list[CacheEntryAnswer]
    total: int
    timestamp: str


class EntryDeletedAnswer(_Answer):
    """`DELETE /api/cache/entries/<key>`."""

    status: Literal["success"] = "success"
    message: str
    key: str


class ModelRow(_Answer):
    """One model of the shelf."""

    id: str
    loaded: bool
    available: bool
    reason: str | None
    licence: str | None
    reads: list[str]
    memory_mb: int
    revision: str | None
    note: str | None
    parameters: dict[str, Any]
    """JSON schema of what it reads beside the pictures."""
    expected_seconds: dict[int, float]


class ModelsAnswer(_Answer):
    """`GET /api/models-info`."""

    version: str
    device: str
    gpu_stats: dict[str, float]
    models_status: str
    reason: str | None
    default: str | None
    models: list[ModelRow]
    request: dict[str, Any]
    """JSON schema of the body of `POST /api/generate-3d`."""
    limits: dict[str, Any]


class HealthAnswer(_Answer):
    """`GET /api/health` and `GET /api/ready`."""

    status: Literal["healthy"] = "healthy"
    server: Literal["orfeas"] = "orfeas"
    version: str
    timestamp: str
    mode: str
    models_status: Literal["loading", "ready", "not_ready"]
    model: str | None
    reason: str | None
    device: str
    gpu_info: dict[str, Any] | None
    active_jobs: int
    queue_length: int
    capabilities: dict[str, Any]
    uptime_seconds: float


class SentAnswer(_Answer):
    """`POST /send`."""

    uid: str


class HunyuanStatusAnswer(_Answer):
    """`GET /status/<uid>`."""

    status: Literal["processing", "completed", "error"]
    model_base64: str | None = None
    message: str | None = None

    def model_dump_json(self, **options: Any) -> str:
        """Without what is not there, as the add-ons know it."""
        return super().model_dump_json(exclude_none=True, **options)


class HunyuanHealthAnswer(_Answer):
    """`GET /health`."""

    status: Literal["healthy"] = "healthy"
    worker_id: str
