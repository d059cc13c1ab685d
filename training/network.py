"""The network that corrects the inflated depth, as it is trained: picture, mask and inflation in, two depth layers out.

`backend/models/builtin/network.py` runs it in numpy, by the names that the layers have here: what is changed here is to
be changed there, and `backend/tests/models/test_network.py` holds both against each other. The last layers start at
zero, so that an untrained one returns the inflation, and training can only add to it. Sizes: B pictures of S × S
pixels, S a multiple of 24; C channels.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812  (its usual name)

from models.builtin import weights
from models.builtin.network import BEND, GROUPS, HEAD, HEADS, PATCH, THINNEST, TRUNK_AT, NetworkConfig


@dataclass(frozen=True, slots=True)
class Depths:
    """What the network sees, as `models.builtin.network.Depths` says."""

    front: Tensor
    """(B,S,S)"""
    back: Tensor
    """(B,S,S)"""
    doubt: Tensor
    """(B,)"""
    up: Tensor | None = None
    """(B,3)"""


def from_files(folder: Path) -> tuple[DepthNetwork, str]:
    """The network of weights that `export.py` wrote, and the SHA-256 of their file; WeightsError."""
    weights.load(folder)  # which says why they are of no use
    found = weights.read(folder)
    network = DepthNetwork(found.config)
    network.load_state_dict({name: torch.from_numpy(tensor) for name, tensor in found.tensors.items()})
    return network.eval().requires_grad_(False), found.sha256


class Block(nn.Module):
    """Two convolutions beside a path that lets everything through."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(GROUPS, width)
        self.first = nn.Conv2d(width, width, 3, padding=1)
        self.second = nn.Conv2d(width, width, 3, padding=1)
        for start in self.second.parameters():
            nn.init.zeros_(start)

    def forward(self, x: Tensor) -> Tensor:
        """(B,C,H,W) → the same."""
        out: Tensor = x + self.second(F.silu(self.first(self.norm(x))))
        return out


