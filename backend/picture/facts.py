"""What is kept of a picture once its pixels are gone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, get_args

from errors import EmptyImageError
from picture import Background, cutout
from picture.decode import Picture, decode


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of an uploaded picture."""

    extension: str
    sha256: str
    """Of the decoded pixels."""
    image_info: dict[str, Any]
    """width, height, size, format, mode, has_transparency, file_size."""
    empty: dict[str, str]
    """For each choice of background removal that finds nothing in the picture at a glance: what is seen."""
    hidden: float | None
    """The share that its alpha channel hides; None: not known, as it came with an earlier release."""


def facts(data: bytes, max_pixels: int) -> Facts:
    """Check an uploaded picture; NotAnImageError, TooLargeError."""
    picture = decode(data, max_pixels)
    return Facts(
        extension=picture.format.lower(),
        sha256=picture.sha256,
        image_info={
            "width": picture.width,
            "height": picture.height,
            "size": [picture.width, picture.height],
            "format": picture.format,
            "mode": picture.mode,
            "has_transparency": picture.has_transparency,
            "file_size": len(data),
        },
        empty=_empty(picture),
        hidden=cutout.hidden_share(picture.rgba),
    )


def _empty(picture: Picture) -> dict[str, str]:
    empty = {}
    for background in get_args(Background):
        try:
            cutout.check_not_empty(picture.rgba, background)
        except EmptyImageError as error:
            empty[background] = str(error)
    return empty
