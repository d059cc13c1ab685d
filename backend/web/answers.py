"""What the routes answer, typed; `/api/openapi.json` is made from these models."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, WithJsonSchema

from mesh.formats import FORMATS, Fit
from picture import FORMATS as IMAGE_FORMATS
from picture import Background, View
from web.responses import STATUS
from work.records import JobStatus
from work.request import Scale

ErrorCode = Annotated[str, WithJsonSchema({"type": "string", "enum": sorted(STATUS)})]
FormatWord = Annotated[str, WithJsonSchema({"type": "string", "enum": list(FORMATS)})]
ImageFormat = Annotated[str, WithJsonSchema({"type": "string", "enum": list(IMAGE_FORMATS)})]
Instant = Annotated[str, WithJsonSchema({"type": "string", "format": "date-time"})]
"""ISO 8601, UTC."""
PathOfServer = Annotated[str, WithJsonSchema({"type": "string", "format": "uri-reference"})]


class _Answer(BaseModel):
    model_config = ConfigDict(
        defer_build=True,
        protected_namespaces=(),
        use_attribute_docstrings=True,
        json_schema_serialization_defaults_required=True,
    )


class _Facts(_Answer):
    """Numbers that another room counts: one that it adds is passed on."""

    model_config = ConfigDict(extra="allow")


ModelsStatus = Literal["loading", "ready", "not_ready"]


class ErrorAnswer(_Answer):
    """Every error."""

    error: str
    """For people."""
    code: ErrorCode
    """For programs."""
    details: dict[str, Any]
    """A field's name to what is wrong with it, or facts."""


class ImageInfo(_Answer):
    """What is known of a picture, upright."""

    width: int
    """Pixels."""
    height: int
    size: tuple[int, int]
    """Width, height."""
    format: ImageFormat
    mode: str
    """Pillow's name for the layout of its pixels."""
    has_transparency: bool
    file_size: int
    """Bytes."""


class UploadAnswer(_Answer):
    """`POST /api/upload-image`."""

    job_id: str
    view: View
    """Which side of the object the picture shows."""
    filename: str
    original_filename: str
    preview_url: PathOfServer
    image_url: PathOfServer
    status: Literal["uploaded"] = "uploaded"
    image_info: ImageInfo


class DimensionsAnswer(_Answer):
    """As asked for, in millimetres."""

    width: float | None
    height: float | None
    depth: float | None


class MeshAnswer(_Facts):
    """Measured on the delivered file; of `scale` unit in the file's own unit."""

    vertices: int
    """Different places."""
    faces: int
    watertight: bool
    """Closed, and it encloses a volume: a slicer needs no repair."""
    volume_mm3: float
    extents_mm: tuple[float, float, float]
    """Width (left to right), height (up), depth (front to back)."""


class JobAnswer(_Answer):
    """A job's status."""

    job_id: str
    version: int
    """Grows with every change until the server stops; for `?since=`."""
    status: JobStatus | Literal["generating_3d"]
    """`generating_3d`: only as the answer of `POST /api/generate-3d`."""
    progress: int
    """0 to 100."""
    step: str
    """The stage's name."""
    message: str
    """One line for people."""
    error: str | None
    """Why it failed; null unless `failed`."""
    error_type: str | None
    """A code of an error; that of a job of an earlier release may have another name."""
    error_details: dict[str, Any] | None
    job_type: Literal["3d"] = "3d"
    format: FormatWord
    quality: int
    dimensions: DimensionsAnswer
    fit: Fit
    prompt: str
    seed: int
    scale: Scale
    target_faces: int | None
    remove_background: Background
    model: str | None
    """Which makes or made the shape."""
    model_note: str | None
    """What that model had to do without."""
    cached: bool
    """Whether the shape was known already."""
    queue_position: int
    """1 is next, 0 is not waiting."""
    output_file: str | None
    """Null until `completed`, as the other facts of the file."""
    download_url: PathOfServer | None
    model_url: PathOfServer | None
    preview_url: PathOfServer | None
    """The front picture; null for a job from a prompt alone."""
    image_url: PathOfServer | None
    views: dict[View, PathOfServer]
    """Where each picture can be seen, by the side that it shows."""
    thumbnail_url: PathOfServer | None
    has_user_mask: bool
    filename: str | None
    original_filename: str
    file_size: int | None
    """Bytes."""
    mesh: MeshAnswer | None
    timings: dict[str, float]
    """Seconds of each step."""
    seconds_saved: float
    """Of a result from the cache: what its steps took when they were run, less this answer's own time."""
    created_at: Instant
    started_at: Instant | None
    finished_at: Instant | None
    eta_seconds: float | None
    """From past runs; null before there are any."""


class JobsAnswer(_Answer):
    """`GET /api/jobs`."""

    jobs: list[JobAnswer]
    total: int
    """How many there are on all pages."""
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
    """The file in base64."""
    original_size: int
    """Bytes of the file."""
    filename: str


class MaskAnswer(_Answer):
    """Whose mask is in force."""

    job_id: str
    mask: Literal["user", "auto"]


class ThumbnailAnswer(_Answer):
    """Where the thumbnail is."""

    job_id: str
    thumbnail_url: PathOfServer


class DiskStats(_Answer):
    """The cache's disk tier: counters since the start, and the present. MB are 10^6 bytes."""

    hits: int
    misses: int
    hit_rate_percent: float
    evictions: int
    expirations: int
    rejected: int
    """Results too large to be stored."""
    damaged: int
    """Files that were damaged or gone, and were made again."""
    items: int
    mb: float
    max_mb: float
    utilization_percent: float
    pinned: int
    """How many of the items stay whatever comes."""


