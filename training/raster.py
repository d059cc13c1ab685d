"""Views on the GPU: `raster.cu` through CuPy, which makes tens of thousands a second, each of which is used only once.

The same geometry as `render.py`, whose rays it stands for: depths where a pixel's ray first enters and last leaves,
normals, colours and mask from four points of each pixel, and the inflation of the mask. Shapes stay in the memory of
the device as triangles; every view bends, turns and paints them anew (`poses.py`). Without a GPU the same code runs as
C++, for the test that compares it with `render.py`.
"""

from __future__ import annotations

import ctypes
import functools
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

import render  # noqa: F401  (puts backend on the path)
from models.builtin.silhouette import FILL
from solids import Solid

WAVES = 4
"""Of each deformation."""
PARAMETERS = {
    "scale": 3,
    "taper": 1,
    "twist": 1,
    "bend": 2,
    "waves": 7 * WAVES,  # each a wave vector, a phase, and by how much it moves a point
    "rotation": 9,
    "crease": 1,  # as in render.surface()
    "camera": 1,  # its distance from z = 0
    "print": 10,  # strength, sheet, whether wrapped around, repeats, two directions
    "paint": 10,  # how much of it, two colours, the direction between them
    "gain": 3,
    "offset": 3,
}
"""What a view is made by besides its shape: name → how many numbers."""
FLOATS = sum(PARAMETERS.values())
ROOM = 16384
"""Vertices that a shape may have."""
SHEET = 128
_BORDER = -0.5


def places() -> dict[str, slice]:
    """Name → where its numbers lie in a row of parameters."""
    ends = np.cumsum(list(PARAMETERS.values())).tolist()
    return {name: slice(end - size, end) for (name, size), end in zip(PARAMETERS.items(), ends, strict=True)}


@dataclass(frozen=True, slots=True)
class Packed:
    """Shapes end to end, as they travel from the processes that make them."""

    points: NDArray[np.float32]
    """(V,3), the longest side 2, centred, +Y up; every one is used."""
    faces: NDArray[np.int32]
    """(F,3), numbered within each shape."""
    colours: NDArray[np.uint8]
    """(F,3,3), one for each corner."""
    counts: NDArray[np.int64]
    """(N,2) vertices and triangles of each shape."""
    creases: NDArray[np.float32]
    """(N,)"""


def packed(shapes: Sequence[tuple[Solid, float]], *, weld: bool = False) -> Packed:
    """Solids and the creases of their normals; those with more vertices than there is room for are left out. `weld`:
    with one vertex for each place, so that normals are smooth across the edges of colours."""
    points, faces, colours, counts, creases = [], [], [], [], []
    for solid, crease in shapes:
        used, place = np.unique(solid.faces, return_inverse=True)
        vertices, numbers = solid.vertices[used], place.reshape(-1, 3)
        if weld:
            _, first, place = np.unique(vertices.round(4), axis=0, return_index=True, return_inverse=True)
            vertices, numbers = vertices[first], place.reshape(-1)[numbers]
        if not 4 <= len(vertices) <= ROOM:
            continue
        low, high = vertices.min(0), vertices.max(0)
        points.append((vertices - (low + high) / 2) * (2 / max(float((high - low).max()), 1e-9)))
        faces.append(numbers)
        colours.append(np.rint(255 * np.clip(solid.colours[solid.faces], 0, 1)))
        counts.append((len(vertices), len(numbers)))
        creases.append(crease)
    return Packed(
        np.concatenate(points).astype(np.float32),
        np.concatenate(faces).astype(np.int32),
        np.concatenate(colours).astype(np.uint8),
        np.array(counts, np.int64),
        np.array(creases, np.float32),
    )


