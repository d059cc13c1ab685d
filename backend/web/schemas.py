"""What clients send, typed: bodies and queries. The one place that says 400 for a field, always naming it."""

from __future__ import annotations

import base64
import binascii
import itertools
import json
import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeVar, get_args

from flask import request
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    WithJsonSchema,
    field_validator,
    model_validator,
)
from werkzeug.datastructures import Headers
from werkzeug.sansio.multipart import MultipartDecoder

from errors import RequestError, bad_field
from mesh.formats import FORMATS, Dimensions
from picture import VIEWS, Background, View
from work.records import JobStatus
from work.request import (
    LEAST_FACES,
    LEAST_QUALITY,
    LEAST_SIDE_MM,
    MOST_FACES,
    MOST_PROMPT,
    MOST_QUALITY,
    MOST_SEED,
    MOST_SIDE_MM,
    Wishes,
)

DEFAULT = Wishes()


def _number(value: Any) -> Any:
    """Numbers may come as text (forms, old pages); a bool is not a number and NaN is no size."""
    if isinstance(value, bool):
        raise ValueError("must be a number, not true or false")
    if isinstance(value, str):
        try:
            value = float(value) if any(c in value for c in ".eEnN") else int(value[:40])
        except ValueError:
            raise ValueError("must be a number") from None
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError("must be a finite number")
    return value


def _text(value: Any) -> Any:
    return value.strip().lower() if isinstance(value, str) else value


def _format(value: Any) -> Any:
    return value.strip().lower().removeprefix(".") if isinstance(value, str) else value


def _background(value: Any) -> Any:
    return {True: "true", False: "false"}[value] if isinstance(value, bool) else _text(value)


# Limits stand before the reader of text: pydantic writes them as minimum and maximum only there.
Numeric = BeforeValidator(_number)
Millimetres = Annotated[float, Field(ge=LEAST_SIDE_MM, le=MOST_SIDE_MM), Numeric]
FormatName = Annotated[Literal["stl", "obj", "glb", "ply", "3mf"], BeforeValidator(_format)]
ModelId = Annotated[str, Field(max_length=100), BeforeValidator(_text)]
assert get_args(get_args(FormatName)[0]) == tuple(FORMATS)

# ── bodies ───────────────────────────────────────────────────────────────────────────────────────────────────────────


class _Body(BaseModel):
    """Unknown keys are ignored; a key with null or empty text counts as absent."""

    model_config = ConfigDict(extra="ignore", frozen=True, defer_build=True, use_attribute_docstrings=True)

    @model_validator(mode="before")
    @classmethod
    def _drop_absent(cls, data: Any) -> Any:
        return {k: v for k, v in data.items() if v is not None and v != ""} if isinstance(data, Mapping) else data


class DimensionsBody(_Body):
    """Sides in millimetres, any subset; none: the longest side becomes 100 mm."""

    width: Millimetres | None = None
    """Left to right."""
    height: Millimetres | None = None
    """Up."""
    depth: Millimetres | None = None
    """Front to back."""


class GenerateBody(_Body):
    """`POST /api/generate-3d`; in a form every field is text."""

    job_id: Annotated[str, Field(max_length=100)] | None = None
    """From the upload; not needed in a form with the pictures."""
    model: ModelId | None = None
    """A model of `/api/models-info`; null: the server's default."""
    format: FormatName = "stl"
    quality: Annotated[int, Field(ge=LEAST_QUALITY, le=MOST_QUALITY), Numeric] = DEFAULT.quality
    """Detail against time."""
    dimensions: DimensionsBody = DimensionsBody()
    fit: Annotated[Literal["contain", "stretch"], BeforeValidator(_text)] = DEFAULT.fit
    """Keep the proportions inside the given sides, or meet each of them."""
    prompt: Annotated[str, Field(max_length=MOST_PROMPT)] = DEFAULT.prompt
    """For models that read it."""
    seed: Annotated[int, Field(ge=0, le=MOST_SEED), Numeric] = DEFAULT.seed
    """For models that read it."""
    scale: Annotated[Literal["mm", "unit"], BeforeValidator(_text)] = DEFAULT.scale
    """`unit`: centred, the longest side from −1 to 1 in the file's own unit."""
    target_faces: Annotated[int, Field(ge=LEAST_FACES, le=MOST_FACES), Numeric] | None = None
    """Most triangles; null: as made."""
    remove_background: Annotated[Background, BeforeValidator(_background)] = DEFAULT.remove_background
    """`auto`: a transparent background is used as it is, any other removed."""

    @field_validator("dimensions", mode="before")
    @classmethod
    def _from_form(cls, value: Any) -> Any:
        """A form can only carry text: the same object as JSON."""
        if not isinstance(value, str):
            return value
        try:
            return json.loads(value)
        except (ValueError, RecursionError):
            raise ValueError("must be an object with width, height, depth in millimetres") from None

    def wishes(self) -> Wishes:
        """In the server's own terms."""
        sides = self.dimensions
        return Wishes(
            format=self.format,
            quality=self.quality,
            dimensions=Dimensions(sides.width, sides.height, sides.depth),
            fit=self.fit,
            prompt=self.prompt,
            seed=self.seed,
            scale=self.scale,
            target_faces=self.target_faces,
            remove_background=self.remove_background,
            model=self.model,
        )


