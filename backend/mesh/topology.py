"""How the triangles of a mesh hang together, on bare arrays: vertices (V,3) and faces (F,3). No colours, no files."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Vertices = NDArray[np.floating[Any]]
Faces = NDArray[np.integer[Any]]
Labels = NDArray[np.integer[Any]]


def weld(vertices: Vertices, cell: float = 0.0) -> tuple[Labels, NDArray[np.int32]]:
    """Number the places where vertices lie: the same point, or the same `cell` of a grid, of which there must be
    fewer than 2^63 in the bounding box.

    Returns for each place (P,) its first vertex, and for each vertex (V,) its place, so that `vertices[first]` and
    `place[faces]` are the welded mesh.
    """
    keys: NDArray[Any] = vertices.T
    if cell:
        key = np.zeros(len(vertices), np.int64)
        for axis in vertices.T:
            step = np.rint((axis - axis.min()) / cell).astype(np.int64)
            key = key * (int(step.max(initial=0)) + 1) + step
        keys = key[None]
    order = np.lexsort(keys[::-1])  # stable: the first vertex of a place comes first
    keys = keys.take(order, axis=1)
    new = np.ones(len(order), bool)
    new[1:] = (keys[:, 1:] != keys[:, :-1]).any(axis=0)
    place = np.empty(len(order), np.int32)
    place[order] = np.cumsum(new) - 1
    return order[new], place


def places(vertices: Vertices) -> tuple[Labels, NDArray[np.int32]]:
    """`weld` on a grid finer than that of a finished mesh, which is a millionth or more of the longest side."""
    return weld(vertices, max(longest(vertices), 1e-6) * 2.0**-20.5)


def weld_near(vertices: Vertices, distance: float) -> tuple[Labels, Labels]:
    """Like `weld`, for points of which each is within `distance` of another at its place."""
    from scipy.spatial import KDTree

    first, place = weld(vertices)
    ends, others = KDTree(vertices[first]).query_pairs(distance, output_type="ndarray").T
    _, chosen, group = np.unique(_components(ends, others, len(first)), return_index=True, return_inverse=True)
    return first[chosen], group[place]


def _components(ends: Labels, others: Labels, count: int) -> Labels:
    """(count,) the number of the connected component of each node of a graph that links each (L,) end to the other."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    graph = coo_array((np.ones(len(ends)), (ends, others)), shape=(count, count))
    return np.asarray(connected_components(graph, directed=False)[1])


def is_used(faces: Faces, count: int) -> NDArray[np.bool_]:
    """(count,) whether a face uses the vertex."""
    used = np.zeros(count, bool)
    used[faces] = True
    return used


def drop_unreferenced(faces: Faces, count: int) -> tuple[Labels, NDArray[np.int32]]:
    """The numbers of those of `count` vertices that a face uses, and the faces renumbered to these alone."""
    used = is_used(faces, count)
    return np.flatnonzero(used), (np.cumsum(used, dtype=np.int32) - 1).take(faces)


def is_degenerate(faces: Faces) -> NDArray[np.bool_]:
    """(F,) whether two corners of the face are the same vertex."""
    a, b, c = faces.T
    return np.asarray((a == b) | (b == c) | (c == a))


def directed_edges(faces: Faces) -> Faces:
    """(3F,2): the first edges of all faces, then the second, then the third."""
    return np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])


def _edge_keys(edges: Faces, count: int) -> NDArray[np.int64]:
    return edges[:, 0].astype(np.int64) * count + edges[:, 1]


def is_closed(faces: Faces) -> bool:
    """Whether every edge has exactly two faces, which run along it in opposite directions: watertight, turned alike."""
    forth, back = _neighbours(faces)
    return forth.nnz == faces.size > 0 and _same(forth, back)


def is_balanced(faces: Faces) -> bool:
    """Whether faces run along every edge as often one way as the other: closed, but more than two may share an edge."""
    forth, back = _neighbours(faces)
    return faces.size > 0 and _same(forth, back) and np.array_equal(forth.data, back.data)


def _neighbours(faces: Faces) -> tuple[Any, Any]:
    """How many faces run from each vertex (a row) to each other one, and the same the other way: sparse, in order."""
    from scipy.sparse import coo_array

    count = int(faces.max(initial=0)) + 1
    ends = faces.ravel(), np.roll(faces, -1, axis=1).ravel()
    forth = coo_array((np.ones(faces.size, np.int32), ends), shape=(count, count)).tocsr()
    return forth, forth.T.tocsr()


def _same(one: Any, two: Any) -> bool:
    return np.array_equal(one.indptr, two.indptr) and np.array_equal(one.indices, two.indices)


def parts(faces: Faces, count: int) -> Labels:
    """(F,) the number of the connected part each face belongs to; faces are connected that share a vertex."""
    labels = _components(faces[:, :2].ravel(), faces[:, 1:].ravel(), count)
    return np.unique(labels.take(faces[:, 0]), return_inverse=True)[1]


