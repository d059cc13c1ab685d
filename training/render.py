"""A shape → one view of it: what a camera of 30° sees, and the depths where its rays first enter and last leave.

Everything is in the frame that the built-in model works in: the square window is −1..1 in x and y at z = 0, the camera
stands at z = CAMERA and looks towards −z, and the object's longer side takes 85 % of the window. How large an object is
and how far away cannot be seen in a picture, so each view is scaled about the camera until its mid surface lies at
z = 0 on average.
"""

from __future__ import annotations

import functools
import sys
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from embreex import rtcore_scene
from embreex.mesh_construction import TriangleMesh
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "backend"))

import patterns
from models.builtin.inflation import inflate
from models.builtin.sheets import CAMERA
from models.builtin.silhouette import FILL
from solids import Points, Random, Solid, turn

SIZE = 72
"""Pixels along each side of a view."""


def view_type(size: int) -> np.dtype[np.void]:
    """One view of size × size pixels."""
    plane = (size, size)
    fields = [("front", np.float16), ("back", np.float16), ("height", np.float16), ("mask", np.uint8)]
    vectors = [("normal", np.int8, (*plane, 3)), ("albedo", np.uint8, (*plane, 3)), ("flat", np.bool_)]
    return np.dtype([*((name, kind, plane) for name, kind in fields), *vectors])


VIEW = view_type(SIZE)
"""A view to train on. `front` and `back` are z where the pixel's ray enters and leaves, NaN where it meets nothing;
`height` is the inflation of the mask; `mask` the covered share of the pixel; `flat`: a drawing, whose best depth is the
inflation."""


@dataclass(frozen=True, slots=True)
class Surface:
    """Triangles ready for the rays: (F,3,3) corners, their normals and their colours, (V,3) the corners once each, and
    Embree's scene of them all."""

    corners: Points
    normals: Points
    colours: Points
    vertices: Points
    scene: rtcore_scene.EmbreeScene


def surface(solid: Solid, crease: float = 0.7) -> Surface:
    """With normals smooth across edges whose faces turn by less than the `crease`, a cosine; 1: facets."""
    corners = solid.vertices[solid.faces]
    flat = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    total = np.zeros_like(solid.vertices)
    for corner in range(3):
        np.add.at(total, solid.faces[:, corner], flat)
    smooth = _unit(total)[solid.faces]
    flat = np.broadcast_to(_unit(flat)[:, None], smooth.shape)
    keep = (smooth * flat).sum(-1, keepdims=True) > crease
    used = np.zeros(len(solid.vertices), bool)
    used[solid.faces] = True
    normals = np.where(keep, smooth, flat)
    return Surface(corners, normals, solid.colours[solid.faces], solid.vertices[used], scene(corners))


def _unit(vectors: Points) -> Points:
    length = np.sqrt(np.einsum("...c,...c->...", vectors, vectors))[..., None]
    return np.asarray(vectors / np.maximum(length, 1e-12))


def pose(random: Random) -> Points:
    """A random (3,3) rotation, mostly upright and seen from a little above, of an object whose front is towards +z."""
    yaw = random.uniform(-np.pi, np.pi)
    if random.random() < 0.75:  # as people take pictures: three quarters, or straight from the front
        yaw = random.choice([-1, 1]) * random.uniform(0.3, 1.1) if random.random() < 0.7 else random.normal(0, 0.3)
        yaw += np.pi * (random.random() < 0.25)
    elevation = np.radians(random.uniform(-5, 40) if random.random() < 0.7 else random.normal(6, 5))
    upright = turn(2, random.normal(0, 0.05)) @ turn(0, elevation) @ turn(1, yaw)
    if random.random() < 0.15:  # lying about, any way up
        lying = turn(2, random.choice([-1, 1]) * np.pi / 2) if random.random() < 0.5 else turn(0, np.pi / 2)
        return np.asarray(upright @ lying @ turn(1, random.uniform(-np.pi, np.pi)))
    return np.asarray(upright)


def render(shape: Surface, rotation: Points, random: Random, size: int = SIZE) -> NDArray[np.void] | None:
    """One view of the shape, or None when hardly anything is seen of it, or not all."""
    scale, shift = placement(shape.vertices @ rotation.T)

    def met(rays: tuple[NDArray[np.float32], NDArray[np.float32]]) -> dict[str, NDArray[np.float32]]:
        """The rays are turned, not the shape, whose scene is made once for all its views."""
        origin, to = rays
        return cast(shape.scene, _single((origin - shift) / scale @ rotation), _single(to / scale @ rotation))

    near, far = met(_rays(size)), met(_rays(size, backwards=True))
    seen = (near["primID"] >= 0) & (far["primID"] >= 0)
    square = seen.reshape(size, size)
    if seen.mean() < 0.01 or square[[0, -1]].any() or square[:, [0, -1]].any():
        return None
    front = CAMERA - near["tfar"] * CAMERA
    back = CAMERA - (_BEYOND - far["tfar"]) * CAMERA
    nearer = CAMERA / (CAMERA - (front + back)[seen].mean() / 2)
    front, back = (CAMERA - nearer * (CAMERA - np.where(seen, depth, np.nan)) for depth in (front, back))
    if front[seen].max() > 2.5 or back[seen].min() < -4:
        return None
    view = np.zeros((), view_type(size))
    view["front"], view["back"] = front.reshape(size, size), back.reshape(size, size)
    _paint(view, shape, rotation, met(_rays(2 * size)), random)
    view["height"] = inflated(view["mask"])
    return view


