"""Inflation → two learned depth layers on the grid of the mesh, closed at the rim.

The network works on a small square of fixed size, so that every quality gets the same shape. Its layers are continued
beyond the silhouette before they are enlarged, so that nothing from outside leaks in, and their distance is brought to
zero at the rim the way the inflation goes to zero: like a root, without a step.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from models.builtin.inflation import Field, inflate
from models.builtin.network import PATCH
from models.builtin.texture import spread
from nn import Array

if TYPE_CHECKING:
    from models.builtin.silhouette import View
    from models.builtin.weights import Weights

_RIM = 0.07
"""How far in from the rim the layers may be drawn together, in units of half the window's side."""

_STEEPER, _CREASE = 1.4, 12.0
"""By how much the rim may be steeper than in proportion to the inflation, and how sharp the bend is where it ends:
together they take less than a hundredth from a thickness that is the inflation's."""

_SOFTENED = 0.7
"""Standard deviation, in pixels of the network, of the blur that takes its grid out of the surface."""

_STEP, _STEP_WIDTH = 0.06, 3.0
"""From which difference in depth on a step is one, entirely so from twice that, and how many of the network's pixels
it is wide."""

_DOUBT = (0.5, 0.75)
"""From the first on the network's own doubt counts, from the second on its correction is dropped."""

_EVEN, _EVEN_COSTS = (0.75, 0.92), 0.7
"""So does a picture that is even in such a share of its pixels, as logos and icons are: it has no shading to read. And
the most that this takes from the correction."""

_HUES, _SHADES = 20, (0.03, 0.6)
"""Into how many steps each part of a hue is sorted, and between which standard deviations of the logarithm of its
brightness a hue is lit differently in different places: less is one colour, more is black on white."""


def learned(weights: Weights, window: View, height: Field) -> tuple[Field, Field]:
    """(N,N) front and back on the grid of the inflated `height` (N,N)."""
    picture, colours, cover, small = _shown(weights, window)
    middle, half, trust = _predicted(weights, colours, cover, small)
    trust *= 1 - _EVEN_COSTS * _ramp(_evenness(picture), *_EVEN)
    return _enlarged(small, cover, trust * middle, trust * (half - small), height)


def upright(weights: Weights, window: View) -> Field | None:
    """(3,) a unit vector: which way is up for the object, in x to the right, y up, z towards the viewer; None from a
    network that cannot tell. To stand a mesh up, turn this to (0, 1, 0)."""
    _, colours, cover, small = _shown(weights, window)
    found = weights.network(*_both(colours, cover, small)).up
    if found is None:
        return None
    up = found.astype(np.float64)
    mean = up[0] + up[1] * (-1, 1, 1)  # that of the mirror image, mirrored
    return np.asarray(mean / max(float(np.linalg.norm(mean)), 1e-6))


def _shown(weights: Weights, window: View) -> tuple[NDArray[np.uint8], Field, Field, Field]:
    """The window's pixels at twice the network's size, and what the network sees: (S,S,3) colours, 0..255, (S,S)
    covered share of each pixel, (S,S) inflated half thickness."""
    import cv2

    size = weights.network.config.size
    field, picture = window.field(2 * size), window.sample(2 * size)
    alpha = picture[..., 3:] / 255
    layers = np.dstack([inflate(field), np.clip(field + 0.5, 0, 1), alpha, alpha * picture[..., :3]])
    layers = np.asarray(cv2.resize(layers, (size, size), interpolation=cv2.INTER_AREA))
    colours = layers[..., 3:] / np.maximum(layers[..., 2:3], 1e-3)
    return picture, colours, layers[..., 1], layers[..., 0]


def _both(rgb: Field, cover: Field, height: Field) -> tuple[Array, Array, Array]:
    """The picture and its mirror image, (2,S,S,3), (2,S,S) and (2,S,S), as the network takes them."""

    def both(array: Field) -> Array:
        return np.stack([array, array[:, ::-1]]).astype(np.float32)

    return both(rgb / 255), both(cover), both(height)


