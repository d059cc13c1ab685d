"""What may be asked for, as JSON schemas: the page and other clients take limits, defaults and choices from here."""

from __future__ import annotations

from typing import Any

from cache_decorator import cached_result_sync
from cache_manager import LRUCache
from picture import FORMATS, VIEWS
from settings import Settings
from web.answers import UploadLimits
from web.schemas import GenerateBody

_schemas = LRUCache(max_size=100)

MODEL_PARAMETERS = ("quality", "seed", "prompt")
"""Those fields of a request that a model may read."""


@cached_result_sync(cache=_schemas)
def request_schema() -> dict[str, Any]:
    """Of the body of `POST /api/generate-3d`; not to be changed by who gets it."""
    return GenerateBody.model_json_schema()


@cached_result_sync(cache=_schemas)
def model_parameters(reads: tuple[str, ...]) -> dict[str, Any]:
    """Of those fields that a model reads beside its pictures; not to be changed by who gets it."""
    properties = request_schema()["properties"]
    return {"type": "object", "properties": {name: properties[name] for name in MODEL_PARAMETERS if name in reads}}


def limits(settings: Settings) -> UploadLimits:
    """Of uploads."""
    return UploadLimits(
        max_upload_mb=settings.max_upload_mb,
        max_image_pixels=settings.max_image_pixels,
        image_formats=list(FORMATS),
        views=list(VIEWS),
    )
