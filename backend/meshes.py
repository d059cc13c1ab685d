"""From the mesh that a model returns to the one that is printed: clean, closed, as light as asked, in millimetres.

`finish` does that; `export`, `inspect`, `measure` and the table of formats live in `exporters` and are offered here too.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import astuple, dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

import topology
from exporters import FORMATS, Format, MeshReport, export, inspect, measure
from models.base import Mesh
from textures import dress
from topology import Faces, Vertices

__all__ = [
    "FORMATS",
    "Dimensions",
    "EmptyMeshError",
    "Fit",
    "Format",
    "MeshReport",
    "export",
    "finish",
    "inspect",
    "measure",
]

Fit = Literal["contain", "stretch"]
"""How a mesh takes on the dimensions asked for: inside them with its proportions kept, or exactly."""

_LONGEST_SIDE = 100.0
"""Millimetres, when no dimension is asked for."""

_SPECK = 1e-3
"""A loose part below this share of the largest one, in area and in volume alike, is dust and not detail."""

_CELL = 1e-5
"""Points closer than this share of the longest side are one: 1 µm in 100 mm."""

_simplifying = threading.Lock()
"""fast-simplification keeps the mesh it works on in global variables."""


class EmptyMeshError(ValueError):
    """Nothing with a surface is left of the mesh."""


@dataclass(frozen=True, slots=True)
class Dimensions:
    """Millimetres; None leaves a side free."""

    width: float | None = None
    """Left to right (x)."""
    height: float | None = None
    """Up (y)."""
    depth: float | None = None
    """Front to back (z)."""


def finish(mesh: Mesh, *, dimensions: Dimensions, fit: Fit, target_faces: int | None) -> Mesh:
    """The mesh in millimetres, +Y up, front +Z, standing on y = 0, centred in x and z.

    Faces look outward, dust is gone, holes are closed where they can be (`measure` tells), and there are at most
    `target_faces` of them where the shape allows it. Every coordinate is a multiple of one power of ten, so that all
    formats hold the same points. A vertex is repeated only where the texture has a seam. Raises EmptyMeshError.
    """
    mesh = _usable(mesh)
    # `corners` (F,3) are the model's own vertices at the corners of `faces`, for as long as the faces are its own too.
    vertices, faces, corners = _tidied(mesh)
    if not topology.is_closed(faces):
        vertices, faces, corners = *_repaired(vertices, faces), None
    inward = _inward(vertices, faces)
    faces = np.where(inward[:, None], faces[:, ::-1], faces)
    if corners is not None:
        corners = np.where(inward[:, None], corners[:, ::-1], corners)
    if target_faces is not None and len(faces) > target_faces:
        vertices, faces, corners = *_decimated(vertices, faces, target_faces), None

    scale, offset = _placement(vertices, dimensions, fit)
    vertices, faces, corners = _snapped(vertices * scale + offset, faces, corners)
    mesh = replace(mesh, vertices=(mesh.vertices * scale + offset).astype(np.float32))
    return dress(mesh, vertices, faces, corners)


def _longest(vertices: Vertices) -> float:
    return float(np.ptp(vertices, axis=0).max())


def _usable(mesh: Mesh) -> Mesh:
    """The mesh without broken vertices, without the faces that use them, and without vertices that no face uses."""
    finite = np.isfinite(mesh.vertices).all(axis=1)
    faces = mesh.faces[finite[mesh.faces].all(axis=1)]
    used, faces = topology.drop_unreferenced(faces, len(mesh.vertices))
    vertices = mesh.vertices[used]
    if not len(faces) or _longest(vertices) == 0:
        raise EmptyMeshError("the mesh has no surface")
    return replace(
        mesh,
        vertices=vertices,
        faces=faces.astype(np.int32),
        colours=None if mesh.colours is None else mesh.colours[used],
        uv=None if mesh.uv is None else mesh.uv[used],
    )


def _tidied(mesh: Mesh) -> tuple[Vertices, Faces, Faces]:
    """Weld the mesh, turn its faces to agree with each other, and take out dust: vertices, faces and `corners`."""
    for cell in (0.0, _CELL * _longest(mesh.vertices)):
        first, place = topology.weld(mesh.vertices, cell)
        corners = mesh.faces[~topology.is_degenerate(place[mesh.faces])]
        if topology.is_closed(place[corners]):
            break
    else:
        if not len(corners):
            raise EmptyMeshError("the mesh has no surface")
        turn = topology.disagreeing(place[corners])
        corners = np.where(turn[:, None], corners[:, ::-1], corners)
    vertices = mesh.vertices[first].astype(np.float64)
    corners = corners[~_is_dust(vertices, place[corners])]
    used, faces = topology.drop_unreferenced(place[corners], len(vertices))
    return vertices[used], faces, corners


def _is_dust(vertices: Vertices, faces: Faces) -> NDArray[np.bool_]:
    """(F,) whether the face belongs to a speck."""
    part = topology.parts(faces, len(vertices))
    area = np.bincount(part, np.linalg.norm(topology.cross(vertices, faces), axis=1))
    volume = np.abs(np.bincount(part, topology.volumes(vertices - vertices.mean(axis=0), faces)))
    return ((area < _SPECK * area.max()) & (volume <= _SPECK * volume.max()))[part]


def _inward(vertices: Vertices, faces: Faces) -> NDArray[np.bool_]:
    """(F,) whether to turn the face's part over. A part inside another may face inward: it is a hollow."""
    part = topology.parts(faces, len(vertices))
    volume = np.bincount(part, topology.volumes(vertices - vertices.mean(axis=0), faces))
    if inside_out := bool(volume.sum() < 0):
        volume = -volume
    low, high = np.full((2, len(volume), 3), [[[np.inf]], [[-np.inf]]])
    for corner in faces.T:
        np.minimum.at(low, part, vertices[corner])
        np.maximum.at(high, part, vertices[corner])
    for number in np.flatnonzero(volume < 0):
        around = (low < low[number]).all(axis=1) & (high > high[number]).all(axis=1)
        if (around & (volume > 0)).any():
            volume[number] = -volume[number]
    return np.asarray(((volume < 0) ^ inside_out)[part])


