"""Two depth layers over a silhouette → a closed triangle mesh.

Marching squares (Lorensen and Cline's cubes, in the plane) triangulate the silhouette once: its inner nodes, and the
points where its contour cuts the grid. The triangles serve twice, for the front and, turned over, for the back. No edge
inside a sheet joins two contour points, and a wall too low to be seen joins the two rims, so every edge has two faces:
watertight by construction, a closed surface for each part of the silhouette, a handle for each hole in it. The wall is
there because front and back have different textures: a rim that they shared would need two texture coordinates at each
of its vertices, and programs that then tell apart what lies in one place would find the mesh open.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.builtin.inflation import Field, crossing

VIEW_ANGLE = 30.0
"""Degrees across the square in the camera that the picture is taken to come from."""

CAMERA = float(1 / np.tan(np.radians(VIEW_ANGLE / 2)))
"""Its distance from the plane z = 0, in units of half the square's side."""

_WALL = 1e-4
"""Its height, in units of half the square's side: 6 µm on a model of 100 mm, six times what finishing tells apart."""

# A cell's points counter-clockwise from its upper left corner: corners 0 2 4 6, between them the edges 1 3 5 7.
# For each set of inner corners the polygon that lies inside. A fan from its first point cuts it into triangles; that
# point is a corner, of three the middle one, which keeps the fan's edges off pairs of contour points.
_POLYGONS = {
    (0,): ["017"],
    (2,): ["231"],
    (4,): ["453"],
    (6,): ["675"],
    (0, 2): ["0237"],
    (2, 4): ["2451"],
    (4, 6): ["4673"],
    (0, 6): ["6015"],
    (0, 2, 4): ["24570"],
    (2, 4, 6): ["46712"],
    (0, 4, 6): ["60134"],
    (0, 2, 6): ["02356"],
    (0, 2, 4, 6): ["0246"],
    (0, 4): ["017", "453"],
    (2, 6): ["231", "675"],
}
_BRIDGED = {(0, 4): ["013457"], (2, 6): ["235671"]}
"""Opposite corners whose cell is inside at its middle."""


@dataclass(frozen=True, slots=True)
class Sheets:
    """A closed mesh of a front, a back and the wall between their rims."""

    vertices: NDArray[np.float32]
    """(2P,3), first those of the front, then as many of the back."""
    faces: NDArray[np.int32]
    """(F,3)"""
    plane: NDArray[np.float32]
    """(P,2) x and y in −1..1 in the picture, before perspective is undone: what texture coordinates are made of."""


def two_sheets(field: NDArray[np.float32], front: Field, back: Field) -> Sheets:
    """Mesh the (N,N) silhouette `field` > 0 between the depths `front` > `back` (N,N) along z, towards the viewer.

    `field` must be negative at the border of the grid. On the contour front and back meet halfway between what they are
    there, so that depths are read at the outer nodes beside it as well, and nowhere else outside.
    """
    nodes, number = _numbered(field > 0)
    points, inners, edges = [nodes], [nodes], []
    count = len(nodes)
    for axis in (0, 1):
        cut, place, inner = _cuts(field, axis)
        edges.append(np.where(cut, np.cumsum(cut).reshape(cut.shape) - 1 + count, -1))
        count += len(place)
        points.append(place)
        inners.append(inner)
    faces = _faces(field, number, edges[0], edges[1])

    place, inner = np.concatenate(points), np.concatenate(inners)
    here, beyond = (_read(front, back, node) for node in (inner, inner + np.sign(place - inner)))
    way = np.abs(place - inner).max(1)
    depths = here + way * (beyond - here)  # of an inner node: its own
    depths[:, len(nodes) :] = depths[:, len(nodes) :].mean(0) + np.array([[_WALL / 2], [-_WALL / 2]])
    plane = (place[:, ::-1] + 0.5) * (2 / len(field)) - 1
    plane[:, 1] *= -1
    vertices = np.concatenate([_unprojected(plane, depth) for depth in depths])
    start, end = _rim(faces, len(nodes))
    wall = [np.column_stack([end, start, start + count]), np.column_stack([end, start + count, end + count])]
    closed = np.concatenate([faces, faces[:, ::-1] + count, *wall])
    return Sheets(vertices.astype(np.float32), closed.astype(np.int32), plane.astype(np.float32))


