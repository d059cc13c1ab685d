"""The parts of a neural network's forward pass, in numpy: for small networks that run on a CPU and were trained
elsewhere.

Arrays are float32 and have their channels last: a picture's features are (B,H,W,C), a row of tokens is (B,N,C). So
most of the work is products of large matrices, in which numpy is as fast as anything. Weights are (O,I), from I
channels to O, as PyTorch keeps them; those of convolutions (O,S,S,I), see `Tensors.convolution`.
"""

from __future__ import annotations

import contextlib
import ctypes
import threading
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

Array = NDArray[np.float32]
Layer = tuple[Array, Array]
"""Weight and bias."""

_EPSILON = np.float32(1e-5)
"""Added to a variance, as PyTorch does."""

_GELU = tuple(np.float32(c) for c in (1.11908e-06, -3.0581e-05, -0.000124862, 0.0364688, 0.797828))
"""atanh(erf(x/√2))/x as a polynomial in x², highest power first; fitted so that `gelu` is off by the least."""

_BLOCK = 32_768
"""Numbers that are taken through many small steps at once, few enough to stay close to the processor."""

_COUNTING = threading.Lock()
_inside, _before = 0, 0
"""How many are in `one_thread`, and how many threads there were before the first."""


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Within it numpy's products of matrices use one thread each: a small network's are not worth sharing, a core that
    is busy elsewhere makes all others wait, and the last bits of a sum depend on how many share it.

    numpy has no setting for this; its OpenBLAS has, for the whole process. Where numpy has another library nothing is
    changed; `OMP_NUM_THREADS` or a variable of that library's own then says how many threads there are.
    """
    global _inside, _before
    blas = _openblas()
    if blas is None:
        yield
        return
    get, put = blas
    with _COUNTING:
        if not _inside:
            _before = get()
            put(1)
        _inside += 1
    try:
        yield
    finally:
        with _COUNTING:
            _inside -= 1
            if not _inside:
                put(_before)


@cache
def _openblas() -> tuple[Callable[[], int], Callable[[int], None]] | None:
    """What tells and what sets the number of threads of the OpenBLAS that comes with numpy's wheels."""
    package = Path(np.__file__).parent
    for file in (*package.parent.glob("numpy.libs/*openblas*"), *package.glob(".dylibs/*openblas*")):
        with contextlib.suppress(OSError, AttributeError):
            library, end = ctypes.CDLL(str(file)), "64_" if "64_" in file.name else ""
            get, put = (getattr(library, f"scipy_openblas_{what}_num_threads{end}") for what in ("get", "set"))
            return get, put
    return None


class Tensors:
    """What a file of weights holds, taken out name by name as a network is assembled; ValueError when one is missing or
    of another shape than the network's."""

    def __init__(self, tensors: dict[str, Array], prefix: str = "") -> None:
        self._tensors, self._prefix = tensors, prefix

    def under(self, name: str) -> Tensors:
        """Those whose names begin like that. What is taken there is gone here, too."""
        return Tensors(self._tensors, f"{self._prefix}{name}.")

    def take(self, name: str, *shape: int) -> Array:
        """The tensor of that name and shape, which is gone afterwards."""
        found = self._tensors.pop(self._prefix + name, None)
        if found is None or found.shape != shape:
            has = "missing" if found is None else f"of shape {found.shape}"
            raise ValueError(f"{self._prefix}{name} is {has}, not {shape}")
        return found

    def norm(self, name: str, width: int) -> Layer:
        """Of a group norm or a layer norm: (C,) and (C,)."""
        return self.take(f"{name}.weight", width), self.take(f"{name}.bias", width)

    def linear(self, name: str, entering: int, leaving: int) -> Layer:
        """(O,I) and (O,)."""
        return self.take(f"{name}.weight", leaving, entering), self.take(f"{name}.bias", leaving)

    def convolution(self, name: str, entering: int, leaving: int, side: int) -> Layer:
        """PyTorch's (O,I,S,S), of a square of S × S places, as (O,S,S,I), and (O,)."""
        weight = self.take(f"{name}.weight", leaving, entering, side, side)
        return np.ascontiguousarray(weight.transpose(0, 2, 3, 1)), self.take(f"{name}.bias", leaving)

    def nothing_left(self) -> None:
        """ValueError when a tensor was not taken: the file is of another network."""
        if self._tensors:
            raise ValueError(f"{next(iter(self._tensors))} is not known")


def linear(x: Array, weight: Array, bias: Array) -> Array:
    """(…,I) with (O,I) and (O,) → (…,O)."""
    out: Array = x.reshape(-1, x.shape[-1]) @ weight.T
    out += bias
    return out.reshape(*x.shape[:-1], len(weight))


