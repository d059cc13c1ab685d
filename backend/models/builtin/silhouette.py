"""The picture's alpha channel → a square view of the object and its silhouette as a signed field."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from models.base import EmptyImageError

FILL = 0.85
"""The share of the square that the object's longer side takes."""

SMALLEST = 0.002
"""A part of less than this share of the largest part's area is dirt in the mask, not the object."""

SMOOTHING = 1.0
"""Standard deviation in pixels."""

PINHOLE = 0.0005
"""So is a hole of less than this share of the object's area."""


_HARD, _FINE = 0.25, 1024
"""A mask is hard when fewer of the pixels along its edge than this share are half covered. Windows of more pixels than
the second along a side have stairs too fine to be seen."""

_ROUNDS, _ROUND, _CLEAR, _REACH = 20, 2.0, 0.02, 48
"""How often the stairs of a hard mask are smoothed, with which standard deviation in pixels, how far from 0 a pixel's
middle stays on its side, and how many pixels around the object have a say in it."""


@dataclass(frozen=True, slots=True)
class View:
    """A square window on a picture that may reach beyond its borders, in pixels from the upper left corner."""

    rgba: NDArray[np.uint8]
    """(H,W,4), the whole picture."""
    alpha: NDArray[np.uint8]
    """(H,W), its mask."""
    left: float
    top: float
    side: float
    level: float
    """The alpha at the silhouette."""

    def sample(self, size: int) -> NDArray[np.uint8]:
        """(size,size,4) of the window, antialiased; transparent beyond the picture."""
        return self._sample(Image.fromarray(self.rgba), size)

    def field(self, size: int) -> NDArray[np.float32]:
        """(size,size) silhouette: from 0.5 well inside through 0 at its edge to −0.5 outside."""
        import cv2

        alpha = self._sample(Image.fromarray(self.alpha), size).astype(np.float32)
        sharp = np.clip(alpha / (2 * self.level), 0, 1) - 0.5
        # A mask has stairs, which the inflated rim would show as ribs: the contour is smoothed at the size of a pixel
        # of the picture or of the grid, but not so much that a thin part goes: it takes more from a thin line than
        # from an edge with room on both sides.
        smooth = np.asarray(cv2.GaussianBlur(sharp, (0, 0), SMOOTHING * max(1.0, size / self.side)))
        lost = sharp - smooth
        return _cleaned(smooth + np.sign(lost) * np.maximum(np.abs(lost) - 0.25, 0))

    def _sample(self, image: Image.Image, size: int) -> NDArray[np.uint8]:
        scale = self.side / size
        height, width = self.alpha.shape
        x0, x1 = _whole(-self.left / scale, (width - self.left) / scale, size)
        y0, y1 = _whole(-self.top / scale, (height - self.top) / scale, size)
        box = (self.left + x0 * scale, self.top + y0 * scale, self.left + x1 * scale, self.top + y1 * scale)
        inside = (max(box[0], 0), max(box[1], 0), min(box[2], width), min(box[3], height))
        window = image.resize((x1 - x0, y1 - y0), Image.Resampling.BILINEAR, inside)
        square = Image.new(image.mode, (size, size))
        square.paste(window, (x0, y0))
        return np.asarray(square)


def _whole(low: float, high: float, size: int) -> tuple[int, int]:
    """The whole pixels between two borders, or the one around them where there is none."""
    first, last = max(int(np.ceil(low - 1e-6)), 0), min(int(np.floor(high + 1e-6)), size)
    if first >= last:
        first = min(int((low + high) / 2), size - 1)
        last = first + 1
    return first, last


