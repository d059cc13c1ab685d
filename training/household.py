"""Families of things about the house: vessels, bottles, furniture, tools, food."""

from __future__ import annotations

import colorsys

import numpy as np

from solids import (
    Family,
    Points,
    Random,
    Solid,
    arc,
    box,
    cylinder,
    ellipsoid,
    extrusion,
    lathe,
    limb,
    mirrored,
    sweep,
    together,
)


def tint(random: Random, *, near: float | None = None) -> Points:
    """A random sRGB colour, greys included; `near` gives the hue."""
    hue = random.random() if near is None else (near + random.normal(0, 0.03)) % 1
    saturation = random.choice([0, random.uniform(0, 0.4), random.uniform(0.3, 0.9)], p=[0.2, 0.35, 0.45])
    return np.array(colorsys.hsv_to_rgb(hue, saturation, random.uniform(0.15, 1.0)))


def vessel(profile: Points, wall: float, colour: Points, *, floor: float, oval: float = 1.0, around: int = 32) -> Solid:
    """An open pot: the (K,2) outer profile from the bottom up, and inside it the same, a wall smaller."""
    inner = np.column_stack([np.maximum(profile[:, 0] - wall, 0.01), np.maximum(profile[:, 1], profile[0, 1] + floor)])
    ends = np.array([[0, profile[0, 1]]]), np.array([[0, profile[0, 1] + floor]])
    return lathe(np.concatenate([ends[0], profile, inner[::-1], ends[1]]), colour, oval=oval, around=around)


def _profile(random: Random, low: float, high: float, height: float, count: int = 12) -> Points:
    """From the radius `low` at the bottom to `high` at the top, with a belly or a waist."""
    t = np.linspace(0, 1, count)
    swell = random.uniform(-0.15, 0.5) * np.sin(np.pi * t ** random.uniform(0.5, 2)) * min(low, high)
    radius = low + (high - low) * t ** random.uniform(0.4, 2) + swell
    if random.random() < 0.5:  # a rounded foot
        radius = radius * np.minimum(1, np.sqrt(t / random.uniform(0.1, 0.5) + 0.15))
    return np.column_stack([np.maximum(radius, 0.05), t * height])


def _handle(random: Random, at: float, low: float, high: float, colour: Points) -> Solid:
    """A loop from the height `low` to `high`, that starts at the radius `at`, towards +x."""
    reach = random.uniform(0.25, 0.7) * (high - low)
    t = np.linspace(-np.pi / 2, np.pi / 2, 16)
    power = random.uniform(0.4, 1.0)
    out = at + reach * np.abs(np.cos(t)) ** power
    height = (low + high) / 2 + (high - low) / 2 * np.sign(np.sin(t)) * np.abs(np.sin(t)) ** power
    flat = random.uniform(0.5, 1.6)
    path = np.column_stack([out - 0.02, height, 0 * t])
    return sweep(path, random.uniform(0.035, 0.09) * (0.6 + high - low), colour, flat=flat, around=12)


def mug(random: Random) -> Solid:
    """Cups and mugs, mostly with a handle."""
    height, radius = random.uniform(0.6, 1.5), random.uniform(0.35, 0.6)
    profile = _profile(random, radius * random.uniform(0.6, 1.1), radius, height)
    colour = tint(random)
    parts = [vessel(profile, random.uniform(0.025, 0.07), colour, floor=0.05)]
    if random.random() < 0.85:
        hand = colour if random.random() < 0.7 else tint(random)
        at = float(np.interp(height / 2, profile[:, 1], profile[:, 0]))
        parts.append(
            _handle(random, at * 0.95, height * random.uniform(0.1, 0.3), height * random.uniform(0.7, 0.95), hand)
        )
    if random.random() < 0.3:
        parts.append(
            cylinder(profile[-1, 0] * 0.93, 0.02, tint(random)).moved((0, height * random.uniform(0.6, 0.95), 0))
        )
    return together(parts)


