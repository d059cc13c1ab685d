"""Views without end: workers render them into a pool of files, from which training draws.

A view holds geometry and colours without light, so that each use of it can be lit anew (`lighting.py`). The pool has
room for a number of shards; when it is full, new ones take the place of the oldest.
"""

from __future__ import annotations

import math
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

import corpus
import families
import patterns
import render
from lighting import Batch, fields_of, lit
from solids import Random, Solid

SHARD = 128
"""Views in a file."""


class Source:
    """Makes views: of `extra` meshes with a chance of `share`, else of made-up shapes, a few of them drawings."""

    def __init__(self, extra: list[Solid], share: float) -> None:
        self.meshes = extra
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
                view = render.render(surface, render.pose(random), random)
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


def work(folder: Path, number: int, seed: list[int], source: Source, capacity: int, rest: float = 0.0) -> None:
    """Worker `number` fills its part of the pool for ever; `rest`: how many times as long to sleep as to work once the
    part is full."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # not the trainer's way of ending, which it may have inherited
    end_with_parent()
    cv2.setNumThreads(1)  # there is a worker for each core
    random = np.random.default_rng([*seed, number])
    for unfinished in folder.glob(f".{number}-*.npy"):
        unfinished.unlink()
    while True:
        started = time.process_time()
        views = source.views(random, SHARD)
        name, full = place(folder, number, capacity)
        np.save(folder / f".{name.name}", views)
        os.replace(folder / f".{name.name}", name)
        if full:
            time.sleep(rest * (time.process_time() - started))


def place(folder: Path, number: int, capacity: int) -> tuple[Path, bool]:
    """Where a worker's next shard goes, and whether its part of the pool is full: the oldest shard has to go then."""
    there = sorted(folder.glob(f"{number}-*.npy"))
    if len(there) >= capacity:
        return min(there, key=changed), True
    return next(name for i in range(capacity) if (name := folder / f"{number}-{i:05}.npy") not in there), False


def changed(file: Path) -> int:
    """When it was written, in nanoseconds."""
    try:
        return file.stat().st_mtime_ns
    except FileNotFoundError:  # the trainer deletes what it cannot read
        return 0


def end_with_parent() -> None:
    """End this process as soon as its parent is gone, even if that was killed, and leave Ctrl-C to the parent."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _loads(_: int) -> None:
    """A loader leaves SIGTERM to the trainer, too: one that died of it first would make torch raise there. It dies of
    it later, as a trainer that an error has ended waits for that."""
    end_with_parent()
    if hasattr(signal, "alarm"):
        signal.signal(signal.SIGTERM, lambda *_: signal.alarm(5))


class Pool:
    """What the workers have made so far."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._looked, self._files = -math.inf, list[Path]()

    def files(self) -> list[Path]:
        """The shards there are; looks at most every ten seconds."""
        if time.monotonic() - self._looked > 10:
            self._files = sorted(path for path in self.folder.glob("*.npy") if path.name[0] != ".")
            self._looked = time.monotonic()
        return self._files

    def wait(self, enough: int = 1, alive: Callable[[], bool] = lambda: True) -> None:
        """Until `enough` shards can be read; a message and the end when nobody is `alive` to make them."""
        while True:
            working = alive()
            self._looked = -math.inf
            if sum(self.shard(file) is not None for file in self.files()) >= enough:
                return
            if not working:
                raise SystemExit(f"there are too few views in {self.folder}, and no worker is alive to make more")
            time.sleep(0.2)

    def shard(self, file: Path) -> NDArray[np.void] | None:
        """The views of a file, or None and no such file any more when it is broken."""
        try:
            shard: NDArray[np.void] = np.load(file, mmap_mode="r")
            if shard.dtype == render.VIEW and len(shard):
                return shard
        except (FileNotFoundError, ValueError, EOFError):
            pass
        self._files = [other for other in self._files if other != file]
        file.unlink(missing_ok=True)
        return None


_ENOUGH = 8
"""Files to begin with, if there are as many: the views of one are too much alike."""


class Resident:
    """A copy of the pool in the memory of a device, where batches are drawn and lit."""

    def __init__(self, pool: Pool, seed: list[int], device: str, capacity: int) -> None:
        self.pool, self.capacity = pool, capacity
        self.places = dict[Path, tuple[int, int]]()
        """File → which of `capacity` places it has, and when it was written."""
        self._listed, self._waiting = list[Path](), list[Path]()
        first = int(np.random.default_rng([*seed, 1]).integers(2**60))  # 1: not as the makers of views
        self.random = torch.Generator(device).manual_seed(first)
        self.fields = {
            name: field.new_empty((capacity * SHARD, *field.shape[1:]), device=device)
            for name, field in fields_of(np.zeros(1, render.VIEW)).items()
        }

    def batch(self, count: int, size: int) -> Batch:
        """`count` views of those that are here by now, lit."""
        self._follow()
        while len(self.places) < max(1, min(_ENOUGH, self.capacity, len(self.pool.files()))):
            if not self.pool.files():
                self.pool.wait()
            self._follow()
        chosen = torch.randint(len(self.places) * SHARD, (count,), generator=self.random, device=self.random.device)
        return lit({name: field[chosen] for name, field in self.fields.items()}, self.random, size=size)

    def _follow(self) -> None:
        """Take in the next file that is new or changed; only one, so that no step takes long."""
        if self.pool.files() is not self._listed:
            self._listed = self.pool.files()
            self._waiting = [file for file in self._listed if self.places.get(file, (0, -1))[1] < changed(file)]
        while self._waiting:
            file = self._waiting.pop()
            when, place = changed(file), self.places.get(file, (len(self.places), 0))[0]
            shard = self.pool.shard(file) if place < self.capacity else None
            if shard is not None:
                for name, field in fields_of(np.resize(shard, SHARD)).items():
                    self.fields[name][place * SHARD : (place + 1) * SHARD] = field.to(self.random.device)
                self.places[file] = place, when
                return


class Lit(IterableDataset[tuple[Tensor, ...]]):
    """Batches without end, lit in a process of their own: the fields of `lighting.Batch`."""

    def __init__(self, pool: Pool, seed: list[int], capacity: int, batch: int, size: int) -> None:
        self.pool, self.seed, self.capacity, self.batch, self.size = pool, seed, capacity, batch, size

    def __iter__(self) -> Iterator[tuple[Tensor, ...]]:
        torch.set_num_threads(1)
        worker = get_worker_info()
        resident = Resident(self.pool, [*self.seed, worker.id if worker else 0], "cpu", self.capacity)
        while True:
            yield resident.batch(self.batch, self.size).fields()


def batches(
    pool: Pool, seed: list[int], capacity: int, batch: int, size: int, loaders: int, device: str
) -> Iterator[Batch]:
    """Batches without end of up to `capacity` files, lit by that many processes of their own, or on the `device`."""
    if loaders:
        views = Lit(pool, seed, capacity, batch, size)
        processes = DataLoader(views, batch_size=None, num_workers=loaders, worker_init_fn=_loads)
        yield from (Batch(*fields) for fields in processes)
    resident = Resident(pool, seed, device, capacity)
    while True:
        yield resident.batch(batch, size)
