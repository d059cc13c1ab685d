"""Carry a texture or colours from one mesh of a shape to another mesh of the same shape."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mesh import topology
from mesh.mesh import Mesh
from mesh.topology import Faces, Labels

_SLACK = 0.1
"""Two continuations of a texture count as the same that differ by an edge of the source and this share of the face."""

_TINY = np.finfo(float).tiny

_FAR = 0.25
"""Corners of a face farther apart than this in a texture of size one may lie on both sides of a seam."""

_SLIVER = 2e-4
"""A face narrower than this share of the longest side is not seen, whatever it shows."""

_LEAP = 8.0
"""A face whose texture is this much more stretched than that around it spans a seam of the atlas."""


def dress(source: Mesh, vertices: NDArray[np.float32], faces: Faces, corners: Faces | None) -> Mesh:
    """Mesh of `vertices` and `faces` with the colours or the texture of `source`, which lies in the same place.

    `corners` (F,3) names the vertices of the source at the corners of the faces, if they are still its own. If the
    source has one texture coordinate to a place, all stays as the model made it. Else a vertex that two parts of the
    texture share is split, so that no face that can be seen runs across the atlas from one part to another.
    """
    bare = Mesh(vertices, faces.astype(np.int32))
    if source.colours is not None:
        return replace(bare, colours=source.colours[_owners(source, bare, corners)])
    if source.uv is None or source.texture is None:
        return bare
    if (
        corners is not None
        and topology.is_used(corners, len(source.vertices)).sum() == len(vertices)
        and not _far_apart(source, corners).any()
    ):
        return replace(bare, uv=source.uv[_owners(source, bare, corners)], texture=source.texture)
    return _textured(source, bare, corners)


def _far_apart(source: Mesh, faces: Faces) -> NDArray[np.bool_]:
    """(F,) whether the corners of the face lie far from each other in the texture, in a face that can be seen."""
    assert source.uv is not None
    far = np.zeros(len(faces), bool)
    for axis in source.uv.T:
        a, b, c = axis.take(faces.T)
        far |= np.maximum(np.maximum(a, b), c) - np.minimum(np.minimum(a, b), c) > _FAR
    far[far] = ~_is_sliver(source, faces[far])
    return np.asarray(far)


def _is_sliver(source: Mesh, faces: Faces) -> NDArray[np.bool_]:
    """(F,) whether the face is too narrow to be seen, such as a wall that closes a seam."""
    corners = source.vertices[faces].astype(np.float64)
    edges = np.linalg.norm(corners - np.roll(corners, 1, axis=1), axis=2)
    width = topology.lengths(topology.cross(source.vertices, faces)) / np.maximum(edges.max(axis=1), _TINY)
    return np.asarray(width < _SLIVER * topology.longest(source.vertices))


def _owners(source: Mesh, bare: Mesh, corners: Faces | None) -> Labels:
    """(V,) for each vertex the one of the source that lies nearest and faces the same way."""
    if corners is None:
        return _facing(source, bare.vertices, topology.vertex_normals(bare.vertices, bare.faces), _spacing(bare))
    owners = np.empty(len(bare.vertices), np.int64)
    owners[bare.faces] = corners
    return owners


def _spacing(mesh: Mesh) -> float:
    """The length of an edge, roughly: that of equilateral faces with the same area in all."""
    area = topology.lengths(topology.cross(mesh.vertices, mesh.faces)).sum() / 2
    return float(np.sqrt(area / len(mesh.faces) * 4 / np.sqrt(3)))


def _facing(source: Mesh, points: NDArray[np.floating], normals: NDArray[np.floating], reach: float) -> Labels:
    """(N,) the source vertices nearest to the points, where looking the other way is as bad as 2 × `reach` away."""
    from scipy.spatial import KDTree

    first, place = topology.weld(source.vertices)
    own = topology.vertex_normals(source.vertices[first], place[source.faces])[place]
    tree = KDTree(np.hstack([source.vertices, own * reach]), balanced_tree=False, compact_nodes=False)
    return np.asarray(tree.query(np.hstack([points, normals * reach]))[1])


@dataclass(frozen=True, slots=True)
class _Atlas:
    """The texture coordinates of the source as a function on the surface around each of its vertices."""

    vertices: NDArray[np.float64]
    """(V,3)"""
    uv: NDArray[np.float64]
    """(V,2)"""
    gradient: NDArray[np.float64]
    """(V,2,3) how `uv` changes along the surface."""
    reach: NDArray[np.float64]
    """(V,) how far that can be trusted: about two edges."""

    def at(self, vertex: Labels, points: NDArray[np.floating[Any]], bounded: bool = True) -> NDArray[np.float64]:
        """(…,2) at the (…,3) points, seen from the (…) vertices."""
        step = points - self.vertices[vertex]
        if bounded:
            reach = self.reach[vertex] + _TINY
            step *= (reach / np.maximum(np.linalg.norm(step, axis=-1), reach))[..., None]
        return np.asarray(self.uv[vertex] + np.einsum("...ij,...j->...i", self.gradient[vertex], step))


def _textured(source: Mesh, bare: Mesh, corners: Faces | None) -> Mesh:
    atlas, leaps = _atlas(source, source.faces if corners is None else corners)
    if corners is None:
        normals = topology.cross(bare.vertices, bare.faces)
        normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), _TINY)
        anchors = _facing(source, bare.vertices[bare.faces].mean(axis=1), normals, _spacing(bare))
        corners = _continued(atlas, bare.vertices, bare.faces, anchors)
    elif leaps.any():
        corners = corners.copy()
        anchors = corners[leaps].min(axis=1)  # always the lowest, so that a seam runs along one side of its faces
        corners[leaps] = _continued(atlas, bare.vertices, bare.faces[leaps], anchors)

    # One vertex for each pair of a place and the source vertex that it takes its texture from.
    pairs, numbers = np.unique(bare.faces.astype(np.int64) * len(source.vertices) + corners, return_inverse=True)
    place, owner = np.divmod(pairs, len(source.vertices))
    return Mesh(
        bare.vertices[place],
        numbers.reshape(-1, 3).astype(np.int32),
        uv=np.clip(atlas.at(owner, bare.vertices[place]), 0, 1).astype(np.float32),
        texture=source.texture,
    )


def _atlas(source: Mesh, faces: Faces) -> tuple[_Atlas, NDArray[np.bool_]]:
    """The atlas of the source, and which of its (F,3) faces leap over a seam and so tell nothing of the gradient.

    A leap is more stretched than its neighbours at every corner, which tells it from a region that the texture merely
    paints in finer detail.
    """
    assert source.uv is not None
    vertices, uv = source.vertices.astype(np.float64), source.uv.astype(np.float64)
    a, b, c = (vertices[corner] for corner in faces.T)
    ua, ub, uc = (uv[corner] for corner in faces.T)
    normal = np.cross(b - a, c - a)
    square = np.maximum((normal**2).sum(axis=1), _TINY)[:, None]
    along_b, along_c = np.cross(c - a, normal) / square, np.cross(normal, b - a) / square
    slope = (ub - ua)[:, :, None] * along_b[:, None] + (uc - ua)[:, :, None] * along_c[:, None]

    steepness = np.linalg.norm(slope, axis=(1, 2))
    calmest = np.full(len(vertices), np.inf)
    for corner in faces.T:
        np.minimum.at(calmest, corner, steepness)
    leaps = steepness > _LEAP * calmest[faces].max(axis=1)
    leaps[leaps] = ~_is_sliver(source, faces[leaps])

    weight = np.where(leaps, 0, np.sqrt(square[:, 0]))
    sums = topology.sum_at_corners(
        faces, np.column_stack([slope.reshape(-1, 6) * weight[:, None], weight]), len(vertices)
    )
    gradient = (sums[:, :6] / np.maximum(sums[:, 6:], _TINY)).reshape(-1, 2, 3)
    return _Atlas(vertices, uv, gradient, np.sqrt(sums[:, 6])), leaps


def _continued(atlas: _Atlas, vertices: NDArray[np.float32], faces: Faces, anchors: Labels) -> Faces:
    """(F,3) for each corner the nearest source vertex at which the texture goes on as it does at the face's anchor.

    Mostly that is the nearest of all. Where that one belongs to another part of the texture, as on the other side of a
    seam or of a thin wall, it is the nearest in space and texture together.
    """
    from scipy.spatial import KDTree

    used, faces = topology.drop_unreferenced(faces, len(vertices))
    points = vertices[used].astype(np.float64)
    owners = KDTree(atlas.vertices).query(points)[1]
    found, owners, points = atlas.at(owners, points)[faces], owners[faces], points[faces]
    expected = atlas.at(anchors[:, None], points, bounded=False)  # (F,3,2)
    size = np.linalg.norm(np.ptp(expected, axis=1), axis=1)
    steepness = np.linalg.norm(atlas.gradient, axis=(1, 2))
    strange = np.linalg.norm(found - expected, axis=2) > _SLACK * size[:, None] + np.median(steepness * atlas.reach) / 2
    if strange.any():
        weight = 1 / max(float(np.median(steepness)), _TINY)
        tree = KDTree(np.hstack([atlas.vertices, atlas.uv * weight]), balanced_tree=False, compact_nodes=False)
        owners[strange] = tree.query(np.hstack([points[strange], expected[strange] * weight]))[1]
    return np.asarray(owners)