def bowl(random: Random) -> Solid:
    """Bowls, dishes, plates, tubs, pans: open and wider than high."""
    height, radius = random.uniform(0.08, 0.8), random.uniform(0.6, 1.0)
    profile = _profile(random, radius * random.uniform(0.3, 0.9), radius, height)
    if random.random() < 0.5:
        lip = random.uniform(0.03, 0.2)
        profile = np.concatenate([profile, [(radius + lip, height * 1.02), (radius + lip, height * 0.98)]])
    colour, oval = tint(random), float(random.choice([1, 1, 1, 0.7, 0.5]))
    parts = [vessel(profile, random.uniform(0.03, 0.1), colour, floor=0.04, oval=oval)]
    kind = random.random()
    if kind < 0.25:
        end = random.uniform(0.4, 1.4)
        path = [(radius * 0.97, height * 0.9, 0), (radius + end / 2, height * random.uniform(0.8, 1.2), 0)]
        path.append((radius + end, height * random.uniform(0.7, 1.5), 0))
        parts.append(sweep(path, random.uniform(0.04, 0.1), tint(random), flat=random.uniform(0.4, 1)))
    elif kind < 0.4:
        parts.append(mirrored(_handle(random, radius * 0.92, height * 0.3, height, colour)))
    elif kind < 0.55:
        fill = tint(random)
        parts.append(
            ellipsoid((radius * 0.85, height * random.uniform(0.2, 0.8), radius * 0.85 * oval), fill).moved(
                (0, height * 0.75, 0)
            )
        )
    return together(parts)


def pitcher(random: Random) -> Solid:
    """Jugs, pots, kettles, watering cans: a handle, and often a spout or a lid."""
    height, radius = random.uniform(0.8, 2.0), random.uniform(0.35, 0.6)
    profile = _profile(random, radius, radius * random.uniform(0.5, 1.1), height)
    colour = tint(random)
    parts = [vessel(profile, 0.04, colour, floor=0.05)]
    other = tint(random) if random.random() < 0.4 else colour
    at = float(np.interp(height * 0.6, profile[:, 1], profile[:, 0]))
    parts.append(
        _handle(random, at * 0.94, height * random.uniform(0.15, 0.45), height * random.uniform(0.8, 1.0), other)
    )
    kind = random.random()
    top = profile[-1, 0]
    if kind < 0.4:  # a long spout
        low = height * random.uniform(0.2, 0.6)
        foot = float(np.interp(low, profile[:, 1], profile[:, 0]))
        reach = random.uniform(0.3, 0.7)
        path = [
            (-foot * 0.9, low, 0),
            (-foot - reach * 0.6, low + 0.15, 0),
            (-foot - reach, height * random.uniform(0.8, 1.1), 0),
        ]
        parts.append(sweep(path, [0.12, 0.09, 0.06], other))
    elif kind < 0.8:  # a lip drawn out
        lip = ellipsoid((0.16, 0.1, 0.12), colour).moved((-top * 1.0, height * 0.97, 0))
        parts.append(lip)
    if random.random() < 0.45:
        lid = ellipsoid((top * 1.02, random.uniform(0.04, 0.25), top * 1.02), other).moved((0, height, 0))
        parts += [lid, ellipsoid((0.07, 0.07, 0.07), tint(random)).moved((0, height * 1.02 + 0.15, 0))]
    return together(parts)


def bottle(random: Random) -> Solid:
    """Bottles, flasks, tubes, jars, cans: round, oval or square, with a cap, pump or nozzle."""
    height, radius, oval = random.uniform(0.8, 2.2), random.uniform(0.25, 0.55), random.uniform(0.35, 1.0)
    square = random.uniform(0.25, 1.0) if random.random() < 0.5 else 1.0
    shoulder, neck = height * random.uniform(0.55, 0.95), radius * random.uniform(0.25, 0.8)
    parts = []
    if square < 1:
        body = ellipsoid((radius, shoulder / 2, radius * oval), tint(random), power=(random.uniform(0.1, 0.4), square))
        parts.append(body.moved((0, shoulder / 2, 0)))
    else:
        waist = 1 - random.uniform(-0.15, 0.25) * np.sin(np.linspace(0, np.pi, 8))
        wall = np.column_stack([radius * waist, np.linspace(0.04, shoulder, 8)])
        parts.append(lathe([(0, 0), (radius * 0.92, 0), *wall, (neck, height), (0, height)], tint(random), oval=oval))
    neck_height = height - shoulder + 0.02
    parts.append(
        cylinder(neck, neck_height, tint(random), top=neck * random.uniform(0.6, 1)).moved((0, shoulder - 0.02, 0))
    )
    cap = tint(random)
    kind = random.random()
    if kind < 0.6:
        parts.append(
            cylinder(
                neck * random.uniform(0.9, 1.5), random.uniform(0.08, 0.5), cap, top=neck * random.uniform(0.5, 1.2)
            ).moved((0, height * 0.98, 0))
        )
    elif kind < 0.8:
        parts += [
            cylinder(neck * 0.35, 0.25, cap).moved((0, height, 0)),
            box((0.4, 0.1, 0.14), cap, bevel=0.3).moved((-0.1, height + 0.25, 0)),
        ]
    return together(parts)


