"""What every model that makes a shape from a picture has to offer, and the mesh that it returns."""

from __future__ import annotations

import io
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Progress = Callable[[float, str], None]
"""Called with a fraction from 0 to 1 and the name of the stage that begins."""

Cancelled = Callable[[], bool]
"""True once the user gave the job up; a model asks between its steps."""


class ModelUnavailableError(RuntimeError):
    """The model cannot be loaded here; the text tells a user why and what is missing."""


class GenerationCancelledError(Exception):
    """Raised by a model that saw `cancelled()` turn true."""


class EmptyImageError(ValueError):
    """The picture holds nothing to make a shape of; the text says what was seen."""


@dataclass(frozen=True, slots=True)
class Mesh:
    """A triangle mesh without a unit: +Y up, the front of the object towards +Z, faces counter-clockwise from outside.

    It carries either `uv` and `texture`, or `colours`, or none of them.
    """

    vertices: NDArray[np.float32]
    """(V,3) positions."""
    faces: NDArray[np.int32]
    """(F,3) vertex numbers."""
    colours: NDArray[np.uint8] | None = None
    """(V,3) sRGB, one per vertex."""
    uv: NDArray[np.float32] | None = None
    """(V,2) in 0..1, origin at the lower left of the texture (the convention of OBJ and trimesh)."""
    texture: NDArray[np.uint8] | None = None
    """(H,W,3) sRGB, first row at the top."""

    def to_bytes(self) -> bytes:
        """Pack the arrays as an uncompressed `.npz`."""
        import numpy as np

        arrays = {name: array for name in self.__slots__ if (array := getattr(self, name)) is not None}
        buffer = io.BytesIO()
        np.savez(buffer, **arrays)
        return buffer.getvalue()

    @classmethod
    def from_bytes(cls, data: bytes) -> Mesh:
        """Read back what `to_bytes` wrote."""
        import numpy as np

        with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
            return cls(**{name: arrays[name] for name in arrays.files})


@dataclass(frozen=True, slots=True)
class ShapeOptions:
    """What a model may read beside the picture; it declares in `Model.reads` which of these it does read."""

    quality: int = 7
    """1 (quick, coarse) to 10."""
    seed: int = 0
    prompt: str = ""


def resolve_device(wanted: str) -> str:
    """The torch device to run on: `auto` is cuda, then mps, then cpu. Only `cpu` needs no torch.

    Raises ModelUnavailableError when the device that is asked for is not there.
    """
    if wanted == "cpu":
        return wanted
    try:
        import torch
    except ImportError:
        if wanted == "auto":
            return "cpu"
        raise ModelUnavailableError(f"the device {wanted} needs PyTorch, which is not installed") from None
    cards = torch.cuda.device_count() if torch.cuda.is_available() else 0
    mps = torch.backends.mps.is_available()
    if wanted == "auto":
        return "cuda" if cards else "mps" if mps else "cpu"
    kind, _, number = wanted.partition(":")
    if kind == "cuda" and cards == 0:
        raise ModelUnavailableError("PyTorch finds no CUDA graphics card here")
    if kind == "cuda" and int(number or 0) >= cards:
        raise ModelUnavailableError(f"there is no {wanted}: PyTorch finds {cards} CUDA graphics card(s), from cuda:0")
    if kind == "mps" and not mps:
        raise ModelUnavailableError("PyTorch finds no Apple graphics processor (mps) here")
    return wanted


class Model(ABC):
    """One way of making a shape.

    The server constructs it, calls `load` once from a worker thread, then `generate` from one thread at a time (from
    several when `thread_safe`), then `unload`. Heavy libraries are imported in `load`, not with the module.
    """

    id: ClassVar[str]
    """Stable, lower case: the value of `ORFEAS_MODEL`."""
    licence: ClassVar[str]
    """Of the weights, as a user must know it."""
    reads: ClassVar[frozenset[str]]
    """Which of image, quality, seed, prompt change the result; the rest stays out of the cache key."""
    memory_mb: ClassVar[int] = 0
    """What it needs while it runs, roughly, on its device."""
    thread_safe: ClassVar[bool] = False

    revision: str = ""
    """Names the weights and the algorithm: a change of either must change it. Set once `load` has returned."""

    note: str | None = None
    """What a user should know of how it runs here, such as that it makes do without a part of itself; set by `load`."""

    def __init__(self, path: Path | None = None, device: str = "cpu") -> None:
        """`path`: the user's folder or file of weights; `device`: auto, cpu, cuda, cuda:N or mps."""
        self.path = path
        self.device = device

    @classmethod
    def why_unavailable(cls, path: Path | None) -> str | None:
        """None when it can be loaded here, else the reason in one sentence. Cheap: loads nothing."""
        return None

    @abstractmethod
    def load(self) -> None:
        """Get ready to generate and settle `device` and `revision`; raise ModelUnavailableError with the reason."""

    def unload(self) -> None:  # noqa: B027  (most models hold nothing that reference counting does not free)
        """Give the memory back; `load` may follow."""

    @abstractmethod
    def generate(
        self, image: NDArray[np.uint8], options: ShapeOptions, progress: Progress, cancelled: Cancelled
    ) -> Mesh:
        """Make the shape of the (H,W,4) RGBA picture, whose alpha channel is the object's mask.

        Raises GenerationCancelledError, EmptyImageError, MemoryError; anything else is a fault of the model.
        """
