"""W-TinyLFU, weighed by cost and size, in two forms: what `policy.py` measures the cache's own policies against.

Each has the part of `LRUCache` that the simulator uses.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from itertools import chain
from random import Random
from typing import Any, NamedTuple


class Region(OrderedDict[str, tuple[float, float]]):
    """Values (MB, seconds) in the order of their last use, and how many MB they take."""

    held = 0.0

    def put(self, key: str, value: tuple[float, float]) -> None:
        self[key] = value
        self.held += value[0]

    def take(self, key: str) -> tuple[float, float]:
        value = self.pop(key)
        self.held -= value[0]
        return value


class WTinyLFU:
    """Einziger, Friedman and Manes, "TinyLFU: a highly efficient cache admission policy" (2017), for values of
    different size and cost.

    New values pass through a small LRU window. Who drops out of it enters the main region, a segmented LRU, only if it
    saves more seconds per MB, by the uses counted so far, than those who would have to leave for it. The counts are
    exact, where the paper has a sketch, and halved after `sample` × entries uses.
    """

    WINDOW, PROTECTED = 0.01, 0.8

    def __init__(self, capacity_mb: float, sample: int) -> None:
        self.window, self.probation, self.protected = Region(), Region(), Region()
        self.window_mb, self.main_mb = capacity_mb * self.WINDOW, capacity_mb * (1 - self.WINDOW)
        self.sample, self.uses, self.counted = sample, Counter[str](), 0
        self.seconds_saved = 0.0

    def get(self, key: str) -> bool | None:
        """True, or None where it is not there."""
        self._count(key)
        for region in (self.window, self.probation, self.protected):
            if key in region:
                self.seconds_saved += region[key][1]
                region.move_to_end(key)
                if region is self.probation:
                    self._protect(key)
                return True
        return None

    def set(self, key: str, value: object, size_mb: float, *, cost_seconds: float) -> None:
        self.window.put(key, (size_mb, cost_seconds))
        while self.window.held > self.window_mb:
            oldest = next(iter(self.window))
            self._admit(oldest, self.window.take(oldest))

    @property
    def stats(self) -> dict[str, Any]:
        return {"seconds_saved": self.seconds_saved}

    def _count(self, key: str) -> None:
        self.uses[key] += 1
        self.counted += 1
        if self.counted > self.sample * max(len(self.probation) + len(self.protected), 16):
            self.counted //= 2
            self.uses = Counter({known: uses // 2 for known, uses in self.uses.items() if uses > 1})

    def _protect(self, key: str) -> None:
        self.protected.put(key, self.probation.take(key))
        while self.protected.held > self.PROTECTED * self.main_mb:
            demoted = next(iter(self.protected))
            self.probation.put(demoted, self.protected.take(demoted))

    def _admit(self, key: str, value: tuple[float, float]) -> None:
        size, cost = value
        room = self.main_mb - self.probation.held - self.protected.held
        victims, freed, worth = [], 0.0, 0.0
        for victim, (victim_size, victim_cost) in chain(self.probation.items(), self.protected.items()):
            if room + freed >= size:
                break
            victims.append(victim)
            freed += victim_size
            worth += self.uses[victim] * victim_cost
        if room + freed < size or (victims and self.uses[key] * cost / size <= worth / freed):
            return
        for victim in victims:
            (self.probation if victim in self.probation else self.protected).take(victim)
        self.probation.put(key, value)


class Entry(NamedTuple):
    size: float
    cost: float


class SampledWTinyLFU:
    """The same idea without segments, by worth alone; as in the real cache, what was just stored is there.

    Where room is needed, the oldest of a window that has outgrown its share meets some of the rest, drawn at random;
    the one with the least uses × cost ÷ size leaves, and who survives the window joins the rest.
    """

    PERIOD = 20
    """Uses per entry between two halvings."""
    DRAWN = 16
    """Entries that are compared to find a victim."""

    def __init__(self, capacity_mb: float, window: float) -> None:
        self._capacity, self._share = capacity_mb, window * capacity_mb
        self._window: OrderedDict[str, Entry] = OrderedDict()
        self._rest: dict[str, Entry] = {}
        self._keys: list[str] = []  # of the rest, to draw from; some are gone
        self._bytes = self._window_bytes = self._saved = 0.0
        self._uses: dict[str, float] = {}
        self._since_halving = 0
        self._random = Random(1)

    def get(self, key: str) -> bool | None:
        self._count(key)
        entry = self._window.get(key)
        if entry is not None:
            self._window.move_to_end(key)
        else:
            entry = self._rest.get(key)
        if entry is None:
            return None
        self._saved += entry.cost
        return True

    def set(self, key: str, value: object, size_mb: float, *, cost_seconds: float) -> None:
        self._window[key] = Entry(size_mb, cost_seconds)
        self._bytes += size_mb
        self._window_bytes += size_mb
        while self._bytes > self._capacity:
            self._evict()
        while self._outgrown():
            oldest, entry = self._window.popitem(last=False)
            self._window_bytes -= entry.size
            self._rest[oldest] = entry
            self._keys.append(oldest)

    @property
    def stats(self) -> dict[str, Any]:
        return {"seconds_saved": self._saved}

    def _outgrown(self) -> bool:
        return self._window_bytes > self._share and len(self._window) > 1

    def _evict(self) -> None:
        meeting = self._draw() if self._rest else {}
        if self._outgrown() or not meeting:
            oldest = next(iter(self._window))
            meeting[oldest] = self._window[oldest]
        loser = min(meeting, key=lambda key: self._uses.get(key, 0.0) * meeting[key].cost / meeting[key].size)
        self._bytes -= meeting[loser].size
        if self._rest.pop(loser, None) is None:
            self._window_bytes -= self._window.pop(loser).size

    def _draw(self) -> dict[str, Entry]:
        if len(self._keys) > 1.25 * len(self._rest):
            self._keys = list(self._rest)
        drawn: dict[str, Entry] = {}
        while not drawn:
            drawn = {
                key: self._rest[key] for key in self._random.choices(self._keys, k=self.DRAWN) if key in self._rest
            }
        return drawn

    def _count(self, key: str) -> None:
        self._uses[key] = self._uses.get(key, 0.0) + 1
        self._since_halving += 1
        if self._since_halving > self.PERIOD * max(len(self._rest), 128):
            self._since_halving = 0
            self._uses = {key: uses / 2 for key, uses in self._uses.items() if uses > 0.25}
