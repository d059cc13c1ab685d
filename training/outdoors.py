"""Families of things outside: vehicles, buildings, shoes and hats; and two that training never sees."""

from __future__ import annotations

import numpy as np

from household import tint
from solids import Family, Random, Solid, box, cylinder, ellipsoid, extrusion, lathe, limb, mirrored, sweep, together


def car(random: Random) -> Solid:
    """Cars, vans, lorries, buses, tractors; drives towards +z."""
    paint, long, wide, high = tint(random), random.uniform(1.6, 3), random.uniform(0.7, 1.1), random.uniform(0.25, 0.6)
    wheel = random.uniform(0.18, 0.4)
    soft = random.choice([0, 0.2, 0.5])
    parts = [box((wide, high, long), paint, bevel=soft).moved((0, wheel + high / 2, 0))]
    cabin, start = random.uniform(0.3, 0.95) * long, random.uniform(-0.5, 0.5)
    tall = random.uniform(0.25, 0.8)
    roof = box((wide * 0.92, tall, cabin), tint(random), bevel=soft)
    slope = random.uniform(0, 0.35)
    roof = roof.bent(
        lambda p: p * np.column_stack([1 - slope * 0.4 * (p[:, 1] > 0), 1 + 0 * p[:, 1], 1 - slope * (p[:, 1] > 0)])
    )
    at = wheel + high + tall / 2 - 0.03
    parts.append(roof.moved((0, at, start * (long - cabin))))
    if random.random() < 0.6:
        parts.append(
            box((wide * 0.94, tall * 0.6, cabin * 0.8), (0.1, 0.12, 0.15)).moved((0, at, start * (long - cabin)))
        )
    tyre = cylinder(wheel, 0.2, (0.08, 0.08, 0.09)).turned(2, -1.57).moved((wide / 2 - 0.12, wheel, 0))
    for z in (-0.33, 0.33):
        parts.append(mirrored(tyre.moved((0, 0, z * long))))
    parts.append(mirrored(ellipsoid((0.1, 0.1, 0.05), tint(random)).moved((wide * 0.33, wheel + high * 0.6, long / 2))))
    return together(parts)


def ship(random: Random) -> Solid:
    """Boats and spaceships: a hull with things on it."""
    paint, long = tint(random), random.uniform(1.5, 2.6)
    t = np.linspace(0, 1, 14)
    hull = np.sin(np.pi * (0.1 + 0.88 * t) ** random.uniform(0.5, 1.5)) ** 0.6
    body = sweep(np.column_stack([0 * t, 0 * t, long * (t - 0.5)]), random.uniform(0.25, 0.5) * hull, paint, around=12)
    body = body.scaled((1, random.uniform(0.5, 1), 1))
    if random.random() < 0.6:  # cut flat on top
        body = body.bent(lambda p: np.column_stack([p[:, 0], np.minimum(p[:, 1], 0.08), p[:, 2]]))
    parts = [body]
    for _ in range(random.integers(1, 4)):
        size = random.uniform(0.1, 0.5, 3)
        parts.append(
            box(size, tint(random), bevel=random.choice([0, 0.5])).moved(
                (0, 0.1 + size[1] / 2, random.uniform(-0.3, 0.3) * long)
            )
        )
    if random.random() < 0.4:
        parts.append(cylinder(0.04, 1.4, tint(random)).moved((0, 0, 0.1)))
        parts.append(box((random.uniform(0.4, 1.0), 0.8, 0.04), tint(random)).moved((0, 0.9, 0.15)))
    else:
        parts.append(mirrored(limb((0.2, 0, -0.4), (0.6, 0.1, -0.8), (0.15, 0.1), tint(random))))
    return together(parts)


def building(random: Random) -> Solid:
    """Houses, towers, castles, gates, wells."""
    wall, roof = tint(random), tint(random)
    parts: list[Solid] = []
    for _ in range(random.integers(1, 4)):
        wide, deep, high = random.uniform(0.4, 1.2, 3)
        at = np.array([random.uniform(-0.6, 0.6), 0, random.uniform(-0.4, 0.4)]) if parts else np.zeros(3)
        if random.random() < 0.65:
            parts.append(box((wide, high, deep), wall).moved(at + (0, high / 2, 0)))
            top = random.uniform(0.2, 0.7)
            if random.random() < 0.7:
                gable = extrusion([(-wide * 0.58, 0), (wide * 0.58, 0), (0, top)], deep * 1.1, roof)
                parts.append(gable.moved(at + (0, high, 0)))
            else:
                parts.append(box((wide * 1.1, 0.08, deep * 1.1), roof).moved(at + (0, high, 0)))
        else:
            around = int(random.choice([6, 8, 20]))
            parts.append(
                cylinder(wide / 2, 1.4 * high, wall, top=wide * random.uniform(0.35, 0.5), around=around).moved(at)
            )
            parts.append(
                cylinder(
                    wide * 0.65, random.uniform(0.1, 0.8), roof, top=random.choice([0.02, wide * 0.6]), around=around
                ).moved(at + (0, 1.4 * high, 0))
            )
        for _ in range(random.integers(0, 4)):
            x, y = random.uniform(-0.35, 0.35) * wide, random.uniform(0.15, 0.8) * high
            parts.append(box((0.14, 0.2, 0.06), tint(random)).moved(at + (x, y, deep / 2)))
    if random.random() < 0.4:
        parts.append(box((2, 0.1, 1.6), tint(random)).moved((0, -0.03, 0)))
    return together(parts)