def _manifold(vertices: Vertices, faces: Faces) -> Any | None:
    """The solid that manifold3d makes of the mesh, small gaps closed; None where it finds none or it holds no volume."""
    import manifold3d

    raw = manifold3d.Mesh(np.ascontiguousarray(vertices, np.float32), np.ascontiguousarray(faces, np.uint32))
    raw.merge()
    solid = manifold3d.Manifold(raw)
    if solid.status() != manifold3d.Error.NoError or solid.volume() <= 1e-9 * _longest(vertices) ** 3:
        return None
    return solid


def _arrays(solid: Any) -> tuple[Vertices, Faces]:
    """The solid's mesh, of which points that share a place are one vertex."""
    mesh = solid.to_mesh()
    vertices = np.asarray(mesh.vert_properties[:, :3], np.float64)
    first, place = topology.weld(vertices, _CELL * _longest(vertices))
    faces = place[mesh.tri_verts]
    return vertices[first], faces[~topology.is_degenerate(faces)]


def _repaired(vertices: Vertices, faces: Faces) -> tuple[Vertices, Faces]:
    """Make it watertight: through manifold3d as it is, or with its holes filled; else give it back as it came."""
    filled = topology.fill_holes(vertices, faces)
    for candidate in ((vertices, faces), filled):
        solid = _manifold(*candidate)
        if solid is not None and topology.is_closed((mended := _arrays(solid))[1]):
            return mended
    return vertices, faces


def _decimated(vertices: Vertices, faces: Faces, target: int) -> tuple[Vertices, Faces]:
    """The mesh with at most `target` faces, or with the fewest that leave it watertight if it was."""
    closed, reached = topology.is_closed(faces), (vertices, faces)
    for light in _lighter(vertices, faces, target):
        if closed:
            solid = _manifold(*light)
            light = _arrays(solid) if solid is not None else (vertices, faces)
        if len(light[1]) < len(reached[1]) and (not closed or topology.is_closed(light[1])):
            reached = light
            if len(reached[1]) <= target:
                break
    return reached


def _lighter(vertices: Vertices, faces: Faces, target: int) -> Iterator[tuple[Vertices, Faces]]:
    """Ever coarser tries at `target` faces: quadric decimation, a little below where that leaves bad edges, and at last
    from the convex hull, which has no handles or loose parts to keep.
    """
    import fast_simplification

    sources = [(vertices, faces)]
    if (solid := _manifold(vertices, faces)) is not None:
        sources.append(_arrays(solid.hull()))
    for points, triangles in sources:
        size = _longest(points)  # its error threshold is absolute, so it is given a mesh of size one
        for share in (1.0, 0.99, 0.97, 0.95):
            goal = min(max(4, int(share * target)), len(triangles))
            with _simplifying:
                light, kept = fast_simplification.simplify(points / size, triangles.astype(np.int32), target_count=goal)
            kept = kept[~topology.is_degenerate(kept)]
            used, kept = topology.drop_unreferenced(kept, len(light))
            yield light[used] * size, kept


def _placement(vertices: Vertices, dimensions: Dimensions, fit: Fit) -> tuple[Vertices, Vertices]:
    """Scale and offset (3,) that bring the vertices to millimetres, onto y = 0 and to the middle in x and z.

    `contain` is the largest scale that stays inside every side that is given. `stretch` meets each given side; a free one
    follows with the geometric mean of the scales of the others, as it would in an enlargement by the same area or length.
    """
    low, high = vertices.min(axis=0), vertices.max(axis=0)
    extents = high - low
    wanted = np.array([np.nan if side is None else side for side in astuple(dimensions)])
    with np.errstate(divide="ignore"):
        scales = np.where(extents > 0, wanted / extents, np.nan)  # a side without extent cannot be scaled to one
    given = scales[~np.isnan(scales)]
    if not len(given):
        scale = np.full(3, _LONGEST_SIDE / extents.max())
    elif fit == "contain":
        scale = np.full(3, given.min())
    else:
        scale = np.where(np.isnan(scales), np.exp(np.log(given).mean()), scales)
    middle = (low + high) / 2
    return scale, -scale * np.array([middle[0], low[1], middle[2]])


def _snapped(
    vertices: Vertices, faces: Faces, corners: Faces | None
) -> tuple[NDArray[np.float32], Faces, Faces | None]:
    """Round to a grid of a power of ten that float32 resolves in millimetres and in metres, and stay watertight."""
    closed = topology.is_closed(faces)
    cell = 10.0 ** (np.floor(np.log10(_longest(vertices))) - 5)
    while True:
        first, place = topology.weld(vertices, cell)
        kept = ~topology.is_degenerate(place[faces])
        used, snapped = topology.drop_unreferenced(place[faces][kept], len(first))
        if not closed or topology.is_closed(snapped) or (solid := _manifold(vertices, faces)) is None:
            break
        # Rounding closed a gap. Take out what is finer than the grid first; as that succeeds or not, this is the last try.
        closed, corners = False, None
        vertices, faces = _arrays(solid.simplify(2 * cell))
    points = (np.rint(vertices[first[used]] / cell) * cell).astype(np.float32)
    return points, snapped, None if corners is None else corners[kept]
