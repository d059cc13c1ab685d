"""What is delivered, measured: on the mesh before it is written, or on a file that is read back with trimesh."""

from __future__ import annotations

import io
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from mesh import topology
from mesh.formats import FORMATS
from mesh.mesh import Mesh
from mesh.writers import decimals


@dataclass(frozen=True, slots=True)
class MeshReport:
    """What is delivered, measured."""

    vertices: int
    """Different places: a vertex repeated for its texture or its face counts once."""
    faces: int
    watertight: bool
    """Every edge has exactly two faces, which run along it in opposite directions, and they enclose a volume."""
    volume_mm3: float
    extents_mm: tuple[float, float, float]
    """Width (left to right), height (up), depth (front to back), whatever the axes of the file."""

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self) | {"extents_mm": list(self.extents_mm)}


def measure(mesh_mm: Mesh) -> MeshReport:
    """What `inspect` says of the mesh in any format, without a file."""
    first, place = topology.places(mesh_mm.vertices)
    vertices, faces = mesh_mm.vertices[first], place.take(mesh_mm.faces)
    low, high = topology.bounds(vertices)
    volume = topology.volumes(vertices, faces, topology.cross(vertices, faces)).sum()
    closed = topology.is_closed(faces)
    width, height, depth = (round(float(side), 4) for side in high - low)
    return MeshReport(
        vertices=len(vertices),
        faces=len(faces),
        watertight=bool(volume > 0) and closed,
        volume_mm3=float(f"{volume:.7g}"),
        extents_mm=(width, height, depth),
    )


def inspect(data: bytes, format: str) -> MeshReport:
    """Read a file back, with trimesh, and measure it."""
    import trimesh

    read = trimesh.load_scene(io.BytesIO(data), file_type=format, process=False).to_mesh()
    x, y, z = np.asarray(read.vertices, np.float64).T
    points = np.stack([x, y, z] if FORMATS[format].metres else [x, z, -y], axis=1)
    mesh = Mesh(points, np.asarray(read.faces, np.int32))
    if FORMATS[format].metres:  # back to the millimetres that were divided, not to their neighbours in float32
        points *= 1000
        points = points.round(decimals(mesh) - 1)
    return measure(replace(mesh, vertices=points.astype(np.float32)))