class Attention(nn.Module):
    """Every place looks at every other, so that what belongs together gets one depth."""

    def __init__(self, width: int, places: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(GROUPS, width)
        self.place = nn.Parameter(torch.randn(1, width, places, places) * 0.02)
        self.qkv = nn.Conv2d(width, 3 * width, 1)
        self.out = nn.Conv2d(width, width, 1)
        for start in self.out.parameters():
            nn.init.zeros_(start)

    def forward(self, x: Tensor) -> Tensor:
        """(B,C,H,W) → the same."""
        b, c, h, w = x.shape
        qkv = self.qkv(self.norm(x) + self.place).reshape(b, 3, HEADS, c // HEADS, h * w)
        q, k, v = qkv.transpose(3, 4).unbind(1)  # each (B, heads, HW, C/heads)
        mixed = F.scaled_dot_product_attention(q, k, v).transpose(2, 3).reshape(b, c, h, w)
        out: Tensor = x + self.out(mixed)
        return out


class Trunk(nn.Module):
    """A transformer (Vaswani et al., 2017) over the places of one level: what the whole object is and how it stands.

    What it adds to its level and to the tilt starts at zero, so that it can be put into a network that is trained.
    """

    def __init__(self, width: int, inner: int, places: int, blocks: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(GROUPS, width)
        self.enter = nn.Linear(width, inner)
        self.place = nn.Parameter(torch.randn(1, places * places, inner) * 0.02)
        self.blocks = nn.ModuleList(TrunkBlock(inner) for _ in range(blocks))
        self.end = nn.LayerNorm(inner)
        self.leave = nn.Linear(inner, width)
        self.whole = nn.Linear(inner, 6)
        self.up = nn.Sequential(nn.Linear(inner, 128), nn.SiLU(), nn.Linear(128, 3))
        for last in (*self.leave.parameters(), *self.whole.parameters()):
            nn.init.zeros_(last)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(B,C,H,W) → the same, (B,6) for the tilt, (B,3) the direction that is up."""
        b, c, h, w = x.shape
        tokens = self.enter(self.norm(x).flatten(2).transpose(1, 2)) + self.place  # (B,HW,C')
        for block in self.blocks:
            tokens = block(tokens)
        tokens = self.end(tokens)
        mean = tokens.mean(1)
        added = self.leave(tokens).transpose(1, 2).reshape(b, c, h, w)
        return x + added, self.whole(mean), self.up(mean)


class TrunkBlock(nn.Module):
    """Attention between all places, then two layers for each."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.heads = width // HEAD
        self.first, self.second = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.wide, self.narrow = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        for layer in (self.qkv, self.out, self.wide, self.narrow):
            nn.init.trunc_normal_(layer.weight, std=0.02)
            nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor) -> Tensor:
        """(B,N,C) → the same."""
        b, n, c = x.shape
        q, k, v = self.qkv(self.first(x)).reshape(b, n, 3, self.heads, c // self.heads).permute(2, 0, 3, 1, 4)
        x = x + self.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(b, n, c))
        out: Tensor = x + self.narrow(F.gelu(self.wide(self.second(x))))
        return out


class DepthNetwork(nn.Module):
    """Corrects the inflation."""

    def __init__(self, config: NetworkConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or NetworkConfig()
        widths, levels = config.widths, list(zip(config.widths, config.blocks, strict=True))

        def level(number: int) -> nn.Sequential:
            width, blocks = levels[number]
            layers: list[nn.Module] = [Block(width) for _ in range(blocks)]
            if number in config.attention:
                layers.append(Attention(width, config.size // (PATCH << number)))
            return nn.Sequential(*layers)

        self.stem = nn.Conv2d(PATCH**2 * 7, widths[0], 3, padding=1)
        self.down = nn.ModuleList(level(number) for number in range(len(levels)))
        self.pool = nn.ModuleList(nn.Conv2d(a, b, 2, stride=2) for a, b in pairwise(widths))
        self.trunk = (
            Trunk(widths[TRUNK_AT], config.trunk_width, config.size // (PATCH << TRUNK_AT), config.trunk)
            if config.trunk
            else None
        )
        coarsest = config.size // (PATCH << len(widths) - 1)
        self.middle = nn.Sequential(Attention(widths[-1], coarsest), Block(widths[-1]))
        self.lift = nn.ModuleList(nn.Conv2d(b, a, 1) for a, b in pairwise(widths))
        self.join = nn.ModuleList(nn.Conv2d(2 * width, width, 1) for width in widths[:-1])
        self.up = nn.ModuleList(level(number) for number in range(len(levels) - 1))
        self.norm = nn.GroupNorm(GROUPS, widths[0])
        self.local = nn.Conv2d(widths[0], 2 * PATCH**2, 3, padding=1)
        self.whole = nn.Sequential(
            nn.LayerNorm(2 * widths[-1]), nn.Linear(2 * widths[-1], 128), nn.SiLU(), nn.Linear(128, 6)
        )
        for last in (*self.local.parameters(), *self.whole[3].parameters()):
            nn.init.zeros_(last)

    def forward(self, picture: Tensor, mask: Tensor, height: Tensor) -> Depths:
        """(B,3,S,S) sRGB in 0..1, (B,S,S) covered share of each pixel, (B,S,S) half thickness of the inflation."""
        b, size, _ = mask.shape
        axis = (torch.arange(size, device=mask.device, dtype=mask.dtype) + 0.5) * (2 / size) - 1
        x, y = axis.expand(b, size, size), -axis[:, None].expand(b, size, size)
        seen = (picture - 0.5) * mask[:, None]  # nothing of the background
        image = torch.cat([seen, torch.stack([mask, 2 * height, x, y], 1)], 1)  # (B,7,S,S)
        feature = self.stem(F.pixel_unshuffle(image, PATCH))  # (B,C0,S/3,S/3)

        kept, more, up = [], None, None
        for level, blocks in enumerate(self.down):
            feature = blocks(self.pool[level - 1](feature) if level else feature)  # (B,Ci,S/(3·2^i),S/(3·2^i))
            if self.trunk is not None and level == TRUNK_AT:
                feature, more, up = self.trunk(feature)
            kept.append(feature)
        feature = self.middle(feature)
        pooled = torch.cat([feature.mean((2, 3)), feature.amax((2, 3))], 1)  # (B,2·C3)
        whole = self.whole(pooled).to(mask.dtype)[..., None, None]  # (B,6,1,1)
        if more is not None and up is not None:
            whole, up = whole + more.to(mask.dtype)[..., None, None], F.normalize(up.to(mask.dtype), dim=1)
        for level in range(len(self.up) - 1, -1, -1):
            raised = F.interpolate(self.lift[level](feature), scale_factor=2.0, mode="nearest")
            feature = self.up[level](self.join[level](torch.cat([raised, kept[level]], 1)))
        local = F.pixel_shuffle(self.local(F.silu(self.norm(feature))), PATCH).to(mask.dtype)  # (B,2,S,S)

        tilt = whole[:, 0] * x + whole[:, 1] * y + whole[:, 2]
        middle = local[:, 0] + tilt
        half = thicker(height, local[:, 1] + whole[:, 3] + whole[:, 4] * height)
        return Depths(middle + half, middle - half, whole[:, 5, 0, 0], up)


def thicker(height: Tensor, by: Tensor) -> Tensor:
    """The half thickness plus a correction, kept above 0: a softplus that leaves `height` alone where `by` is 0."""
    bent = height.clamp(min=THINNEST) * BEND
    return F.softplus(bent + torch.log(-torch.expm1(-bent)) + BEND * by) / BEND
