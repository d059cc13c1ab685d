"""Building blocks of the made-up shapes: small functions that return triangles with a colour at each corner.

Parts may pass through each other: a ray's first entry and last exit do not mind, so nothing has to be united. Y is up.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Points = NDArray[np.float64]
Random = np.random.Generator


@dataclass(frozen=True, slots=True)
class Solid:
    """Triangles with colours."""

    vertices: Points
    """(V,3)"""
    faces: NDArray[np.int64]
    """(F,3)"""
    colours: Points
    """(V,3) sRGB in 0..1."""

    def moved(self, by: ArrayLike) -> Solid:
        """Shifted."""
        return Solid(self.vertices + np.asarray(by), self.faces, self.colours)

    def scaled(self, by: ArrayLike) -> Solid:
        """Scaled about the origin, by one factor or one for each axis."""
        return Solid(self.vertices * np.asarray(by), self.faces, self.colours)

    def turned(self, axis: int, angle: float) -> Solid:
        """Turned about an axis through the origin, by an angle in radians."""
        return Solid(self.vertices @ turn(axis, angle).T, self.faces, self.colours)

    def bent(self, by: Callable[[Points], Points]) -> Solid:
        """With every vertex moved to where `by` says."""
        return Solid(by(self.vertices), self.faces, self.colours)

    def painted(self, colour: ArrayLike) -> Solid:
        """In one colour."""
        return Solid(self.vertices, self.faces, np.broadcast_to(np.asarray(colour, float), self.vertices.shape))


Family = Callable[[Random], Solid]
"""Makes a member of a family of shapes."""


def turn(axis: int, angle: float) -> Points:
    """The (3,3) rotation about one of the axes."""
    c, s = np.cos(angle), np.sin(angle)
    one, two = [(1, 2), (2, 0), (0, 1)][axis]
    matrix = np.eye(3)
    matrix[one, one] = matrix[two, two] = c
    matrix[two, one], matrix[one, two] = s, -s
    return matrix


def together(parts: Sequence[Solid]) -> Solid:
    """All parts as one solid."""
    starts = np.cumsum([0, *(len(part.vertices) for part in parts[:-1])])
    return Solid(
        np.concatenate([part.vertices for part in parts]),
        np.concatenate([part.faces + start for part, start in zip(parts, starts, strict=True)]),
        np.concatenate([part.colours for part in parts]),
    )


def mirrored(part: Solid, axis: int = 0) -> Solid:
    """The part and its mirror image."""
    sign = np.ones(3)
    sign[axis] = -1
    return together([part, Solid(part.vertices * sign, part.faces[:, ::-1], part.colours)])


def _tube(rings: Points, *, closed: bool = False) -> tuple[Points, NDArray[np.int64]]:
    """The surface through (R,K,3) rings of points; open ends get a lid."""
    count, size, _ = rings.shape
    ring = np.arange(count if closed else count - 1)[:, None] * size
    here, there = np.arange(size), np.roll(np.arange(size), -1)
    following = (ring + size) % (count * size)
    a, b, c, d = ring + here, ring + there, following + there, following + here
    faces = [np.stack([a, b, c], -1).reshape(-1, 3), np.stack([a, c, d], -1).reshape(-1, 3)]
    vertices = rings.reshape(-1, 3)
    if not closed:
        vertices = np.concatenate([vertices, rings[[0, -1]].mean(1)])
        first, last, end = count * size, count * size + 1, (count - 1) * size
        faces.append(np.stack([there, here, np.full(size, first)], -1))
        faces.append(np.stack([end + here, end + there, np.full(size, last)], -1))
    return vertices, np.concatenate(faces)


def _solid(vertices: Points, faces: NDArray[np.int64], colour: ArrayLike) -> Solid:
    return Solid(vertices, faces, np.broadcast_to(np.asarray(colour, float), vertices.shape).copy())


def box(size: ArrayLike, colour: ArrayLike, *, bevel: float = 0.0) -> Solid:
    """A box of that size about the origin, its edges cut or rounded by a share of its shortest side."""
    half = np.asarray(size, float) / 2
    if bevel <= 0:
        corners = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], float) * half
        quads = [(0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3)]
        faces = np.array([face for a, b, c, d in quads for face in ((a, b, c), (a, c, d))])
        return _solid(corners, faces, colour)
    ball = ellipsoid((1, 1, 1), colour, detail=(9, 16))
    radius = bevel * half.min()
    return Solid(ball.vertices * radius + np.sign(ball.vertices.round(6)) * (half - radius), ball.faces, ball.colours)


def ellipsoid(
    radii: ArrayLike, colour: ArrayLike, *, power: tuple[float, float] = (1, 1), detail: tuple[int, int] = (12, 20)
) -> Solid:
    """A superellipsoid (Barr, 1981): powers below 1 make it square, along and around the y axis."""
    rings, around = detail
    latitude = np.linspace(-np.pi / 2, np.pi / 2, rings)[:, None]
    longitude = (np.linspace(0, 2 * np.pi, around, endpoint=False) + np.pi / around)[None]

    def raised(value: Points, exponent: float) -> Points:
        return np.asarray(np.sign(value) * np.abs(value) ** exponent)

    ring = raised(np.cos(latitude), power[0])
    points = np.stack(
        [
            -ring * raised(np.cos(longitude), power[1]),
            raised(np.sin(latitude), power[0]) + 0 * longitude,
            ring * raised(np.sin(longitude), power[1]),
        ],
        -1,
    )
    vertices, faces = _tube(points * np.asarray(radii, float))
    return _solid(vertices, faces, colour)


def lathe(profile: ArrayLike, colour: ArrayLike, *, around: int = 28, oval: float = 1.0) -> Solid:
    """The (K,2) profile of radius and height, turned about the y axis; it may come back inside to make a vessel."""
    radius, height = np.asarray(profile, float).T
    angle = -np.linspace(0, 2 * np.pi, around, endpoint=False)
    points = np.stack(
        [
            radius[:, None] * np.cos(angle),
            np.broadcast_to(height[:, None], (len(radius), around)),
            radius[:, None] * np.sin(angle) * oval,
        ],
        -1,
    )
    vertices, faces = _tube(points)
    return _solid(vertices, faces, colour)


def cylinder(radius: float, height: float, colour: ArrayLike, *, top: float | None = None, around: int = 20) -> Solid:
    """Standing on y = 0; a cone when `top`, the upper radius, differs."""
    upper = radius if top is None else top
    return lathe([(0, 0), (radius, 0), (upper, height), (0, height)], colour, around=around)


def sweep(
    path: ArrayLike, radii: ArrayLike, colour: ArrayLike, *, around: int = 10, closed: bool = False, flat: float = 1.0
) -> Solid:
    """A tube of those radii along the (K,3) path; `flat` squeezes it across."""
    path = np.asarray(path, float)
    ahead = (np.roll(path, -1, 0) - np.roll(path, 1, 0)) if closed else np.gradient(path, axis=0)
    ahead /= np.maximum(np.linalg.norm(ahead, axis=1, keepdims=True), 1e-9)
    side = np.cross(ahead[0], np.eye(3)[np.argmin(np.abs(ahead[0]))])
    sides = []
    for direction in ahead:  # carried along, so that the tube does not twist
        side = side - direction * (side @ direction)
        side /= max(float(np.linalg.norm(side)), 1e-9)
        sides.append(side)
    one = np.array(sides)
    two = np.cross(ahead, one) * flat
    angle = np.linspace(0, 2 * np.pi, around, endpoint=False)
    circle = one[:, None] * np.cos(angle)[None, :, None] + two[:, None] * np.sin(angle)[None, :, None]
    radii = np.broadcast_to(np.asarray(radii, float), len(path))
    vertices, faces = _tube(path[:, None] + circle * radii[:, None, None], closed=closed)
    return _solid(vertices, faces, colour)


def limb(
    start: ArrayLike, end: ArrayLike, radii: tuple[float, float], colour: ArrayLike, *, bow: ArrayLike = 0
) -> Solid:
    """A rounded, bowed rod between two points, such as an arm."""
    start, end = np.asarray(start, float), np.asarray(end, float)
    t = np.linspace(0, 1, 9)[:, None]
    path = start + (end - start) * t + np.asarray(bow, float) * (4 * t * (1 - t))
    ends = np.array([0.35, 0.8, 1, 1, 1, 1, 1, 0.8, 0.35])
    return sweep(path, (radii[0] + (radii[1] - radii[0]) * t[:, 0]) * ends, colour, around=10)


def arc(radius: float, angles: tuple[float, float], count: int = 14, *, squeeze: float = 1.0) -> Points:
    """(K,3) points of an arc in the plane z = 0; `squeeze` scales its width."""
    angle = np.linspace(*angles, count)
    return np.column_stack([radius * squeeze * np.cos(angle), radius * np.sin(angle), 0 * angle])


def extrusion(outline: ArrayLike, thickness: float, colour: ArrayLike) -> Solid:
    """A (K,2) outline, seen from any point of its middle (star-shaped), made thick along z."""
    outline = np.asarray(outline, float)
    rings = [np.column_stack([outline, np.full(len(outline), z)]) for z in (-thickness / 2, thickness / 2)]
    vertices, faces = _tube(np.array(rings))
    return _solid(vertices, faces, colour)


def blob(centres: Points, radii: Points, colour: ArrayLike, *, blend: float = 0.3, size: int = 28) -> Solid:
    """Balls melted into each other: the zero of a smooth minimum of distances, as a mesh."""
    low = (centres - radii[:, None]).min(0) - 0.15
    step = float((((centres + radii[:, None]).max(0) + 0.15) - low).max()) / (size - 1)
    grid = low + step * np.stack(np.meshgrid(*[np.arange(size)] * 3, indexing="ij"), -1)
    field = np.zeros((size,) * 3)
    for centre, radius in zip(centres, radii, strict=True):
        field += np.exp((radius - np.linalg.norm(grid - centre, axis=-1)) / (blend * radii.mean()))
    vertices, faces = surface_nets(np.log(field + 1e-30))
    return _solid(vertices * step + low, faces, colour)


def surface_nets(field: Points) -> tuple[Points, NDArray[np.int64]]:
    """The surface where the (X,Y,Z) field turns from negative to positive: one vertex in each cell that it crosses
    (Gibson, "Constrained Elastic Surface Nets", 1998)."""
    inside = field > 0
    corners = np.array(list(np.ndindex(2, 2, 2)))
    each = [inside[tuple(slice(c, c - 1 or None) for c in corner)] for corner in corners]
    crossed = np.logical_or.reduce(each) & ~np.logical_and.reduce(each)
    cells = np.argwhere(crossed)
    value = field[tuple((cells[:, None] + corners).transpose(2, 0, 1))]  # (N,8) at the corners of each cell
    one, two = np.array([(i, i + step) for step in (1, 2, 4) for i in range(8) if not i & step]).T  # its 12 edges
    a, b = value[:, one], value[:, two]
    cut = (a > 0) != (b > 0)
    way = np.where(cut, a / np.where(cut, a - b, 1), 0)[..., None]
    places = (corners[one] + way * (corners[two] - corners[one])) * cut[..., None]
    vertices = cells + places.sum(1) / cut.sum(1)[:, None]
    index = np.full(crossed.shape, -1)
    index[crossed] = np.arange(len(cells))
    quads = []
    for axis in range(3):
        axes = (axis, (axis + 1) % 3, (axis + 2) % 3)
        a, cells = np.moveaxis(inside, axes, (0, 1, 2)), np.moveaxis(index, axes, (0, 1, 2))
        leaves = a[:-1, 1:-1, 1:-1] & ~a[1:, 1:-1, 1:-1]
        enters = ~a[:-1, 1:-1, 1:-1] & a[1:, 1:-1, 1:-1]
        around = [cells[:, :-1, :-1], cells[:, 1:, :-1], cells[:, 1:, 1:], cells[:, :-1, 1:]]
        quads.append(np.stack([corner[leaves] for corner in around], -1))
        quads.append(np.stack([corner[enters] for corner in around[::-1]], -1))
    quad = np.concatenate(quads)
    return vertices, np.concatenate([quad[:, [0, 1, 2]], quad[:, [0, 2, 3]]]).astype(np.int64)