class Shelf:
    """Shapes in the memory of a device; of the `capacity` parts the oldest goes when another comes."""

    def __init__(self, device: str, capacity: int) -> None:
        self.device, self.capacity = device, capacity
        self._parts: list[tuple[tuple[Tensor, ...], Tensor, Tensor]] = []
        self.table = torch.zeros((0, 5), dtype=torch.int64, device=device)
        """(N,5) of each shape: the addresses of its points, faces and colours, and how many there are."""
        self.creases = torch.zeros(0, device=device)

    def __len__(self) -> int:
        return len(self.table)

    def add(self, *parts: Packed) -> None:
        """Some more parts."""
        for shapes in parts:
            self._add(shapes)
        del self._parts[: max(0, len(self._parts) - self.capacity)]
        self.table = torch.cat([table for _, table, _ in self._parts])
        self.creases = torch.cat([creases for *_, creases in self._parts])

    def _add(self, shapes: Packed) -> None:
        tensors = tuple(torch.from_numpy(a).to(self.device) for a in (shapes.points, shapes.faces, shapes.colours))
        starts = np.concatenate([np.zeros((1, 2), np.int64), np.cumsum(shapes.counts, 0)[:-1]])
        points, faces, colours = (tensor.data_ptr() for tensor in tensors)
        rows = [points + 12 * starts[:, 0], faces + 12 * starts[:, 1], colours + 9 * starts[:, 1], *shapes.counts.T]
        table = torch.from_numpy(np.stack(rows, 1)).to(self.device)
        self._parts.append((tensors, table, torch.from_numpy(shapes.creases).to(self.device)))


@dataclass(frozen=True, slots=True)
class Fields:
    """What `lighting.lit` wants of B views, each (B,S,S) or (B,S,S,3), and which of them can be used."""

    views: dict[str, Tensor]
    usable: Tensor
    """(B,) of the others hardly anything is seen, or they touch the border, or reach too near or too far."""