def clothing(random: Random) -> Solid:
    """Shoes, hats, helmets, bags."""
    kind, cloth = random.integers(3), tint(random)
    if kind == 0:  # shoe
        parts = [
            ellipsoid((0.3, 0.22, 0.95), cloth, power=(0.8, 0.8)),
            ellipsoid((0.27, random.uniform(0.3, 0.8), 0.35), cloth).moved((0, 0.3, -0.5)),
        ]
        parts.append(box((0.6, 0.12, 1.85), tint(random), bevel=0.9).moved((0, -0.2, 0)))
    elif kind == 1:  # hat
        brim = random.uniform(0.7, 1.2)
        parts = [
            lathe([(0, 0), (brim, 0), (brim, 0.06), (0.55, 0.06), (0.5, random.uniform(0.3, 0.8)), (0, 0.75)], cloth)
        ]
    else:  # bag
        size = random.uniform(0.5, 1.2, 3) * (1, 1, 0.5)
        parts = [box(size, cloth, bevel=random.uniform(0.1, 0.9)), box(size * (0.7, 0.5, 1.2), tint(random), bevel=0.4)]
        t = np.linspace(0, np.pi, 12)
        loop = np.column_stack([0.3 * size[0] * np.cos(t), size[1] * (0.48 + 0.4 * np.sin(t)), 0 * t])
        parts.append(sweep(loop, 0.05, tint(random)))
    return together(parts)


def aircraft(random: Random) -> Solid:
    """Aeroplanes and helicopters; held out."""
    paint, long = tint(random), random.uniform(1.8, 2.6)
    t = np.linspace(0, 1, 14)
    hull = np.sqrt(np.sin(np.pi * (0.06 + 0.9 * t) ** 0.8))
    path = np.column_stack([0 * t, 0.1 * (1 - t) ** 2, long * (t - 0.5)])
    parts = [sweep(path, random.uniform(0.15, 0.3) * hull, paint, around=14)]
    wing = box((random.uniform(0.8, 1.4), 0.06, random.uniform(0.2, 0.5)), tint(random)).moved((0.6, 0, 0))
    parts.append(mirrored(wing.turned(1, random.uniform(-0.1, 0.5)).turned(2, random.normal(0, 0.1))))
    parts.append(box((0.05, 0.5, 0.3), tint(random)).moved((0, 0.35, -long * 0.43)))
    parts.append(box((0.8, 0.05, 0.25), paint).moved((0, 0.15, -long * 0.43)))
    if random.random() < 0.4:
        parts.append(cylinder(0.04, 0.5, paint).moved((0, 0.1, 0)))
        parts.append(box((2.2, 0.03, 0.12), tint(random)).turned(1, random.uniform(0, 3)).moved((0, 0.6, 0)))
    elif random.random() < 0.6:
        parts.append(mirrored(cylinder(0.11, 0.4, tint(random)).turned(0, 1.57).moved((0.5, -0.12, 0))))
    return together(parts)


def guitar(random: Random) -> Solid:
    """Guitars, violins, rackets: a flat waisted body, a neck and a head; held out."""
    angle = np.linspace(0, 2 * np.pi, 64, endpoint=False)
    radius = 0.6 + random.uniform(0.05, 0.2) * np.cos(2 * angle) - 0.1 * np.sin(angle)
    outline = np.column_stack([np.sin(angle) * radius * random.uniform(0.8, 1.1), -np.cos(angle) * radius])
    deep, neck = random.uniform(0.1, 0.35), random.uniform(0.7, 1.4)
    parts = [extrusion(outline, deep, tint(random))]
    parts.append(box((0.12, neck, 0.1), tint(random)).moved((0, 0.5 + neck / 2, deep / 2)))
    parts.append(box((0.22, 0.35, 0.08), tint(random)).moved((0, 0.6 + neck, deep / 2)))
    parts.append(cylinder(0.17, 0.03, (0.1, 0.07, 0.05)).turned(0, 1.57).moved((0, 0, deep / 2)))
    return together(parts).turned(2, random.uniform(-0.6, 0.6))


FAMILIES: dict[str, tuple[Family, float]] = {
    "car": (car, 2.5),
    "ship": (ship, 0.6),
    "building": (building, 1),
    "clothing": (clothing, 0.8),
    "aircraft": (aircraft, 1),
    "guitar": (guitar, 1),
}
