"""The learned depth against the inflation it starts from, on the same rendered shapes: called by `shape_quality.py`.

Shapes come from the generator in `training/` with seeds that training never uses (made-up families, and the two that
are held out of training altogether), or from sources of real meshes held out of training. Each is rendered to a
cut-out, goes through the whole built-in model twice, and both meshes are compared with points of the true surface,
those only that can be seen from somewhere outside. Needs `training/requirements.txt`.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial import cKDTree

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "training"))

import corpus
import families
import render
from lighting import fields_of, lit
from models.base import Mesh, ShapeOptions
from models.builtin.model import BuiltinModel

SEED = 20_000_003
SIZE = 256
POINTS = 4000
MEASURES = ("cd", "f0.1", "f0.05")
Scores = NDArray[np.float64]
Points = NDArray[np.float64]


def run(count: int, quality: int, extra: Path | None, sources: list[int]) -> None:
    """Print a table: for each set the means of both, how often the learned one is better, how many are closed."""
    learned, inflated = BuiltinModel(), BuiltinModel()
    inflated._folder = Path("nowhere")
    learned.load()
    inflated.load()
    print(f"{learned.revision} against {inflated.revision}, quality {quality}")
    print(
        f"{'set':22} {'n':>4}", *(f"{name:>15}" for name in MEASURES), f"  {'lower cd, higher f0.1 (95 %)':32} closed"
    )
    everything = []
    for name, surfaces in sets(count, extra, sources):
        rows, closed = [], 0
        for number, (surface, random) in enumerate(surfaces):
            picture, truth = example(surface, random)
            if picture is None:
                continue
            meshes = [made(model, picture, quality) for model in (inflated, learned)]
            rows.append([score(mesh, truth, number) for mesh in meshes])
            closed += all(is_closed(mesh) for mesh in meshes)
        if not rows:
            continue
        scores = np.array(rows)
        print(row(name, scores, closed))
        if name != "mesh sources":
            everything.append((scores, closed))
    if everything:
        scores = np.concatenate([scores for scores, _ in everything])
        print(row("all made up", scores, sum(closed for _, closed in everything)))


def sets(
    count: int, extra: Path | None, sources: list[int]
) -> Iterator[tuple[str, Iterator[tuple[render.Surface, np.random.Generator]]]]:
    """Name and shapes of each set; of the made-up ones a quarter each is of the two unseen families."""

    def made_up(name: str, family: str | None, number: int) -> Iterator[tuple[render.Surface, np.random.Generator]]:
        for seed in range(number):
            random = np.random.default_rng([SEED, seed, len(name)])
            yield render.surface(families.make_shape(random, family)), random

    unseen = count // 4
    yield "unseen seeds", made_up("seeds", None, count - len(families.HELD_OUT) * unseen)
    for family in families.HELD_OUT:
        yield f"unseen family {family}", made_up(family, family, unseen)
    if extra and sources:
        meshes = [solid for source, solid in corpus.load(extra) if source in sources]
        yield "mesh sources", ((render.surface(m, 0.7), np.random.default_rng([SEED, i])) for i, m in enumerate(meshes))


def example(surface: render.Surface, random: np.random.Generator) -> tuple[NDArray[np.uint8] | None, Points]:
    """A cut-out picture, and points of the surface in the camera's frame."""
    rotation = render.pose(random)
    view = render.render(surface, rotation, random, SIZE)
    if view is None:
        return None, np.zeros((0, 3))
    batch = lit(fields_of(view[None]), torch.Generator(), plain=True)
    rgb = np.rint(255 * batch.picture[0].movedim(0, -1).numpy().clip(0, 1)).astype(np.uint8)
    scale, shift = render.placement(surface.vertices @ rotation.T)
    placed = scale * (surface.corners @ rotation.T) + shift
    return np.dstack([rgb, view["mask"]]), outer_points(placed, random)


def outer_points(corners: Points, random: np.random.Generator) -> Points:
    """(POINTS,3) of the surface, uniform by area, without what no ray from far away can reach."""
    across = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    area = np.linalg.norm(across, axis=1)
    face = random.choice(len(area), 4 * POINTS, p=area / area.sum())
    weight = random.dirichlet((1, 1, 1), 4 * POINTS)
    points = np.einsum("nk,nkc->nc", weight, corners[face])
    normal = across[face] / np.maximum(area[face], 1e-12)[:, None]
    scene = render.scene(corners)
    seen = np.zeros(len(points), bool)
    for direction in random.normal(0, 1, (24, 3)):
        to = np.broadcast_to(direction / np.linalg.norm(direction), points.shape)
        away = normal * np.sign((normal * to).sum(1, keepdims=True))
        start = (points + 1e-3 * away).astype(np.float32)
        seen |= render.cast(scene, start, np.ascontiguousarray(to, dtype=np.float32))["primID"] < 0
    return points[seen][:POINTS]


def made(model: BuiltinModel, picture: NDArray[np.uint8], quality: int) -> Mesh:
    return model.generate(picture, ShapeOptions(quality=quality), lambda fraction, stage: None, lambda: False)


def is_closed(mesh: Mesh) -> bool:
    """Every edge has two faces that run along it in opposite directions."""
    vertices = len(mesh.vertices)
    start, end = mesh.faces.astype(np.int64).ravel(), np.roll(mesh.faces, -1, 1).astype(np.int64).ravel()
    return np.array_equal(np.sort(start * vertices + end), np.sort(end * vertices + start))


def score(mesh: Mesh, truth: Points, seed: int) -> list[float]:
    """Chamfer distance and F-scores, boxes centred and their longest side 2."""
    corners = mesh.vertices[mesh.faces].astype(np.float64)
    area = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1)
    random = np.random.default_rng(seed)
    face = random.choice(len(area), POINTS, p=area / area.sum())
    points = np.einsum("nk,nkc->nc", random.dirichlet((1, 1, 1), POINTS), corners[face])
    one, two = normalised(points, mesh.vertices), normalised(truth, truth)
    to, back = cKDTree(two).query(one)[0], cKDTree(one).query(two)[0]
    found = [(to.mean() + back.mean()) / 2]
    for reach in (0.1, 0.05):
        precision, recall = (to < reach).mean(), (back < reach).mean()
        found.append(2 * precision * recall / max(precision + recall, 1e-9))
    return found


def normalised(points: Points, box: NDArray[np.floating]) -> Points:
    low, high = box.min(0), box.max(0)
    return np.asarray((points - (low + high) / 2) * (2 / (high - low).max()))


def wilson(share: float, count: int) -> tuple[float, float]:
    """The 95 % interval of a share (Wilson, 1927)."""
    z = 1.96
    middle, wide = share + z * z / (2 * count), z * np.sqrt(share * (1 - share) / count + z * z / (4 * count**2))
    return float((middle - wide) / (1 + z * z / count)), float((middle + wide) / (1 + z * z / count))


def row(name: str, scores: Scores, closed: int) -> str:
    """`scores` (N,2,3): N shapes, inflation and learned, the measures. Better: a lower cd, a higher F-score at 0.1."""
    count, means = len(scores), scores.mean(0)
    pairs = " ".join(f"  {before:.3f} → {after:.3f}" for before, after in means.T)
    better = ""
    for share in ((scores[:, 1, 0] < scores[:, 0, 0]).mean(), (scores[:, 1, 1] > scores[:, 0, 1]).mean()):
        low, high = wilson(float(share), count)
        better += f"{100 * share:7.0f} % ({100 * low:.0f}–{100 * high:.0f})"
    return f"{name:22} {count:4} {pairs} {better:32} {closed:6} of {count}"
