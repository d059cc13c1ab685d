"""The network that corrects the inflated depth: picture, mask and inflation in, two depth layers out.

A U-Net (Ronneberger et al., 2015) with a transformer beside it. This is its forward pass in numpy, so that the built-in
model needs no PyTorch; `training/network.py` is the same network for training, whose names the tensors have. Sizes: B
pictures of S × S pixels, S a multiple of 24; C channels, last in every array.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

import nn
from nn import Array, Tensors

PATCH = 3
"""Pixels along each side of what the first layer takes as one place: depth is smooth, and this is four times cheaper
than places of one pixel with the same number of channels."""

GROUPS, HEADS, HEAD = 8, 4, 64
"""Of each norm, of each attention of the U-Net, and channels of each head in the trunk."""

TRUNK_AT = 1
"""The level that the trunk works on: S/6."""

BEND, THINNEST = 5.0, 0.005
"""How sharply a thickness that would be negative turns to zero, and what counts as no thickness."""


@dataclass(frozen=True, slots=True)
class NetworkConfig:
    """The sizes that the weights fit."""

    size: int = 72
    """S at which it was trained, and at which the built-in model uses it."""
    widths: tuple[int, ...] = (64, 96, 192, 224)
    """Channels at S/3, S/6, S/12 and S/24."""
    blocks: tuple[int, ...] = (2, 3, 2, 2)
    """Residual blocks at each of these, on the way down and on the way up."""
    attention: tuple[int, ...] = (1, 2)
    """At which of these levels, counted from 0, attention follows them; it always does at the coarsest."""
    trunk: int = 0
    """Transformer blocks at S/6, beside the way down; those and what reads them are missing where it is 0."""
    trunk_width: int = 384
    """Channels in them, a multiple of 64."""


@dataclass(frozen=True, slots=True)
class Depths:
    """What the network sees."""

    front: Array
    """(B,S,S) z of the side towards the viewer, in units of half the window's side; not meant to be read outside."""
    back: Array
    """(B,S,S) z of the far side, less than `front`."""
    doubt: Array
    """(B,) the logit of the inflation being the better guess."""
    up: Array | None = None
    """(B,3) a unit vector: which way is up for the object, in x to the right, y up, z towards the viewer; only with a
    trunk."""