def conv2d(x: Array, weight: Array, bias: Array, stride: int = 1) -> Array:
    """(B,H,W,I) with (O,S,S,I) and (O,) → (B,H',W',O). There are zeros around the picture, half of S − 1 on each side:
    for an odd S and a stride of 1 its size stays."""
    side = weight.shape[1]
    weight = weight.reshape(len(weight), -1)
    if side == 1 and stride == 1:
        return linear(x, weight, bias)
    b, h, w, c = x.shape
    if border := (side - 1) // 2:
        padded = np.zeros((b, h + 2 * border, w + 2 * border, c), np.float32)
        padded[:, border:-border, border:-border] = x
        x = padded
    seen = sliding_window_view(x, (side, side), (1, 2))[:, ::stride, ::stride]  # (B,H',W',I,S,S)
    columns = seen.transpose(0, 1, 2, 4, 5, 3).reshape(*seen.shape[:3], -1)
    return linear(columns, weight, bias)


def group_norm(x: Array, weight: Array, bias: Array, groups: int) -> Array:
    """(B,…,C) → the same, with mean 0 and variance 1 over all places and the channels of each group, then scaled."""
    b, c = len(x), x.shape[-1]
    flat = x.reshape(b, -1, c)
    count = np.float32(flat.shape[1] * (c // groups))

    def over_groups(sums: Array) -> Array:
        """(B,C) sums over places → (B,1,C) means over places and the channels of a group."""
        means: Array = sums.reshape(b, groups, -1).sum(2) / count
        return means.repeat(c // groups, 1)[:, None]

    centred = flat - over_groups(flat.sum(1))
    variance = over_groups(np.einsum("bnc,bnc->bc", centred, centred))
    centred *= weight / np.sqrt(variance + _EPSILON)
    centred += bias
    return centred.reshape(x.shape)


def layer_norm(x: Array, weight: Array, bias: Array) -> Array:
    """(…,C) → the same, with mean 0 and variance 1 over the channels of each place, then scaled."""
    centred: Array = x - x.mean(-1, keepdims=True)
    variance = np.einsum("...c,...c->...", centred, centred)[..., None] / np.float32(x.shape[-1])
    centred /= np.sqrt(variance + _EPSILON)
    centred *= weight
    centred += bias
    return centred


def silu(x: Array) -> Array:
    """x·σ(x), for any shape."""
    half: Array = x * np.float32(0.5)  # σ(x) = (1 + tanh(x/2))/2, which never overflows
    out: Array = np.tanh(half)
    out *= half
    out += half
    return out


def gelu(x: Array) -> Array:
    """x·Φ(x), for any shape, with the normal distribution's Φ; off by 4e-6 at most."""
    out = np.empty(x.size, np.float32)
    flat = x.reshape(-1)
    for start in range(0, x.size, _BLOCK):
        piece, into = flat[start : start + _BLOCK], out[start : start + _BLOCK]
        square = piece * piece
        np.multiply(square, _GELU[0], into)
        for c in _GELU[1:-1]:
            into += c
            into *= square
        into += _GELU[-1]
        into *= piece
        np.tanh(into, into)
        into += np.float32(1)
        into *= piece
        into *= np.float32(0.5)
    return out.reshape(x.shape)


def attention(qkv: Array, heads: int) -> Array:
    """(B,N,3C), the queries, keys and values of all heads → (B,N,C), what each place gets from all."""
    b, n, c = qkv.shape[0], qkv.shape[1], qkv.shape[2] // 3
    q, k, v = qkv.reshape(b, n, 3, heads, c // heads).transpose(2, 0, 3, 1, 4)  # each (B,heads,N,C/heads)
    scores: Array = (q * np.float32((c // heads) ** -0.5)) @ k.swapaxes(2, 3)
    scores -= scores.max(3, keepdims=True)
    np.exp(scores, scores)
    mixed: Array = scores @ v
    mixed /= scores.sum(3, keepdims=True)
    return mixed.transpose(0, 2, 1, 3).reshape(b, n, c)


def unshuffle(x: Array, side: int) -> Array:
    """(B,H·S,W·S,C) → (B,H,W,C·S·S): each square of S × S places becomes one, in PyTorch's order of channels."""
    b, h, w, c = x.shape
    parts = x.reshape(b, h // side, side, w // side, side, c).transpose(0, 1, 3, 5, 2, 4)
    return parts.reshape(b, h // side, w // side, -1)


def shuffle(x: Array, side: int) -> Array:
    """(B,H,W,C·S·S) → (B,H·S,W·S,C): `unshuffle` undone."""
    b, h, w, _ = x.shape
    return x.reshape(b, h, w, -1, side, side).transpose(0, 1, 4, 2, 5, 3).reshape(b, h * side, w * side, -1)


def doubled(x: Array) -> Array:
    """(B,H,W,C) → (B,2H,2W,C), each place four times."""
    return x.repeat(2, 1).repeat(2, 2)


class ResidualBlock:
    """Two convolutions beside a path that lets everything through."""

    def __init__(self, tensors: Tensors, width: int, groups: int) -> None:
        self.groups = groups
        self.norm = tensors.norm("norm", width)
        self.first = tensors.convolution("first", width, width, 3)
        self.second = tensors.convolution("second", width, width, 3)

    def __call__(self, x: Array) -> Array:
        """(B,H,W,C) → the same."""
        inner = silu(conv2d(group_norm(x, *self.norm, self.groups), *self.first))
        return x + conv2d(inner, *self.second)


class Attention:
    """Every place looks at every other, so that what belongs together gets one depth."""

    def __init__(self, tensors: Tensors, width: int, places: int, groups: int, heads: int) -> None:
        self.groups, self.heads = groups, heads
        self.norm = tensors.norm("norm", width)
        self.place = np.ascontiguousarray(tensors.take("place", 1, width, places, places).transpose(0, 2, 3, 1))
        self.qkv = tensors.convolution("qkv", width, 3 * width, 1)
        self.out = tensors.convolution("out", width, width, 1)

    def __call__(self, x: Array) -> Array:
        """(B,H,W,C) → the same."""
        b, h, w, c = x.shape
        qkv = conv2d(group_norm(x, *self.norm, self.groups) + self.place, *self.qkv)
        mixed = attention(qkv.reshape(b, h * w, 3 * c), self.heads)
        return x + conv2d(mixed.reshape(b, h, w, c), *self.out)


class TransformerBlock:
    """Attention between all places, then two layers for each."""

    def __init__(self, tensors: Tensors, width: int, head: int) -> None:
        """`head`: channels of each head."""
        self.heads = width // head
        self.first, self.second = tensors.norm("first", width), tensors.norm("second", width)
        self.qkv, self.out = tensors.linear("qkv", width, 3 * width), tensors.linear("out", width, width)
        self.wide, self.narrow = tensors.linear("wide", width, 4 * width), tensors.linear("narrow", 4 * width, width)

    def __call__(self, x: Array) -> Array:
        """(B,N,C) → the same."""
        x = x + linear(attention(linear(layer_norm(x, *self.first), *self.qkv), self.heads), *self.out)
        return x + linear(gelu(linear(layer_norm(x, *self.second), *self.wide)), *self.narrow)


class Trunk:
    """A transformer (Vaswani et al., 2017) over the places of one level: what the whole of a picture is."""

    def __init__(
        self, tensors: Tensors, width: int, inner: int, places: int, blocks: int, groups: int, head: int
    ) -> None:
        self.groups = groups
        self.norm = tensors.norm("norm", width)
        self.enter = tensors.linear("enter", width, inner)
        self.place = tensors.take("place", 1, places * places, inner)
        self.blocks = [TransformerBlock(tensors.under(f"blocks.{number}"), inner, head) for number in range(blocks)]
        self.end = tensors.norm("end", inner)
        self.leave = tensors.linear("leave", inner, width)

    def __call__(self, x: Array) -> tuple[Array, Array]:
        """(B,H,W,C) → the same, and (B,I) the mean of its inner places."""
        b, _, _, c = x.shape
        tokens = linear(group_norm(x, *self.norm, self.groups).reshape(b, -1, c), *self.enter) + self.place
        for block in self.blocks:
            tokens = block(tokens)
        tokens = layer_norm(tokens, *self.end)
        mean: Array = tokens.mean(1)
        return x + linear(tokens, *self.leave).reshape(x.shape), mean


def softplus_from(value: Array, by: Array, bend: float, least: float) -> Array:
    """`value` plus a correction, kept above 0: a softplus that leaves `value` alone where `by` is 0.

    `bend`: how sharply what would be negative turns to 0; `least` counts as 0.
    """
    sharp = np.float32(bend)
    bent = np.maximum(value, np.float32(least)) * sharp
    bent += np.log(-np.expm1(-bent)) + sharp * by
    return np.asarray(np.logaddexp(np.float32(0), bent) / sharp, dtype=np.float32)
