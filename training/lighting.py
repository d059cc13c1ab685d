"""Views without light → what a camera, a painter or a bad scan would make of them: the network's input and its goal."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor
from torch.nn import functional as F  # noqa: N812

_MOVED = 2
"""Pixels by which half of the objects are moved at most, so that the network looks at more than exactly centred ones;
less than the window's margin."""


@dataclass(frozen=True, slots=True)
class Batch:
    """All (B,S,S), the picture (B,3,S,S)."""

    picture: Tensor
    mask: Tensor
    height: Tensor
    front: Tensor
    back: Tensor
    valid: Tensor
    """Where there is a true depth: 1, else 0."""
    flat: Tensor
    """(B,) 1 for a drawing."""
    up: Tensor
    """(B,3) a unit vector: which way is up for the object, to the right, up and towards the viewer; 0: not known."""

    def fields(self) -> tuple[Tensor, ...]:
        """In order."""
        return self.picture, self.mask, self.height, self.front, self.back, self.valid, self.flat, self.up

    def to(self, device: str) -> Batch:
        """On another device."""
        return Batch(*(field.to(device, non_blocking=True) for field in self.fields()))


def fields_of(views: NDArray[np.void]) -> dict[str, Tensor]:
    """The fields of (B,) VIEWs as tensors of their own types."""
    return {name: torch.from_numpy(views[name].copy()) for name in views.dtype.names or ()}


def lit(views: Mapping[str, Tensor], random: Generator, *, size: int | None = None, plain: bool = False) -> Batch:
    """Light the fields of (B,) VIEWs at random, at another `size` if wanted, on the device that they and `random` are
    on; `plain`: the same for all and nothing else done to them, for measuring."""
    fields = {name: field.float() for name, field in views.items()}
    if size and size != fields["mask"].shape[-1]:
        fields = {name: _resized(name, field, size) for name, field in fields.items()}
    valid = (~fields["front"].isnan()) & (~fields["back"].isnan()) & (fields["height"] > 0)
    front, back = fields["front"].nan_to_num(), fields["back"].nan_to_num()
    normal = fields["normal"].movedim(-1, 1) / 127  # (B,3,S,S)
    albedo = fields["albedo"].movedim(-1, 1) / 255
    mask, flat = fields["mask"] / 255, fields["flat"]
    up = fields["up"] if "up" in fields else torch.zeros((len(flat), 3), device=random.device)
    if plain:
        light = torch.tensor([-0.3, 0.5, 0.8], device=random.device) / 0.99
        shade = 0.35 + 0.65 * (normal * light[:, None, None]).sum(1, keepdim=True).clamp(min=0)
        picture = albedo * torch.where(flat.bool()[:, None, None, None], 1, shade)
        return Batch(picture, mask, fields["height"], front, back, valid.float(), flat, up)

    picture = _shaded(albedo.clamp(0.02, 1), normal, random) * _sheltered(front, valid, random)
    painted = _chance(random, 0.08, len(flat), 1, 1, 1) | flat.bool()[:, None, None, None]
    picture = torch.where(painted, _drawn(albedo, normal, front, random), picture)
    picture, mask = _photographed(picture, mask, random)
    planes = [picture, mask, fields["height"], front, back, valid.float()]
    picture, mask, height, front, back, inside, up = _moved(planes, up, random)
    return Batch(picture, mask, height, front, back, inside, flat, up)


def _moved(fields: list[Tensor], up: Tensor, random: Generator) -> list[Tensor]:
    """Half of the objects mirrored, and half moved."""
    count, size = len(fields[0]), fields[0].shape[-1]
    by = torch.randint(-_MOVED, _MOVED + 1, (2, count, 1), generator=random, device=random.device)
    place = (torch.arange(size, device=random.device) - by * _chance(random, 0.5, count, 1)) % size
    mirrored = _chance(random, 0.5, count, 1)
    row, column = place[0][:, :, None], torch.where(mirrored, size - 1 - place[1], place[1])
    each = torch.arange(count, device=random.device)[:, None, None]
    picture, *planes = fields
    picture = picture.movedim(1, -1)[each, row, column[:, None]].movedim(-1, 1)
    up = torch.cat([torch.where(mirrored, -up[:, :1], up[:, :1]), up[:, 1:]], 1)
    return [picture, *(plane[each, row, column[:, None]] for plane in planes), up]


def _resized(name: str, field: Tensor, size: int) -> Tensor:
    """(B,S,S) or (B,S,S,3) at another size; depths are picked, not mixed across steps."""
    if field.ndim == 1:
        return field
    if field.ndim == 3:
        return F.interpolate(field[:, None], size, mode="nearest" if name in ("front", "back") else "bilinear")[:, 0]
    return F.interpolate(field.movedim(-1, 1), size, mode="bilinear").movedim(1, -1)


def _random(random: Generator, low: float, high: float, *shape: int) -> Tensor:
    return low + (high - low) * torch.rand(shape, generator=random, device=random.device)


def _chance(random: Generator, share: float, *shape: int) -> Tensor:
    return torch.rand(shape, generator=random, device=random.device) < share


def _normal(random: Generator, *shape: int) -> Tensor:
    return torch.randn(shape, generator=random, device=random.device)


