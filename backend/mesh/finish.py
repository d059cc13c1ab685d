"""From the mesh that a model returns to the one that is printed: clean, closed, as light as asked, in millimetres."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import astuple, dataclass, replace
from functools import cached_property, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from errors import EmptyMeshError
from mesh import topology
from mesh.formats import Dimensions, Fit
from mesh.mesh import Mesh
from mesh.topology import Faces, Labels, Vertices
from mesh.transfer import dress

_LONGEST_SIDE = 100.0
"""Millimetres, when no dimension is asked for."""

_SMALL = 1e-3
"""A loose part below this share of the largest one, in area and in volume alike, is dust and not detail."""

_CELL = 1e-5
"""Points closer than this share of the longest side are one: 1 µm in 100 mm."""

_GAP = 1e-4
"""A gap below this share of the longest side is not seen, but its walls would stay in the way of decimation."""

_COARSE = 100
"""Faces with which no shape keeps its parts."""

_LOST = 0.05
"""A mesh left with less of its volume than this has lost its parts and not its detail."""

_simplifying = threading.Lock()
"""fast-simplification keeps the mesh it works on in global variables."""


@dataclass(frozen=True)
class _Surface:
    """The welded mesh at work: one vertex to a place, and none that no face uses."""

    vertices: NDArray[np.float64]
    """(V,3)"""
    faces: Faces
    """(F,3)"""
    corners: Faces | None = None
    """(F,3) the vertices of the model's mesh at the corners of the faces, for as long as these are the model's own."""

    @property
    def longest(self) -> float:
        return topology.longest(self.vertices)

    @cached_property
    def closed(self) -> bool:
        return topology.is_closed(self.faces)

    def compact(self, kept: NDArray[np.bool_] | Labels) -> _Surface:
        """Only these faces, and only the vertices that they use."""
        if kept.dtype == bool and kept.all():
            return self
        used, faces = topology.drop_unreferenced(self.faces[kept], len(self.vertices))
        return _Surface(self.vertices[used], faces, None if self.corners is None else self.corners[kept])

    def turned(self, over: NDArray[np.bool_]) -> _Surface:
        """With these faces looking the other way."""
        if not over.any():
            return self
        corners = None if self.corners is None else _turned(self.corners, over)
        return replace(self, faces=_turned(self.faces, over), corners=corners)


def _turned(faces: Faces, over: NDArray[np.bool_]) -> Faces:
    return np.where(over[:, None], faces[:, ::-1], faces)


def finish(mesh: Mesh, *, dimensions: Dimensions, fit: Fit, target_faces: int | None) -> Mesh:
    """The mesh in millimetres, +Y up, front +Z, standing on y = 0, centred in x and z.

    Faces look outward, dust is gone, holes are closed where they can be (`measure` tells), and there are at most
    `target_faces` of them where the shape allows it. Every coordinate is a multiple of one power of ten, so that all
    formats hold the same points. A vertex is repeated only where the texture has a seam. Raises EmptyMeshError.
    """
    mesh, surface = _tidied(mesh)
    if not surface.closed:
        surface = _parts_in_order(_repaired(surface))
    if target_faces is not None and len(surface.faces) > target_faces:
        surface = _decimated(_gaps_closed(surface), target_faces)

    scale, offset = _placement(surface.vertices, dimensions, fit)
    surface = _snapped(replace(surface, vertices=surface.vertices * scale + offset))
    source = replace(mesh, vertices=(mesh.vertices * scale + offset).astype(np.float32))
    return dress(source, surface.vertices.astype(np.float32), surface.faces, surface.corners)


def _usable(mesh: Mesh) -> Mesh:
    """The mesh without broken vertices, without the faces that use them, and without vertices that no face uses."""
    faces = mesh.faces
    if not np.isfinite(mesh.vertices).all():
        finite = np.asarray(np.isfinite(mesh.vertices).all(axis=1))
        faces = faces[finite[faces].all(axis=1)]
    used, faces = topology.drop_unreferenced(faces, len(mesh.vertices))
    return replace(
        mesh,
        vertices=mesh.vertices.take(used, axis=0),
        faces=faces,
        colours=None if mesh.colours is None else mesh.colours[used],
        uv=None if mesh.uv is None else mesh.uv[used],
    )


def _tidied(mesh: Mesh) -> tuple[Mesh, _Surface]:
    """The model's mesh without what is broken and without dust, all its faces looking outward; and the same, welded."""
    mesh = _usable(mesh)
    if not mesh.faces.size or (longest := topology.longest(mesh.vertices)) == 0:
        raise EmptyMeshError("the mesh has no surface")
    for weld in (topology.weld, partial(topology.weld_near, distance=_CELL * longest)):
        first, place = weld(mesh.vertices)
        surface = _Surface(mesh.vertices[first].astype(np.float64), place.take(mesh.faces), mesh.faces)
        degenerate = topology.is_degenerate(surface.faces)
        if degenerate.any():
            surface = surface.compact(~degenerate)
        if topology.is_closed(surface.faces):
            break
    else:
        if not len(surface.faces):
            raise EmptyMeshError("the mesh has no surface")
        _, different = np.unique(np.sort(surface.faces, axis=1), axis=0, return_index=True)
        surface = surface.compact(np.sort(different))
        surface = surface.turned(topology.disagreeing(surface.faces))
    surface = _parts_in_order(surface)
    if surface.corners is mesh.faces:  # nothing was left out or turned
        return mesh, surface
    assert surface.corners is not None
    mesh = _usable(replace(mesh, faces=surface.corners.astype(np.int32)))
    return mesh, replace(surface, corners=mesh.faces)


