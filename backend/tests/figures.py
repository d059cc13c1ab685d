"""Figures drawn for the model that inflates outlines, and what every mesh of it has to be."""

from __future__ import annotations

import numpy as np
import trimesh
from PIL import Image, ImageDraw

from models.base import ShapeOptions

SIZE = 256
RED = (200, 40, 30)


def cut_out(alpha, colour=RED):
    """(H,W,4) of one colour with the (H,W) alpha; black where it is transparent."""
    alpha = np.asarray(alpha, np.uint8)
    rgba = np.dstack([np.broadcast_to(np.array(colour, np.uint8), (*alpha.shape, 3)), alpha])
    return np.where(alpha[..., None] > 0, rgba, 0).astype(np.uint8)


def drawn(draw_on, size=SIZE):
    """(H,W) anti-aliased alpha of what `draw_on` draws in coordinates 0..1."""
    scale = 4 * size

    class Scaled:
        def __init__(self, image):
            self.draw = ImageDraw.Draw(image)

        def ellipse(self, *box, fill=255):
            self.draw.ellipse([scale * value for value in box], fill=fill)

        def box(self, *box, fill=255):
            self.draw.rectangle([scale * value for value in box], fill=fill)

    image = Image.new("L", (scale, scale))
    draw_on(Scaled(image))
    return np.asarray(image.resize((size, size), Image.Resampling.BOX))


def disc(on):
    on.ellipse(0.1, 0.1, 0.9, 0.9)


def ring(on):
    on.ellipse(0.1, 0.1, 0.9, 0.9)
    on.ellipse(0.35, 0.35, 0.65, 0.65, fill=0)


def mug(on):
    on.ellipse(0.05, 0.3, 0.5, 0.75)
    on.ellipse(0.15, 0.4, 0.4, 0.65, fill=0)
    on.box(0.35, 0.2, 0.9, 0.9)


def two_parts(on):
    on.ellipse(0.1, 0.1, 0.45, 0.45)
    on.box(0.55, 0.55, 0.9, 0.8)


def made(model, rgba, quality=4):
    return model.generate(rgba, ShapeOptions(quality=quality), lambda fraction, stage: None, lambda: False)


def solid(mesh):
    """As trimesh sees it, with the points of the rim, which the texture repeats, welded."""
    found = trimesh.Trimesh(mesh.vertices, mesh.faces, process=False)
    found.merge_vertices()
    return found


def assert_sound(mesh):
    assert mesh.vertices.dtype == mesh.uv.dtype == np.float32
    assert mesh.faces.dtype == np.int32
    assert np.isfinite(mesh.vertices).all()
    assert mesh.uv.min() >= 0
    assert mesh.uv.max() <= 1
    found = solid(mesh)
    assert found.is_watertight
    assert found.is_winding_consistent
    assert found.volume > 0
    assert (found.area_faces > 0).all()
    return found


def random_alpha(kind):
    random = np.random.default_rng(5)
    y, x = np.mgrid[0:200, 0:200]
    if kind == "noise":
        return (random.random((200, 200)) > 0.5) * 255
    if kind == "soft noise":
        return random.integers(0, 256, (200, 200))
    if kind == "chequers":
        return (x // 8 + y // 8) % 2 * 255
    if kind == "specks":
        return (random.random((200, 200)) > 0.99) * 255
    if kind == "holes":
        return np.where((x % 9 < 3) & (y % 9 < 3), 0, 255)
    if kind == "glass":
        return np.where(np.hypot(x - 100, y - 100) < 80, random.integers(40, 91, (200, 200)), 0)
    if kind == "gradient":
        return 255 * np.clip(1 - np.hypot(x - 100, y - 100) / 100, 0, 1)
    return np.where(np.hypot(x - 100, y - 100) < 30, 1, 0)  # "faint"
