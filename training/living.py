"""Families of living things: animals, people, plants."""

from __future__ import annotations

import numpy as np

from household import tint
from solids import Family, Random, Solid, blob, box, cylinder, ellipsoid, limb, mirrored, sweep, together


def animal(random: Random) -> Solid:
    """Four legs, a trunk, a neck, a head with ears or horns, a tail; looks towards +z."""
    skin, long, thick = tint(random), random.uniform(0.7, 1.8), random.uniform(0.2, 0.5)
    leg, stout = random.uniform(0.15, 1.0), random.uniform(0.05, 0.16)
    spine = leg + thick * 0.8
    sizes = thick * np.array([random.uniform(0.8, 1.1), random.uniform(0.7, 1.1), random.uniform(0.8, 1.2)])
    places = np.column_stack([np.zeros(3), spine + random.normal(0, 0.04, 3), long * np.array([-0.45, 0, 0.45])])
    if random.random() < 0.5:
        trunk = blob(places, sizes, skin, blend=0.35, size=22)
    else:
        path = np.concatenate([places[:1] - (0, 0, sizes[0]), places, places[2:] + (0, 0, sizes[2])])
        trunk = sweep(path, np.array([0.3, 1, 1, 1, 0.3]) * np.array([*sizes[:1], *sizes, *sizes[2:]]), skin, around=14)
    parts = [trunk]
    for z in (-0.42, 0.42):
        hip = np.array([thick * random.uniform(0.4, 0.8), spine - thick * 0.2, long * z])
        for side in (-1, 1):
            foot = hip * (side, 0, 1) + (0, 0, random.normal(0, 0.12))
            parts.append(limb(hip * (side, 1, 1), foot, (stout * 1.5, stout), skin, bow=(0, 0, random.normal(0, 0.08))))
    reach = random.uniform(0.15, 0.9)
    neck = places[2] + (0, thick * 0.3, sizes[2] * 0.6)
    head = neck + reach * np.array([random.normal(0, 0.15), random.uniform(0, 1), random.uniform(0.3, 0.9)])
    skull = random.uniform(0.15, 0.38)
    parts.append(limb(places[2], head, (thick * 0.8, skull * 0.7), skin))
    face = [ellipsoid((skull, skull * random.uniform(0.8, 1.1), skull * random.uniform(0.9, 1.4)), skin)]
    snout = random.uniform(0.1, 1.2) * skull
    face.append(ellipsoid((skull * 0.55, skull * 0.45, snout), tint(random)).moved((0, -skull * 0.25, skull * 0.9)))
    ear = random.uniform(0.2, 0.9) * skull
    ears = ellipsoid((ear * 0.5, ear, ear * 0.25), skin).turned(2, random.uniform(-1.5, 0.2))
    face.append(mirrored(ears.moved((skull * 0.7, skull * 0.9, -0.1 * skull))))
    face.append(
        mirrored(
            ellipsoid(np.full(3, skull * 0.13), (0.05, 0.05, 0.05)).moved((skull * 0.5, skull * 0.25, skull * 0.8))
        )
    )
    if random.random() < 0.35:
        path = skull * np.array([[0.4, 0.8, 0], [0.9, 1.3, 0], [0.9, 2.0, 0.3]])
        horn = sweep(path, skull * np.array([0.2, 0.14, 0.04]), tint(random), around=8)
        face.append(mirrored(horn))
    parts.append(together(face).turned(1, random.normal(0, 0.4)).turned(0, random.uniform(-0.2, 0.5)).moved(head))
    if random.random() < 0.8:
        end = random.uniform(0.2, 1.0)
        root = places[0] - (0, 0, sizes[0] * 0.8)
        tip = root + end * np.array([random.normal(0, 0.3), random.uniform(-0.8, 0.8), -random.uniform(0.3, 1)])
        parts.append(limb(root, tip, (random.uniform(0.04, 0.15), 0.03), skin, bow=random.normal(0, 0.15, 3)))
    return together(parts)


def lizard(random: Random) -> Solid:
    """Long low animals, snakes, fish, whales: a body along z with a changing radius, legs or fins."""
    skin, t = tint(random), np.linspace(0, 1, 26)
    body = np.sin(np.pi * t ** random.uniform(0.5, 1.4)) ** random.uniform(0.5, 1.3) + 0.06
    path = np.column_stack([random.uniform(0, 0.25) * np.sin(random.uniform(2, 9) * t), 0.1 * t, 3 * (t - 0.5)])
    thick = random.uniform(0.12, 0.5)
    parts = [sweep(path, thick * body, skin, flat=random.uniform(0.6, 1.6), around=14)]
    kind = random.random()
    if kind < 0.5:
        for z in (-0.5, 0.45):
            parts.append(
                mirrored(
                    limb(
                        (thick * 0.6, 0, z), (thick + 0.3, -thick - 0.1, z + random.normal(0, 0.15)), (0.1, 0.06), skin
                    )
                )
            )
    else:
        fin = ellipsoid((0.05, random.uniform(0.2, 0.6), 0.25), tint(random))
        parts.append(fin.turned(0, -0.5).moved((0, thick * 0.8, 0)))
        parts.append(fin.scaled((1, 1.2, 0.8)).moved((0, 0, -1.5)))
        parts.append(mirrored(fin.turned(2, 1.2).moved((thick, 0, 0.5))))
    parts.append(mirrored(ellipsoid(np.full(3, 0.06), (0.05, 0.05, 0.05)).moved((thick * 0.4, thick * 0.4, 1.2))))
    return together(parts)