FormFile = Annotated[Any, WithJsonSchema({"type": "string", "format": "binary"})]
"""A file of a form, which is read as a stream."""


class UploadForm(_Body):
    """Pictures of one object by the side that they show: PNG, JPEG, WebP, BMP, GIF or TIFF."""

    image: FormFile = None
    """The front; the one picture of a view with `?view=`."""
    front: FormFile = None
    """The same as `image`."""
    left: FormFile = None
    back: FormFile = None
    right: FormFile = None


class GenerateForm(GenerateBody, UploadForm):
    """The pictures and the fields of `POST /api/generate-3d` as text, `dimensions` as JSON."""


class CacheConfigBody(BaseModel):
    """`POST /api/cache/config`: at least one of the three; strict types, as a limit that is nearly right is wrong."""

    model_config = ConfigDict(
        extra="ignore",
        frozen=True,
        strict=True,
        defer_build=True,
        use_attribute_docstrings=True,
        json_schema_extra=lambda schema: schema.update(anyOf=[{"required": [name]} for name in schema["properties"]]),
    )

    max_size: Annotated[int, Field(ge=0, le=10**9)] = 0
    """Entries."""
    max_memory_mb: Annotated[float, Field(ge=0, le=10**6, allow_inf_nan=False)] = 0.0
    """10^6 bytes."""
    default_ttl_seconds: Annotated[float, Field(ge=0, le=10**10, allow_inf_nan=False)] | None = None
    """0 or null: for ever."""

    @model_validator(mode="after")
    def _something(self) -> CacheConfigBody:
        if not self.model_fields_set:
            raise ValueError("give at least one of max_size, max_memory_mb, default_ttl_seconds")
        return self

    def changes(self) -> dict[str, Any]:
        """What was given, and nothing else; a lifetime of 0 means for ever, as in the environment."""
        given = self.model_dump(include=self.model_fields_set)
        if given.get("default_ttl_seconds") == 0:
            given["default_ttl_seconds"] = None
        return given


def _clamped(low: float, high: float) -> BeforeValidator:
    def clamp(value: Any) -> Any:
        value = _number(value)
        return min(max(value, low), high) if isinstance(value, int | float) else value

    return BeforeValidator(clamp)


class HunyuanBody(_Body):
    """`POST /generate` and `/send` of the Hunyuan3D servers: numbers are clamped, never refused."""

    image: str | None = None
    """The picture in base64, a `data:` prefix allowed."""
    text: str = ""
    """For models that make shapes from text alone."""
    mesh: Any = None
    """Not offered: 501."""
    octree_resolution: Annotated[float, _clamped(16, 1024)] = 256
    num_inference_steps: Annotated[float, _clamped(1, 200)] = 20
    guidance_scale: Annotated[float, _clamped(0, 100)] = 5.0
    face_count: Annotated[float, _clamped(100, MOST_FACES)] | None = None
    seed: Annotated[float, _clamped(0, MOST_SEED)] = 0
    type: FormatName = "glb"

    @property
    def quality(self) -> int:
        """1–10, half from the grid (196/256/384 ≈ 5/7/9), half from the steps (5/10/20/30 ≈ 4/6/7/8)."""
        grid = _interpolate(self.octree_resolution, ((16, 1), (128, 3), (196, 5), (256, 7), (384, 9), (512, 10)))
        steps = _interpolate(self.num_inference_steps, ((1, 1), (5, 4), (10, 6), (20, 7), (30, 8), (50, 10)))
        return round((grid + steps) / 2)

    def image_bytes(self) -> bytes:
        """The decoded picture; a `data:` prefix is allowed."""
        if self.image is None:
            raise bad_field("image", "is missing")
        encoded = self.image.partition(",")[2] if self.image.startswith("data:") else self.image
        encoded = "".join(encoded.split()).translate(_URL_SAFE).rstrip("=")
        try:
            return base64.b64decode(encoded + "=" * (-len(encoded) % 4), validate=True)
        except (binascii.Error, ValueError):
            raise bad_field("image", "must be base64") from None

    def wishes(self) -> Wishes:
        """The same in the server's own terms."""
        return Wishes(
            format=self.type,
            quality=self.quality,
            prompt=self.text[:MOST_PROMPT],
            seed=int(self.seed),
            target_faces=None if self.face_count is None else int(self.face_count),
            scale="unit",
        )


_URL_SAFE = str.maketrans("-_", "+/")
"""RFC 4648, section 5."""


def _interpolate(x: float, points: tuple[tuple[float, float], ...]) -> float:
    for (x0, y0), (x1, y1) in itertools.pairwise(points):
        if x <= x1:
            return y0 + (y1 - y0) * max(0.0, x - x0) / (x1 - x0)
    return points[-1][1]


# ── queries ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def _digits(value: Any) -> Any:
    if isinstance(value, str) and not (value.isascii() and value.isdigit() and len(value) <= 15):
        raise ValueError("must be a whole number")
    return value