def disagreeing(faces: Faces) -> NDArray[np.bool_]:
    """(F,) which faces to turn over so that neighbours across an edge run the same way round.

    Every face stands in a graph twice, as it is and turned over. Neighbours that agree are linked like to like, those
    that do not are linked crosswise. Each connected component of that graph is then one consistent choice.
    """
    count, edges = len(faces), directed_edges(faces)
    key = _edge_keys(np.sort(edges, axis=1), int(faces.max()) + 1)
    order = np.argsort(key, kind="stable")
    key = np.concatenate([[-1], key[order], [-1]])
    starts = key[1:] != key[:-1]  # starts[i]: a new edge begins at i in sorted order
    pairs = np.flatnonzero(starts[:-2] & ~starts[1:-1] & starts[2:])  # edges of two faces; others say nothing
    one, two = order[pairs], order[pairs + 1]
    crosswise = edges[one, 0] == edges[two, 0]
    one, two = one % count, two % count
    two = np.concatenate([two + count * crosswise, two + count * ~crosswise])
    label = _components(np.concatenate([one, one + count]), two, 2 * count)
    # Of two choices keep the one that turns fewer faces. A one-sided surface has but one component: it stays.
    votes = np.bincount(label[:count], minlength=int(label.max()) + 1)
    rank = votes * len(votes) - np.arange(len(votes))
    return np.asarray(rank[label[count:]] > rank[label[:count]])


def bounds(vertices: Vertices) -> tuple[Vertices, Vertices]:
    """(3,) the lowest and the highest corner of the box around the vertices."""
    return np.array([axis.min() for axis in vertices.T]), np.array([axis.max() for axis in vertices.T])


def longest(vertices: Vertices) -> float:
    """The longest side of that box."""
    low, high = bounds(vertices)
    return float((high - low).max())


def lengths(vectors: NDArray[np.floating[Any]]) -> NDArray[np.floating[Any]]:
    """(N,) of the (N,3) vectors."""
    x, y, z = vectors.T
    return np.asarray(np.sqrt(x * x + y * y + z * z))


def cross(vertices: Vertices, faces: Faces) -> NDArray[np.float64]:
    """(F,3) normals as long as twice the face's area."""
    axes, (a, b, c) = np.ascontiguousarray(vertices.T, np.float64), np.ascontiguousarray(faces.T, np.intp)
    (ux, uy, uz), (vx, vy, vz) = ([axis.take(end) - axis.take(a) for axis in axes] for end in (b, c))
    return np.stack([uy * vz - uz * vy, uz * vx - ux * vz, ux * vy - uy * vx], axis=1)


def volumes(vertices: Vertices, faces: Faces, normals: NDArray[np.float64]) -> NDArray[np.float64]:
    """(F,) signed volumes of the faces over the middle, from their `cross`; they add up to the volume of the mesh."""
    middle = vertices.mean(axis=0, dtype=np.float64)  # any point would do, were it not for open meshes
    return np.asarray(np.einsum("ij,ij->i", vertices.take(faces[:, 0], axis=0) - middle, normals) / 6)


def sum_at_corners(faces: Faces, values: NDArray[np.float64], count: int) -> NDArray[np.float64]:
    """(count,N): for each vertex the sum of the (F,N) values of its faces."""
    corners = np.ascontiguousarray(faces.T, np.intp)
    return np.stack([sum(np.bincount(corner, column, count) for corner in corners) for column in values.T], axis=1)


def vertex_normals(vertices: Vertices, faces: Faces) -> NDArray[np.float64]:
    """(V,3) unit normals, faces weighted by area; where they cancel out, +Z, as a normal must have length one."""
    normals = sum_at_corners(faces, cross(vertices, faces), len(vertices))
    length = lengths(normals)[:, None]
    return np.where(length > 0, normals / np.where(length > 0, length, 1), (0.0, 0.0, 1.0))


def fill_holes(vertices: Vertices, faces: Faces) -> tuple[Vertices, Faces]:
    """Close every loop of open edges: a triangle by a face, a longer one by a fan around its middle.

    Faces at an edge that more than two share are taken out first, so that what is left has simple loops.
    """
    edges, count = directed_edges(faces), len(vertices)
    _, number, uses = np.unique(_edge_keys(np.sort(edges, axis=1), count), return_inverse=True, return_counts=True)
    faces = faces[(uses[number].reshape(3, -1) <= 2).all(axis=0)]
    edges = directed_edges(faces)
    forth, back = _edge_keys(edges, count), _edge_keys(edges[:, ::-1], count)
    onward: dict[int, list[int]] = {}
    for start, end in edges[~np.isin(back, forth)][:, ::-1].tolist():
        onward.setdefault(start, []).append(end)
    points, caps = [vertices], [faces]
    for loop in _loops(onward):
        corners = np.array(loop)
        if len(loop) == 3:
            caps.append(corners[None])
        else:
            points.append(vertices[corners].mean(axis=0, keepdims=True))
            caps.append(np.stack([corners, np.roll(corners, -1), np.full(len(loop), count)], axis=1))
            count += 1
    return np.concatenate(points), np.concatenate(caps)


def _loops(onward: dict[int, list[int]]) -> list[list[int]]:
    """Closed loops of different vertices, cut from walks along `onward`, which maps a vertex to the next ones."""
    loops = []
    while onward:
        path = [next(iter(onward))]
        position = {path[0]: 0}
        while path[-1] in onward:
            ends = onward[path[-1]]
            after = ends.pop()
            if not ends:
                del onward[path[-1]]
            if after in position:  # a loop closes: cut it off and walk on from where it hung
                loop = path[position[after] :]
                if len(loop) > 2:
                    loops.append(loop)
                del path[position[after] + 1 :]
                for vertex in loop[1:]:
                    del position[vertex]
            else:
                position[after] = len(path)
                path.append(after)
    return loops
