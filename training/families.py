"""Shapes that the project makes itself: `make_shape(random)` picks a family and builds one of its endless members.

Each family is a function of a random generator that returns a `Solid` of any size, +Y up, its front towards +Z.
The abstract families are here, the others in `household.py`, `living.py` and `outdoors.py`.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

import household
import living
import outdoors
import sculpted
from melting import melted
from solids import (
    Family,
    Points,
    Random,
    Solid,
    blob,
    box,
    ellipsoid,
    extrusion,
    lathe,
    mirrored,
    sweep,
    together,
    turn,
)


def primitives(random: Random) -> Solid:
    """A few simple bodies, near each other or stacked."""
    parts, height = [], 0.0
    stacked = random.random() < 0.5
    for _ in range(random.integers(1, 6)):
        size = random.uniform(0.3, 1.0, 3)
        part = _body(random, size)
        part = part.turned(int(random.integers(3)), random.uniform(0, np.pi)) if random.random() < 0.4 else part
        if stacked:
            low, high = part.vertices[:, 1].min(), part.vertices[:, 1].max()
            parts.append(part.moved((random.normal(0, 0.1), height - low, random.normal(0, 0.1))))
            height += (high - low) * random.uniform(0.7, 1.0)
        else:
            parts.append(part.moved(random.normal(0, 0.45, 3)))
    return together(parts)


def _body(random: Random, size: Points) -> Solid:
    colour = household.tint(random)
    kind = random.integers(5)
    if kind == 0:
        return box(size, colour, bevel=random.choice([0, 0.1, 0.4]))
    if kind == 1:
        return ellipsoid(size / 2, colour, power=(random.uniform(0.3, 1.5), random.uniform(0.3, 1.5)))
    if kind == 2:
        return lathe(
            [(0, -size[1] / 2), (size[0] / 2, -size[1] / 2), (size[2] / 2, size[1] / 2), (0, size[1] / 2)], colour
        )
    if kind == 3:
        angle = np.linspace(0, 2 * np.pi, 20, endpoint=False)
        ring = np.column_stack([np.cos(angle), np.sin(angle), 0 * angle]) * size[0] / 2
        return sweep(ring, size[0] * random.uniform(0.08, 0.24), colour, closed=True)
    return extrusion(_polygon(random) * size[:2] / 2, size[2], colour)


def _polygon(random: Random) -> Points:
    count = int(random.integers(3, 9))
    angle = np.linspace(0, 2 * np.pi, count, endpoint=False) + random.uniform(0, np.pi)
    radius = np.where(np.arange(count) % 2, random.uniform(0.4, 1), 1) if count % 2 == 0 else np.ones(count)
    return np.asarray(np.column_stack([np.cos(angle), np.sin(angle)]) * radius[:, None])


def blobs(random: Random) -> Solid:
    """Balls melted into one body."""
    count = int(random.integers(2, 7))
    steps = random.normal(0, 0.42, (count, 3))
    centres = np.cumsum(steps, 0) if random.random() < 0.5 else steps
    return blob(centres, random.uniform(0.15, 0.45, count), household.tint(random), blend=random.uniform(0.1, 0.6))


def lathes(random: Random) -> Solid:
    """Turned bodies with a free profile."""
    count = int(random.integers(4, 10))
    height = np.sort(random.uniform(0, 1, count))
    radius = np.abs(np.cumsum(random.normal(0, 0.22, count))) + random.uniform(0.1, 0.4)
    fine = np.linspace(height[0], height[-1], 24)
    profile = np.column_stack([np.interp(fine, height, radius), fine * random.uniform(0.7, 2.5)])
    ends = np.array([[0, profile[0, 1]], [0, profile[-1, 1]]])
    return lathe(np.concatenate([ends[:1], profile, ends[1:]]), household.tint(random), oval=random.choice([1, 1, 0.6]))


def sweeps(random: Random) -> Solid:
    """Bent tubes: hooks, springs, knots, snakes."""
    t = np.linspace(0, 1, 60)
    kind = random.integers(3)
    if kind == 0:
        turns = random.uniform(1, 5) * 2 * np.pi
        path = np.column_stack([np.cos(turns * t), random.uniform(0.5, 2.5) * t, np.sin(turns * t)])
    elif kind == 1:
        knots = np.cumsum(random.normal(0, 0.6, (6, 3)), 0)
        path = np.column_stack([np.interp(t, np.linspace(0, 1, 6), knots[:, k]) for k in range(3)])
        path = np.apply_along_axis(
            lambda line: np.convolve(np.pad(line, 6, "edge"), np.ones(13) / 13, "valid"), 0, path
        )
    else:
        path = np.column_stack([np.cos(4 * t), np.sin(random.uniform(3, 8) * t), 0.6 * np.sin(5 * t)])
    radius = random.uniform(0.06, 0.25) * (1 + random.uniform(-0.8, 0.3) * t)
    return sweep(path, radius, household.tint(random))


def extrusions(random: Random) -> Solid:
    """Flat things: stars, gears, hearts, cookies, signs."""
    angle = np.linspace(0, 2 * np.pi, 72, endpoint=False)
    waves, depth = int(random.integers(2, 9)), random.uniform(0, 0.35)
    radius = 1 + depth * np.cos(waves * angle + random.uniform(0, 6)) + 0.1 * np.cos(2 * angle)
    if random.random() < 0.3:
        radius = np.where(np.sin(waves * angle) > 0, 1, 1 - depth)
    outline = np.column_stack([np.cos(angle), np.sin(angle) * random.uniform(0.5, 1)]) * radius[:, None]
    thickness = random.uniform(0.1, 0.9)
    parts = [extrusion(outline, thickness, household.tint(random))]
    if random.random() < 0.5:
        parts.append(extrusion(outline * random.uniform(0.4, 0.8), thickness * 1.2, household.tint(random)))
    return together(parts)


def letters(random: Random) -> Solid:
    """Signs made of strokes, as on a keyboard of a fantasy script."""
    thick, deep = random.uniform(0.12, 0.3), random.uniform(0.15, 0.6)
    nodes = np.array([(x, y) for x in (0, 0.7) for y in (0, 0.6, 1.2)], float)
    colour, parts = household.tint(random), []
    for _ in range(random.integers(2, 5)):
        a, b = nodes[random.choice(6, 2, replace=False)]
        length, angle = float(np.hypot(*(b - a))), float(np.arctan2(*(b - a)[::-1]))
        bar = box((length + thick, thick, deep), colour, bevel=random.choice([0, 0.5])).turned(2, angle)
        parts.append(bar.moved((*(a + b) / 2, 0)))
    if random.random() < 0.4:
        circle = np.linspace(0, random.uniform(3, 2 * np.pi), 24)
        path = np.column_stack([0.35 + 0.35 * np.cos(circle), 0.35 + 0.35 * np.sin(circle), 0 * circle])
        parts.append(sweep(path, thick / 2, colour))
    return together(parts)


def symmetric(random: Random) -> Solid:
    """Bodies whose two sides are alike, with whatever sticks out of them: what most made and grown things have in
    common."""
    long = random.uniform(0.3, 1.5, 3) * random.choice([1, 1, 2.2], 3)
    parts = [_body(random, long)]
    for _ in range(random.integers(1, 5)):
        size = random.uniform(0.15, 1.1, 3) * random.choice([0.12, 0.5, 1], 3)
        place = random.uniform(-0.45, 0.45, 3) * long
        part = _body(random, size).turned(int(random.integers(3)), random.normal(0, 0.4))
        if random.random() < 0.7:
            side = min(abs(place[0]), 0.25 * long[0]) + size[0] * random.uniform(0.1, 0.45)
            parts.append(mirrored(part.moved((side, place[1], place[2]))))
        else:
            parts.append(part.moved((0, *(0.8 * place[1:]))))
    return together(parts)


def slabs(random: Random) -> Solid:
    """Thin things: boards, cards, paddles, keys, blades, frames, flat boxes with something on them."""
    angle = np.linspace(0, 2 * np.pi, 64, endpoint=False)
    waves = sum(random.normal(0, 0.12) * np.cos(k * angle + random.uniform(0, 6)) for k in (1, 2, 3, 4))
    corners = random.uniform(2, 8)  # from an ellipse to a rectangle
    radius = (np.abs(np.cos(angle)) ** corners + np.abs(np.sin(angle)) ** corners) ** (-1 / corners) * (1 + waves)
    outline = np.column_stack([np.cos(angle) * random.uniform(0.2, 1), np.sin(angle)]) * radius[:, None]
    thick = random.uniform(0.02, 0.3)
    parts = [extrusion(outline, thick, household.tint(random))]
    for _ in range(random.integers(0, 4)):
        size = random.uniform(0.05, 0.8, 2)
        place = random.uniform(-0.4, 0.4, 2) * np.ptp(outline, axis=0)
        parts.append(_body(random, np.append(size, thick * random.uniform(0.5, 2.5))).moved((*place, thick / 2)))
    if random.random() < 0.5:
        handle = random.uniform(0.3, 1.6)
        bar = (random.uniform(0.06, 0.3), handle, thick * random.uniform(0.6, 1.5))
        end = float(outline[:, 1].max()) + handle / 2 - 0.1
        parts.append(box(bar, household.tint(random), bevel=random.choice([0, 0.5])).moved((0, end, 0)))
    tilt = turned_about(random) if random.random() < 0.3 else np.eye(3)
    whole = together(parts)
    return whole.bent(lambda points: points @ tilt.T).turned(2, random.normal(0, 0.5))


FAMILIES: dict[str, tuple[Family, float]] = {
    "primitives": (primitives, 1),
    "blobs": (blobs, 1),
    "lathes": (lathes, 1),
    "sweeps": (sweeps, 0.5),
    "extrusions": (extrusions, 0.7),
    "letters": (letters, 0.5),
    "symmetric": (symmetric, 2.5),
    "slabs": (slabs, 2),
    **household.FAMILIES,
    **living.FAMILIES,
    **outdoors.FAMILIES,
    **sculpted.FAMILIES,
}
"""Name → how to build one, and how often against the others."""

MELTED = {
    "animal": 0.5,
    "person": 0.5,
    "lizard": 0.5,
    "head": 0.5,
    "bird": 0.3,
    "symmetric": 0.2,
    "car": 0.2,
    "tool": 0.2,
}
"""Name → how many are of one skin; others have walls too thin for that."""

HELD_OUT = ("aircraft", "guitar")
"""Families that training never sees, to measure on."""


def make_shape(random: Random, family: str | None = None) -> Solid:
    """A member of that family, or of one that training may see; centred, its longest side 2."""
    if family is None:
        names = [name for name in FAMILIES if name not in HELD_OUT]
        share = np.array([FAMILIES[name][1] for name in names])
        family = str(random.choice(names, p=share / share.sum()))
    solid = FAMILIES[family][0](random)
    if random.random() < MELTED.get(family, 0):
        solid = melted(solid, random)
    if random.random() < 0.35:
        solid = solid.bent(deformation(random))
    low, high = solid.vertices.min(0), solid.vertices.max(0)
    return solid.moved(-(low + high) / 2).scaled(2 / (high - low).max())


def deformation(random: Random) -> Callable[[Points], Points]:
    """A gentle taper, twist or bend of a body of any size, or other proportions."""
    kind, amount = random.integers(4), random.uniform(-1, 1)

    def by(points: Points) -> Points:
        low, high = points.min(0), points.max(0)
        height = ((points[:, 1] - low[1]) / max(high[1] - low[1], 1e-6) - 0.5)[:, None]
        middle = (low + high) / 2 * (1, 0, 1)
        out = points - middle
        if kind == 0:
            out = out * (1 + 0.6 * amount * height * np.array([1, 0, 1]))
        elif kind == 1:
            angle = 0.8 * amount * height[:, 0]
            c, s = np.cos(angle), np.sin(angle)
            out = np.column_stack([c * out[:, 0] + s * out[:, 2], out[:, 1], c * out[:, 2] - s * out[:, 0]])
        elif kind == 2:
            out = out + 0.5 * amount * (high[1] - low[1]) * height**2 * np.array([1, 0, 0.5])
        else:
            out = out * np.exp(random_scale)
        return np.asarray(out + middle)

    random_scale = random.normal(0, 0.18, 3)
    return by


def turned_about(random: Random) -> Points:
    """A random rotation about any axis, for things that may lie any way."""
    return (
        turn(0, random.uniform(-np.pi, np.pi)) @ turn(1, random.uniform(-np.pi, np.pi)) @ turn(2, random.normal(0, 1))
    )