def _parts_in_order(surface: _Surface) -> _Surface:
    """Without small loose parts; the others look outward, but for a hollow, which lies in another and looks inward."""
    part = topology.parts(surface.faces, len(surface.vertices))
    normals = topology.cross(surface.vertices, surface.faces)
    area = np.bincount(part, topology.lengths(normals))
    volume = np.bincount(part, topology.volumes(surface.vertices, surface.faces, normals))
    dust = (area < _SMALL * area.max()) & (np.abs(volume) <= _SMALL * np.abs(volume).max())

    if inside_out := bool(volume.sum() < 0):
        volume = -volume
    hollow = np.zeros(len(volume), bool)
    if (volume < 0).any():
        low, high = np.full((len(volume), 3), np.inf), np.full((len(volume), 3), -np.inf)
        for corner in surface.faces.T:
            np.minimum.at(low, part, surface.vertices[corner])
            np.maximum.at(high, part, surface.vertices[corner])
        for number in np.flatnonzero(volume < 0):
            around = (low < low[number]).all(axis=1) & (high > high[number]).all(axis=1)
            hollow[number] = (around & (volume > 0)).any()
    inward = ((volume < 0) & ~hollow) ^ inside_out
    return surface.turned(inward[part]).compact(~dust[part])


def _manifold(surface: _Surface) -> Any | None:
    """The solid that manifold3d makes of the mesh, small gaps closed; None where there is none or it is flat."""
    import manifold3d

    vertices, faces = surface.vertices.astype(np.float32), surface.faces.astype(np.uint32)
    if not topology.is_balanced(faces):
        raw = manifold3d.Mesh(vertices, faces)
        raw.merge()
        place = np.arange(len(vertices), dtype=np.uint32)
        place[raw.merge_from_vert] = raw.merge_to_vert
        faces = place[faces]
        faces = faces[~topology.is_degenerate(faces)]
        if not topology.is_balanced(faces):  # manifold3d 3.5.4 dies on some meshes with open edges
            return None
    solid = manifold3d.Manifold(manifold3d.Mesh(vertices, faces))
    if solid.status() != manifold3d.Error.NoError or solid.volume() <= 1e-9 * surface.longest**3:
        return None
    return solid


def _skin(solid: Any) -> _Surface:
    """The solid's mesh, watertight also to a reader that takes points at one place for one vertex.

    Where sheets touch, manifold3d keeps a vertex for each in one place: they are pulled apart a little, inwards.
    """
    mesh = solid.to_mesh()
    vertices, faces = mesh.vert_properties[:, :3].astype(np.float64), mesh.tri_verts.astype(np.int32)
    cell = _CELL * topology.longest(vertices)
    for _ in range(3):
        first, place = topology.weld(vertices, cell)
        surface = _Surface(vertices[first], place[faces])
        degenerate = topology.is_degenerate(surface.faces)
        if degenerate.any():
            surface = surface.compact(~degenerate)
        if topology.is_closed(surface.faces):
            break
        shared = np.bincount(place)[place] > 1
        vertices = vertices - shared[:, None] * 4 * cell * topology.vertex_normals(vertices, faces)
    return surface


def _repaired(surface: _Surface) -> _Surface:
    """Made watertight: through manifold3d as it is, or with its holes filled; else as it came."""
    vertices, faces = topology.fill_holes(surface.vertices, surface.faces)
    for candidate in (surface, _Surface(vertices.astype(np.float64), faces)):
        solid = _manifold(candidate)
        if solid is not None and (mended := _skin(solid)).closed:
            return mended
    return surface


def _gaps_closed(surface: _Surface) -> _Surface:
    """With walls too low to be seen pulled shut, as they resist decimation; as it is if that would open it."""
    first, place = topology.weld_near(surface.vertices, _GAP * surface.longest)
    shut = _Surface(surface.vertices[first], place[surface.faces])
    shut = shut.compact(~topology.is_degenerate(shut.faces))
    return surface if surface.closed and not shut.closed else shut


def _decimated(surface: _Surface, target: int) -> _Surface:
    """The mesh with at most `target` faces, or with the fewest that leave it watertight if it was."""
    closed, reached = surface.closed, surface
    least = (
        _LOST * topology.volumes(surface.vertices, surface.faces, topology.cross(surface.vertices, surface.faces)).sum()
    )
    for light in _lighter(surface, target):
        if not len(light.faces):
            continue
        if closed:
            solid = _manifold(light)
            if solid is None or solid.volume() < least or not (light := _skin(solid)).closed:
                continue
        if len(light.faces) < len(reached.faces):
            reached = light
        if len(reached.faces) <= target:
            break
    return reached


