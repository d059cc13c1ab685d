"""Shapes without end for `raster.py`: processes make them, a thread carries them to the GPU."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Collection
from dataclasses import asdict
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

import corpus
import data
import families
import patterns
import raster
from solids import Random, Solid, together

PART = 64
"""Shapes in a file, and with them so many drawings:"""
DRAWINGS = 5
_WAITING = 4
"""Files of each process that may wait to be read."""


def made(random: Random, meshes: list[Solid], share: float) -> tuple[Solid, float]:
    """A shape, of `meshes` with a chance of `share`, else made up, or two of them that have grown together; and the
    crease of its normals."""
    solid, crease = _one(random, meshes, share)
    if random.random() < 0.14:
        other, _ = _one(random, meshes, share)
        by = random.uniform(0.25, 0.8) * np.exp(random.normal(0, 0.25, 3))
        place = solid.vertices[random.integers(len(solid.vertices))] * random.uniform(0.5, 1.0)
        solid = together([solid, other.scaled(by).moved(place)])
    return solid, crease


def _one(random: Random, meshes: list[Solid], share: float) -> tuple[Solid, float]:
    if meshes and random.random() < share:
        solid, smooth = corpus.varied(meshes[random.integers(len(meshes))], random)
        return solid, float(random.choice([0.2, 0.7])) if smooth else 1.0
    return families.make_shape(random), float(random.choice([0.7, 0.7, 0.4, 1.0]))


def work(folder: Path, number: int, seed: list[int], meshes: list[Solid], share: float, size: int) -> None:
    """A process that makes files for ever."""
    data.end_with_parent()
    cv2.setNumThreads(1)
    random = np.random.default_rng([*seed, number])
    count = 0
    while True:
        shapes = raster.packed([made(random, meshes, share) for _ in range(PART)])
        drawings = [patterns.drawing(random, size) for _ in range(DRAWINGS)]
        colours, masks = (np.stack(column) for column in zip(*drawings, strict=True))
        while len(list(folder.glob(f"{number}-*.npz"))) >= _WAITING:
            time.sleep(0.05)
        unfinished = folder / f".{number}.npz"
        np.savez(unfinished, colours_drawn=colours, masks_drawn=masks, **asdict(shapes))
        os.replace(unfinished, folder / f"{number}-{count:07}.npz")
        count += 1


class Drawings:
    """Flat pictures in the memory of a device; the oldest go when others come."""

    def __init__(self, capacity: int, size: int, device: str) -> None:
        self.colours = torch.zeros((capacity, size, size, 3), dtype=torch.uint8, device=device)
        self.masks = torch.zeros((capacity, size, size), dtype=torch.uint8, device=device)
        self.seen = 0

    def __len__(self) -> int:
        return min(self.seen, len(self.masks))

    def add(self, colours: NDArray[np.uint8], masks: NDArray[np.uint8]) -> None:
        """Some more."""
        place = (self.seen + torch.arange(len(masks))) % len(self.masks)
        self.colours[place] = torch.from_numpy(colours).to(self.colours.device)
        self.masks[place] = torch.from_numpy(masks).to(self.masks.device)
        self.seen += len(masks)


class Carrier:
    """Reads what the processes have made ahead of the trainer, who takes it when there is time."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._read: list[dict[str, Any]] = []
        self.files = 0
        threading.Thread(target=self._follow, daemon=True).start()

    def _follow(self) -> None:
        while True:
            files = sorted(self.folder.glob("[0-9]*.npz"), key=lambda file: file.name.split("-")[1])
            for file in files:
                while len(self._read) >= 32:
                    time.sleep(0.02)
                with np.load(file) as there:
                    self._read.append({name: there[name] for name in there.files})
                file.unlink()
            if not files:
                time.sleep(0.02)

    def give(self, shelf: raster.Shelf, drawings: Drawings, most: int) -> int:
        """Up to so many files to the device."""
        parts = list[raster.Packed]()
        while self._read and len(parts) < most:
            part: dict[str, Any] = self._read.pop(0)
            drawings.add(part.pop("colours_drawn"), part.pop("masks_drawn"))
            parts.append(raster.Packed(**part))
        if parts:
            shelf.add(*parts)
        self.files += len(parts)
        return len(parts)


class Scans:
    """Real meshes that stay in the memory of the device; files that come into their folder later are taken in, too."""

    def __init__(self, folder: Path | None, held_out: Collection[int], device: str) -> None:
        self.folder, self._out, self._known = folder, held_out, set[Path]()
        self.shelf = raster.Shelf(device, 1 << 30)
        self.held_out = list[Solid]()
        self._read: list[raster.Packed] = []
        if folder:
            self._look()
            self.follow()
            threading.Thread(target=self._watch, daemon=True).start()

    def follow(self) -> None:
        """Take in what has been read since."""
        while self._read:
            self.shelf.add(self._read.pop(0))

    def _watch(self) -> None:
        while True:
            time.sleep(5)
            self._look()

    def _look(self) -> None:
        for file in sorted(set(self.folder.glob("*.npz") if self.folder else ()) - self._known):
            self._known.add(file)
            there = corpus.read(file)
            self.held_out += [mesh for source, mesh in there if source in self._out]
            # Any crease will do for them.
            kept = [(mesh, 0.0) for source, mesh in there if source not in self._out]
            if kept:
                self._read.append(raster.packed(kept, weld=True))
