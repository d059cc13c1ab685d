"""The object in a picture, as an alpha channel, without any download: GrabCut from two guesses, and a guided filter.

Rother, Kolmogorov and Blake, "GrabCut", SIGGRAPH 2004; He and Sun, "Fast Guided Filter", 2015.
"""

from __future__ import annotations

import hashlib
import io
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from errors import EmptyImageError
from picture import Background
from picture.decode import Pixels, check_not_empty, hidden_share, is_cut_out, on_white

_MIN_CONTRAST = 4.0
"""Below this difference in CIELAB across the contour, what was found is noise."""
_WORK, _FINE = 256, 2048
"""Longest sides in pixels at which the mask is sought and its edge refined."""


def foreground(rgba: Pixels, background: Background = "auto") -> Pixels:
    """The (H,W,4) picture with the object's mask as its alpha channel.

    `auto` uses an alpha channel that hides at least 1 % of the picture as it is, and else removes the background;
    `true` does the same but asks for 10 %; `false` uses alpha in any case. Deterministic, safe to call from several
    threads. Raises EmptyImageError when nothing, or everything, would be the object.
    """
    check_not_empty(rgba, background)
    if is_cut_out(hidden_share(rgba), background):
        return rgba
    cut_out = rgba.copy()
    # Both are alphas: what the file hides stays hidden.
    cut_out[..., 3] = np.minimum(rgba[..., 3], _remove_background(on_white(rgba)))
    return cut_out


def with_mask(rgba: Pixels, mask: Pixels) -> Pixels:
    """The (H,W,4) picture with a (H,W) mask of any size, scaled to it, as its alpha channel; EmptyImageError."""
    import cv2

    cut_out = rgba.copy()
    cut_out[..., 3] = cv2.resize(mask, rgba.shape[1::-1], interpolation=cv2.INTER_LINEAR)
    if not cut_out[..., 3].any():
        raise EmptyImageError("the mask is empty")
    return cut_out


def mask_png(mask: Pixels) -> bytes:
    """A (H,W) mask as the bytes of an 8-bit grey PNG."""
    buffer = io.BytesIO()
    Image.fromarray(mask).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def mask_digest(mask: Pixels) -> str:
    """SHA-256 of a (H,W) mask and its shape."""
    return hashlib.sha256(f"{mask.shape}".encode() + mask.tobytes()).hexdigest()


def read_mask(png: bytes) -> Pixels:
    """(H,W) of what `mask_png` wrote."""
    with Image.open(io.BytesIO(png), formats=("PNG",)) as image:
        return np.asarray(image.convert("L"))


def _shrink(rgb: Pixels, longest: int) -> Pixels:
    import cv2

    height, width = rgb.shape[:2]
    scale = longest / max(height, width)
    if scale >= 1:
        return rgb
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return np.asarray(cv2.resize(rgb, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)


def _remove_background(rgb: Pixels) -> Pixels:
    """(H,W) alpha of what stands out from the picture's border."""
    import cv2

    small = _shrink(rgb, _WORK)
    height, width = small.shape[:2]
    if min(height, width) < 8:
        raise EmptyImageError("the picture is too small or too narrow to tell an object from its background")
    lab = _lab(small)
    found = [_without_lines(lab, _grabcut(small, seeds)) for seeds in (_step_seeds(lab), _colour_seeds(lab))]
    contrast, mask = max(found, key=lambda pair: pair[0])
    if contrast < _MIN_CONTRAST:
        raise EmptyImageError("nothing stands out from the background of the picture")
    alpha = _refined(mask, _shrink(rgb, _FINE))
    return np.asarray(cv2.resize(alpha, rgb.shape[1::-1], interpolation=cv2.INTER_LINEAR), dtype=np.uint8)


def _lab(rgb: Pixels) -> NDArray[np.float32]:
    """CIELAB, L in 0..100, smoothed a little against sensor noise and JPEG blocks."""
    import cv2

    smooth = cv2.GaussianBlur(rgb, (0, 0), 1.0)
    return np.asarray(cv2.cvtColor(smooth.astype(np.float32) / 255, cv2.COLOR_RGB2LAB), dtype=np.float32)


def _step_seeds(lab: NDArray[np.float32]) -> Pixels:
    """What small steps of colour reach from the border is probably background: follows gradients and soft shadows."""
    import cv2

    height, width = lab.shape[:2]
    reached = np.zeros((height + 2, width + 2), np.uint8)  # floodFill wants a frame of its own
    flags = 4 | cv2.FLOODFILL_MASK_ONLY | (1 << 8)
    step = (1.6, 1.2, 1.2)
    rows, columns = range(0, height, 4), range(0, width, 4)
    seeds = [(x, y) for y in (0, height - 1) for x in columns] + [(x, y) for x in (0, width - 1) for y in rows]
    for x, y in seeds:
        if not reached[y + 1, x + 1]:
            cv2.floodFill(lab, reached, (x, y), 0, step, step, flags)
    return _seeds(reached[1:-1, 1:-1] > 0)


def _colour_seeds(lab: NDArray[np.float32]) -> Pixels:
    """What has one of the border's main colours and hangs together with it is probably background: follows texture."""
    import cv2

    border = np.concatenate([lab[0], lab[-1], lab[:, 0], lab[:, -1]])
    cv2.setRNGSeed(0)
    stop = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_MAX_ITER, 20, 0.1)
    labels = np.zeros((len(border), 1), np.int32)
    colours = np.asarray(cv2.kmeans(border, 8, labels, stop, 1, cv2.KMEANS_PP_CENTERS)[2])
    away = np.min([np.square(lab - colour).sum(2) for colour in colours], axis=0)
    parts = np.asarray(cv2.connectedComponents(_framed(away < 12.0**2).astype(np.uint8), connectivity=4)[1])
    return _seeds(parts == parts[0, 0])


