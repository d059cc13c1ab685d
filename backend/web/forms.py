"""Multipart forms as they are really sent."""

from __future__ import annotations

from werkzeug.datastructures import Headers
from werkzeug.sansio.multipart import MultipartDecoder

_strict = MultipartDecoder._parse_headers


def _lenient(decoder: MultipartDecoder, data: bytes | bytearray) -> Headers:
    """curl on Windows sends a file's name in the code page of the system, and Werkzeug drops the whole form for it."""
    try:
        return _strict(decoder, data)
    except UnicodeDecodeError:
        return _strict(decoder, bytes(data).decode("cp1252", "replace").encode())


def accept_any_file_name() -> None:
    """Let every form of this process through (https://github.com/pallets/flask/issues/3442)."""
    setattr(MultipartDecoder, "_parse_headers", _lenient)  # noqa: B010  (a method of the library)