class DepthNetwork:
    """Corrects the inflation."""

    def __init__(self, config: NetworkConfig, tensors: dict[str, Array]) -> None:
        """Of float32 tensors by the names that they have in training, which it takes out of the dictionary; ValueError
        when they are not all that a network of these sizes has."""
        self.config = config
        widths, every = config.widths, Tensors(tensors)

        def level(name: str, number: int) -> list[nn.ResidualBlock | nn.Attention]:
            mine, width, blocks = every.under(f"{name}.{number}"), widths[number], config.blocks[number]
            layers: list[nn.ResidualBlock | nn.Attention] = [
                nn.ResidualBlock(mine.under(str(i)), width, GROUPS) for i in range(blocks)
            ]
            if number in config.attention:
                layers.append(
                    nn.Attention(mine.under(str(blocks)), width, config.size // (PATCH << number), GROUPS, HEADS)
                )
            return layers

        self.stem = every.convolution("stem", PATCH**2 * 7, widths[0], 3)
        self.down = [level("down", number) for number in range(len(widths))]
        self.pool = [every.convolution(f"pool.{i}", a, b, 2) for i, (a, b) in enumerate(pairwise(widths))]
        self.trunk: nn.Trunk | None = None
        if config.trunk:
            places = config.size // (PATCH << TRUNK_AT)
            inner, mine = config.trunk_width, every.under("trunk")
            self.trunk = nn.Trunk(mine, widths[TRUNK_AT], inner, places, config.trunk, GROUPS, HEAD)
            self.tilt = mine.linear("whole", inner, 6)
            self.upward = mine.linear("up.0", inner, 128), mine.linear("up.2", 128, 3)
        coarsest = config.size // (PATCH << len(widths) - 1)
        self.middle = (
            nn.Attention(every.under("middle.0"), widths[-1], coarsest, GROUPS, HEADS),
            nn.ResidualBlock(every.under("middle.1"), widths[-1], GROUPS),
        )
        self.lift = [every.convolution(f"lift.{i}", b, a, 1) for i, (a, b) in enumerate(pairwise(widths))]
        self.join = [every.convolution(f"join.{i}", 2 * a, a, 1) for i, a in enumerate(widths[:-1])]
        self.up = [level("up", number) for number in range(len(widths) - 1)]
        self.norm = every.norm("norm", widths[0])
        self.local = every.convolution("local", widths[0], 2 * PATCH**2, 3)
        whole, pooled = every.under("whole"), 2 * widths[-1]
        self.whole = whole.norm("0", pooled), whole.linear("1", pooled, 128), whole.linear("3", 128, 6)
        every.nothing_left()

    def __call__(self, picture: Array, mask: Array, height: Array) -> Depths:
        """(B,S,S,3) sRGB in 0..1, (B,S,S) covered share of each pixel, (B,S,S) half thickness of the inflation."""
        with nn.one_thread():
            return self._forward(picture, mask, height)

    def _forward(self, picture: Array, mask: Array, height: Array) -> Depths:
        size = mask.shape[1]
        axis = (np.arange(size, dtype=np.float32) + np.float32(0.5)) * np.float32(2 / size) - np.float32(1)
        x, y = (np.broadcast_to(each, mask.shape) for each in (axis, -axis[:, None]))
        seen = (picture - np.float32(0.5)) * mask[..., None]  # nothing of the background
        image = np.concatenate([seen, np.stack([mask, 2 * height, x, y], -1)], -1)  # (B,S,S,7)
        feature = nn.conv2d(nn.unshuffle(image, PATCH), *self.stem)  # (B,S/3,S/3,C0)

        kept, more, up = list[Array](), None, None
        for number, layers in enumerate(self.down):
            if number:
                feature = nn.conv2d(feature, *self.pool[number - 1], stride=2)  # (B,S/(3·2^i),S/(3·2^i),Ci)
            for layer in layers:
                feature = layer(feature)
            if self.trunk is not None and number == TRUNK_AT:
                feature, mean = self.trunk(feature)
                more, up = (
                    nn.linear(mean, *self.tilt),
                    nn.linear(nn.silu(nn.linear(mean, *self.upward[0])), *self.upward[1]),
                )
            kept.append(feature)
        for layer in self.middle:
            feature = layer(feature)
        pooled = np.concatenate([feature.mean((1, 2)), feature.max((1, 2))], 1)  # (B,2·C3)
        norm, first, last = self.whole
        whole = nn.linear(nn.silu(nn.linear(nn.layer_norm(pooled, *norm), *first)), *last)  # (B,6)
        if more is not None and up is not None:
            whole, up = whole + more, up / np.maximum(np.linalg.norm(up, axis=1, keepdims=True), np.float32(1e-12))
        for number in range(len(self.up) - 1, -1, -1):
            raised = nn.doubled(nn.conv2d(feature, *self.lift[number]))
            feature = nn.conv2d(np.concatenate([raised, kept[number]], -1), *self.join[number])
            for layer in self.up[number]:
                feature = layer(feature)
        inner = nn.silu(nn.group_norm(feature, *self.norm, GROUPS))
        local = nn.shuffle(nn.conv2d(inner, *self.local), PATCH)  # (B,S,S,2)

        across, along, level, thicker_all, thicker_there, doubt = whole.T[..., None, None]  # each (B,1,1)
        middle = local[..., 0] + (across * x + along * y + level)
        half = nn.softplus_from(height, local[..., 1] + thicker_all + thicker_there * height, BEND, THINNEST)
        return Depths(middle + half, middle - half, doubt[:, 0, 0], up)
