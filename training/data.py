"""Views without end: workers render them into a pool of files, from which training draws.

A view holds geometry and colours without light, so that each use of it can be lit anew (`lighting.py`). The pool has
room for a number of shards; when it is full, new ones take the place of the oldest.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

import corpus
import families
import patterns
import render
from lighting import lit
from solids import Random

SHARD = 128
"""Views in a file."""


class Source:
    """Makes views: of `extra` meshes with a chance of `share`, else of made-up shapes, a few of them drawings."""

    def __init__(self, extra: Path | None, held_out: tuple[int, ...], share: float) -> None:
        meshes = corpus.load(extra) if extra else []
        self.meshes = [mesh for source, mesh in meshes if source not in held_out]
        self.share = share if self.meshes else 0.0

    def views(self, random: Random, count: int) -> NDArray[np.void]:
        """(count,) of VIEW, two of each shape."""
        found: list[NDArray[np.void]] = []
        while len(found) < count:
            if random.random() < 0.12:
                found.append(flat_view(random))
                continue
            real = random.random() < self.share
            if real:
                solid, smooth = corpus.varied(self.meshes[random.integers(len(self.meshes))], random)
                crease = random.choice([0.2, 0.7]) if smooth else 1.0
            else:
                solid, crease = families.make_shape(random), random.choice([0.7, 0.7, 0.4, 1.0])
            surface = render.surface(solid, float(crease))
            for _ in range(2):
                view = render.render(surface, render.pose(random, front=True), random)
                if view is not None:
                    found.append(view)
        return np.stack(found[:count])


def flat_view(random: Random) -> NDArray[np.void]:
    """A VIEW of a drawing: nothing in it says more of its depth than the inflation does."""
    colours, mask = patterns.drawing(random, render.SIZE)
    view = np.zeros((), render.VIEW)
    view["height"] = render.inflated(mask)
    inside = (mask > 127) & (view["height"] > 0)
    view["front"] = np.where(inside, view["height"], np.nan)
    view["back"] = -view["front"]
    view["mask"], view["albedo"], view["flat"] = mask, colours, True
    view["normal"][..., 2] = 127
    return view


def work(folder: Path, number: int, seed: int, source: Source, capacity: int, rest: float = 0.0) -> None:
    """Worker `number` fills its part of the pool for ever; `rest`: how many times as long to sleep as to work once the
    part is full."""
    random = np.random.default_rng(seed)
    made = len(list(folder.glob(f"{number}-*.npy")))
    while True:
        started = time.process_time()
        views = source.views(random, SHARD)
        name = folder / f"{number}-{made % capacity:05}.npy"
        np.save(folder / f".{name.name}", views)
        os.replace(folder / f".{name.name}", name)
        made += 1
        if made >= capacity:
            time.sleep(rest * (time.process_time() - started))


class Pool:
    """What the workers have made so far."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._looked, self._files = 0.0, list[Path]()

    def files(self) -> list[Path]:
        """The shards there are; looks at most every ten seconds."""
        if time.monotonic() - self._looked > 10:
            self._files = sorted(path for path in self.folder.glob("*.npy") if path.name[0] != ".")
            self._looked = time.monotonic()
        return self._files

    def wait(self) -> None:
        """Until there is enough to begin with."""
        while len(self.files()) < 2:
            time.sleep(0.5)
            self._looked = 0.0

    def batch(self, random: Random, size: int) -> NDArray[np.void]:
        """(size,) of VIEW, from a few shards."""
        files = self.files()
        found = []
        for number in random.integers(len(files), size=8):
            shard = np.load(files[number], mmap_mode="r")
            found.append(np.array(shard[np.sort(random.integers(len(shard), size=-(-size // 8)))]))
        return np.concatenate(found)[:size]


class Lit(IterableDataset[tuple[Tensor, ...]]):
    """Batches without end, lit in a process of their own: the fields of `lighting.Batch`."""

    def __init__(self, pool: Pool, seed: int, batch: int, size: int) -> None:
        self.pool, self.seed, self.batch, self.size = pool, seed, batch, size

    def __iter__(self) -> Iterator[tuple[Tensor, ...]]:
        torch.set_num_threads(1)
        worker = get_worker_info()
        random = np.random.default_rng([self.seed, worker.id if worker else 0])
        while True:
            batch = lit(self.pool.batch(random, self.batch), random, size=self.size)
            yield batch.fields()


def loader(pool: Pool, seed: int, batch: int, size: int, processes: int) -> DataLoader[tuple[Tensor, ...]]:
    """Batches for training, a few of them ahead."""
    return DataLoader(Lit(pool, seed, batch, size), batch_size=None, num_workers=processes)
