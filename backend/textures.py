"""Carry a texture or colours from one mesh of a shape to another mesh of the same shape."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

import topology
from models.base import Mesh
from topology import Faces, Labels

_CANDIDATES = 8
"""Vertices of the model around a new one, among which the front and the back of a thin wall are told apart."""

_LEAP = 8.0
"""A face whose texture is this much more stretched than that around it spans a seam of the atlas."""


def dress(source: Mesh, vertices: NDArray[np.float32], faces: Faces, corners: Faces | None) -> Mesh:
    """Mesh of `vertices` and `faces` with the colours or the texture of `source`, which lies in the same place.

    `corners` (F,3) names the vertices of the source at the corners of the faces, if they are still its own. A vertex that
    two parts of the texture share is split, so that no face runs across the atlas from one part to another.
    """
    faces = faces.astype(np.int32)
    bare = Mesh(vertices, faces)
    if source.colours is not None:
        return replace(bare, colours=source.colours[_owners(source, bare, corners)])
    if source.uv is None or source.texture is None:
        return bare
    return _textured(source, bare, corners)


def _owners(source: Mesh, bare: Mesh, corners: Faces | None) -> Labels:
    """(V,) for each vertex the one of the source that lies nearest and faces the same way."""
    if corners is None:
        return _facing(source, bare.vertices, topology.vertex_normals(bare.vertices, bare.faces), _spacing(bare))
    owners = np.empty(len(bare.vertices), np.int64)
    owners[bare.faces] = corners
    return owners


def _spacing(mesh: Mesh) -> float:
    """The length of an edge, roughly: that of equilateral faces with the same area in all."""
    area = np.linalg.norm(topology.cross(mesh.vertices, mesh.faces), axis=1).sum() / 2
    return float(np.sqrt(area / len(mesh.faces) * 4 / np.sqrt(3)))


def _facing(source: Mesh, points: NDArray[np.floating], normals: NDArray[np.floating], reach: float) -> Labels:
    """(N,) the source vertices nearest to the points, where looking the other way is as bad as 2 × `reach` away."""
    from scipy.spatial import KDTree

    _, place = topology.weld(source.vertices)
    own = topology.vertex_normals(source.vertices, place[source.faces])[place]
    tree = KDTree(np.hstack([source.vertices, own * reach]), balanced_tree=False, compact_nodes=False)
    return np.asarray(tree.query(np.hstack([points, normals * reach]))[1])


def _textured(source: Mesh, bare: Mesh, corners: Faces | None) -> Mesh:
    assert source.uv is not None
    gradient, leaps = _gradients(source, source.faces if corners is None else corners)
    if corners is None:
        normals = topology.cross(bare.vertices, bare.faces)
        normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), np.finfo(float).tiny)
        anchors = _facing(source, bare.vertices[bare.faces].mean(axis=1), normals, _spacing(bare))
        corners = _continued(source, bare.vertices, bare.faces, anchors, gradient)
    elif leaps.any():
        corners = corners.copy()
        anchors = corners[leaps].min(axis=1)  # always the lowest, so that a seam runs along one side of its faces
        corners[leaps] = _continued(source, bare.vertices, bare.faces[leaps], anchors, gradient)

    # One vertex for each pair of a place and the source vertex that it takes its texture from.
    pairs, numbers = np.unique(bare.faces.astype(np.int64) * len(source.vertices) + corners, return_inverse=True)
    place, owner = np.divmod(pairs, len(source.vertices))
    points = bare.vertices[place]
    uv = source.uv[owner] + np.einsum("vij,vj->vi", gradient[owner], points - source.vertices[owner])
    return Mesh(
        points,
        numbers.reshape(-1, 3).astype(np.int32),
        uv=np.clip(uv, 0, 1).astype(np.float32),
        texture=source.texture,
    )


def _gradients(source: Mesh, faces: Faces) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """How `uv` changes along the surface at each vertex (V,2,3), and which of the (F,3) faces leap over a seam.

    The faces that leap take no part in the gradients. A leap is more stretched than its neighbours at every corner, which
    tells it from a region that the texture merely paints in finer detail.
    """
    assert source.uv is not None
    a, b, c = (source.vertices[corner].astype(np.float64) for corner in faces.T)
    ua, ub, uc = (source.uv[corner].astype(np.float64) for corner in faces.T)
    normal = np.cross(b - a, c - a)
    square = np.maximum((normal**2).sum(axis=1), np.finfo(float).tiny)[:, None]
    along_b, along_c = np.cross(c - a, normal) / square, np.cross(normal, b - a) / square
    slope = (ub - ua)[:, :, None] * along_b[:, None] + (uc - ua)[:, :, None] * along_c[:, None]

    steepness = np.linalg.norm(slope, axis=(1, 2))
    calmest = np.full(len(source.vertices), np.inf)
    for corner in faces.T:
        np.minimum.at(calmest, corner, steepness)
    leaps = steepness > _LEAP * calmest[faces].max(axis=1)

    weight = np.where(leaps, 0, np.sqrt(square[:, 0]))
    sums = topology.sum_at_corners(
        faces, np.column_stack([slope.reshape(-1, 6) * weight[:, None], weight]), len(calmest)
    )
    return (sums[:, :6] / np.maximum(sums[:, 6:], np.finfo(float).tiny)).reshape(-1, 2, 3), leaps


def _continued(
    source: Mesh, vertices: NDArray[np.float32], faces: Faces, anchors: Labels, gradient: NDArray[np.float64]
) -> Faces:
    """(F,3) for each corner the nearest source vertex at which the texture goes on as it does at the face's anchor."""
    from scipy.spatial import KDTree

    assert source.uv is not None
    used, faces = topology.drop_unreferenced(faces, len(vertices))
    points = vertices[used].astype(np.float64)
    near = KDTree(source.vertices).query(points, k=min(_CANDIDATES, len(source.vertices)))[1]  # (U,K)
    offset = points[:, None] - source.vertices[near]
    there = source.uv[near] + np.einsum("ukij,ukj->uki", gradient[near], offset)
    step = points[faces] - source.vertices[anchors][:, None]
    expected = source.uv[anchors][:, None] + np.einsum("fij,fcj->fci", gradient[anchors], step)  # (F,3,2)
    miss = np.linalg.norm(there[faces] - expected[:, :, None], axis=3)  # (F,3,K)
    size = np.linalg.norm(np.ptp(expected, axis=1), axis=1)
    # The nearest that is about as good as the best, so that neighbouring faces settle on the same one.
    chosen = (miss <= miss.min(axis=2, keepdims=True) + 0.1 * size[:, None, None]).argmax(axis=2)
    return np.asarray(np.take_along_axis(near[faces], chosen[:, :, None], axis=2)[:, :, 0])
