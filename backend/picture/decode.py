"""Bytes of a picture → checked, upright RGBA pixels with a content hash.

`decode` trusts nothing that it is sent: what Pillow cannot read ends as one of two errors. It also bounds how many
pictures are decoded at once, whoever asks. `facts` is what is kept of a picture once its pixels are gone.
"""

from __future__ import annotations

import hashlib
import io
import threading
from dataclasses import dataclass
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from errors import EmptyImageError, NotAnImageError, TooLargeError
from picture import FORMATS, Background

Pixels = NDArray[np.uint8]

# `decode` checks every size itself, against a limit that the user may set above Pillow's own.
Image.MAX_IMAGE_PIXELS = None

_decoding = threading.BoundedSemaphore(4)
"""A picture of 50 megapixels takes 200 MB while it is decoded."""


@dataclass(frozen=True, slots=True, eq=False)
class Picture:
    """A decoded picture."""

    rgba: Pixels
    """(H,W,4), upright, read-only; where alpha is 0 the colour is 0 too."""
    sha256: str
    """Of the pixels and their shape: the same for the same picture saved by another program or in another format."""
    format: str
    """One of FORMATS."""
    mode: str
    """Pillow's name for the pixel layout in the file, such as RGB, P or I;16."""
    width: int
    height: int
    """Upright, in pixels."""
    has_transparency: bool
    """Some pixel really is transparent, not just an alpha channel present."""


def decode(data: bytes, max_pixels: int, field: str = "image") -> Picture:
    """Decode the first frame of a picture; at most four at once in this process, further calls wait.

    Raises NotAnImageError, and TooLargeError before any pixel of a larger picture is decoded.
    """
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
    except Exception as error:  # Pillow's readers raise nearly anything on hostile bytes
        raise _not_an_image("not a picture in PNG, JPEG, WebP, BMP, GIF or TIFF format", field) from error
    name = "JPEG" if image.format == "MPO" else str(image.format)  # MPO: a JPEG with further views behind it
    width, height = image.size
    if width < 1 or height < 1:
        raise _not_an_image(f"the {name} picture has no pixels", field)
    if width * height > max_pixels:
        raise _too_large(f"the picture has {width} × {height} pixels, more than the {max_pixels:,} allowed", field)
    with _decoding:
        try:
            image.load()
            return _picture(image, name)
        except MemoryError as error:
            raise _too_large(f"the picture of {width} × {height} pixels does not fit in memory", field) from error
        except Exception as error:
            raise _not_an_image(f"the {name} picture is damaged, cut short or of an unknown kind", field) from error


def _picture(image: Image.Image, name: str) -> Picture:
    mode = image.mode
    rgba = _to_rgba(_upright(image))
    has_transparency = bool(rgba[..., 3].min() < 255)
    if has_transparency:
        rgba[rgba[..., 3] == 0] = 0
    rgba.setflags(write=False)
    height, width = rgba.shape[:2]
    digest = hashlib.sha256(f"{height}x{width}:".encode())
    digest.update(rgba.data)
    return Picture(rgba, digest.hexdigest(), name, mode, width, height, has_transparency)


def _not_an_image(message: str, field: str) -> NotAnImageError:
    return NotAnImageError(message, {field: message})


def _too_large(message: str, field: str) -> TooLargeError:
    return TooLargeError(message, {field: message})


_TURN = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""EXIF 2.32, tag 274, Orientation."""


def _upright(image: Image.Image) -> Image.Image:
    # Not ImageOps.exif_transpose: it writes the whole EXIF block anew and fails on a picture whose other tags are odd.
    try:
        orientation = image.getexif().get(274)
    except Exception:  # a damaged EXIF block says nothing about the pixels
        return image
    return image.transpose(_TURN[orientation]) if orientation in _TURN else image


def _to_rgba(image: Image.Image) -> Pixels:
    """A new (H,W,4) array; samples of more than 8 bits are scaled, where Pillow's own conversion would clip them."""
    if image.mode == "F" or image.mode.startswith("I"):
        values = np.nan_to_num(np.asarray(image, dtype=np.float64), nan=0.0, posinf=0.0, neginf=0.0)
        low, high = _range(image.mode, values)
        grey = np.rint((values - low) * (255 / max(high - low, 1e-300))).astype(np.uint8)
        transparent = image.info.get("transparency")
        alpha = np.where(values == transparent, 0, 255) if isinstance(transparent, int) else np.full_like(grey, 255)
        return np.dstack([grey, grey, grey, alpha]).astype(np.uint8)
    if image.mode == "La":
        image = image.convert("LA")
    return np.array(image.convert("RGBA"))


def _range(mode: str, values: NDArray[np.float64]) -> tuple[float, float]:
    """What becomes black and white: the format's own range where it has one, else that of the picture."""
    if mode.startswith("I;16"):
        return 0.0, 65535.0
    low, high = float(values.min()), float(values.max())
    return (0.0, 1.0) if low >= 0 and high <= 1 else (low, high)


# ── what a glance at the pixels tells ────────────────────────────────────────────────────────────────────────────────

_CUT_OUT = {"auto": 0.01, "true": 0.10, "false": 0.0}
"""The share of the picture that its alpha channel must hide to be taken for the object's mask. "true" asks for more,
so that a photograph with rounded corners, say, has its background removed all the same."""


def hidden_share(rgba: Pixels) -> float:
    """The share of pixels that are at most half as opaque as the most opaque one."""
    alpha = rgba[..., 3]
    return float(np.count_nonzero(alpha <= int(alpha.max()) // 2)) / alpha.size


def is_cut_out(hidden: float, background: Background) -> bool:
    """Whether a picture whose alpha channel hides that share of it is taken as it is."""
    return background == "false" or hidden >= _CUT_OUT[background]


def check_not_empty(rgba: Pixels, background: Background = "auto") -> None:
    """The quick part of `cutout.foreground`: EmptyImageError for a picture that shows at a glance that it is empty."""
    if not rgba[..., 3].any():
        raise EmptyImageError("the picture is fully transparent")
    hidden = hidden_share(rgba)
    if background == "false":
        if hidden == 0:
            raise EmptyImageError(
                "the picture has no transparent background, so with background removal off all of it is the object"
            )
    elif hidden < _CUT_OUT[background]:
        step = max(1, max(rgba.shape[:2]) // 1024)
        colours = on_white(rgba[::step, ::step]).reshape(-1, 3)
        if (colours.max(0).astype(int) - colours.min(0)).max() < 8:
            red, green, blue = colours[0]
            raise EmptyImageError(f"the whole picture has one colour (#{red:02x}{green:02x}{blue:02x})")


def on_white(rgba: Pixels) -> Pixels:
    """(H,W,3) the (H,W,4) picture over white."""
    if rgba[..., 3].min() == 255:
        return np.ascontiguousarray(rgba[..., :3])
    alpha = rgba[..., 3:].astype(np.uint16)
    return ((rgba[..., :3] * alpha + 255 * (255 - alpha)) // 255).astype(np.uint8)


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


def facts(data: bytes, max_pixels: int, field: str = "image") -> Facts:
    """Check an uploaded picture; NotAnImageError, TooLargeError."""
    picture = decode(data, max_pixels, field)
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
        hidden=hidden_share(picture.rgba),
    )


def _empty(picture: Picture) -> dict[str, str]:
    empty = {}
    for background in get_args(Background):
        try:
            check_not_empty(picture.rgba, background)
        except EmptyImageError as error:
            empty[background] = str(error)
    return empty
