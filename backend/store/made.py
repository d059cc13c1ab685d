"""What a step made: immutable bytes, and what is worth knowing of them. The same in memory and on disk."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Made:
    """A cut-out, a shape or a file."""

    data: bytes
    sha256: str
    """Of `data`."""
    size_mb: float
    """What it holds, in MB (10^6 bytes); a few numbers are noise beside the bytes."""
    seconds: Mapping[str, float]
    """What each step on the way here took, by its name; a step whose time is not known is not there."""
    own_seconds: float
    """What the last of them took: what the cache saves by keeping this, as long as it keeps the others."""
    sources: tuple[str, ...]
    """SHA-256 of the pixels of every picture that it was made of."""
    report: Mapping[str, Any] | None = None
    """What was measured on a file."""
    shape_sha256: str | None = None
    """Of a file: the shape that it was made from."""
    usable_seconds: float | None = None
    """Of one from the disk: for how long it may still be used. None: for as long as whoever stores it says."""
