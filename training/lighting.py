"""Views without light → what a camera, a painter or a bad scan would make of them: the network's input and its goal."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from solids import Random

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

    def fields(self) -> tuple[Tensor, ...]:
        """In order."""
        return self.picture, self.mask, self.height, self.front, self.back, self.valid, self.flat

    def to(self, device: str) -> Batch:
        """On another device."""
        return Batch(*(field.to(device, non_blocking=True) for field in self.fields()))


def lit(views: NDArray[np.void], random: Random, *, size: int | None = None, plain: bool = False) -> Batch:
    """Light (B,) VIEWs at random, at another `size` if wanted; `plain`: the same for all and nothing else done to them,
    for measuring."""
    tensors = {name: torch.from_numpy(views[name].astype(np.float32)) for name in views.dtype.names or ()}
    if size and size != views["mask"].shape[-1]:
        tensors = {name: _resized(name, tensor, size) for name, tensor in tensors.items()}
    valid = (~tensors["front"].isnan()) & (~tensors["back"].isnan()) & (tensors["height"] > 0)
    front, back = tensors["front"].nan_to_num(), tensors["back"].nan_to_num()
    normal = tensors["normal"].movedim(-1, 1) / 127  # (B,3,S,S)
    albedo = tensors["albedo"].movedim(-1, 1) / 255
    mask, flat = tensors["mask"] / 255, tensors["flat"]
    if plain:
        light = torch.tensor([-0.3, 0.5, 0.8]) / 0.99
        shade = 0.35 + 0.65 * (normal * light[:, None, None]).sum(1, keepdim=True).clamp(min=0)
        picture = albedo * torch.where(flat.bool()[:, None, None, None], 1, shade)
        return Batch(picture, mask, tensors["height"], front, back, valid.float(), flat)

    picture = _shaded(albedo.clamp(0.02, 1), normal, random)
    painted = torch.from_numpy(random.random(len(views)) < 0.08) | flat.bool()
    picture = torch.where(painted[:, None, None, None], _drawn(albedo, normal, front, random), picture)
    picture, mask = _photographed(picture, mask, random)
    fields = [picture, mask, tensors["height"], front, back, valid.float()]
    mirror = torch.from_numpy(random.random(len(views)) < 0.5)
    for number, field in enumerate(fields):
        chosen = mirror.reshape(-1, *[1] * (field.ndim - 1))
        fields[number] = torch.where(chosen, field.flip(-1), field)
    for i in np.flatnonzero(random.random(len(views)) < 0.5):
        by = random.integers(-_MOVED, _MOVED + 1, 2).tolist()
        for field in fields:
            field[i] = field[i].roll(by, (-2, -1))
    return Batch(*[*fields, flat])


def _resized(name: str, field: Tensor, size: int) -> Tensor:
    """(B,S,S) or (B,S,S,3) at another size; depths are picked, not mixed across steps."""
    if field.ndim == 1:
        return field
    if field.ndim == 3:
        return F.interpolate(field[:, None], size, mode="nearest" if name in ("front", "back") else "bilinear")[:, 0]
    return F.interpolate(field.movedim(-1, 1), size, mode="bilinear").movedim(1, -1)


def _random(random: Random, low: float, high: float, *shape: int) -> Tensor:
    return torch.from_numpy(random.uniform(low, high, shape).astype(np.float32))


def _shaded(albedo: Tensor, normal: Tensor, random: Random) -> Tensor:
    """A sky, one to three lamps, a highlight."""
    count = len(albedo)
    sky = _random(random, 0.1, 0.45, count, 1, 1, 1) * (1 + _random(random, 0, 0.5, count, 1, 1, 1) * normal[:, 1:2])
    total, gloss = sky.expand(-1, 3, *normal.shape[2:]).clone(), torch.zeros_like(normal[:, :1])
    for lamp in range(3):
        spread = 0.55 if lamp == 0 else 1.0  # most pictures are lit from above the camera
        towards = torch.from_numpy(random.normal(0, spread, (count, 3)).astype(np.float32))
        towards = towards + torch.tensor([0, 0.5, 0.9])
        towards = F.normalize(towards, dim=1)[:, :, None, None]
        power = _random(random, 0.4, 1.0, count, 1, 1, 1) if lamp == 0 else _random(random, -0.5, 0.4, count, 1, 1, 1)
        hue = 1 + _random(random, -0.12, 0.12, count, 3, 1, 1)
        soft = _random(random, -0.4, 0.8, count, 1, 1, 1).clamp(min=0)
        facing = (((normal * towards).sum(1, keepdim=True) + soft) / (1 + soft)).clamp(min=0)
        total += power.clamp(min=0) * hue * facing
        if lamp == 0:
            half = F.normalize(towards + torch.tensor([0, 0, 1.0])[:, None, None], dim=1)
            shine = _random(random, -0.5, 0.6, count, 1, 1, 1).clamp(min=0)
            gloss = shine * (normal * half).sum(1, keepdim=True).clamp(min=0) ** float(random.uniform(5, 60))
    picture = albedo ** _random(random, 0.8, 1.4, count, 1, 1, 1) * total + gloss
    brightest = picture.flatten(1).quantile(0.98, dim=1).clamp(min=0.05)  # the camera's exposure
    return picture / brightest[:, None, None, None] * _random(random, 0.5, 1.15, count, 1, 1, 1)


def _drawn(albedo: Tensor, normal: Tensor, front: Tensor, random: Random) -> Tensor:
    """Flat colours, at times in few steps and with ink where the depth jumps."""
    step = (F.max_pool2d(front[:, None], 3, 1, 1) + F.max_pool2d(-front[:, None], 3, 1, 1)) > 0.12
    ink = step & torch.from_numpy(random.random((len(front), 1, 1, 1)) < 0.5)
    tone = torch.where(normal[:, 1:2] + 0.5 * normal[:, :1] > 0.1, 1.0, float(random.uniform(0.6, 1)))
    return torch.where(ink, 0.1, albedo * tone)


def _photographed(picture: Tensor, mask: Tensor, random: Random) -> tuple[Tensor, Tensor]:
    """White balance, background in the rim, blur, noise, JPEG, a mask with other edges."""
    count = len(picture)
    picture = picture * (1 + _random(random, -0.1, 0.1, count, 3, 1, 1))
    bleeds = torch.from_numpy((random.random((count, 1, 1, 1)) < 0.25).astype(np.float32))
    share = (1 - bleeds * (1 - mask[:, None])).clamp(0, 1)
    picture = picture * share + _random(random, 0, 1, count, 3, 1, 1) * (1 - share)
    blurred = F.avg_pool2d(picture, 3, 1, 1, count_include_pad=False)
    picture = torch.lerp(picture, blurred, _random(random, -2, 1, count, 1, 1, 1).clamp(min=0))
    noise = _random(random, -0.15, 0.05, count, 1, 1, 1).clamp(min=0)
    picture = (picture + noise * torch.from_numpy(random.standard_normal(picture.shape, np.float32))).clamp(0, 1)
    for i in np.flatnonzero(random.random(count) < 0.08):
        pixels = np.ascontiguousarray((255 * picture[i].movedim(0, -1)).byte().numpy())
        packed = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, int(random.integers(30, 90))])[1]
        picture[i] = torch.from_numpy(cv2.imdecode(packed, cv2.IMREAD_COLOR)).movedim(-1, 0) / 255.0
    softer = F.avg_pool2d(mask[:, None], 3, 1, 1)[:, 0]
    harder = (mask > 0.5).float()
    kind = torch.from_numpy(random.integers(0, 4, (count, 1, 1)))
    return picture, torch.where(kind == 0, softer, torch.where(kind == 1, harder, mask))
