"""Small meshes whose size, topology and colours are known beforehand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from mesh.mesh import Mesh


def mesh(vertices, faces, **more) -> Mesh:
    return Mesh(np.asarray(vertices, np.float32), np.asarray(faces, np.int32), **more)


def sphere(subdivisions=3, radius=1.0, centre=(0, 0, 0)) -> Mesh:
    """80, 320, 1280, 5120 … faces."""
    import trimesh

    ball = trimesh.creation.icosphere(subdivisions=subdivisions, radius=radius)
    return mesh(ball.vertices + np.array(centre), ball.faces)


def torus() -> Mesh:
    import trimesh

    ring = trimesh.creation.torus(1.0, 0.4, major_sections=64, minor_sections=32)
    return mesh(ring.vertices, ring.faces)


def box(low=(-1, -1, -1), high=(1, 1, 1)) -> Mesh:
    import trimesh

    cube = trimesh.creation.box(bounds=[low, high])
    return mesh(cube.vertices, cube.faces)


def signpost() -> Mesh:
    """Four parts that tell the axes apart: a base at the bottom, a spike up, an arm to +X (right), a nose to +Z."""
    return together(
        box((-2, 0, -2), (2, 1, 2)),
        box((-0.5, 1.5, -0.5), (0.5, 9, 0.5)),
        box((2.5, 0, -0.5), (7, 0.5, 0.5)),
        box((-0.5, 0, 2.5), (0.5, 0.5, 5)),
    )


def together(*meshes: Mesh) -> Mesh:
    starts = np.cumsum([0, *(len(each.vertices) for each in meshes[:-1])])
    return mesh(
        np.concatenate([each.vertices for each in meshes]),
        np.concatenate([each.faces + start for each, start in zip(meshes, starts, strict=True)]),
    )


def inside_out(each: Mesh) -> Mesh:
    return replace(each, faces=each.faces[:, ::-1])


def soup(each: Mesh) -> Mesh:
    """Every face with vertices of its own."""
    return mesh(each.vertices[each.faces].reshape(-1, 3), np.arange(each.faces.size).reshape(-1, 3))


def painted(each: Mesh) -> Mesh:
    """Red where x is positive, else blue."""
    right = each.vertices[:, :1] > 0
    return replace(each, colours=np.where(right, (200, 30, 10), (10, 30, 200)).astype(np.uint8))


def two_sheets(cells=48, thickness=0.5, picture=256) -> Mesh:
    """An ellipse inflated to the front and to the back, joined by a narrow wall, with front | back in one texture.

    x and y run from −0.8 to 0.8 and −0.6 to 0.6 on a grid over −1…1. A front vertex has u = (x + 1) / 4, a back one
    u = 1 − (x + 1) / 4, both v = (y + 1) / 2. In the texture red grows with x and green with y; blue is the back.
    """
    step = (np.arange(cells) + 0.5) / cells * 2 - 1
    filled = (step[None, :] / 0.8) ** 2 + (step[:, None] / 0.6) ** 2 < 1
    touching = np.zeros((cells + 1, cells + 1), int)
    for down in (0, 1):
        for right in (0, 1):
            touching[down : down + cells, right : right + cells] += filled
    row, column = np.nonzero(touching)
    x, y = column / cells * 2 - 1, 1 - row / cells * 2
    inside = np.clip(1 - (x / 0.8) ** 2 - (y / 0.6) ** 2, 0, 1)
    z = np.where(touching[row, column] == 4, thickness * np.sqrt(inside), 0) + 0.002
    count = len(x)
    number = np.zeros(touching.shape, int)
    number[row, column] = np.arange(count)

    i, j = np.nonzero(filled)
    a, b, c, d = number[i, j], number[i + 1, j], number[i + 1, j + 1], number[i, j + 1]
    front = np.concatenate([np.stack([a, b, c], 1), np.stack([a, c, d], 1)])
    edges = np.concatenate([front[:, [0, 1]], front[:, [1, 2]], front[:, [2, 0]]])
    rim = np.array(sorted(set(map(tuple, edges.tolist())) - set(map(tuple, edges[:, ::-1].tolist()))))
    s, e = rim.T
    wall = np.concatenate([np.stack([e, s, s + count], 1), np.stack([e, s + count, e + count], 1)])

    u, v = (x + 1) / 4, (y + 1) / 2
    ramp = np.linspace(0, 255, picture).astype(np.uint8)
    face = np.zeros((picture, picture, 3), np.uint8)
    face[..., 0], face[..., 1] = ramp, ramp[::-1, None]
    back = face[:, ::-1].copy()
    back[..., 2] = 255
    return mesh(
        np.concatenate([np.stack([x, y, z], 1), np.stack([x, y, -z], 1)]),
        np.concatenate([front, front[:, ::-1] + count, wall]),
        uv=np.concatenate([np.stack([u, v], 1), np.stack([1 - u, v], 1)]).astype(np.float32),
        texture=np.concatenate([face, back], axis=1),
    )


def as_trimesh(each: Mesh):
    """Welded by place, for a second opinion."""
    import trimesh

    places, number = np.unique(each.vertices, axis=0, return_inverse=True)
    return trimesh.Trimesh(places, number.reshape(-1)[each.faces], process=False)