def _lighter(surface: _Surface, target: int) -> Iterator[_Surface]:
    """Tries at `target` faces: by quadric error; a little below it, as the first may leave bad edges; a convex outline,
    where there is no room for handles and loose parts; at last above it.
    """
    for share in (1.0, 0.98, 0.95, 0.9):
        yield _simplified(surface, max(4, int(share * target)))
    if target <= _COARSE:
        yield _outline(surface, target)
    for share in (8, 4, 2, 1.5, 1.2):
        yield _simplified(surface, int(share * target))


def _outline(surface: _Surface, target: int) -> _Surface:
    """The convex hull of the n farthest vertices, which has at most 2n − 4 faces; nothing where they lie in a plane."""
    import manifold3d

    points = surface.vertices
    offset = points - points[np.linalg.norm(points - points.mean(axis=0), axis=1).argmax()]
    distance = np.linalg.norm(offset, axis=1)
    chosen = [int(distance.argmin())]
    while len(chosen) < target // 2 + 2:
        rank = np.linalg.norm(offset, axis=1) if len(chosen) < 4 else distance
        chosen.append(int(rank.argmax()))
        if len(chosen) <= 4:  # the first four span a tetrahedron: measure from the line, then the plane, through them
            direction = offset[chosen[-1]] / max(rank.max(), np.finfo(float).tiny)
            offset = offset - np.outer(offset @ direction, direction)
        distance = np.minimum(distance, np.linalg.norm(points - points[chosen[-1]], axis=1))
    hull = manifold3d.Manifold.hull_points(points[chosen])
    return _Surface(points[:0], surface.faces[:0]) if hull.is_empty() else _skin(hull)


def _simplified(surface: _Surface, target: int) -> _Surface:
    import fast_simplification

    size = surface.longest  # its error threshold is absolute, so it is given a mesh of size one
    with _simplifying:
        vertices, faces = fast_simplification.simplify(
            surface.vertices / size, surface.faces.astype(np.int32), target_count=min(target, len(surface.faces))
        )
    whole = np.flatnonzero(~topology.is_degenerate(faces))
    return _Surface(vertices * size, faces).compact(whole)


def _placement(vertices: Vertices, dimensions: Dimensions, fit: Fit) -> tuple[Vertices, Vertices]:
    """Scale and offset (3,) that bring the vertices to millimetres, onto y = 0 and to the middle in x and z.

    `contain` takes the largest scale that stays inside every side given. `stretch` meets each side given, and scales a
    free one by the geometric mean of the others: with one side given, that is the same enlargement all round.
    """
    low, high = topology.bounds(vertices)
    extents = high - low
    wanted = np.array([np.nan if side is None else side for side in astuple(dimensions)])
    with np.errstate(divide="ignore"):
        flat = extents <= 1e-9 * extents.max()  # and no scale would give it the side that is wanted
        scales = np.where(flat, np.nan, wanted / extents)
    given = scales[~np.isnan(scales)]
    if not len(given):
        scale = np.full(3, _LONGEST_SIDE / extents.max())
    elif fit == "contain":
        scale = np.full(3, given.min())
    else:
        scale = np.where(np.isnan(scales), np.exp(np.log(given).mean()), scales)
    middle = (low + high) / 2
    return scale, -scale * np.array([middle[0], low[1], middle[2]])


def _snapped(surface: _Surface) -> _Surface:
    """Rounded to a grid of a power of ten that float32 resolves in millimetres and in metres, and still watertight."""
    cell = 10.0 ** (np.floor(np.log10(surface.longest * (1 + 1e-6))) - 5)  # 99.99999999999999 is 100
    rounded = _on_grid(surface, cell)
    met = len(rounded.vertices) < len(surface.vertices)  # else its edges are as they were, and as closed
    if met and not rounded.closed and surface.closed and (solid := _manifold(surface)) is not None:
        # Rounding closed a gap: take out what is finer than the grid, then round, unless that takes away from the size.
        coarser = solid.simplify(2 * cell)
        if not coarser.is_empty():
            mended = _on_grid(_skin(coarser), cell)
            if np.allclose(np.ptp(mended.vertices, axis=0), np.ptp(rounded.vertices, axis=0), rtol=0, atol=9 * cell):
                rounded = mended
    if not len(rounded.faces):
        raise EmptyMeshError("at this size the mesh is too thin to have a surface")
    return rounded


def _on_grid(surface: _Surface, cell: float) -> _Surface:
    steps = np.rint(surface.vertices / cell)
    first, place = topology.weld(steps, 1.0)
    surface = _Surface(steps.take(first, axis=0) * cell, place.take(surface.faces), surface.corners)
    degenerate = topology.is_degenerate(surface.faces)
    return surface.compact(~degenerate) if degenerate.any() else surface
