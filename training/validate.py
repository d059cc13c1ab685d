"""How good the network is on views that it was not trained on, against the inflation it starts from.

Three sets: made-up shapes of unseen seeds, the families held out, and the mesh sources held out. On each the depth
error and the F-score of the two layers' points, scaled as in the final measure; quick, as it is done many times. What
counts in the end is measured on finished meshes, by `benchmarks/shape_quality.py`.
"""

from __future__ import annotations

import json
from itertools import cycle
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial import cKDTree

import families
import render
from lighting import Batch, fields_of, lit
from losses import errors, inflated_errors
from models.builtin.sheets import CAMERA
from solids import Solid

_SEED = 987_654_321
"""Far from any that training uses."""


class Checks:
    """The sets, rendered once."""

    def __init__(self, extra: list[Solid], count: int = 96, size: int = render.SIZE) -> None:
        random = np.random.default_rng(_SEED)
        self.sets = {
            "made": views(random, lambda: render.surface(families.make_shape(random)), count, size),
            "families": views(
                random,
                lambda: render.surface(families.make_shape(random, str(random.choice(families.HELD_OUT)))),
                max(1, count // 2),
                size,
            ),
        }
        if extra:
            order = cycle(random.permutation(len(extra)).tolist())
            self.sets["meshes"] = views(random, lambda: render.surface(extra[next(order)], 1.0), count, size)

    def scores(self, network: torch.nn.Module, device: str) -> dict[str, float]:
        """Per set: `err` the mean depth error over the inflation's, `better` how often it is less, `f` and `f_inf` the
        F-score at 0.1 with and without the network."""
        found = {}
        for name, batch in self.sets.items():
            front, back, _ = predict(network, batch, device)
            mine, theirs = errors(front, back, batch), inflated_errors(batch)
            found[f"{name}_err"] = float(mine.mean() / theirs.mean())
            found[f"{name}_better"] = float((mine < theirs).float().mean())
            picked = range(0, len(front), 2)
            found[f"{name}_f"] = float(np.mean([layered_score(front, back, batch, i) for i in picked]))
            found[f"{name}_f_inf"] = float(
                np.mean([layered_score(batch.height, -batch.height, batch, i) for i in picked])
            )
        return found

    def report(self, network: torch.nn.Module, device: str, run: Path, state: dict[str, Any]) -> dict[str, float]:
        """The scores, and a montage for each set: picture, true front, found front, true back, found back."""
        folder = run / "report"
        folder.mkdir(exist_ok=True)
        scores = self.scores(network, device)
        for name, batch in self.sets.items():
            front, back, _ = predict(network, batch, device)
            rows = []
            for i in range(min(20, len(front))):
                inside = batch.valid[i].numpy()[..., None]
                picture = 255 * (batch.picture[i].movedim(0, -1).numpy() * inside + 1 - inside)
                depths = [batch.front[i], front[i], batch.back[i], back[i]]
                shown = [np.repeat(127 + 110 * depth.numpy()[..., None], 3, -1) * inside for depth in depths]
                rows.append(np.concatenate([picture[..., ::-1], *shown], 1))
            if len(rows) % 2:
                rows.append(np.full_like(rows[0], 255))
            half = len(rows) // 2
            sheet = np.concatenate([np.concatenate(rows[:half]), np.concatenate(rows[half:])], 1)
            cv2.imwrite(str(folder / f"{name}.png"), sheet.clip(0, 255).astype(np.uint8))
        (folder / "scores.json").write_text(json.dumps({**state, **scores}, indent=1))
        return scores


def views(random: np.random.Generator, make: Any, count: int, size: int) -> Batch:
    """`count` views, each of a shape of its own, plainly lit."""
    found: list[NDArray[np.void]] = []
    while len(found) < count:
        view = render.render(make(), render.pose(random), random)
        if view is not None:
            found.append(view)
    return lit(fields_of(np.stack(found)), torch.Generator(), size=size, plain=True)


@torch.no_grad()
def predict(network: torch.nn.Module, batch: Batch, device: str) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Front, back and doubt of a batch, on the CPU."""
    network.eval()
    parts = []
    for start in range(0, len(batch.mask), 32):
        piece = [field[start : start + 32].to(device) for field in (batch.picture, batch.mask, batch.height)]
        found = network(*piece)
        parts.append([field.float().cpu() for field in (found.front, found.back, found.doubt)])
    front, back, doubt = (torch.cat(column) for column in zip(*parts, strict=True))
    return front, back, doubt


def layered_score(front: torch.Tensor, back: torch.Tensor, goal: Batch, i: int, reach: float = 0.1) -> float:
    """The F-score of the points of two layers against the true ones, both boxes centred, their longest side 2."""
    inside = goal.valid[i].numpy() > 0
    size = inside.shape[0]
    row, column = np.nonzero(inside)
    keep = np.random.default_rng(i).permutation(len(row))[:1500]
    x, y = (column[keep] + 0.5) * 2 / size - 1, 1 - (row[keep] + 0.5) * 2 / size

    def cloud(layers: tuple[torch.Tensor, torch.Tensor]) -> NDArray[np.float64]:
        z = np.stack([layer[i].numpy()[row[keep], column[keep]] for layer in layers]).astype(np.float64)
        near = (CAMERA - z) / CAMERA
        points = np.stack([x * near, y * near, z], -1).reshape(-1, 3)
        low, high = points.min(0), points.max(0)
        return np.asarray((points - (low + high) / 2) * (2 / (high - low).max()))

    one, two = cloud((front, back)), cloud((goal.front, goal.back))
    precision = (cKDTree(two).query(one)[0] < reach).mean()
    recall = (cKDTree(one).query(two)[0] < reach).mean()
    return float(2 * precision * recall / max(precision + recall, 1e-9))
