"""Real meshes to train on beside the made-up ones: folders of `*.npz` shards, as `--extra-meshes` takes them.

A shard holds many meshes end to end: `vertices` (V,3), `faces` (F,3) numbered within each mesh, `colours` (V,3) uint8,
the offsets `v_off` and `f_off`, and for each mesh the number of its `source`.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from families import deformation
from solids import Points, Random, Solid


def load(folder: Path) -> list[tuple[int, Solid]]:
    """All meshes of a folder with the number of their source."""
    found = [mesh for file in sorted(folder.glob("*.npz")) for mesh in read(file)]
    if not found:
        raise SystemExit(f"there are no meshes in {folder}: *.npz shards are expected")
    return found


def read(file: Path) -> list[tuple[int, Solid]]:
    """The meshes of one shard with the number of their source."""
    found = []
    try:
        shard = dict(np.load(file))
        v_off, f_off = shard["v_off"], shard["f_off"]
        for i, source in enumerate(shard["source"]):
            points, faces = np.s_[v_off[i] : v_off[i + 1]], np.s_[f_off[i] : f_off[i + 1]]
            colours = shard["colours"][points] / 255.0
            solid = Solid(shard["vertices"][points].astype(float), shard["faces"][faces].astype(np.int64), colours)
            found.append((int(source), solid))
    except (OSError, EOFError, ValueError, KeyError, IndexError, TypeError, BadZipFile) as error:
        raise SystemExit(f"{file} is not a shard of meshes: {type(error).__name__}") from error
    return found


def split(folder: Path | None, held_out: Collection[int]) -> tuple[list[Solid], list[Solid]]:
    """The meshes of a folder to train on, and those of the sources held out; none of either without a folder."""
    meshes = load(folder) if folder else []
    return [mesh for source, mesh in meshes if source not in held_out], [
        mesh for source, mesh in meshes if source in held_out
    ]


def varied(solid: Solid, random: Random) -> tuple[Solid, bool]:
    """The mesh as it might also have been made, and whether it is to be shaded smoothly: other colours and proportions,
    and at times rounded, as low-poly art stands for round things."""
    colours = _recoloured(solid.colours, random)
    smooth = random.random() < 0.6
    if smooth:
        solid = _welded(Solid(solid.vertices, solid.faces, colours))
        if len(solid.faces) < 4000 and random.random() < 0.55:
            for _ in range(2 if len(solid.faces) < 500 else 1):
                solid = _rounded(_split(solid), random.uniform(0.2, 0.6))
    else:
        solid = Solid(solid.vertices, solid.faces, colours)
    if random.random() < 0.5:
        solid = solid.bent(deformation(random))
    if random.random() < 0.4:
        solid = solid.scaled(np.exp(random.normal(0, 0.15, 3)))
    return solid, smooth


def _recoloured(colours: Points, random: Random) -> Points:
    kind = random.random()
    if kind < 0.25:  # one colour, as of clay
        return np.broadcast_to(random.random(3), colours.shape)
    if kind < 0.5:
        colours = colours[:, random.permutation(3)]
    return np.asarray(np.clip(colours * random.uniform(0.7, 1.2) + random.normal(0, 0.05, 3), 0, 1))


def _welded(solid: Solid) -> Solid:
    """With one vertex for each place. Where colours meet, one of them wins."""
    _, first, place = np.unique(solid.vertices.round(4), axis=0, return_index=True, return_inverse=True)
    faces = place.reshape(-1)[solid.faces]
    alive = (faces[:, 0] != faces[:, 1]) & (faces[:, 1] != faces[:, 2]) & (faces[:, 2] != faces[:, 0])
    return Solid(solid.vertices[first], faces[alive], solid.colours[first])


def _edges(faces: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(E,2) edges, each once, and (F,3) which of them a triangle has: from its corner 0 to 1, 1 to 2, 2 to 0."""
    pairs = np.sort(np.stack([faces, np.roll(faces, -1, 1)], -1).reshape(-1, 2), 1)
    edges, number = np.unique(pairs, axis=0, return_inverse=True)
    return edges, number.reshape(faces.shape)


def _split(solid: Solid) -> Solid:
    """Each triangle in four."""
    edges, number = _edges(solid.faces)
    middle = number + len(solid.vertices)
    a, b, c = solid.faces.T
    ab, bc, ca = middle.T
    faces = np.concatenate([np.stack(t, 1) for t in ((a, ab, ca), (b, bc, ab), (c, ca, bc), (ab, bc, ca))])
    return Solid(
        np.concatenate([solid.vertices, solid.vertices[edges].mean(1)]),
        faces,
        np.concatenate([solid.colours, solid.colours[edges].mean(1)]),
    )


def _rounded(solid: Solid, by: float) -> Solid:
    """Every vertex a part of the way to the mean of its neighbours."""
    edges, _ = _edges(solid.faces)
    total, count = np.zeros_like(solid.vertices), np.zeros(len(solid.vertices))
    for one, two in (edges.T, edges.T[::-1]):
        np.add.at(total, one, solid.vertices[two])
        np.add.at(count, one, 1)
    mean = total / np.maximum(count, 1)[:, None]
    return Solid(solid.vertices * (1 - by) + mean * by, solid.faces, solid.colours)
