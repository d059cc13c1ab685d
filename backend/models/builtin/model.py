"""The built-in model: silhouette → inflation → learned depth → two sheets → texture.

Nothing to download, runs on the CPU, deterministic. Without its weights the inflation is the shape, and it says so.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from models.base import Cancelled, EmptyImageError, GenerationCancelledError, Mesh, Model, Progress, ShapeOptions
from models.builtin.weights import FOLDER

if TYPE_CHECKING:
    from models.builtin.weights import Weights

log = logging.getLogger(__name__)
_ALGORITHM = 8
"""Counts the changes that give another mesh with the same weights."""
_SHARE_AT, _COARSEST = 256, 24


@dataclass(frozen=True, slots=True)
class Level:
    """What one step of quality buys."""

    faces: int
    """Aimed at; an object that covers little gets fewer, as its grid would take more time than it is worth."""
    texture: int
    """Pixels along each side of the front and of the back at most; never more than the picture has."""
    grid: int
    """Nodes along the grid's side at most."""


QUALITY = {
    1: Level(2_000, 128, 768),
    2: Level(5_000, 192, 768),
    3: Level(10_000, 256, 768),
    4: Level(20_000, 384, 768),
    5: Level(40_000, 512, 768),
    6: Level(70_000, 768, 768),
    7: Level(120_000, 1024, 768),
    8: Level(200_000, 1280, 1024),
    9: Level(320_000, 1536, 1024),
    10: Level(500_000, 2048, 1024),
}


class BuiltinModel(Model):
    """Inflates the silhouette, corrects that by what a small network sees, and paints it with the picture."""

    id = "builtin"
    licence = "built in, MIT"
    reads = frozenset({"image", "quality"})
    memory_mb = 350
    thread_safe = True
    _folder: Path = FOLDER
    """Of the weights; another one only in tests."""

    _weights: Weights | None = None

    def load(self) -> None:
        """Runs on the CPU, whatever device is asked for: it is done before a GPU would be ready."""
        import cv2  # noqa: F401  (its import takes longer than a small shape)

        from models.builtin import weights

        self.device = "cpu"
        try:
            self._weights = weights.load(self._folder)
        except weights.WeightsError as error:
            self._weights = None
            self.note = f"shapes are inflated outlines only, without learned depth: {error}"
            log.warning("the built-in model has no learned depth: %s", error)
            self.revision = f"inflation-{_ALGORITHM}"
        else:
            self.note = None
            self.revision = f"depth-{_ALGORITHM}-{self._weights.sha256[:16]}"

    def unload(self) -> None:
        """Let go of the network."""
        self._weights = None

    def generate(
        self, image: NDArray[np.uint8] | None, options: ShapeOptions, progress: Progress, cancelled: Cancelled
    ) -> Mesh:
        """Each part of the mask becomes a closed surface."""
        from models.builtin.depth import learned
        from models.builtin.inflation import inflate
        from models.builtin.sheets import two_sheets
        from models.builtin.silhouette import view
        from models.builtin.texture import atlas

        def stage(fraction: float, name: str) -> None:
            if cancelled():
                raise GenerationCancelledError
            progress(fraction, name)

        if image is None:
            raise EmptyImageError("the built-in model needs a picture")
        weights = self._weights  # once: `unload` may run meanwhile
        level = QUALITY[min(max(options.quality, 1), 10)]
        stage(0.0, "finding the silhouette")
        window = view(image)
        share = max(float((window.field(_SHARE_AT) > 0).mean()), 1e-6)
        # So many nodes along a side that an object that covers this share of it gets about the faces aimed at: two to a
        # cell, front and back.
        side = int(np.clip(np.sqrt(level.faces / (4 * share)), _COARSEST, level.grid))
        field = window.field(side)
        if np.count_nonzero(field > 0) < 16:
            raise EmptyImageError("the object in the picture is too thin or too small to make a shape of")
        stage(0.1, "inflating")
        height = inflate(field)
        front, back = height, -height
        if weights is not None:
            stage(0.35, "estimating depth")
            front, back = learned(weights, window, height)
        stage(0.5, "building the mesh")
        sheets = two_sheets(field, front, back)
        stage(0.7, "painting")
        size = int(np.clip(np.rint(window.side), 32, level.texture))
        texture = atlas(window.sample(size), window.field(size) > 0)
        stage(1.0, "done")
        return Mesh(sheets.vertices, sheets.faces, uv=_uv(sheets.plane), texture=texture)


def _uv(plane: NDArray[np.float32]) -> NDArray[np.float32]:
    """(2P,2) texture coordinates of the front's points in the left half of the atlas, of the back's in the right."""
    uv = np.tile((plane + 1) / 2, (2, 1)) * (0.5, 1)
    uv[len(plane) :, 0] += 0.5
    return uv.astype(np.float32)
