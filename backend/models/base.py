"""What every model that makes a shape has to offer; all that its module needs to import from this project is here."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from errors import EmptyImageError, GenerationCancelledError, ModelUnavailableError
from mesh.mesh import Mesh

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = [
    "Cancelled",
    "EmptyImageError",
    "GenerationCancelledError",
    "Mesh",
    "Model",
    "ModelUnavailableError",
    "Progress",
    "ShapeOptions",
    "resolve_device",
]

Progress = Callable[[float, str], None]
"""Called with a fraction from 0 to 1 and the name of the stage that begins."""

Cancelled = Callable[[], bool]
"""True once the user gave the job up; a model asks between its steps."""


@dataclass(frozen=True, slots=True)
class ShapeOptions:
    """What a model may read beside the picture; it declares in `Model.reads` which of these it does read."""

    quality: int = 7
    """1 (quick, coarse) to 10."""
    seed: int = 0
    prompt: str = ""
    views: Mapping[str, NDArray[np.uint8]] = field(default_factory=dict)
    """(H,W,4) Further pictures of the object by the side that they show (left, back, right), cut out like the front."""


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
    """Which of image, quality, seed, prompt, views change the result; the rest stays out of the cache key. `image` is
    the front; a model that names `views` too reads the other sides."""
    needs_image: ClassVar[bool] = True
    """False: a prompt alone is enough, and `generate` is then called with None for the picture."""
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
        self, image: NDArray[np.uint8] | None, options: ShapeOptions, progress: Progress, cancelled: Cancelled
    ) -> Mesh:
        """Make the shape of the (H,W,4) RGBA picture, whose alpha channel is the object's mask.

        Raises GenerationCancelledError, EmptyImageError, MemoryError; anything else is a fault of the model.
        """