def _shaded(albedo: Tensor, normal: Tensor, random: Generator) -> Tensor:
    """A sky, one to three lamps, a highlight."""
    count, each = len(albedo), (len(albedo), 1, 1, 1)
    above, ahead = torch.tensor([[0, 0.5, 0.9], [0, 0, 1.0]], device=random.device)
    sky = _random(random, 0.1, 0.45, *each) * (1 + _random(random, 0, 0.5, *each) * normal[:, 1:2])
    total, gloss = sky.expand(-1, 3, *normal.shape[2:]).clone(), torch.zeros_like(normal[:, :1])
    for lamp in range(3):
        spread = 0.55 if lamp == 0 else 1.0  # most pictures are lit from above the camera
        towards = F.normalize(spread * _normal(random, count, 3) + above, dim=1)[:, :, None, None]
        power = _random(random, 0.4, 1.0, *each) if lamp == 0 else _random(random, -0.5, 0.4, *each)
        hue = 1 + _random(random, -0.12, 0.12, count, 3, 1, 1)
        soft = _random(random, -0.4, 0.8, *each).clamp(min=0)
        facing = (((normal * towards).sum(1, keepdim=True) + soft) / (1 + soft)).clamp(min=0)
        total += power.clamp(min=0) * hue * facing
        if lamp == 0:
            half = F.normalize(towards + ahead[:, None, None], dim=1)
            shine = _random(random, -0.5, 0.6, *each).clamp(min=0)
            gloss = shine * (normal * half).sum(1, keepdim=True).clamp(min=0) ** _random(random, 5, 60, *each)
    picture = albedo ** _random(random, 0.8, 1.4, *each) * total + gloss
    brightest = picture.flatten(1)[:, ::5].quantile(0.98, dim=1).clamp(min=0.05)  # the camera's exposure
    return picture / brightest[:, None, None, None] * _random(random, 0.5, 1.15, *each)


def _sheltered(front: Tensor, valid: Tensor, random: Generator) -> Tensor:
    """(B,1,S,S) how much of the light reaches a place: a third of the objects are darker where they are hollow."""
    inside = valid.float()[:, None]
    around = F.avg_pool2d(front[:, None] * inside, 9, 1, 4) / F.avg_pool2d(inside, 9, 1, 4).clamp(min=0.05)
    deep = (around - front[:, None]).clamp(0, 0.3) * inside
    return 1 - (_random(random, -6, 3, len(front), 1, 1, 1).clamp(min=0) * deep).clamp(max=0.7)


def _drawn(albedo: Tensor, normal: Tensor, front: Tensor, random: Generator) -> Tensor:
    """Flat colours, at times in few steps and with ink where the depth jumps."""
    each = (len(front), 1, 1, 1)
    step = (F.max_pool2d(front[:, None], 3, 1, 1) + F.max_pool2d(-front[:, None], 3, 1, 1)) > 0.12
    ink = step & _chance(random, 0.5, *each)
    tone = torch.where(normal[:, 1:2] + 0.5 * normal[:, :1] > 0.1, 1.0, _random(random, 0.6, 1, *each))
    return torch.where(ink, 0.1, albedo * tone)


def _photographed(picture: Tensor, mask: Tensor, random: Generator) -> tuple[Tensor, Tensor]:
    """White balance, background in the rim, blur, noise, JPEG, a mask with other edges."""
    each = (len(picture), 1, 1, 1)
    hue = (len(picture), 3, 1, 1)
    picture = picture * (1 + _random(random, -0.1, 0.1, *hue))
    share = (1 - _chance(random, 0.25, *each).float() * (1 - mask[:, None])).clamp(0, 1)
    picture = picture * share + _random(random, 0, 1, *hue) * (1 - share)
    blurred = F.avg_pool2d(picture, 3, 1, 1, count_include_pad=False)
    picture = torch.lerp(picture, blurred, _random(random, -2, 1, *each).clamp(min=0))
    noise = _random(random, -0.15, 0.05, *each).clamp(min=0)
    picture = (picture + noise * _normal(random, *picture.shape)).clamp(0, 1)
    packed = packed_as_jpeg(picture, _random(random, 30, 90, *each))
    picture = torch.where(_chance(random, 0.08, *each), packed, picture)
    softer = F.avg_pool2d(mask[:, None], 3, 1, 1)[:, 0]
    harder = (mask > 0.5).float()
    kind = torch.randint(4, (len(mask), 1, 1), generator=random, device=random.device)
    return picture, torch.where(kind == 0, softer, torch.where(kind == 1, harder, mask))


_BLOCK, _GREY = 8, 128 / 255
_LOSSES = [
    *(16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55, 14, 13, 16, 24, 40, 57, 69, 56, 14, 17, 22, 29),
    *(51, 87, 80, 62, 18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113, 92, 49, 64, 78, 87, 103, 121),
    *(120, 101, 72, 92, 95, 98, 112, 100, 103, 99),
]


def packed_as_jpeg(picture: Tensor, quality: Tensor) -> Tensor:
    """What JPEG of a (B,1,1,1) `quality` from 1 to 100 leaves of (B,3,S,S) pictures whose S is a multiple of 8: their
    cosines in blocks, rounded to steps of the table for luminance (ITU-T T.81, K.1) in all three colours."""
    device, (count, _, size, _) = picture.device, picture.shape
    k = torch.arange(_BLOCK, device=device)
    cosines = (math.pi / _BLOCK * k[:, None] * (k + 0.5)).cos() * torch.where(k[:, None] > 0, 0.5, 0.125**0.5)
    scale = torch.where(quality < 50, 5000 / quality, 200 - 2 * quality)[..., None, None] / 100
    table = torch.tensor(_LOSSES, device=device).reshape(_BLOCK, 1, _BLOCK)
    step = (scale * table).round().clamp(min=1) / 255  # (B,1,1,8,1,8)
    blocks = (picture - _GREY).reshape(count, 3, size // _BLOCK, _BLOCK, size // _BLOCK, _BLOCK)
    found = torch.einsum("kn,bchnwm,lm->bchkwl", cosines, blocks, cosines)
    kept = (found / step).round() * step
    return (torch.einsum("kn,bchkwl,lm->bchnwm", cosines, kept, cosines).reshape(picture.shape) + _GREY).clamp(0, 1)
