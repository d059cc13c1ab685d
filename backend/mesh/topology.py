"""How the triangles of a mesh hang together, on bare arrays: vertices (V,3) and faces (F,3). No colours, no files."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Vertices = NDArray[np.floating[Any]]
Faces = NDArray[np.integer[Any]]
Labels = NDArray[np.integer[Any]]


def weld(vertices: Vertices, cell: float = 0.0) -> tuple[Labels, Labels]:
    """Number the places where vertices lie: the same point, or the same `cell` of a grid, of which there must be
    fewer than 2^63 in the bounding box.

    Returns for each place (P,) its first vertex, and for each vertex (V,) its place, so that `vertices[first]` and
    `place[faces]` are the welded mesh.
    """
    key = np.zeros(len(vertices), np.int64)
    for axis in vertices.T:
        if cell:
            rank = np.rint((axis - axis.min()) / cell).astype(np.int64)
            count = int(rank.max(initial=0)) + 1
        else:
            values, rank = np.unique(axis, return_inverse=True)
            count = len(values)
        key = key * count + rank
    _, first, place = np.unique(key, return_index=True, return_inverse=True)
    return first, place


def places(vertices: Vertices) -> tuple[Labels, Labels]:
    """`weld` on a grid finer than that of a finished mesh, which is a millionth or more of the longest side."""
    longest = float(np.ptp(vertices, axis=0).max())
    return weld(vertices, max(longest, 1e-6) * 2.0**-20.5)


def weld_near(vertices: Vertices, distance: float) -> tuple[Labels, Labels]:
    """Like `weld`, for points of which each is within `distance` of another at its place."""
    from scipy.spatial import KDTree

    first, place = weld(vertices)
    pairs = KDTree(vertices[first]).query_pairs(distance, output_type="ndarray")
    _, chosen, group = np.unique(_components(pairs, len(first)), return_index=True, return_inverse=True)
    return first[chosen], group[place]


def _components(links: Labels, count: int) -> Labels:
    """(count,) the number of the connected component of each node of a graph with the (L,2) links."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    graph = coo_array((np.ones(len(links), bool), links.T), shape=(count, count))
    return np.asarray(connected_components(graph, directed=False)[1])


def drop_unreferenced(faces: Faces, count: int) -> tuple[Labels, Faces]:
    """The numbers of those of `count` vertices that a face uses, and the faces renumbered to these alone."""
    used = np.zeros(count, bool)
    used[faces] = True
    return np.flatnonzero(used), (np.cumsum(used) - 1)[faces]


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
    forth, back = _both_ways(faces)
    return bool(len(faces) and (forth[1:] != forth[:-1]).all() and np.array_equal(forth, back))


def is_balanced(faces: Faces) -> bool:
    """Whether faces run along every edge as often one way as the other: closed, but more than two may share an edge."""
    return bool(len(faces) and np.array_equal(*_both_ways(faces)))


def _both_ways(faces: Faces) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The edges of all faces, sorted, and the same run the other way."""
    edges, count = directed_edges(faces), int(faces.max(initial=0)) + 1
    return np.sort(_edge_keys(edges, count)), np.sort(_edge_keys(edges[:, ::-1], count))


def parts(faces: Faces, count: int) -> Labels:
    """(F,) the number of the connected part each face belongs to; faces are connected that share a vertex."""
    labels = _components(np.concatenate([faces[:, :2], faces[:, 1:]]), count)
    return np.unique(labels[faces[:, 0]], return_inverse=True)[1]


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
    label = _components(
        np.concatenate(
            [np.stack([one, two + count * crosswise], 1), np.stack([one + count, two + count * ~crosswise], 1)]
        ),
        2 * count,
    )
    # Of two choices keep the one that turns fewer faces. A one-sided surface has but one component: it stays.
    votes = np.bincount(label[:count], minlength=int(label.max()) + 1)
    rank = votes * len(votes) - np.arange(len(votes))
    return np.asarray(rank[label[count:]] > rank[label[:count]])


def cross(vertices: Vertices, faces: Faces) -> NDArray[np.float64]:
    """(F,3) normals as long as twice the face's area."""
    a, b, c = (vertices[corner].astype(np.float64) for corner in faces.T)
    return np.cross(b - a, c - a)


def volumes(vertices: Vertices, faces: Faces, normals: NDArray[np.float64]) -> NDArray[np.float64]:
    """(F,) signed volumes of the faces over the middle, from their `cross`; they add up to the volume of the mesh."""
    middle = vertices.mean(axis=0, dtype=np.float64)  # any point would do, were it not for open meshes
    return np.asarray(np.einsum("ij,ij->i", vertices[faces[:, 0]] - middle, normals) / 6)


def sum_at_corners(faces: Faces, values: NDArray[np.float64], count: int) -> NDArray[np.float64]:
    """(count,N): for each vertex the sum of the (F,N) values of its faces."""
    return np.stack(
        [sum(np.bincount(corner, column, minlength=count) for corner in faces.T) for column in values.T], axis=1
    )


def vertex_normals(vertices: Vertices, faces: Faces) -> NDArray[np.float64]:
    """(V,3) unit normals, faces weighted by area; where they cancel out, +Z, as a normal must have length one."""
    normals = sum_at_corners(faces, cross(vertices, faces), len(vertices))
    length = np.linalg.norm(normals, axis=1, keepdims=True)
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
