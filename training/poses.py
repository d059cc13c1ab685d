"""How each view of `raster.py` is made: an object's proportions, bends, pose and colours, at random, on the device."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Generator, Tensor
from torch.nn import functional as F  # noqa: N812

import raster
from models.builtin.sheets import CAMERA


@dataclass(frozen=True, slots=True)
class Poses:
    """For each of B views."""

    parameters: Tensor
    """(B,FLOATS) as `raster.PARAMETERS` says."""
    up: Tensor
    """(B,3) which way is up, in the camera's frame."""


class Dice:
    """Random numbers for B views at a time."""

    def __init__(self, random: Generator, count: int) -> None:
        self.random, self.count = random, count

    def uniform(self, low: float, high: float, size: int = 1) -> Tensor:
        """(B,size)"""
        return low + (high - low) * torch.rand((self.count, size), generator=self.random, device=self.random.device)

    def normal(self, spread: float, size: int = 1) -> Tensor:
        """(B,size)"""
        return spread * torch.randn((self.count, size), generator=self.random, device=self.random.device)

    def chance(self, share: float) -> Tensor:
        """(B,1) true that often."""
        return self.uniform(0, 1) < share


def drawn(random: Generator, creases: Tensor, sheets: int) -> Poses:
    """At random, for views of shapes with those (B,) `creases`, 0 where any will do."""
    dice, at = Dice(random, len(creases)), raster.places()
    found = torch.zeros((len(creases), raster.FLOATS), device=random.device)
    found[:, at["scale"]] = torch.exp(
        dice.chance(0.5) * dice.normal(0.15, 3) + dice.chance(0.06) * dice.normal(0.35, 3)
    )
    found[:, at["taper"]] = dice.chance(0.15) * dice.uniform(-1, 1)
    found[:, at["twist"]] = dice.chance(0.15) * dice.uniform(-1, 1)
    found[:, at["bend"]] = dice.chance(0.15) * dice.uniform(-1, 1, 2)
    waves = list[Tensor]()
    for _ in range(raster.WAVES):
        waves += [dice.normal(2.2, 3), dice.uniform(0, 2 * math.pi), dice.normal(0.03, 3)]
    found[:, at["waves"]] = torch.cat(waves, 1) * dice.chance(0.3)
    rotation, up = posed(dice)
    found[:, at["rotation"]] = rotation.flatten(1)
    any_crease = torch.where(dice.chance(0.7), dice.uniform(0.3, 0.8), 0.2)[:, 0]
    found[:, at["crease"]] = torch.where(creases > 0, creases, any_crease)[:, None]
    found[:, at["camera"]] = CAMERA * torch.exp(dice.chance(0.3) * dice.normal(0.12))

    strength = dice.chance(0.35) * dice.uniform(0.3, 1)
    sheet, repeats = dice.uniform(0, sheets).floor(), 0.5 * 2 ** (dice.uniform(-1, 3).clamp(min=0)).floor()
    frame = F.normalize(dice.normal(1, 3)), F.normalize(dice.normal(1, 3))
    across = F.normalize(frame[1] - frame[0] * (frame[0] * frame[1]).sum(1, keepdim=True))
    found[:, at["print"]] = torch.cat([strength, sheet, dice.chance(0.4), repeats, frame[0], across], 1)
    one, two = (dice.uniform(0, 1, 3) ** dice.uniform(0.6, 1.4) for _ in range(2))
    share = dice.chance(0.4) * torch.where(dice.chance(0.8), 1.0, dice.uniform(0.2, 1))
    direction = F.normalize(dice.normal(1, 3)) * dice.uniform(0.7, 3)
    found[:, at["paint"]] = torch.cat([share, one, torch.where(dice.chance(0.5), one, two), direction], 1)
    own = dice.chance(0.5)
    found[:, at["gain"]] = torch.where(own, dice.uniform(0.7, 1.25) + dice.normal(0.05, 3), 1.0)
    found[:, at["offset"]] = own * dice.normal(0.04, 3)
    return Poses(found, up)


def posed(dice: Dice) -> tuple[Tensor, Tensor]:
    """(B,3,3) rotations of objects whose front is towards +z, mostly upright and seen from a little above; and (B,3)
    which way is up for them as they stand or lie there."""
    any_yaw = dice.uniform(-math.pi, math.pi)
    aside = (2 * dice.chance(0.5) - 1.0) * dice.uniform(0.3, 1.1)  # as people take pictures: three quarters
    ahead = torch.where(dice.chance(0.64), aside, dice.normal(0.3)) + math.pi * dice.chance(0.28)
    yaw = torch.where(dice.chance(0.45), any_yaw, ahead)
    elevation = torch.where(dice.chance(0.85), dice.uniform(2, 33), dice.uniform(30, 55))
    elevation = torch.where(dice.chance(0.12), 4 + dice.normal(5), elevation) * (math.pi / 180)
    upright = turns(2, dice.normal(0.04)) @ turns(0, elevation)
    quarter = math.pi / 2
    lying = torch.where(
        dice.chance(0.5)[..., None],
        turns(2, quarter * (2 * dice.chance(0.5) - 1.0)),
        turns(0, quarter * (2 * dice.chance(0.5) - 1.0)),
    )
    down = lying @ turns(1, dice.uniform(-math.pi, math.pi))
    how = torch.where(dice.chance(0.17)[..., None], down, torch.eye(3, device=yaw.device))
    return upright @ turns(1, yaw) @ how, upright[:, :, 1]


def turns(axis: int, angle: Tensor) -> Tensor:
    """The (B,3,3) rotations about one of the axes by (B,1) angles, as solids.turn()."""
    one, two = [(1, 2), (2, 0), (0, 1)][axis]
    c, s = angle[:, 0].cos(), angle[:, 0].sin()
    found = torch.eye(3, device=angle.device).repeat(len(angle), 1, 1)
    found[:, one, one] = found[:, two, two] = c
    found[:, two, one], found[:, one, two] = s, -s
    return found