def _paint(
    view: NDArray[np.void], shape: Surface, rotation: Points, fine: dict[str, NDArray[np.float32]], random: Random
) -> None:
    """Mask, normals and colours, from what rays through a quarter of each pixel found."""
    hit = np.flatnonzero(fine["primID"] >= 0)
    face, u, v = fine["primID"][hit], fine["u"][hit], fine["v"][hit]
    weight = np.stack([1 - u - v, u, v], -1)
    normal = _unit(np.einsum("nk,nkc->nc", weight, shape.normals[face]) @ rotation.T)
    size = view["mask"].shape[-1]
    normal *= np.where(np.einsum("nc,nc->n", normal, _rays(2 * size)[1][hit]) > 0, -1, 1)[:, None]
    albedo = np.einsum("nk,nkc->nc", weight, shape.colours[face])
    albedo = patterns.printed(albedo, np.einsum("nk,nkc->nc", weight, shape.corners[face]), random)
    cover, normal, albedo = (_halved(size, hit, values) for values in (np.ones((len(hit), 1)), normal, albedo))
    view["mask"] = np.rint(255 * cover[..., 0])
    view["normal"] = np.rint(127 * _unit(normal))
    view["albedo"] = np.rint(255 * np.clip(albedo / np.maximum(cover, 1e-6), 0, 1))


def inflated(mask: NDArray[np.uint8]) -> Points:
    """The first guess that the network improves: the inflation of a mask, as the model makes it on a finer grid."""
    field = cv2.GaussianBlur(mask.astype(np.float32) / 255 - 0.5, (0, 0), 0.4)
    field[[0, -1]] = field[:, [0, -1]] = -0.5
    return inflate(np.asarray(field, np.float32))


def placement(points: Points) -> tuple[float, Points]:
    """The scale by which to multiply (N,3) points and the shift to add then, so that the projection's box is centred
    and its longer side fills its share of the window."""
    middle = (points.min(0) + points.max(0)) / 2
    scale = FILL / np.abs(points - middle)[:, :2].max()
    shift = -scale * middle
    for _ in range(4):
        placed = scale * points + shift
        seen = placed[:, :2] * (CAMERA / np.maximum(CAMERA - placed[:, 2:], 0.3))
        low, high = seen.min(0), seen.max(0)
        by = 2 * FILL / (high - low).max()
        scale, shift = by * scale, by * (shift - np.append((low + high) / 2, 0))
    return float(scale), np.asarray(shift)


def _single(values: Points) -> NDArray[np.float32]:
    return np.ascontiguousarray(values, dtype=np.float32)


_BEYOND = 4.0
"""Where backward rays start, in units of the camera's distance to z = 0."""


@functools.cache
def _rays(size: int, *, backwards: bool = False) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """(size²,3) origins and directions, from the upper left pixel; a direction is as long as from camera to z = 0."""
    axis = (np.arange(size) + 0.5) * 2 / size - 1
    x, y = np.meshgrid(axis, -axis)
    to = np.stack([x, y, np.full_like(x, -CAMERA)], -1).reshape(-1, 3).astype(np.float32)
    origin = np.zeros_like(to)
    origin[:, 2] = CAMERA
    return (origin + np.float32(_BEYOND) * to, -to) if backwards else (origin, to)


def scene(corners: Points) -> rtcore_scene.EmbreeScene:
    """(F,3,3) corners of triangles, ready for `cast`."""
    target = rtcore_scene.EmbreeScene()
    TriangleMesh(target, _single(corners))
    return target


def cast(
    target: rtcore_scene.EmbreeScene, origin: NDArray[np.float32], to: NDArray[np.float32]
) -> dict[str, NDArray[np.float32]]:
    """What each ray meets first: `primID` (−1: nothing), `tfar`, `u`, `v`."""
    found: dict[str, NDArray[np.float32]] = target.run(origin, to, output=1)
    return found


def _halved(size: int, at: NDArray[np.int64], values: Points) -> Points:
    """(N,C) values at those of the 2·size × 2·size fine pixels → (size,size,C), the mean of each block of four, the
    others being 0."""
    flat = np.zeros((4 * size * size, values.shape[1]), np.float32)
    flat[at] = values
    full = flat.reshape(2 * size, 2 * size, -1)
    return np.asarray(full[::2, ::2] + full[1::2, ::2] + full[::2, 1::2] + full[1::2, 1::2]) / 4
