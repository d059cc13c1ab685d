"""Shapes whose parts grow out of and are cut into each other: figures, machined parts, vessels; as signed distances."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from household import tint
from solids import Family, Points, Random, Solid, surface_nets, turn

_SIZE = 46
"""Cells along each side of the grid over −1.15..1.15."""
_REACH = 1.15
Grid = NDArray[np.float32]
Distance = Callable[[Grid], Grid]
"""(N,3) points → (N,) how far each is outside, negative inside."""


def _length(p: Grid) -> Grid:
    return np.asarray(np.sqrt(np.einsum("nk,nk->n", p, p)), np.float32)


def _box(half: Points, round_by: float) -> Distance:
    def by(p: Grid) -> Grid:
        q = np.abs(p) - (half - round_by).astype(np.float32)
        return np.asarray(_length(np.maximum(q, 0)) + np.minimum(q.max(1), 0) - round_by, np.float32)

    return by


def _ball(half: Points) -> Distance:
    def by(p: Grid) -> Grid:
        scaled = np.asarray(p / half, np.float32)
        return np.asarray((_length(scaled) - 1) * half.min(), np.float32)

    return by


def _limb(one: Points, two: Points, radii: tuple[float, float]) -> Distance:
    """From one point to another, as thick at its ends as `radii` say."""
    along = (two - one).astype(np.float32)

    def by(p: Grid) -> Grid:
        from_one = p - one.astype(np.float32)
        way = np.clip(from_one @ along / max(float(along @ along), 1e-6), 0, 1)
        radius = radii[0] + (radii[1] - radii[0]) * way
        return np.asarray(_length(from_one - way[:, None] * along) - radius, np.float32)

    return by


def _post(radius: float, half: float, round_by: float = 0.02) -> Distance:
    """A cylinder along y."""

    def by(p: Grid) -> Grid:
        q = np.stack([np.hypot(p[:, 0], p[:, 2]) - radius, np.abs(p[:, 1]) - half], 1) + round_by
        return np.asarray(_length(np.maximum(q, 0)) + np.minimum(q.max(1), 0) - round_by, np.float32)

    return by


def _ring(radius: float, thick: float) -> Distance:
    def by(p: Grid) -> Grid:
        return np.asarray(np.hypot(np.hypot(p[:, 0], p[:, 1]) - radius, p[:, 2]) - thick, np.float32)

    return by


def _at(distance: Distance, centre: Points, rotation: Points | None = None) -> Distance:
    back = (np.eye(3) if rotation is None else rotation).astype(np.float32)
    return lambda p: distance((p - centre.astype(np.float32)) @ back)


def _joined(one: Grid, two: Grid, blend: float) -> Grid:
    """The union with a fillet that is `blend` wide."""
    near = np.maximum(blend - np.abs(one - two), 0) / max(blend, 1e-6)
    return np.asarray(np.minimum(one, two) - near * near * blend / 4, np.float32)


def figures(random: Random) -> Solid:
    """Bodies with limbs and heads, as of animals, dolls, busts and nobody knows what."""
    parts: list[tuple[Distance, float]] = []
    upright, blend = random.random() < 0.5, random.uniform(0.03, 0.25)
    half = random.uniform(0.18, 0.45, 3)
    half[1 if upright else 2] *= random.uniform(1.2, 1.8)
    parts.append((_ball(half), blend))
    for _ in range(random.integers(1, 5)):
        start = half * random.uniform(-0.9, 0.9, 3)
        start[0] = abs(start[0])
        radius = random.uniform(0.05, 0.2)
        way = random.normal(0, 0.3, 3) + np.array([0.25, -0.25 if random.random() < 0.6 else 0.15, 0.05])
        for _ in range(random.integers(1, 4)):
            end = np.clip(start + way, -0.95, 0.95)
            limb = _limb(start, end, (radius, radius * random.uniform(0.5, 1.15)))
            parts.append((limb, blend * random.uniform(0.3, 1)))
            start, radius, way = end, radius * random.uniform(0.6, 1.0), way * 0.8 + random.normal(0, 0.15, 3)
    if random.random() < 0.8:
        place = np.array([0, half[1] * random.uniform(0.6, 1.3), half[2] * random.uniform(0, 1.1) * (not upright)])
        size = random.uniform(0.12, 0.32) * np.exp(random.normal(0, 0.2, 3))
        place = np.clip(place + (0, size[1] * 0.7, 0), -0.8, 0.8)
        parts.append((_at(_ball(size), place), blend * random.uniform(0.2, 1)))
        for _ in range(random.integers(0, 4)):
            bump = size * random.uniform(-1, 1, 3)
            bump *= 1 / max(float(np.linalg.norm(bump / size)), 1e-6)
            little = size.min() * random.uniform(0.15, 0.5) * np.exp(random.normal(0, 0.3, 3))
            parts.append((_at(_ball(little), place + bump), 0.04))
    if random.random() < 0.25:
        foot = np.array([random.uniform(0.3, 0.6), 0.06, random.uniform(0.3, 0.6)])
        parts.append((_at(_box(foot, 0.02), np.array([0, -0.9, 0])), 0.05))
    waves = [(random.normal(0, 5, 3), random.uniform(0, 6), random.uniform(0, 0.03)) for _ in range(4)]
    return _surface(parts, [], random, symmetric=random.random() < 0.7, waves=waves if random.random() < 0.6 else [])


def machined(random: Random) -> Solid:
    """Blocks and posts along the axes, with holes and slots, as of machine parts, tools, housings and toys."""
    parts: list[tuple[Distance, float]] = []
    cuts: list[Distance] = []
    blend, round_by = random.choice([0.0, 0.03, 0.12]), random.choice([0.005, 0.03, 0.08])
    base = random.uniform(0.15, 0.9, 3)
    parts.append((_box(base, min(round_by, 0.8 * base.min())), blend))

    def piece(scale: float) -> Distance:
        axis = random.choice([0, 1, 2])
        spin = np.eye(3) if axis == 1 else turn(2 if axis == 0 else 0, np.pi / 2)
        if random.random() < 0.15:
            spin = spin @ turn(int(random.integers(3)), random.uniform(-0.8, 0.8))
        centre = base * random.uniform(-1, 1, 3)
        if random.random() < 0.5:
            return _at(_post(random.uniform(0.06, 0.5) * scale, random.uniform(0.05, 0.9)), centre, spin)
        half = random.uniform(0.06, 0.7, 3) * scale
        return _at(_box(half, min(round_by, 0.8 * half.min())), centre, spin)

    parts += [(piece(0.9), blend) for _ in range(random.integers(1, 5))]
    cuts += [piece(0.6) for _ in range(random.integers(0, 4))]
    return _surface(parts, cuts, random, symmetric=random.random() < 0.6, waves=[])


def vessels(random: Random) -> Solid:
    """Hollow round things with handles, spouts, lids and feet."""
    count = int(random.integers(3, 7))
    heights = np.sort(np.append(random.uniform(-0.9, 0.9, count - 2), [-0.9, 0.9])).astype(np.float32)
    heights *= random.uniform(0.25, 1.0)
    radii = np.clip(random.uniform(0.25, 0.7) + np.cumsum(random.normal(0, 0.15, count)), 0.08, 0.8).astype(np.float32)
    wall, open_top, oval = random.uniform(0.1, 0.18), random.random() < 0.7, random.choice([1, 1, 1, 0.7])

    def solid_of(less: float) -> Distance:
        def by(p: Grid) -> Grid:
            across = np.hypot(p[:, 0], p[:, 2] / oval) - (np.interp(p[:, 1], heights, radii) - less)
            below = heights[0] + less - p[:, 1]
            above = p[:, 1] - heights[-1] - (0.2 if less and open_top else -less)
            return np.asarray(np.maximum(np.maximum(across * 0.85, below), above), np.float32)

        return by

    parts: list[tuple[Distance, float]] = [(solid_of(0), 0.03)]
    middle, side = float(heights.mean()), float(np.interp(heights.mean(), heights, radii))
    tall = float(np.ptp(heights))
    if random.random() < 0.55:
        ring = _ring(tall * random.uniform(0.2, 0.38), random.uniform(0.04, 0.07))
        parts.append((_at(ring, np.array([side, middle + 0.1 * tall * random.normal(), 0])), 0.04))
        if random.random() < 0.3:
            parts.append((_at(ring, np.array([-side, middle, 0])), 0.04))
    if random.random() < 0.25:
        end = np.array([-side - random.uniform(0.2, 0.4), middle + tall * random.uniform(0.1, 0.5), 0])
        parts.append((_limb(np.array([-side * 0.8, middle - 0.2 * tall, 0]), end, (0.14, 0.07)), 0.06))
    if random.random() < 0.3:
        parts.append((_at(_ball(np.full(3, random.uniform(0.07, 0.2))), np.array([0, heights[-1], 0])), 0.04))
    cuts = [solid_of(wall)] if random.random() < 0.8 else []
    return _surface(parts, cuts, random, symmetric=False, waves=[])


def _surface(
    parts: list[tuple[Distance, float]],
    cuts: list[Distance],
    random: Random,
    *,
    symmetric: bool,
    waves: list[tuple[Points, float, float]],
) -> Solid:
    axis = np.linspace(-_REACH, _REACH, _SIZE, dtype=np.float32)
    points = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), -1).reshape(-1, 3)
    folded = np.abs(points) * (1, 0, 0) + points * (0, 1, 1) if symmetric else points
    folded = folded.astype(np.float32)
    found, owner = parts[0][0](folded), np.zeros(len(points), np.int64)
    for number, (distance, blend) in enumerate(parts[1:], 1):
        here = distance(folded)
        owner[here < found] = number
        found = _joined(found, here, blend)
    for distance in cuts:
        found = np.maximum(found, -distance(folded))
    for wave, phase, high in waves:
        found += high * np.sin(folded @ wave.astype(np.float32) + np.float32(phase))
    field = -found.reshape(_SIZE, _SIZE, _SIZE)
    for side in range(3):
        np.moveaxis(field, side, 0)[[0, -1]] = -0.01
    vertices, faces = surface_nets(field.astype(np.float64))
    if len(faces) < 40:
        return _surface([(_ball(np.array([0.5, 0.7, 0.4])), 0.0)], [], random, symmetric=False, waves=waves)
    tints = np.stack([tint(random) for _ in range(len(parts))])
    if random.random() < 0.5:
        tints[:] = tints[0]
    cell = np.clip(np.rint(vertices), 0, _SIZE - 1).astype(int)
    colours = tints[owner[np.ravel_multi_index(tuple(cell.T), (_SIZE,) * 3)]]
    return Solid(vertices, faces, colours)


FAMILIES: dict[str, tuple[Family, float]] = {
    "figure": (figures, 3),
    "machined": (machined, 3),
    "vessel": (vessels, 1.5),
}