def _read(front: Field, back: Field, nodes: NDArray[np.float64]) -> NDArray[np.float64]:
    """(2,P) both depths at (P,2) nodes."""
    row, column = nodes.astype(np.int64).T
    return np.stack([front[row, column], back[row, column]])


def _rim(faces: NDArray[np.int64], inner: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The edges (start, end) between two contour points, as their faces run along them: the points after `inner`."""
    start, end = faces.ravel(), np.roll(faces, -1, axis=1).ravel()
    rim = (start >= inner) & (end >= inner)
    return start[rim], end[rim]


def _unprojected(plane: NDArray[np.float64], depth: NDArray[np.float64]) -> NDArray[np.float64]:
    """(P,3) points at that depth on the camera's rays through the (P,2) points of the plane z = 0."""
    return np.column_stack([plane * ((CAMERA - depth) / CAMERA)[:, None], depth])


def _numbered(inside: NDArray[np.bool_]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """(P,2) row and column of the inner nodes, and (N,N) their numbers."""
    return np.argwhere(inside).astype(np.float64), np.where(inside, np.cumsum(inside).reshape(inside.shape) - 1, -1)


def _cuts(field: NDArray[np.float32], axis: int) -> tuple[NDArray[np.bool_], NDArray[np.float64], NDArray[np.float64]]:
    """The grid's edges along an axis that the contour cuts: which, (C,2) where, and (C,2) their inner nodes."""
    one = np.s_[:-1, :] if axis == 0 else np.s_[:, :-1]
    two = np.s_[1:, :] if axis == 0 else np.s_[:, 1:]
    cut = (field[one] > 0) != (field[two] > 0)
    start = np.argwhere(cut).astype(np.float64)
    along = np.eye(2)[axis]
    first, second = field[one][cut].astype(np.float64), field[two][cut].astype(np.float64)
    first_inside = first > 0
    way = crossing(np.where(first_inside, first, second), np.where(first_inside, second, first))
    way = np.where(first_inside, way, 1 - way)
    return cut, start + way[:, None] * along, start + (~first_inside)[:, None] * along


def _faces(
    field: NDArray[np.float32], nodes: NDArray[np.int64], down: NDArray[np.int64], across: NDArray[np.int64]
) -> NDArray[np.int64]:
    """(F,3) front faces. `nodes`, `down` and `across` number the nodes and the cuts of edges below and beside them."""
    inside = field > 0
    corners = [inside[:-1, :-1], inside[1:, :-1], inside[1:, 1:], inside[:-1, 1:]]
    code = sum((corner.astype(np.uint8) << i for i, corner in enumerate(corners)), np.uint8(0))
    middle = field[:-1, :-1] + field[1:, :-1] + field[1:, 1:] + field[:-1, 1:]
    point = [
        *(nodes[:-1, :-1], down[:, :-1], nodes[1:, :-1], across[1:]),
        *(nodes[1:, 1:], down[:, 1:], nodes[:-1, 1:], across[:-1]),
    ]
    found = []
    for inner, polygons in _POLYGONS.items():
        cells = np.equal(code, sum(1 << corner // 2 for corner in inner))
        if inner in _BRIDGED:
            found += _fans(_BRIDGED[inner], point, cells & (middle > 0))
            cells &= middle <= 0
        found += _fans(polygons, point, cells)
    return np.concatenate(found)


def _fans(polygons: list[str], point: list[NDArray[np.int64]], cells: NDArray[np.bool_]) -> list[NDArray[np.int64]]:
    fans = []
    for polygon in polygons:
        ring = [point[int(symbol)][cells] for symbol in polygon]
        fans += [np.column_stack([ring[0], ring[k], ring[k + 1]]) for k in range(1, len(ring) - 1)]
    return fans