Digits = BeforeValidator(_digits)


class StatusQuery(_Body):
    """`GET /api/job-status/<job_id>`."""

    wait: Annotated[float, Field(ge=0, le=30), Numeric] = 0.0
    """Answer when something changes, or after so many seconds."""
    since: Annotated[int, Field(ge=0, le=10**12), Digits] | None = None
    """The `version` that the client has seen."""
    until: Literal["final"] | None = None
    """`final`: wait until the job is completed, failed or cancelled."""


class PageQuery(_Body):
    """A page of a listing."""

    limit: Annotated[int, Field(ge=1, le=1000), Digits] = 100
    offset: Annotated[int, Field(ge=0, le=10**9), Digits] = 0


class TierQuery(_Body):
    """`POST /api/cache/clear`."""

    tier: Literal["memory", "disk", "shared", "all"] = "all"
    """What is cleared; there is no shared tier yet."""


class JobsQuery(PageQuery):
    """`GET /api/jobs`."""

    limit: Annotated[int, Field(ge=1, le=1000), Digits] = 50
    status: JobStatus | None = None


class DownloadQuery(_Body):
    """A file that is saved."""

    name: str = ""
    """The name to save it under, without its extension."""


class MaskQuery(_Body):
    """`GET /api/jobs/<job_id>/mask`."""

    remove_background: Annotated[Background, BeforeValidator(_background)] = DEFAULT.remove_background


class UploadQuery(_Body):
    """`POST /api/upload-image`: with a job, the picture is a further view of it."""

    job_id: Annotated[str, Field(max_length=100)] | None = None
    """The job that the picture is added to; none: a new one."""
    view: Annotated[View, BeforeValidator(_text)] = "front"
    """Which side of the object the picture shows."""


# ── reading what was sent ────────────────────────────────────────────────────────────────────────────────────────────

Body = TypeVar("Body", bound=BaseModel)


def parse(body_type: type[Body], data: Any) -> Body:
    """Validate a decoded JSON object or form; raise a 400 whose details map each bad field to what is wrong."""
    if not isinstance(data, Mapping):
        raise RequestError("the body must be a JSON object", {"body": "must be a JSON object"})
    try:
        return body_type.model_validate(data)
    except ValidationError as error:
        details = {_field_path(e["loc"]): _plain(e["type"], e.get("ctx", {}), e["msg"]) for e in error.errors()}
        message = "; ".join(f"{field}: {text}" for field, text in details.items())
        raise RequestError(message, details) from None


# The validator's words are for programmers; these stand beside a field of the page, too.
_PLAIN = {
    "greater_than": "must be a number, more than {gt:,.15g}",
    "greater_than_equal": "must be a number, {ge:,.15g} or more",
    "less_than": "must be a number, less than {lt:,.15g}",
    "less_than_equal": "must be a number, {le:,.15g} or less",
    "finite_number": "must be a finite number",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "string_type": "must be a text",
    "string_too_long": "must have at most {max_length:,} characters",
    "literal_error": "must be {expected}",
    "missing": "is missing",
}
_PLAIN |= dict.fromkeys(("int_type", "int_parsing", "int_from_float"), "must be a whole number")
_PLAIN |= dict.fromkeys(("float_type", "float_parsing"), "must be a number")


def _plain(kind: str, context: Mapping[str, Any], said: str) -> str:
    """What is wrong with a field; `said` by the validator where there is no plainer word."""
    return _PLAIN[kind].format(**context) if kind in _PLAIN else said.removeprefix("Value error, ")


def _field_path(loc: tuple[int | str, ...]) -> str:
    return ".".join(str(part) for part in loc) or "body"


def json_object() -> Any:
    """The decoded JSON body, whatever its Content-Type: curl sends forms by default."""
    try:
        return request.get_json(force=True)
    except RecursionError:
        raise RequestError("the JSON is nested too deeply", {"body": "nested too deeply"}) from None


def sent_pictures(most: int) -> dict[str, tuple[bytes, str]]:
    """The pictures of the form by view, with their file names, cut off beyond `most` bytes; `image` is the front."""
    sent: dict[str, tuple[bytes, str]] = {}
    for view in VIEWS:
        file = request.files.get(view) or (request.files.get("image") if view == "front" else None)
        if file is not None:
            sent[view] = (file.stream.read(most + 1), file.filename or "image")
    if not sent:
        raise bad_field("image", "a multipart form with the picture in the field image is needed")
    return sent


_strict_headers = MultipartDecoder._parse_headers


def _headers(decoder: MultipartDecoder, data: bytes | bytearray) -> Headers:
    """curl on Windows sends a file's name in the code page of the system, and Werkzeug drops the whole form for it
    (https://github.com/pallets/flask/issues/3442)."""
    try:
        return _strict_headers(decoder, data)
    except UnicodeDecodeError:
        return _strict_headers(decoder, bytes(data).decode("cp1252", "replace").encode())


setattr(MultipartDecoder, "_parse_headers", _headers)  # noqa: B010  (a method of the library)
