"""Parts that pass through each other → one smooth skin, as of clay, and as most sculpted and scanned things have it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from scipy.spatial import cKDTree

from household import tint
from render import cast, scene
from solids import Points, Random, Solid, surface_nets

_SIZE = 72
"""Cells along the longest side of the grid that the parts are melted on."""
_MARGIN = 4
"""Of these, how many are empty at each end."""
_CROSSINGS = 64
"""How often a ray may cross the surface at most."""


def melted(solid: Solid, random: Random) -> Solid:
    """One skin around all parts, which are closed and look outwards; in their colours, one, or two that blend. The
    parts as they are when all of them are too thin for the grid."""
    low, high = solid.vertices.min(0), solid.vertices.max(0)
    step = (high - low).max() / (_SIZE - 2 * _MARGIN)
    placed = solid.moved(-low).scaled(1 / step).moved((_MARGIN, _MARGIN, _MARGIN))
    soft = gaussian_filter(_filled(placed).astype(np.float32), random.uniform(0.8, 1.6))
    vertices, faces = surface_nets(soft - random.uniform(0.3, 0.45))  # below a half: thin parts shall live
    if not len(faces):
        return solid
    return Solid(vertices * step, faces, _colours(vertices, placed, random))


def _filled(solid: Solid) -> NDArray[np.bool_]:
    """(X,Y,Z) which points with whole coordinates lie inside: where the surface's winding number is not 0, from all
    crossings of a ray along z through each (x, y)."""
    width, height, depth = np.ceil(solid.vertices.max(0)).astype(int) + _MARGIN
    corners = solid.vertices[solid.faces]
    facing = np.sign(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])[:, 2])
    target = scene(corners)
    x, y = (axis.ravel() for axis in np.meshgrid(np.arange(width), np.arange(height), indexing="ij"))
    origin = np.stack([x + 1e-3, y + 2e-3, np.full(len(x), -1.0)], -1).astype(np.float32)  # not along edges
    turns = np.zeros((width, height, depth + 1))
    for _ in range(_CROSSINGS):
        hit = cast(target, origin, np.tile(np.array((0, 0, 1), np.float32), (len(origin), 1)))
        found = hit["primID"] >= 0
        if not found.any():
            break
        x, y, origin = x[found], y[found], origin[found]
        origin[:, 2] += hit["tfar"][found]
        np.add.at(turns, (x, y, np.ceil(origin[:, 2]).astype(int)), facing[hit["primID"][found]])
        origin[:, 2] += 1e-3
    return np.asarray(np.cumsum(turns, 2)[..., :-1] != 0)


def _colours(vertices: Points, solid: Solid, random: Random) -> Points:
    kind = random.random()
    if kind < 0.4:
        return np.asarray(solid.colours[cKDTree(solid.vertices).query(vertices)[1]])
    if kind < 0.7:
        return np.broadcast_to(tint(random), vertices.shape)
    along = (vertices @ random.normal(0, 1, 3))[:, None]
    share = (along - along.min()) / np.ptp(along)
    return np.asarray(tint(random) * share + tint(random) * (1 - share))
