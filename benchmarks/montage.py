"""Draw what a model makes of pictures beside the truth: for looking, which no score replaces.

    python benchmarks/montage.py --eval DIR --to docs/builtin-montage.jpg [--model builtin] [--quality 7]

DIR holds `pictures/NAME.png` and `truth/NAME.npz` as for `shape_quality.py`. For each picture: itself, the textured
mesh turned by 35° and by 120°, and the points of the true surface turned alike. Needs `training/requirements.txt`.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import cv2
import numpy as np
from embreex import rtcore_scene
from embreex.mesh_construction import TriangleMesh
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "backend"))

from models import registry
from models.base import Mesh, ShapeOptions
from picture.cutout import foreground
from picture.decode import decode

SIZE, YAWS, ACROSS = 180, (35, 120), 3
Picture = NDArray[np.uint8]
Points = NDArray[np.float64]


def main() -> None:
    """Write the montage."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--eval", type=Path, required=True, metavar="DIR")
    parser.add_argument("--to", type=Path, required=True, metavar="FILE")
    parser.add_argument("--model", default="builtin")
    parser.add_argument("--quality", type=int, default=7)
    options = parser.parse_args()
    model = registry.create(options.model, None, "cpu")
    model.load()
    tiles = []
    for file in sorted((options.eval / "pictures").glob("*.png")):
        cut_out = foreground(decode(file.read_bytes(), 10**9).rgba)
        mesh = model.generate(cut_out, ShapeOptions(options.quality), lambda fraction, stage: None, lambda: False)
        truth = np.load(options.eval / "truth" / f"{file.stem}.npz")
        points = normalised(truth["points"].astype(float), truth["low"], truth["high"])
        seen = [shown(mesh, yaw) for yaw in YAWS] + [splatted(points, yaw) for yaw in YAWS]
        tiles.append(np.concatenate([on_white(cut_out), *seen], 1))
    tiles += [np.full_like(tiles[0], 255)] * (-len(tiles) % ACROSS)
    rows = [np.concatenate(tiles[i : i + ACROSS], 1) for i in range(0, len(tiles), ACROSS)]
    cv2.imwrite(str(options.to), np.concatenate(rows)[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 85])


def normalised(points: Points, low: Points, high: Points) -> Points:
    """Centred on the box, its longest side 2."""
    return (points - (low + high) / 2) * (2 / (high - low).max())


def on_white(rgba: Picture) -> Picture:
    alpha = rgba[..., 3:] / 255
    flat = rgba[..., :3] * alpha + 255 * (1 - alpha)
    return np.asarray(cv2.resize(flat, (SIZE, SIZE), interpolation=cv2.INTER_AREA)).astype(np.uint8)


def turned(points: Points, yaw: float) -> Points:
    """About the vertical, so that more of the left side is seen, and from a little above."""
    a, e = np.radians(yaw), np.radians(15)
    around = np.array([[np.cos(a), 0, np.sin(a)], [0, 1, 0], [-np.sin(a), 0, np.cos(a)]])
    over = np.array([[1, 0, 0], [0, np.cos(e), -np.sin(e)], [0, np.sin(e), np.cos(e)]])
    return points @ (over @ around).T


def shown(mesh: Mesh, yaw: float) -> Picture:
    """The mesh with its texture and a lamp, in parallel projection."""
    vertices = mesh.vertices.astype(float)
    corners = turned(normalised(vertices, vertices.min(0), vertices.max(0)), yaw)[mesh.faces]
    scene = rtcore_scene.EmbreeScene()
    TriangleMesh(scene, np.ascontiguousarray(corners, dtype=np.float32))
    axis = ((np.arange(2 * SIZE) + 0.5) / SIZE - 1) * 1.45
    x, y = np.meshgrid(axis, -axis)
    origin = np.stack([x, y, np.full_like(x, 5)], -1).reshape(-1, 3).astype(np.float32)
    found = scene.run(origin, np.tile(np.float32([0, 0, -1]), (len(origin), 1)), output=1)
    hit = found["primID"] >= 0
    face, u, v = found["primID"][hit], found["u"][hit], found["v"][hit]
    image = np.full((len(origin), 3), 255.0)
    image[hit] = colours(mesh, face, u, v) * light(corners[face])[:, None]
    large = image.reshape(2 * SIZE, 2 * SIZE, 3)
    return np.asarray(cv2.resize(large, (SIZE, SIZE), interpolation=cv2.INTER_AREA)).clip(0, 255).astype(np.uint8)


def light(corners: Points) -> Points:
    normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-12)
    return 0.45 + 0.6 * np.clip(normal @ np.array([-0.35, 0.5, 0.79]), 0, 1)


def colours(mesh: Mesh, face: NDArray[np.int64], u: Points, v: Points) -> Points:
    if mesh.uv is None or mesh.texture is None:
        return np.full((len(face), 3), 190.0)
    uv = mesh.uv[mesh.faces[face]]
    place = uv[:, 0] * (1 - u - v)[:, None] + uv[:, 1] * u[:, None] + uv[:, 2] * v[:, None]
    height, width = mesh.texture.shape[:2]
    column = np.clip((place[:, 0] * width).astype(int), 0, width - 1)
    row = np.clip(((1 - place[:, 1]) * height).astype(int), 0, height - 1)
    return mesh.texture[row, column].astype(float)


def splatted(points: Points, yaw: float) -> Picture:
    """Points as dots, the nearer the darker."""
    image = np.full((SIZE, SIZE, 3), 255, np.uint8)
    seen = turned(points, yaw)
    for x, y, z in seen[np.argsort(seen[:, 2])]:
        spot = (round((x / 1.45 + 1) * SIZE / 2), round((1 - y / 1.45) * SIZE / 2))
        cv2.circle(image, spot, 1, (int(np.clip(150 - 75 * z, 40, 225)),) * 3, -1)
    return image


if __name__ == "__main__":
    main()