class Rasteriser:
    """Makes up to `count` views of `size` pixels at a time."""

    def __init__(self, count: int, size: int, device: str) -> None:
        self.count, self.size, self.device = count, size, device
        empty = functools.partial(torch.empty, device=device)
        self._placed, self._normals = empty(count, ROOM, 3), empty(count, ROOM, 3)
        self._first, self._last = (empty((count, size, size), dtype=torch.int32) for _ in range(2))
        self._fine = empty((count, 2 * size, 2 * size), dtype=torch.int64)
        self._code = _on_gpu(size) if device != "cpu" else _on_cpu(size)
        weights = torch.tensor([np.exp(-(i**2) / (2 * 0.4**2)) for i in range(-2, 3)], device=device)
        self._blur = (weights / weights.sum()).float()

    def views(self, table: Tensor, which: Tensor, parameters: Tensor, sheets: Tensor) -> Fields:
        """(B,) `which` rows of the table of shapes, (B,FLOATS) by what, and the (K,SHEET,SHEET,4) uint8 prints."""
        b, s = len(which), self.size
        which, parameters = which.to(torch.int32).contiguous(), parameters.float().contiguous()
        cover = torch.empty((b, s, s), device=self.device)
        normal, albedo = (torch.empty((b, s, s, 3), device=self.device) for _ in range(2))
        self._normals[:b].zero_()
        self._first[:b].zero_()
        self._last[:b].fill_(0x7F800000)  # infinity
        self._fine[:b].zero_()
        grids = [self._first, self._last, self._fine]
        if self.device == "cpu":
            tensors = [table, which, parameters, sheets, self._placed, self._normals, *grids, cover, normal, albedo]
            self._code.all_on_cpu(b, *(ctypes.c_void_p(tensor.data_ptr()) for tensor in tensors))
        else:
            self._run("place_all", (b,), 256, table, which, parameters, self._placed)
            self._run("bend_all", (8, b), 256, table, which, self._placed, self._normals)
            self._run("fill_all", (16, b), 256, table, which, parameters, self._placed, *grids)
            pieces = (-(-s * s // 128), b)
            tensors = [table, which, parameters, self._placed, self._normals, sheets, self._fine, cover, normal, albedo]
            self._run("resolve_all", pieces, 128, *tensors)
        return self._fields(parameters, cover, normal, albedo)

    def _fields(self, parameters: Tensor, cover: Tensor, normal: Tensor, albedo: Tensor) -> Fields:
        b = len(cover)
        camera = parameters[:, places()["camera"], None]
        near, far = (grid[:b].view(torch.float32) for grid in (self._first, self._last))
        seen = near > 0
        front, back = (torch.where(seen, camera - 1 / w, 0.0) for w in (near, far))
        middle = (front + back).sum((1, 2)) / (2 * seen.sum((1, 2)).clamp(min=1))
        nearer = camera / (camera - middle[:, None, None])
        front, back = (camera - nearer * (camera - depth) for depth in (front, back))
        rim = torch.cat([seen[:, [0, -1]].flatten(1), seen[:, :, [0, -1]].flatten(1)], 1).any(1)
        reach = torch.where(seen, front, 0.0).amax((1, 2)), torch.where(seen, back, 0.0).amin((1, 2))
        usable = (seen.float().mean((1, 2)) >= 0.01) & ~rim & (reach[0] <= 2.5) & (reach[1] >= -4)
        nan = torch.tensor(torch.nan, device=self.device)
        front, back = torch.where(seen, front, nan), torch.where(seen, back, nan)
        views = {"front": front, "back": back, "height": self.inflated(cover), "mask": (255 * cover).round()}
        views |= {"normal": 127 * normal, "albedo": 255 * albedo, "flat": torch.zeros_like(nearer[:, 0, 0])}
        return Fields(views, usable)

    def inflated(self, cover: Tensor) -> Tensor:
        """(B,S,S) covered shares → their inflation, as render.inflated()."""
        field = F.pad(((255 * cover).round() / 255 - 0.5)[:, None], (2, 2, 2, 2), mode="reflect")
        field = F.conv2d(F.conv2d(field, self._blur[None, None, None]), self._blur[None, None, :, None])[:, 0]
        field[:, [0, -1]] = _BORDER
        field[:, :, [0, -1]] = _BORDER
        field, height = field.contiguous(), torch.empty_like(cover)
        if self.device == "cpu":
            room = torch.empty(32 + 4 * self.size**2)
            tensors = [field, height, room]
            self._code.inflate_on_cpu(len(cover), *(ctypes.c_void_p(tensor.data_ptr()) for tensor in tensors))
        else:
            self._run("inflate_all", (len(cover),), 512, field, height, memory=4 * (32 + 4 * self.size**2))
        return height

    def _run(self, name: str, blocks: tuple[int, ...], threads: int, *tensors: Tensor, memory: int = 0) -> None:
        import cupy  # type: ignore[import-not-found,unused-ignore]

        kernel = self._code.get_function(name)
        if memory > 48 * 1024:
            kernel.max_dynamic_shared_size_bytes = memory
        with cupy.cuda.ExternalStream(torch.cuda.current_stream().cuda_stream):
            kernel(blocks, (threads,), tuple(np.uint64(tensor.data_ptr()) for tensor in tensors), shared_mem=memory)


def _source(size: int) -> str:
    numbers = {"SIZE": size, "ROOM": ROOM, "SHEET": SHEET, "WAVES": WAVES, "FLOATS": FLOATS, "FILL": f"{FILL}f"}
    numbers |= {f"AT_{name.upper()}": place.start for name, place in places().items()}
    lines = [f"#define {name} {value}" for name, value in numbers.items()]
    return "\n".join([*lines, (Path(__file__).parent / "raster.cu").read_text(encoding="utf-8")])


@functools.cache
def _on_gpu(size: int) -> Any:
    import cupy

    return cupy.RawModule(code=_source(size), options=("-std=c++17",))


@functools.cache
def _on_cpu(size: int) -> Any:
    with tempfile.TemporaryDirectory() as folder:
        source, library = Path(folder) / "raster.cpp", Path(folder) / "raster.so"
        source.write_text(_source(size), encoding="utf-8")
        subprocess.run(["g++", "-O2", "-std=c++17", "-shared", "-fPIC", source, "-o", library], check=True)
        return ctypes.CDLL(str(library))
