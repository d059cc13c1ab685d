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
    _end_with_parent()
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
        return min(there, key=_changed), True
    return next(name for i in range(capacity) if (name := folder / f"{number}-{i:05}.npy") not in there), False


def _changed(file: Path) -> int:
    try:
        return file.stat().st_mtime_ns
    except FileNotFoundError:  # the trainer deletes what it cannot read
        return 0


def _end_with_parent() -> None:
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
    _end_with_parent()
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
            if sum(self._shard(file) is not None for file in self.files()) >= enough:
                return
            if not working:
                raise SystemExit(f"there are too few views in {self.folder}, and no worker is alive to make more")
            time.sleep(0.2)

    def batch(self, random: Random, size: int) -> NDArray[np.void]:
        """(size,) of VIEW, from a few shards."""
        found = list[NDArray[np.void]]()
        while len(found) < 8:
            if not self.files():
                self.wait()
            files = self.files()
            shard = self._shard(files[random.integers(len(files))])
            if shard is not None:
                found.append(np.array(shard[np.sort(random.integers(len(shard), size=-(-size // 8)))]))
        return np.concatenate(found)[:size]

    def _shard(self, file: Path) -> NDArray[np.void] | None:
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


class Lit(IterableDataset[tuple[Tensor, ...]]):
    """Batches without end, lit in a process of their own: the fields of `lighting.Batch`."""

    def __init__(self, pool: Pool, seed: list[int], batch: int, size: int) -> None:
        self.pool, self.seed, self.batch, self.size = pool, seed, batch, size

    def __iter__(self) -> Iterator[tuple[Tensor, ...]]:
        worker = get_worker_info()
        if worker:
            torch.set_num_threads(1)
        random = np.random.default_rng([*self.seed, worker.id if worker else 0, 1])  # 1: not as the makers of views
        while True:
            batch = lit(self.pool.batch(random, self.batch), random, size=self.size)
            yield batch.fields()


def loader(pool: Pool, seed: list[int], batch: int, size: int, processes: int) -> DataLoader[tuple[Tensor, ...]]:
    """Batches for training, a few of them ahead."""
    views = Lit(pool, seed, batch, size)
    return DataLoader(views, batch_size=None, num_workers=processes, worker_init_fn=_loads)