def package(random: Random) -> Solid:
    """Boxes, books, cushions, soap, phones, remotes: a block with rounded edges, and things on it."""
    size = np.sort(random.uniform(0.15, 1.2, 3))[::-1] * random.choice([1, 1, 1.4])
    size = size[random.permutation(3)]
    kind = random.random()
    if kind < 0.35:
        body = ellipsoid(size / 2, tint(random), power=(random.uniform(0.15, 0.8), random.uniform(0.15, 0.8)))
    else:
        body = box(size, tint(random), bevel=random.choice([0, 0, 0.2, 0.6, 0.95]))
    parts, face = [body], int(np.argmin(size))
    if random.random() < 0.5:  # buttons on a large face
        for _ in range(random.integers(1, 12)):
            place = random.uniform(-0.4, 0.4, 3) * size
            place[face] = size[face] / 2
            small = size * random.uniform(0.05, 0.25)
            small[face] = size[face] * random.uniform(0.05, 0.3)
            parts.append(box(small, tint(random), bevel=random.choice([0, 0.5])).moved(place))
    return together(parts)


def chair(random: Random) -> Solid:
    """Chairs, stools, armchairs, benches."""
    wide, deep, seat = random.uniform(0.6, 1.6), random.uniform(0.6, 1.0), random.uniform(0.5, 1.0)
    leg, thick, colour = random.uniform(0.04, 0.12), random.uniform(0.05, 0.3), tint(random)
    cover = tint(random) if random.random() < 0.5 else colour
    parts = [box((wide, thick, deep), cover, bevel=random.choice([0, 0.3, 0.8])).moved((0, seat, 0))]
    splay = random.uniform(0, 0.15)
    for x in (-1, 1):
        for z in (-1, 1):
            top = np.array([x * (wide / 2 - leg), seat, z * (deep / 2 - leg)])
            foot = top * (1 + splay, 0, 1 + splay)
            parts.append(sweep([foot, (foot + top) / 2, top], leg / 2 * 1.3, colour, around=int(random.choice([4, 8]))))
    if random.random() < 0.85:
        high, lean = random.uniform(0.5, 1.2), random.uniform(0, 0.2)
        back = box((wide, high, thick * random.uniform(0.5, 1)), cover, bevel=random.choice([0, 0.3]))
        if random.random() < 0.35:
            slats = [box((wide, high * 0.15, 0.06), colour).moved((0, high * y, 0)) for y in (-0.42, -0.1, 0.2, 0.42)]
            posts = mirrored(box((0.08, high, 0.08), colour).moved((wide / 2 - 0.04, 0, 0)))
            back = together([*slats, posts])
        parts.append(back.turned(0, -lean).moved((0, seat + high / 2, -deep / 2)))
    if random.random() < 0.4:
        arm = box((0.1 + thick / 3, 0.35, deep), cover, bevel=random.choice([0, 0.5])).moved((wide / 2, seat + 0.2, 0))
        parts.append(mirrored(arm))
    return together(parts)


