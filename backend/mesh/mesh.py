"""The mesh that passes through the house: a few arrays, and their bytes."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING

from errors import BadShapeError, EmptyMeshError

if TYPE_CHECKING:  # imported with the first mesh: a model's class is known before that
    import numpy as np
    from numpy.typing import NDArray


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
    up: NDArray[np.float32] | None = None
    """(3,) where the object's own up points, of length one, if the model knows; the vertices are not turned to it."""

    def check(self) -> None:
        """Refuse what no model should return; BadShapeError, EmptyMeshError."""
        import numpy as np

        vertices, faces = self.vertices, self.faces
        if vertices.ndim != 2 or faces.ndim != 2 or vertices.shape[1] != 3 or faces.shape[1] != 3:
            raise BadShapeError("the model returned a mesh whose arrays have the wrong shape")
        if faces.size and (faces.min() < 0 or faces.max() >= len(vertices)):
            raise BadShapeError("the model returned a mesh whose faces name vertices that it does not have")
        finite = np.asarray(np.isfinite(vertices).all(axis=1))
        if not finite[faces].all(axis=1).any():
            raise EmptyMeshError("the model returned a mesh without a surface")

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