def _framed(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    mask = mask.copy()
    mask[[0, -1]] = mask[:, [0, -1]] = True
    return mask


def _seeds(background: NDArray[np.bool_]) -> Pixels:
    import cv2

    seeds = np.where(background, cv2.GC_PR_BGD, cv2.GC_PR_FGD)
    seeds[_framed(np.zeros_like(background))] = cv2.GC_BGD
    return seeds.astype(np.uint8)


def _grabcut(rgb: Pixels, seeds: Pixels) -> NDArray[np.bool_]:
    import cv2

    cv2.setRNGSeed(0)  # of this thread; grabCut's k-means draws from it
    seeds = seeds.copy()
    models = np.zeros((1, 65)), np.zeros((1, 65))
    try:
        cv2.grabCut(rgb, seeds, (0, 0, 1, 1), *models, 5, cv2.GC_INIT_WITH_MASK)
    except cv2.error:  # no pixel was left for one of the two sides
        return np.zeros(seeds.shape, bool)
    return np.asarray((seeds == cv2.GC_FGD) | (seeds == cv2.GC_PR_FGD))


def _without_lines(lab: NDArray[np.float32], mask: NDArray[np.bool_]) -> tuple[float, NDArray[np.bool_]]:
    """The mask with its contrast, and without what is thinner than three pixels where that is clearly no part of the
    object: the edge of the table behind it, not a cat's tail."""
    import cv2

    opened = cv2.morphologyEx(mask.astype(np.uint8), cv2.MORPH_OPEN, np.ones((3, 3), np.uint8)) > 0
    (as_is, mask), (without, opened) = ((_contrast(lab, part), part) for part in (_cleaned(mask), _cleaned(opened)))
    return (without, opened) if without > 1.5 * as_is else (as_is, mask)


def _cleaned(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Without the parts smaller than a fiftieth of the largest, and with the pinholes filled."""
    return ~_parts(~_parts(mask, share=0.02), least=0.001 * mask.size)


def _parts(mask: NDArray[np.bool_], share: float = 0.0, least: float = 1) -> NDArray[np.bool_]:
    """The mask without its parts of fewer than `least` pixels, or of less than `share` of the largest."""
    import cv2

    _, labels, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=4)
    areas = np.array(stats[:, cv2.CC_STAT_AREA])
    areas[0] = 0  # label 0 is what lies outside the mask
    return np.asarray((areas >= max(areas.max() * share, least, 1))[labels])


def _contrast(lab: NDArray[np.float32], mask: NDArray[np.bool_]) -> float:
    """How well the mask's contour follows an edge of the picture: the mean difference in CIELAB between the two
    sides along the weakest quarter of the contour, less for a mask that lies along the picture's border, as a sky
    does, or that is tiny, as a gap between objects is. 0 for an empty mask, and for one that fills the picture."""
    import cv2

    share = mask.mean()
    if not 0.001 < share < 0.98:
        return 0.0
    size, sides = (9, 9), []
    for side in (mask, ~mask):
        weight = cv2.boxFilter(side.astype(np.float32), -1, size)
        mean = cv2.boxFilter(lab * side[..., None].astype(np.float32), -1, size) / np.maximum(weight, 1e-6)[..., None]
        sides.append(mean)
    contour = mask & (cv2.erode(mask.astype(np.uint8), np.ones((3, 3), np.uint8)) == 0)
    steps = np.sort(np.linalg.norm(sides[0] - sides[1], axis=2)[contour])
    inside_border = np.concatenate([mask[2], mask[-3], mask[:, 2], mask[:, -3]]).mean()
    trust = (1 - inside_border) ** 3 * min(1, share / 0.03)
    return float(steps[: max(1, len(steps) // 4)].mean() * trust)


def _refined(mask: NDArray[np.bool_], rgb: Pixels) -> Pixels:
    """(H,W) alpha at the size of `rgb`, its edge drawn to the picture's own by a guided filter.

    He and Sun, "Fast Guided Filter", 2015: the linear model is fitted where the mask was made and applied where the
    picture is finer. The guide is the colour direction that tells object and background apart best.
    """
    import cv2

    guide_rgb = _shrink(rgb, _WORK).astype(np.float32) / 255
    direction = guide_rgb[mask].mean(0) - guide_rgb[~mask].mean(0)
    direction /= np.linalg.norm(direction) + 1e-6
    guide, target = guide_rgb @ direction, mask.astype(np.float32)

    def mean(values: Any) -> Any:
        return cv2.blur(values, (5, 5))

    variance = mean(guide * guide) - mean(guide) ** 2
    slope = (mean(guide * target) - mean(guide) * mean(target)) / (variance + 1e-3)
    offset = mean(target) - slope * mean(guide)
    size = rgb.shape[1::-1]
    slope, offset = cv2.resize(mean(slope), size), cv2.resize(mean(offset), size)
    soft = slope * ((rgb.astype(np.float32) / 255) @ direction) + offset
    alpha = np.clip((soft - 0.5) * 2.0 + 0.5, 0, 1)
    return np.asarray(np.rint(alpha * 255), dtype=np.uint8)