def table(random: Random) -> Solid:
    """Tables, desks, night stands, shelves, cupboards, beds."""
    wide, deep, high = random.uniform(0.8, 2), random.uniform(0.5, 1.2), random.uniform(0.4, 1.5)
    colour, thick = tint(random), random.uniform(0.05, 0.15)
    kind = random.random()
    if kind < 0.45:
        leg = random.uniform(0.05, 0.14)
        top = box((wide, thick, deep), tint(random)) if random.random() < 0.7 else cylinder(deep, thick, tint(random))
        parts = [top.moved((0, high, 0))]
        if random.random() < 0.25:
            parts += [cylinder(leg, high, colour), cylinder(deep * 0.5, 0.06, colour)]
        else:
            at = np.array([wide / 2 - leg, 0, deep / 2 - leg]) * (1 if random.random() < 0.8 else 0.7)
            parts.append(
                mirrored(
                    mirrored(cylinder(leg / 2 * 1.2, high, colour, around=int(random.choice([4, 10]))).moved(at)), 2
                )
            )
    elif kind < 0.8:
        parts = [box((wide, high, deep), colour).moved((0, high / 2, 0))]
        rows, columns = int(random.integers(1, 5)), int(random.integers(1, 4))
        for row in range(rows):
            for column in range(columns):
                x, y = wide * ((column + 0.5) / columns - 0.5), high * (row + 0.5) / rows
                front = box((wide / columns * 0.9, high / rows * 0.85, 0.06), tint(random)).moved((x, y, deep / 2))
                parts += [front, box((0.12, 0.03, 0.06), tint(random)).moved((x, y, deep / 2 + 0.05))]
    else:
        soft, mattress = tint(random), random.uniform(0.15, 0.3)
        parts = [box((wide, 0.2, 2 * deep), colour).moved((0, 0.2, 0))]
        parts.append(box((wide * 0.96, mattress, 2 * deep * 0.96), soft, bevel=0.5).moved((0, 0.3 + mattress / 2, 0)))
        parts.append(box((wide, high * 0.8, 0.1), colour).moved((0, high * 0.4, -deep)))
        parts.append(
            mirrored(
                box((wide * 0.36, 0.16, 0.4), tint(random), bevel=0.9).moved(
                    (wide * 0.23, 0.42 + mattress, -deep * 0.7)
                )
            )
        )
    return together(parts)


def lamp(random: Random) -> Solid:
    """Lamps, candlesticks, trophies: a foot, a stem, and something on it."""
    high, colour = random.uniform(0.6, 1.8), tint(random)
    foot = cylinder(random.uniform(0.2, 0.5), random.uniform(0.04, 0.2), colour, top=random.uniform(0.05, 0.4))
    stem = lathe(np.concatenate([[(0, 0)], _profile(random, 0.06, 0.06, high), [(0, high)]]), colour)
    wide = random.uniform(0.25, 0.7)
    head = cylinder(wide, random.uniform(0.3, 0.7), tint(random), top=wide * random.uniform(0.3, 1.2)).moved(
        (0, high, 0)
    )
    if random.random() < 0.3:
        head = ellipsoid((wide, wide, wide), tint(random)).moved((0, high + wide * 0.8, 0))
    return together([foot, stem, head])


def tool(random: Random) -> Solid:
    """Hammers, drills, screwdrivers, spoons, brushes, torches, keys: a grip and a head."""
    long, grip = random.uniform(1.0, 2.2), random.uniform(0.07, 0.18)
    t = np.linspace(0, 1, 12)
    swell = 1 + random.uniform(-0.2, 0.3) * np.sin(np.pi * t * random.integers(1, 3))
    path = np.column_stack([random.uniform(-0.1, 0.1) * np.sin(np.pi * t), long * t, 0 * t])
    parts = [sweep(path, grip * swell, tint(random), flat=random.uniform(0.5, 1.3))]
    kind, metal = random.integers(6), tint(random)
    if kind == 0:  # hammer
        head = random.uniform(0.12, 0.25)
        parts.append(
            lathe([(0, -0.4), (head, -0.4), (head * 0.7, -0.1), (head, 0.1), (head * 0.5, 0.5), (0, 0.6)], metal)
            .turned(2, 1.57)
            .moved((0, long, 0))
        )
    elif kind == 1:  # drill
        body = random.uniform(0.17, 0.3)
        parts = [part.turned(2, random.uniform(-0.25, 0.1)) for part in parts]
        barrel = lathe(
            [(0, -0.5), (body, -0.45), (body, 0.4), (body * 0.7, 0.55), (body * 0.35, 0.8), (0, 0.95)], metal
        )
        parts.append(barrel.turned(2, -1.57).moved((0.1, long, 0)))
        parts.append(box((0.6, 0.25, 0.4), tint(random), bevel=0.4).moved((0.05, 0, 0)))
    elif kind == 2:  # screwdriver, knife
        parts.append(box((random.uniform(0.03, 0.3), random.uniform(0.6, 1.4), 0.04), metal).moved((0, long + 0.4, 0)))
    elif kind == 3:  # spoon, ladle
        parts.append(
            ellipsoid((random.uniform(0.15, 0.4), random.uniform(0.2, 0.5), 0.08), metal).moved((0, long + 0.25, 0))
        )
    elif kind == 4:  # brush, torch
        parts.append(cylinder(grip, random.uniform(0.3, 0.6), metal, top=random.uniform(0.2, 0.5)).moved((0, long, 0)))
    else:  # spanner, axe
        parts.append(
            extrusion(
                [(-0.35, -0.2), (0.2, -0.1), (0.45, -0.3), (0.45, 0.3), (0.2, 0.12), (-0.35, 0.15)], 0.12, metal
            ).moved((0, long, 0))
        )
    solid = together(parts)
    return solid.turned(2, random.choice([0, 0, 1.57, -1.57, 0.7, 3.14])).turned(0, random.choice([0, 0, 0.8, 1.4]))