def person(random: Random) -> Solid:
    """People, dolls, robots, monsters: two legs, two arms, a head, in a pose."""
    skin = tint(random, near=0.07) if random.random() < 0.5 else tint(random)
    shirt = tint(random) if random.random() < 0.7 else skin
    trousers = tint(random) if random.random() < 0.7 else skin
    square = random.random() < 0.2
    leg, trunk = random.uniform(0.3, 1.1), random.uniform(0.5, 1.0)
    chest, waist = random.uniform(0.2, 0.5), random.uniform(0.18, 0.5)
    deep = random.uniform(0.5, 0.9)
    hip = leg + 0.05
    if square:
        parts = [box((2 * chest, trunk, 2 * chest * deep), shirt, bevel=0.2).moved((0, hip + trunk / 2, 0))]
    else:
        at = np.array([[0, hip, 0], [0, hip + trunk * 0.5, waist * random.uniform(0, 0.4)], [0, hip + trunk, 0]])
        radii = np.array([waist * 0.9, waist, chest])
        ends = np.concatenate([at[:1] - (0, waist * 0.6, 0), at, at[2:] + (0, chest * 0.45, 0)])
        parts = [sweep(ends, np.array([radii[0] * 0.5, *radii, chest * 0.45]), shirt, around=16).scaled((1, 1, deep))]
    thick = random.uniform(0.07, 0.2)
    for side in (-1, 1):
        top = np.array([side * max(waist * 0.5, thick), hip, 0])
        foot = np.array([side * (max(waist * 0.5, thick) + random.uniform(-0.05, 0.25)), 0.05, random.normal(0, 0.12)])
        parts.append(limb(top, foot, (thick * 1.25, thick * 0.85), trousers, bow=(0, 0, random.uniform(0, 0.1))))
        parts.append(ellipsoid((thick, thick * 0.7, thick * 1.8), tint(random)).moved(foot + (0, 0, thick * 0.7)))
        shoulder = np.array([side * chest * 0.95, hip + trunk * 0.92, 0])
        angle, forward, arm = random.uniform(0.1, 1.7), random.normal(0, 0.5), random.uniform(0.4, 0.9)
        hand = shoulder + arm * np.array([side * np.sin(angle), -np.cos(angle), forward])
        bow = np.array([side * 0.08, -0.05, -0.1]) * random.uniform(-1, 1.5)
        parts.append(
            limb(shoulder, hand, (thick * 0.95, thick * 0.6), shirt if random.random() < 0.6 else skin, bow=bow)
        )
        parts.append(ellipsoid(thick * random.uniform(0.7, 1.1, 3), skin).moved(hand))
    head = random.uniform(0.16, 0.5)
    parts.append(cylinder(head * 0.4, head + chest * 0.4, skin).moved((0, hip + trunk, 0)))
    face = [ellipsoid(head * random.uniform(0.85, 1.2, 3), skin, power=(0.4, 0.4) if square else (1, 1))]
    face.append(ellipsoid(head * np.array([0.15, 0.2, 0.25]), skin).moved((0, -0.05, head)))
    face.append(
        mirrored(ellipsoid(np.full(3, head * 0.14), (0.1, 0.1, 0.1)).moved((head * 0.35, head * 0.2, head * 0.85)))
    )
    if random.random() < 0.6:
        hair = ellipsoid(head * np.array([1.08, 0.9, 1.08]), tint(random)).moved((0, head * 0.35, -head * 0.2))
        face.append(hair)
    if random.random() < 0.3:
        face.append(cylinder(head * 1.4, 0.06, tint(random)).moved((0, head * 0.6, 0)))
    parts.append(together(face).turned(1, random.normal(0, 0.3)).moved((0, hip + trunk + chest * 0.4 + head, 0)))
    if random.random() < 0.2:
        skirt = cylinder(waist * random.uniform(1.3, 2), leg * 0.7, tint(random), top=waist * 0.9).scaled((1, 1, deep))
        parts.append(skirt.moved((0, leg * 0.4, 0)))
    return together(parts)


