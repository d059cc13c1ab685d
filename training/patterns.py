"""What may be printed on a surface, so that print is not taken for relief; and drawings, which have no depth at all."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from solids import Points, Random, turn

_SHEET = 128
_GLYPHS = "ABEKMRSTXZ0235689&%"


def printed(albedo: Points, places: Points, random: Random) -> Points:
    """(N,3) colours with a print over them, by where the (N,3) places lie on the object."""
    if random.random() < 0.55:
        return albedo
    low, high = places.min(0), places.max(0)
    place = (places - (low + high) / 2) / max(float((high - low).max()), 1e-6) * 2
    if random.random() < 0.4:  # wrapped around
        u, v = np.arctan2(place[:, 0], place[:, 2]) / np.pi, place[:, 1]
    else:
        u, v = (place @ turn(0, random.uniform(-3, 3)) @ turn(1, random.uniform(-3, 3)))[:, :2].T
    sheet, cover = _sheet(random)
    repeat = random.choice([0.5, 0.5, 1, 2])
    column = ((u * repeat + 0.5 * repeat) * _SHEET).astype(int) % _SHEET
    row = ((v * repeat + 0.5 * repeat) * _SHEET).astype(int) % _SHEET
    strength = cover[row, column][:, None] * random.uniform(0.3, 1)
    return np.asarray(albedo * (1 - strength) + sheet[row, column] * strength)


def sheet(random: Random) -> NDArray[np.uint8]:
    """(T,T,4) the colours and the cover of a print."""
    colours, cover = _sheet(random)
    return np.rint(255 * np.clip(np.dstack([colours, cover]), 0, 1)).astype(np.uint8)


def _sheet(random: Random) -> tuple[Points, Points]:
    """(T,T,3) colours and (T,T) cover of a print: stripes, chequers, clouds, dots, labels with text, cracks."""
    cover = np.zeros((_SHEET, _SHEET), np.uint8)
    sheet = np.empty((_SHEET, _SHEET, 3))
    sheet[:] = random.random(3)
    y, x = np.mgrid[0:_SHEET, 0:_SHEET]
    kind = random.integers(6)
    if kind == 0:
        period, angle = random.uniform(8, 64), random.choice([0, np.pi / 2, random.uniform(0, 3)])
        cover[:] = 255 * (
            np.sin((x * np.cos(angle) + y * np.sin(angle)) * 2 * np.pi / period) > random.uniform(-0.7, 0.7)
        )
    elif kind == 1:
        cell = int(random.choice([8, 16, 32]))
        cover[:] = 255 * ((x // cell + y // cell) % 2)
    elif kind == 2:  # soft clouds of another colour
        small = random.random((int(random.integers(3, 9)),) * 2).astype(np.float32)
        cloud = cv2.resize(small, (_SHEET, _SHEET), interpolation=cv2.INTER_CUBIC)
        cover[:] = 255 * np.clip(cloud, 0, 1)
    elif kind == 3:
        for _ in range(random.integers(3, 40)):
            centre = random.integers(0, _SHEET, 2).tolist()
            cv2.circle(cover, centre, int(random.integers(2, 14)), 255, -1)
    elif kind == 4:  # a label
        for _ in range(random.integers(1, 5)):
            one, two = random.integers(0, _SHEET, 2), random.integers(8, 70, 2)
            colour = random.random(3)
            area = np.s_[one[1] : one[1] + two[1], one[0] : one[0] + two[0]]
            cover[area], sheet[area] = 255, colour
        for _ in range(random.integers(1, 9)):
            text = "".join(random.choice(list(_GLYPHS), random.integers(2, 9)))
            ink = np.zeros_like(cover)
            spot = random.integers(0, _SHEET, 2).tolist()
            cv2.putText(
                ink, text, spot, cv2.FONT_HERSHEY_SIMPLEX, random.uniform(0.3, 1.2), 255, int(random.integers(1, 4))
            )
            sheet[ink > 0], cover[ink > 0] = random.random(3) * 0.5, 255
    else:  # cracks and scribbles
        for _ in range(random.integers(1, 6)):
            line = np.cumsum(random.normal(0, 9, (14, 2)), 0) + random.integers(0, _SHEET, 2)
            cv2.polylines(cover, [line.astype(np.int32)], False, 255, int(random.integers(1, 4)))
    return sheet, cover / 255.0


def drawing(random: Random, size: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """(S,S,3) colours and (S,S) mask of an icon or logo: shapes of one colour or from one to another, letters, lines;
    or of a cartoon. Its box is centred at 85 %."""
    big = 4 * size
    mask, colours = np.zeros((big, big), np.uint8), np.zeros((big, big, 3), np.uint8)
    if random.random() < 0.3:
        _cartoon(mask, colours, random)
        return _fitted(mask, colours, size)
    for number in range(random.integers(1, 7)):
        stroke = np.zeros_like(mask)
        centre, reach = random.uniform(0.3, 0.7, 2) * big, random.uniform(0.08, 0.3) * big
        _draw(stroke, int(random.integers(5)), centre, float(reach), random)
        new = stroke > 0
        if number and random.random() < 0.2:
            mask[new] = 0
        else:
            mask[new], colours[new] = 255, _tint(new, random)[new]
            if random.random() < 0.3:  # an outline
                edge = cv2.morphologyEx(stroke, cv2.MORPH_GRADIENT, np.ones((9, 9), np.uint8)) > 0
                mask[edge], colours[edge] = 255, random.integers(0, 80)
    if min(mask.any(0).sum(), mask.any(1).sum()) < 8:
        return drawing(random, size)
    return _fitted(mask, colours, size)


def _fitted(
    mask: NDArray[np.uint8], colours: NDArray[np.uint8], size: int
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    centre = np.array([columns[0] + columns[-1], rows[0] + rows[-1]]) / 2
    scale = 0.85 * size / max(np.ptp(rows), np.ptp(columns))
    place = np.array([[scale, 0, size / 2 - scale * centre[0]], [0, scale, size / 2 - scale * centre[1]]])
    scaled = [cv2.warpAffine(image, place, (size, size), flags=cv2.INTER_AREA) for image in (colours, mask)]
    return np.asarray(scaled[0]), np.asarray(scaled[1])


def _cartoon(mask: NDArray[np.uint8], colours: NDArray[np.uint8], random: Random) -> None:
    """A face, often with ears and a body, seen from the front: ovals of a few flat colours, most of them in ink."""
    big = len(mask)
    ink, black = int(random.integers(2, 11)) * (random.random() < 0.8), random.integers(0, 60)
    skin, cloth, white = *random.integers(40, 256, (2, 3)), np.full(3, random.integers(200, 256))
    head = random.uniform(0.13, 0.26, 2) * big
    middle = np.array([0.5, random.uniform(0.36, 0.5)]) * big

    def oval(at: tuple[float, float], half: tuple[float, float], colour: NDArray[np.generic], *, pair: bool) -> None:
        """Filled, at a place in units of the head's half sides; `pair`: on the other side as well."""
        for side in (1, -1) if pair else (1,):
            spot = (middle + head * (side * at[0], at[1])).astype(int).tolist()
            sides = np.maximum(head * half, 2).astype(int).tolist()
            lean = side * random.uniform(-20, 20) if pair else 0
            for thick, tint in ((-1, colour), *(((ink, np.full(3, black)),) if ink else ())):
                cv2.ellipse(colours, spot, sides, lean, 0, 360, tint.tolist(), int(thick), cv2.LINE_AA)
                cv2.ellipse(mask, spot, sides, lean, 0, 360, 255, int(thick))

    if random.random() < 0.5:
        body = random.uniform(0.4, 1.1), random.uniform(0.6, 1.3)
        for place, half in (((0.45, 1 + 1.6 * body[1]), (0.3, 0.7)), ((body[0], 1.5), (0.22, 0.8))):
            oval(place, half, random.choice([skin, cloth]), pair=True)
        oval((0, 0.7 + body[1]), body, cloth, pair=False)
    if random.random() < 0.6:
        ear = random.uniform(0.15, 0.5, 2)
        oval((random.uniform(0.5, 1), random.uniform(-1.1, -0.2)), (ear[0], ear[1]), skin, pair=True)
    oval((0, 0), (1, 1), skin, pair=False)
    eye, place = random.uniform(0.08, 0.28, 2), (random.uniform(0.25, 0.5), random.uniform(-0.4, 0.1))
    if random.random() < 0.7:
        oval(place, (eye[0], eye[1]), white, pair=True)
        eye = eye * random.uniform(0.3, 0.7)
    oval(place, (eye[0], eye[1]), np.full(3, black), pair=True)
    if random.random() < 0.5:
        oval((0, 0.3), (random.uniform(0.1, 0.4), random.uniform(0.08, 0.25)), random.integers(0, 256, 3), pair=False)
    mouth = (middle + head * (0, random.uniform(0.2, 0.4))).astype(int).tolist()
    sides = (head * random.uniform(0.2, 0.5, 2)).astype(int).tolist()
    cv2.ellipse(colours, mouth, sides, 0, 20, 160, [int(black)] * 3, max(ink, 3), cv2.LINE_AA)


