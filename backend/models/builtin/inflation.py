"""Silhouette → thickness: the height of a membrane under even pressure, as if the object were blown up like a balloon.

Solves −Δu = 4 inside the silhouette with u = 0 on its contour and takes √u, so that a disc becomes a sphere (Baran and
Lehtinen, "Notes on Inflating Curves", 2009).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Field = NDArray[np.float64]

_COARSEST = 24
_TOLERANCE = 1e-2
"""Of the residual: the height is then right to about a thousandth of the thickest part's."""
_NEAREST = 0.05
"""The closest, in grid steps, that a contour comes to a node: closer makes slivers."""


def crossing(inside: Field, outside: Field) -> Field:
    """Where the contour cuts an edge: the way from its inner node to its outer one, 0..1."""
    return np.asarray(np.clip(inside / (inside - outside), _NEAREST, 1 - _NEAREST))


def inflate(field: NDArray[np.float32]) -> Field:
    """(N,N) half thickness of the silhouette `field` (N,N) > 0, in units of half the square's side; 0 outside."""
    size = len(field)
    height = np.sqrt(np.maximum(_solve(field.astype(np.float64)), 0)) * (2 / size)
    # Never so thin that front and back would meet.
    return np.where(field > 0, np.maximum(height, 0.05 * 2 / size), 0)


def _solve(field: Field) -> Field:
    """u in squared grid steps. Cascadic multigrid (Bornemann and Deuflhard, 1996): each level starts where the one of
    half the resolution ended, and conjugate gradients mend what that could not see."""
    size = len(field)
    start = np.zeros_like(field)
    if size > _COARSEST:
        half = (size + 1) // 2
        start = _resized(_solve(_framed(_resized(field, half))), size) * (size / half) ** 2
    return _conjugate_gradients(field, start)


def _dot(a: Field, b: Field) -> float:
    """Not BLAS, whose sums depend on the number of its threads."""
    return float(np.einsum("ij,ij->", a, b))


def _resized(field: Field, size: int) -> Field:
    import cv2

    way = cv2.INTER_AREA if size < len(field) else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(field, (size, size), interpolation=way), dtype=np.float64)


def _framed(field: Field) -> Field:
    """Outside all round, so that no node inside lacks a neighbour."""
    field[[0, -1]] = field[:, [0, -1]] = -0.5
    return field


def _conjugate_gradients(field: Field, u: Field) -> Field:
    """Five-point Laplacian, its arms cut to where the contour is (Gibou et al., 2002, the symmetric form), with
    Jacobi's preconditioner. Nodes inside never lie at the border of the grid."""
    inside = field > 0
    diagonal = np.zeros_like(field)
    for shift, axis in ((1, 0), (-1, 0), (1, 1), (-1, 1)):
        neighbour = np.roll(field, shift, axis)
        cut = inside & (neighbour <= 0)
        diagonal += 1
        diagonal[cut] += 1 / crossing(field[cut], neighbour[cut]) - 1

    # Only the rows and columns that hold something: a long thin object fills little of the square.
    rows, columns = np.flatnonzero(inside.any(1)), np.flatnonzero(inside.any(0))
    if not len(rows):
        return np.zeros_like(field)
    window = np.s_[rows[0] - 1 : rows[-1] + 2, columns[0] - 1 : columns[-1] + 2]
    mask, diagonal = inside[window].astype(np.float64), diagonal[window]

    def apply(v: Field) -> Field:
        out = diagonal * v
        out[1:] -= v[:-1]
        out[:-1] -= v[1:]
        out[:, 1:] -= v[:, :-1]
        out[:, :-1] -= v[:, 1:]
        out *= mask
        return out

    right = 4 * mask
    x = u[window] * mask
    residual = right - apply(x)
    z = residual / diagonal
    direction = z.copy()
    energy = _dot(residual, z)
    goal = (_TOLERANCE**2) * _dot(right, right / diagonal)
    for _ in range(4 * len(field)):
        if energy <= goal:
            break
        image = apply(direction)
        step = energy / _dot(direction, image)
        x += step * direction
        residual -= step * image
        z = residual / diagonal
        energy, before = _dot(residual, z), energy
        direction = z + (energy / before) * direction
    result = np.zeros_like(field)
    result[window] = x
    return result