def head(random: Random) -> Solid:
    """Heads and masks: a skull with brows, eyes, ears, muzzle, chin."""
    skin = tint(random)
    size = random.uniform(0.75, 1.1, 3)
    parts = [ellipsoid(size, skin, power=(random.uniform(0.7, 1.1), random.uniform(0.7, 1.1)))]
    muzzle = random.uniform(0.2, 0.7, 3)
    parts.append(ellipsoid(muzzle, skin if random.random() < 0.6 else tint(random)).moved((0, -0.35, size[2] * 0.8)))
    eye = random.uniform(0.1, 0.25)
    parts.append(mirrored(ellipsoid((eye, eye, eye), tint(random)).moved((0.35, 0.15, size[2] * 0.85))))
    parts.append(
        mirrored(ellipsoid((0.3, 0.1, 0.15), skin).turned(2, random.normal(0, 0.3)).moved((0.35, 0.4, size[2] * 0.8)))
    )
    ear = ellipsoid((random.uniform(0.1, 0.45), random.uniform(0.2, 0.7), 0.12), skin).turned(2, random.normal(0, 0.6))
    parts.append(mirrored(ear.moved((size[0] * 1.1, random.uniform(0, 0.7), 0))))
    if random.random() < 0.5:
        parts.append(cylinder(0.4, 0.8, skin).moved((0, -1.5, 0)))
    return together(parts)


def bird(random: Random) -> Solid:
    """Birds and insects: a body, a head with a beak, wings, thin legs, a tail."""
    skin, fat = tint(random), random.uniform(0.3, 0.6)
    parts = [
        ellipsoid((fat, fat * random.uniform(0.8, 1.4), random.uniform(0.6, 1.0)), skin).turned(
            0, random.uniform(-0.9, 0.1)
        )
    ]
    skull = random.uniform(0.2, 0.4)
    at = np.array([0, fat + skull * random.uniform(0.2, 1.2), random.uniform(0.3, 0.7)])
    parts += [limb((0, 0, 0.2), at, (fat * 0.8, skull * 0.7), skin), ellipsoid((skull,) * 3, skin).moved(at)]
    beak = cylinder(skull * 0.4, random.uniform(0.15, 0.6), tint(random), top=0.01).turned(0, 1.57)
    parts.append(beak.moved(at + (0, 0, skull * 0.8)))
    wing = ellipsoid((random.uniform(0.2, 1.0), 0.07, random.uniform(0.25, 0.55)), tint(random))
    parts.append(mirrored(wing.turned(2, random.uniform(-1.4, 0.8)).moved((fat * random.uniform(0.8, 1.4), 0.1, -0.1))))
    parts.append(ellipsoid((0.25, 0.06, 0.4), skin).turned(0, random.uniform(-0.5, 0.6)).moved((0, 0, -0.9)))
    leg = random.uniform(0.5, 1.2)
    parts.append(mirrored(cylinder(0.05, leg, tint(random)).moved((0.18, -0.5 * fat - leg, 0))))
    return together(parts)


def plant(random: Random) -> Solid:
    """Trees, bushes, flowers, cacti, potted plants."""
    green, trunk = tint(random, near=0.3), tint(random, near=0.07)
    high, kind = random.uniform(0.5, 1.5), random.integers(4)
    parts = [limb((0, 0, 0), (random.normal(0, 0.1), high, 0), (random.uniform(0.06, 0.2), 0.05), trunk)]
    if kind == 0:  # round crowns
        for _ in range(random.integers(1, 6)):
            at = np.array([random.normal(0, 0.3), high + random.uniform(-0.1, 0.6), random.normal(0, 0.3)])
            detail = (6, 7) if random.random() < 0.4 else (10, 16)
            parts.append(ellipsoid(random.uniform(0.25, 0.65, 3), green, detail=detail).moved(at))
    elif kind == 1:  # fir
        for level in range(random.integers(2, 5)):
            wide = 0.75 - 0.13 * level
            parts.append(
                cylinder(wide, 0.7, green, top=0.05, around=int(random.choice([6, 16]))).moved(
                    (0, high * 0.4 + 0.42 * level, 0)
                )
            )
    elif kind == 2:  # leaves
        for angle in np.linspace(0, 2 * np.pi, int(random.integers(4, 10)), endpoint=False):
            leaf = ellipsoid((random.uniform(0.3, 0.8), 0.03, random.uniform(0.08, 0.25)), green).moved((0.5, 0, 0))
            parts.append(
                leaf.turned(2, random.uniform(-0.4, 1.1)).turned(1, angle).moved((0, high * random.uniform(0.6, 1), 0))
            )
    else:  # cactus, flower
        parts.append(ellipsoid((0.25, high * 0.6, 0.25), green).moved((0, high * 0.6, 0)))
        parts.append(mirrored(limb((0.1, high * 0.5, 0), (0.55, high, 0), (0.12, 0.1), green, bow=(0.1, -0.2, 0))))
        parts.append(ellipsoid((0.3, 0.15, 0.3), tint(random)).moved((0, high * 1.2, 0)))
    if random.random() < 0.4:
        parts.append(
            cylinder(random.uniform(0.2, 0.35), 0.5, tint(random), top=random.uniform(0.3, 0.5)).moved((0, -0.3, 0))
        )
    return together(parts)


FAMILIES: dict[str, tuple[Family, float]] = {
    "animal": (animal, 5),
    "lizard": (lizard, 1.5),
    "person": (person, 4),
    "head": (head, 1),
    "bird": (bird, 0.7),
    "plant": (plant, 0.8),
}