class CacheStats(_Facts):
    """Counters since the start, and the present. What a plain dict (`CACHE_BACKEND=dict`) does not count is null."""

    hits: int
    misses: int
    hit_rate_percent: float
    coalesced: int
    """Requests that joined a run under way."""
    seconds_saved: float
    """What the hits took when they were made."""
    rejected: int
    """Values too large to be stored."""
    stored: int | None = None
    evictions: int
    evictions_by_count: int
    evictions_by_size: int
    expirations: int
    replaced: int | None = None
    deleted: int | None = None
    cleared: int | None = None
    current_items: int
    current_memory_mb: float
    disk: DiskStats
    max_items: int | None
    max_memory_mb: float | None
    memory_utilization_percent: float
    max_memory_seen_mb: float
    policy: str | None = None


class CacheLimits(_Facts):
    """What bounds the cache."""

    max_size: int
    """Entries."""
    max_memory_mb: float
    """10^6 bytes."""
    default_ttl_seconds: float | None
    """Null: entries never expire."""
    policy: str
    """Who leaves when there is no room."""


class CacheStatsAnswer(_Answer):
    """`GET /api/cache/stats`."""

    status: Literal["success"] = "success"
    cache_enabled: bool
    backend: Annotated[str, WithJsonSchema({"type": "string", "enum": ["lru", "dict"]})]
    fallback_reason: str | None
    """Why the plain dict took over."""
    stats: CacheStats
    timestamp: Instant


class CacheConfigAnswer(_Answer):
    """The limits in force."""

    status: Literal["success"] = "success"
    message: str
    config: CacheLimits


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
    """Seconds since 1970, as `expires_at`; null where the plain dict is in use."""
    age_seconds: float | None
    access_count: int | None
    expires_at: float | None
    """Null: never."""
    expired: bool
    tier: Literal["memory", "disk"]
    """The nearest that has it."""
    on_disk: bool
    pinned: bool


class CacheEntriesAnswer(_Answer):
    """`GET /api/cache/entries`."""

    status: Literal["success"] = "success"
    entries: list[CacheEntryAnswer]
    total: int
    timestamp: Instant


class EntryDeletedAnswer(_Answer):
    """`DELETE /api/cache/entries/<key>`."""

    status: Literal["success"] = "success"
    message: str
    key: str


class PinAnswer(_Answer):
    """`PUT` and `DELETE /api/cache/entries/<key>/pin`."""

    status: Literal["success"] = "success"
    key: str
    pinned: bool


class ModelRow(_Answer):
    """One model of the shelf."""

    id: str
    loaded: bool
    available: bool
    """Whether it can be asked for."""
    reason: str | None
    """Why it cannot."""
    licence: str | None
    reads: list[str]
    """What of a request changes its shapes."""
    memory_mb: int
    revision: str | None
    """Of its weights, part of the cache's keys; null until it was loaded."""
    note: str | None
    """How it makes do without a part of itself."""
    parameters: dict[str, Any]
    """JSON schema of what it reads beside the pictures."""
    expected_seconds: dict[int, float]
    """By quality: the median of past runs."""


class GpuMemory(_Answer):
    """Of the GPU in use; 0 without one."""

    allocated_mb: float


class UploadLimits(_Answer):
    """What a picture may be."""

    max_upload_mb: float
    max_image_pixels: int
    image_formats: list[ImageFormat]
    views: list[View]


class ModelsAnswer(_Answer):
    """`GET /api/models-info`."""

    version: str
    device: str
    gpu_stats: GpuMemory
    models_status: ModelsStatus
    reason: str | None
    """Why the wanted model is not the default one."""
    default: str | None
    """The model of requests that name none."""
    models: list[ModelRow]
    request: dict[str, Any]
    """JSON schema of the body of `POST /api/generate-3d`."""
    limits: UploadLimits


class GpuInfo(_Facts):
    """The GPU in use."""

    name: str
    allocated_mb: float
    free_mb: float
    total_mb: float


class Capabilities(_Answer):
    """Of the default model."""

    image_to_3d: bool
    text_to_3d: bool
    reads: list[str]


class HealthAnswer(_Answer):
    """`GET /api/health` and `GET /api/ready`."""

    status: Literal["healthy"] = "healthy"
    server: Literal["orfeas"] = "orfeas"
    version: str
    timestamp: Instant
    mode: str
    models_status: ModelsStatus
    model: str | None
    reason: str | None
    device: str
    gpu_info: GpuInfo | None
    active_jobs: int
    queue_length: int
    capabilities: Capabilities
    uptime_seconds: float


class SentAnswer(_Answer):
    """`POST /send`."""

    uid: str


class HunyuanStatusAnswer(_Answer):
    """`GET /status/<uid>`: only the fields that there are."""

    model_config = ConfigDict(json_schema_serialization_defaults_required=False)

    status: Literal["processing", "completed", "error"]
    model_base64: str | None = None
    """The file, once `completed`."""
    message: str | None = None

    def model_dump_json(self, **options: Any) -> str:
        """Without what is not there, as the add-ons know it."""
        return super().model_dump_json(exclude_none=True, **options)


class HunyuanHealthAnswer(_Answer):
    """`GET /health`."""

    status: Literal["healthy"] = "healthy"
    worker_id: str