def view(rgba: NDArray[np.uint8]) -> View:
    """The square view of the (H,W,4) picture in which the object's longer side takes FILL.

    The silhouette lies at half of what most of the object's alpha is, so that glass counts as well, and a soft shadow
    below a solid object does not. Raises EmptyImageError.
    """
    alpha = rgba[..., 3]
    histogram = np.bincount(alpha.ravel(), minlength=256)
    histogram[0] = 0
    if not histogram.any():
        raise EmptyImageError("the mask of the picture is empty: it is fully transparent")
    level = float(np.searchsorted(np.cumsum(histogram), 0.95 * histogram.sum())) / 2

    alpha = _bridged(alpha, level)
    step = -(-max(alpha.shape) // 1024)
    coarse = _pooled(alpha, step) > level
    coarse = parts(coarse, SMALLEST)
    rows, columns = np.flatnonzero(coarse.any(1)), np.flatnonzero(coarse.any(0))
    top, bottom = rows[0] * step, min((rows[-1] + 1) * step, alpha.shape[0])
    left, right = columns[0] * step, min((columns[-1] + 1) * step, alpha.shape[1])
    side = max(right - left, bottom - top) / FILL
    if side <= _FINE:
        around = np.s_[max(top - _REACH, 0) : bottom + _REACH, max(left - _REACH, 0) : right + _REACH]
        alpha[around] = _unstaired(alpha[around], level)
    return View(rgba, alpha, (left + right - side) / 2, (top + bottom - side) / 2, side, level)


def _bridged(alpha: NDArray[np.uint8], level: float) -> NDArray[np.uint8]:
    """With a pixel put beside those that touch at a corner only: a slanting line would fall to pieces."""
    solid = alpha > level
    upper, lower = solid[:-1], solid[1:]
    falling = upper[:, :-1] & lower[:, 1:] & ~upper[:, 1:] & ~lower[:, :-1]
    rising = upper[:, 1:] & lower[:, :-1] & ~upper[:, :-1] & ~lower[:, 1:]
    alpha = alpha.copy()
    alpha[:-1, 1:][falling] = alpha[:-1, :-1][rising] = min(255, round(2 * level))
    return alpha


def _unstaired(alpha: NDArray[np.uint8], level: float) -> NDArray[np.uint8]:
    """A hard mask with a soft edge, along the smoothest contour that leaves the middle of each pixel on its side
    (Whitaker, "Reducing aliasing artifacts in iso-surfaces of binary volumes", 2000); any other mask as it is."""
    import cv2

    solid = alpha > level
    near = np.ones((3, 3), np.uint8)
    edge = cv2.morphologyEx(solid.astype(np.uint8), cv2.MORPH_GRADIENT, near) > 0
    partly = np.abs(alpha[edge] / (2 * level) - 0.5) < 0.4
    if partly.sum() > _HARD * edge.sum():
        return alpha
    side = np.where(solid, 1, -1).astype(np.float32)
    soft = side
    for _ in range(_ROUNDS):
        soft = side * np.maximum(side * cv2.GaussianBlur(soft, (0, 0), _ROUND), _CLEAR)
    slope = np.hypot(*(cv2.Sobel(soft, cv2.CV_32F, dx, 1 - dx, scale=1 / 8) for dx in (0, 1)))
    cover = np.clip(2 * level * (0.5 + soft / np.maximum(slope, 0.5 * _CLEAR)), 0, 255)
    bounds = np.where(solid, np.maximum(cover, np.floor(level) + 1), np.minimum(cover, np.floor(level)))
    # A thin line has no room for a soft edge.
    stout = cv2.dilate(cv2.morphologyEx(solid.astype(np.uint8), cv2.MORPH_OPEN, near), near) > 0
    return np.where(edge & stout, np.rint(bounds), alpha).astype(np.uint8)


def _pooled(alpha: NDArray[np.uint8], step: int) -> NDArray[np.uint8]:
    """The largest value of each block of step × step: a thin line must not vanish."""
    if step == 1:
        return alpha
    height, width = (-(-side // step) * step for side in alpha.shape)
    padded = np.zeros((height, width), np.uint8)
    padded[: alpha.shape[0], : alpha.shape[1]] = alpha
    rows = np.maximum.reduce([padded[start::step] for start in range(step)])
    return np.asarray(np.maximum.reduce([rows[:, start::step] for start in range(step)]))


def parts(mask: NDArray[np.bool_], share: float = 0.0, least: float = 1) -> NDArray[np.bool_]:
    """The mask without its parts of fewer than `least` pixels, or of less than `share` of the largest."""
    import cv2

    _, labels, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    areas = np.array(stats[:, cv2.CC_STAT_AREA])
    areas[0] = 0  # label 0 is what lies outside
    return np.asarray((areas >= max(areas.max() * share, least, 1))[labels])


def _cleaned(field: NDArray[np.float32]) -> NDArray[np.float32]:
    """Without small parts and pinholes, and with a rim of nodes outside all round, so that every contour closes."""
    field = field.copy()
    field[[0, -1]] = field[:, [0, -1]] = -0.5
    inside = field > 0
    field[inside & ~parts(inside, SMALLEST)] = -0.1
    outside = field <= 0
    field[outside & ~parts(outside, least=max(4, PINHOLE * inside.sum()))] = 0.1
    return field
