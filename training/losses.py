"""What the network is trained to make small, and how far its depths are off."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from lighting import Batch
from models.builtin.network import Depths

STEP = 0.12
"""A difference between neighbours above which the true depth jumps: no slope is asked for across it."""


def loss(found: Depths, goal: Batch) -> tuple[Tensor, dict[str, Tensor]]:
    """Depth, slope and direction of both layers inside the mask, and whether the network knows that it is wrong."""
    depth = slope = facing = torch.zeros((), device=goal.mask.device)
    for guess, truth, weight in ((found.front, goal.front, 1.0), (found.back, goal.back, 0.7)):
        depth = depth + weight * _mean(F.smooth_l1_loss(guess, truth, beta=0.05, reduction="none"), goal.valid)
        for reach in (1, 4):
            dx, dy, usable = _slopes(truth, goal.valid, reach)
            gx, gy, _ = _slopes(guess, goal.valid, reach)
            slope = slope + weight * _mean((gx - dx).abs() + (gy - dy).abs(), usable) * (2 if reach == 1 else 0.5)
            if reach == 1:
                scale = truth.shape[-1] / 2
                facing = facing + weight * _mean(1 - _cosine(gx * scale, gy * scale, dx * scale, dy * scale), usable)
    network, inflation = errors(found.front.detach(), found.back.detach(), goal), inflated_errors(goal)
    worse = torch.maximum((network > inflation).float(), goal.flat)
    # Drawings are few among the views, and must not be missed.
    doubt = F.binary_cross_entropy_with_logits(found.doubt.float(), worse, weight=1 + 5 * goal.flat)
    total = depth + 0.4 * slope + 0.05 * facing + 0.05 * doubt
    parts = {"depth": depth, "slope": slope, "facing": facing, "doubt": doubt}
    return total, {name: part.detach() for name, part in parts.items()}


def errors(front: Tensor, back: Tensor, goal: Batch) -> Tensor:
    """(B,) mean distance of both layers from the truth."""
    off = ((front - goal.front).abs() + (back - goal.back).abs()) / 2
    return (off * goal.valid).sum((1, 2)) / goal.valid.sum((1, 2)).clamp(min=1)


def inflated_errors(goal: Batch) -> Tensor:
    """(B,) the same for the inflation."""
    return errors(goal.height, -goal.height, goal)


def _mean(values: Tensor, weight: Tensor) -> Tensor:
    """The mean over pixels, then over pictures: a thin object counts as much as a stout one."""
    each = (values * weight).sum((1, 2)) / weight.sum((1, 2)).clamp(min=16)
    return each.mean()


def _slopes(depth: Tensor, valid: Tensor, reach: int) -> tuple[Tensor, Tensor, Tensor]:
    """Differences to the right and down over `reach` pixels, and where neither of them is a jump."""
    here = depth[:, :-reach, :-reach]
    dx, dy = depth[:, :-reach, reach:] - here, depth[:, reach:, :-reach] - here
    usable = valid[:, :-reach, :-reach] * valid[:, :-reach, reach:] * valid[:, reach:, :-reach]
    return dx, dy, usable * (dx.abs() < STEP * reach**0.5) * (dy.abs() < STEP * reach**0.5)


def _cosine(ax: Tensor, ay: Tensor, bx: Tensor, by: Tensor) -> Tensor:
    """Of the angle between the normals of two slopes."""
    return (ax * bx + ay * by + 1) * torch.rsqrt((ax**2 + ay**2 + 1) * (bx**2 + by**2 + 1))