def _tint(shape: NDArray[np.bool_], random: Random) -> NDArray[np.uint8]:
    """(B,B,3) one colour, or at times a gradient across the (B,B) shape, straight or round."""
    size = len(shape)
    one, two = random.integers(0, 256, (2, 3))
    if random.random() < 0.65:
        return np.broadcast_to(one.astype(np.uint8), (size, size, 3))
    two = two if random.random() < 0.3 else one * random.uniform(0.4, 1)
    y, x = (axis / size - 0.5 for axis in np.mgrid[0:size, 0:size].astype(np.float32))
    angle = random.choice([0, np.pi / 2, random.uniform(0, 2 * np.pi)])
    way = x * np.cos(angle) + y * np.sin(angle) if random.random() < 0.7 else np.hypot(x, y)
    low, high = way[shape].min(initial=np.inf), way[shape].max(initial=-np.inf)
    share = np.clip((way - low) / max(high - low, 1e-6), 0, 1)[..., None]
    return np.asarray(one + (two - one) * share).astype(np.uint8)


def _draw(on: NDArray[np.uint8], kind: int, centre: Points, reach: float, random: Random) -> None:
    spot = centre.astype(int).tolist()
    if kind == 0:
        cv2.circle(on, spot, int(reach), 255, -1 if random.random() < 0.7 else int(reach / 3))
    elif kind == 1:
        half = reach * random.uniform(0.3, 1, 2)
        bend = half.min() * random.uniform(0, 0.8) if random.random() < 0.5 else 0.0
        low, high = ((centre + side * (half - bend)).astype(int).tolist() for side in (-1, 1))
        cv2.rectangle(on, low, high, 255, -1)
        if bend >= 1:
            cv2.rectangle(on, low, high, 255, int(2 * bend))  # a thick line has round corners
    elif kind == 2:
        count = int(random.integers(3, 11))
        angle = np.linspace(0, 2 * np.pi, count, endpoint=False) + random.uniform(0, 6)
        radius = reach * np.where(np.arange(count) % 2, random.uniform(0.3, 1), 1)
        corners = centre + np.column_stack([np.cos(angle), np.sin(angle)]) * radius[:, None]
        cv2.fillPoly(on, [corners.astype(np.int32)], 255)
    elif kind == 3:
        text = "".join(random.choice(list(_GLYPHS), random.integers(1, 4)))
        spot[0] -= int(reach)
        cv2.putText(on, text, spot, cv2.FONT_HERSHEY_DUPLEX, reach / 22, 255, int(reach / 6) + 4)
    else:
        line = centre + np.cumsum(random.normal(0, reach / 2, (5, 2)), 0)
        cv2.polylines(on, [line.astype(np.int32)], False, 255, int(reach / 4) + 3)
