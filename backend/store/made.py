"""What a step made: immutable bytes, and what is worth knowing of them. The same in memory and on disk."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Made:
    """A cut-out, a shape or a file."""

    data: bytes
    sha256: str
    """Of `data`."""
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

    @property
    def size_mb(self) -> float:
        """What it holds, in MB (10^6 bytes); a few numbers are noise beside the bytes."""
        return len(self.data) / 1e6

    def facts(self) -> dict[str, Any]:
        """All that is not in a column of its own, as JSON has it."""
        return {
            "seconds": dict(self.seconds),
            "own_seconds": self.own_seconds,
            "report": None if self.report is None else dict(self.report),
            "shape_sha256": self.shape_sha256,
        }


def made(
    data: bytes,
    seconds: Mapping[str, float],
    own_seconds: float,
    sources: tuple[str, ...],
    report: Mapping[str, Any] | None = None,
    shape_sha256: str | None = None,
) -> Made:
    """With the digest of its bytes."""
    return Made(data, hashlib.sha256(data).hexdigest(), seconds, own_seconds, sources, report, shape_sha256)