def food(random: Random) -> Solid:
    """Fruit, cakes, burgers, bananas, ice cream, mushrooms."""
    kind, skin = random.integers(6), tint(random)
    if kind == 0:  # fruit
        radius = random.uniform(0.7, 1.1, 3) * 0.6
        fruit = ellipsoid(radius, skin)
        fruit = fruit.bent(
            lambda p: (
                p * (1 - 0.15 * p[:, 1:2])
                - np.array([0, 0.15, 0]) * np.exp(-8 * (p[:, :1] ** 2 + p[:, 2:] ** 2)) * np.sign(p[:, 1:2])
            )
        )
        return together([fruit, limb((0, 0.4, 0), (0.08, 0.8, 0), (0.04, 0.03), tint(random))])
    if kind == 1:  # layers
        parts, height = [], 0.0
        for _ in range(random.integers(2, 7)):
            thick, wide = random.uniform(0.06, 0.3), random.uniform(0.7, 0.95)
            power = (random.uniform(0.3, 1), 1.0)
            parts.append(ellipsoid((wide, thick, wide), tint(random), power=power).moved((0, height + thick, 0)))
            height += 1.5 * thick
        return together(parts)
    if kind == 2:  # banana, sausage, croissant
        path = arc(1, (np.pi * 0.1, np.pi * random.uniform(0.5, 0.95)), squeeze=random.uniform(0.7, 1.3))
        return sweep(path, random.uniform(0.12, 0.3) * np.sqrt(np.sin(np.linspace(0.15, np.pi - 0.15, 14))), skin)
    if kind == 3:  # ice cream
        cone = cylinder(0.08, 1.0, tint(random, near=0.09), top=0.35)
        balls = [
            ellipsoid((0.38, 0.36, 0.38), tint(random)).moved(
                (random.normal(0, 0.1), 1.1 + 0.4 * k, random.normal(0, 0.1))
            )
            for k in range(random.integers(1, 4))
        ]
        return together([cone, *balls])
    if kind == 4:  # mushroom
        return together(
            [
                lathe([(0, 0), (0.3, 0), (0.18, 0.5), (0.2, 0.8), (0, 0.8)], tint(random)),
                ellipsoid((0.7, random.uniform(0.2, 0.6), 0.7), skin).moved((0, 0.8, 0)),
            ]
        )
    angle = random.uniform(0.5, 2)  # a slice of cake
    slice_ = np.concatenate([[(0.02, 0)], arc(1, (-angle / 2, angle / 2), 9)[:, :2]])
    return extrusion(slice_ - np.array([0.3, 0]), random.uniform(0.2, 0.7), skin).turned(0, -1.57)


FAMILIES: dict[str, tuple[Family, float]] = {
    "mug": (mug, 2),
    "bowl": (bowl, 2),
    "pitcher": (pitcher, 2),
    "bottle": (bottle, 2.5),
    "package": (package, 2),
    "chair": (chair, 1),
    "table": (table, 1),
    "lamp": (lamp, 0.7),
    "tool": (tool, 2.5),
    "food": (food, 1),
}
