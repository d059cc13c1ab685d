"""The picture → an atlas: the front on the left, on the right a back that the picture does not show."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_NEAR, _NARROW = 6.0, 0.01
"""How many hundredths of the picture in from the rim the back takes its colours from, and how much the rim itself
counts beside them."""

_SHADE = 0.15
"""How much darker the back is where it is farthest from its rim."""


def atlas(view: NDArray[np.uint8], inside: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """(T,2T,3) of the (T,T,4) square view and its (T,T) silhouette.

    Beyond the silhouette the object's own colours go on, so that no background bleeds in. The back is not the front
    again, which would show a face twice: the colours near its rim flow inwards, smoother the farther they go. Those of
    the rim itself stay there, so that no seam shows, but do not flow: in a drawing they are ink.
    """
    import cv2

    depth = np.asarray(cv2.distanceTransform(inside.astype(np.uint8), cv2.DIST_L2, 5))
    band = max(2.0, len(view) / 100)
    # The rim's own pixels are mixed with background, and the inflated rim stretches them: those deeper in count more.
    front = spread(view[..., :3].astype(np.float32), np.clip((depth - 0.5) / band, 0, 1) ** 2)
    rim = np.clip(1 - (depth - 1) / band, 0, 1)
    near_rim = np.clip(depth / band - 2.5, 0, 1) * np.clip(_NEAR - depth / band, 0, 1)
    back = spread(front, np.maximum(near_rim, _NARROW * rim))  # a part that is too narrow has but its rim
    back += rim[..., None] * (front - back)
    soft = cv2.GaussianBlur(depth, (0, 0), len(view) / 50)
    back *= 1 - _SHADE * (soft / max(soft.max(), 1.0))[..., None]
    both = np.concatenate([front, back], axis=1)
    return np.clip(np.rint(both, out=both), 0, 255, out=both).astype(np.uint8)


def spread(colours: NDArray[np.float32], weight: NDArray[np.float32]) -> NDArray[np.float32]:
    """(T,T,3) with the pixels of weight 1 as they are and the others filled in smoothly, from those of more weight.

    Pull-push (Gortler et al., "The Lumigraph", 1996): the known pixels are averaged into ever smaller pictures, until
    one has no gap; on the way back, each fills the gaps of the next.
    """
    return _pull_push(colours, weight[..., None].astype(np.float32))


def _pull_push(colours: NDArray[np.float32], weight: NDArray[np.float32]) -> NDArray[np.float32]:
    import cv2

    size = len(colours)
    if size == 1 or weight.min() == 1:
        return colours
    half = ((size + 1) // 2,) * 2
    known = colours * weight
    sums = cv2.resize(known, half, interpolation=cv2.INTER_AREA)
    share = cv2.resize(weight, half, interpolation=cv2.INTER_AREA)[..., None]
    means = np.asarray(sums / np.maximum(share, 1e-6), dtype=np.float32)
    smaller = _pull_push(means, np.minimum(4 * share, 1))  # one known pixel of four is enough
    known += (1 - weight) * np.asarray(cv2.resize(smaller, (size, size)))
    return known
