"""What the network is trained to make small, and how far its depths are off."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from lighting import Batch
from models.builtin.sheets import CAMERA
from network import Depths

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
    if found.up is not None:
        up = ((found.up - goal.up).square().sum(1) * goal.up.square().sum(1)).mean()
        total, parts = total + 0.05 * up, parts | {"up": up}
    return total, {name: part.detach() for name, part in parts.items()}


_SPARSE = 4
"""Every which pixel along each side is a point for `apart`."""
_NEAR = 0.1
"""From which distance on a point counts as missed rather than as off, the longest side of the box being 2."""


def apart(found: Depths, goal: Batch, offset: Tensor) -> Tensor:
    """How far the points of the two layers are from the nearest true ones and those from them, as the final measure
    sees it: boxes centred, their longest side 2; 0..1, as what is missed by far cannot be missed by more. `offset` (2,)
    are the first row and column of the sparse grid."""
    size = goal.mask.shape[-1]
    pick = torch.arange(size // _SPARSE, device=offset.device) * _SPARSE
    row, column = pick + offset[0], pick + offset[1]

    def points(front: Tensor, back: Tensor) -> tuple[Tensor, Tensor]:
        """(B,2N,3) of both layers, and (B,2N) how much surface each stands for."""
        axis = (torch.arange(size, device=front.device, dtype=front.dtype) + 0.5) * (2 / size) - 1
        layers = torch.stack([front, back], 1)  # (B,2,S,S)
        near = (CAMERA - layers) / CAMERA
        placed = torch.stack([axis * near, -axis[:, None] * near, layers], -1)  # (B,2,S,S,3)
        valid = goal.valid[:, None, :, :, None] > 0
        low = torch.where(valid, placed, 9.0).amin((1, 2, 3), keepdim=True)
        high = torch.where(valid, placed, -9.0).amax((1, 2, 3), keepdim=True)
        placed = (placed - (low + high) / 2) * (2 / (high - low).amax(-1, keepdim=True).clamp(min=0.1))
        with torch.no_grad():
            across = F.pad(layers[..., 1:] - layers[..., :-1], (0, 1)) * (size / 2)
            down = F.pad(layers[..., 1:, :] - layers[..., :-1, :], (0, 0, 0, 1)) * (size / 2)
            weights = (1 + (across**2 + down**2).clamp(max=8)).sqrt() * goal.valid[:, None]
            weights = weights.index_select(2, row).index_select(3, column).flatten(1)
        return placed.index_select(2, row).index_select(3, column).flatten(1, 3), weights

    mine, my_weight = points(found.front, found.back)
    with torch.no_grad():
        true, true_weight = points(goal.front, goal.back)
        far = torch.cdist(mine, true)
        nearest_true = torch.where(true_weight[:, None] > 0, far, 99.0).argmin(2)
        nearest_mine = torch.where(my_weight[:, :, None] > 0, far, 99.0).argmin(1)

    def missed(one: Tensor, other: Tensor, nearest: Tensor, weight: Tensor) -> Tensor:
        off = one - other.gather(1, nearest[..., None].expand(-1, -1, 3))
        distance = (off.square().sum(-1) + 1e-6).sqrt()
        return (distance / (distance + _NEAR) * weight).sum(1) / weight.sum(1).clamp(min=8)

    return (missed(mine, true, nearest_true, my_weight) + missed(true, mine, nearest_mine, true_weight)).mean() / 2


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
