"""What can be asked of a file: its kind and its size. Knows no numpy, so that the server can say it at once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal


@dataclass(frozen=True, slots=True)
class Format:
    """One kind of file; its key in `FORMATS` is also its file extension, and its writer in `writers.WRITERS`."""

    mime: str
    metres: bool = False
    """glTF's unit and axes (+Y up, front +Z) instead of millimetres, +Z up, front −Y."""


FORMATS: Mapping[str, Format] = MappingProxyType(
    {
        "stl": Format("model/stl"),
        "obj": Format("model/obj"),
        "glb": Format("model/gltf-binary", metres=True),
        "ply": Format("model/ply"),
        "3mf": Format("model/3mf"),
    }
)

Fit = Literal["contain", "stretch"]
"""How a mesh takes on the dimensions asked for: inside them with its proportions kept, or exactly."""


@dataclass(frozen=True, slots=True)
class Dimensions:
    """Millimetres; None leaves a side free, all None: the longest side becomes 100 mm."""

    width: float | None = None
    """Left to right (x)."""
    height: float | None = None
    """Up (y)."""
    depth: float | None = None
    """Front to back (z)."""