def _enlarged(small: Field, cover: Field, middle: Field, added: Field, height: Field) -> tuple[Field, Field]:
    """(N,N) front and back from what is known at the network's size: (S,S) inflated half thickness, covered share of
    each pixel, middle of the two layers, and what is added to the half thickness."""
    import cv2

    size, inside = len(small), cover > 0.5
    surely = np.clip(2 * cover - 1, 0, 1)  # a pixel that is half background says less of the depth
    middle, added = (_smoothed(layer, surely) for layer in (middle, added))
    reach = 2 * round(_RIM * size / 2) + 1
    near = np.ones((reach, reach), np.uint8)
    tops = (cv2.dilate(np.where(inside, layer, 0).astype(np.float32), near) for layer in (small + added, small))
    thickest, highest = (cv2.blur(top, (reach, reach)) + 0.01 for top in tops)

    # Where all of this is nothing, as on a thin line that no pixel of the network shows, the inflation stays.
    found = spread(np.dstack([middle, added, thickest / highest - 1]).astype(np.float32), surely.astype(np.float32))
    large = np.asarray(cv2.resize(found, height.shape[::-1], interpolation=cv2.INTER_CUBIC), dtype=np.float64)
    pixel = len(height) / size
    large = np.asarray(cv2.GaussianBlur(large, (0, 0), max(_SOFTENED * pixel, 0.1)), dtype=np.float64)
    thickness = height + large[..., 1]
    # Not at the rim, which falls away as steeply as a step does.
    from_rim = cv2.distanceTransform((height > 0).astype(np.uint8), cv2.DIST_L2, 5) / (_STEP_WIDTH * pixel)
    share = np.clip(from_rim - 1, 0, 1)
    front, back = (_stepped(large[..., 0] + side * thickness, share, pixel) for side in (1, -1))
    middle, thickness = (front + back) / 2, np.maximum((front - back) / 2, 1e-3)
    thickness = _smaller(thickness, _STEEPER * np.maximum(1 + large[..., 2], 0.05) * np.maximum(height, 1e-4))
    return middle + thickness, middle - thickness


def _predicted(weights: Weights, rgb: Field, cover: Field, height: Field) -> tuple[Field, Field, float]:
    """(S,S) middle and half thickness, and from 0 to 1 how far the network is to be trusted with this picture.

    The mean of what it says of the picture and of its mirror image: two guesses are better than one, and a mirrored
    picture gets the mirrored shape.
    """
    found = weights.network(*_both(rgb, cover, height))
    front, back = ((layer[0] + layer[1, :, ::-1]).astype(np.float64) / 2 for layer in (found.front, found.back))
    doubt = 1 / (1 + np.exp(-float(found.doubt.mean())))
    return (front + back) / 2, (front - back) / 2, 1 - _ramp(doubt, *_DOUBT)


def _ramp(value: float, low: float, high: float) -> float:
    """0 up to `low`, 1 from `high` on."""
    return float(np.clip((value - low) / (high - low), 0, 1))


def _evenness(rgba: NDArray[np.uint8]) -> float:
    """The share of the inner pixels whose neighbours have their colour, give or take a step of 255; without those of
    a hue that comes in several shades, as the faces of a box do. 1 where all is line and nothing inner."""
    import cv2

    near = np.ones((3, 3), np.uint8)
    inside = cv2.erode((rgba[..., 3] > 0.98 * rgba[..., 3].max()).astype(np.uint8), near, iterations=2) > 0
    if not inside.any():
        return 1.0
    rgb = cv2.medianBlur(np.ascontiguousarray(rgba[..., :3]), 5)  # noise is no shading
    steps = (cv2.dilate(rgb, near).astype(np.int16) - cv2.erode(rgb, near)).max(-1)
    even = rgb[inside & (steps <= 1)].astype(np.float64) + 1
    light = np.log(even.sum(1))
    hues, hue = np.unique(np.rint(_HUES * even / even.sum(1, keepdims=True)) @ (1, 100, 10_000), return_inverse=True)
    count, total, squares = (np.bincount(hue, what, len(hues)) for what in (np.ones_like(light), light, light**2))
    shades = np.sqrt(np.maximum(squares / count - (total / count) ** 2, 0))
    lit = count[(shades > _SHADES[0]) & (shades < _SHADES[1])].sum()
    return float((len(even) - lit) / np.count_nonzero(inside))


def _smoothed(layer: Field, weight: Field) -> Field:
    """Without the weave of the network's patches, which are as wide as the filter."""
    import cv2

    kernel, weight = (PATCH, PATCH), weight + 1e-6
    return np.asarray(cv2.blur(layer * weight, kernel) / cv2.blur(weight, kernel), dtype=np.float64)


def _stepped(layer: Field, share: Field, pixel: float) -> Field:
    """With steep steps where depth jumps, from one part of the object to another behind it: the network's are ramps
    that are `pixel`s wide, which look like curtains. A slope stays: its middle is halfway between what lies around.
    `share`, from 0 to 1, is how much of this to do at each point."""
    import cv2

    reach = 2 * round(_STEP_WIDTH * pixel / 2) + 1
    near = np.ones((reach, reach), np.uint8)
    smooth = layer.astype(np.float32)
    low, high = cv2.erode(smooth, near), cv2.dilate(smooth, near)
    jump = high - low
    way = np.clip(2 * (smooth - low) / np.maximum(jump, 1e-6) - 0.5, 0, 1)
    steep = cv2.GaussianBlur(low + way * way * (3 - 2 * way) * jump, (0, 0), max(0.3 * pixel, 0.1))
    return np.asarray(layer + np.clip(jump / _STEP - 1, 0, 1) * share * (steep - layer), dtype=np.float64)


def _smaller(one: Field, two: Field) -> Field:
    """A minimum without a crease."""
    return np.asarray((one**-_CREASE + two**-_CREASE) ** (-1 / _CREASE))
