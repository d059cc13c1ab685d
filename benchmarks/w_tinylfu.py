"""A contender for `policy.py`: density-aware W-TinyLFU (Einziger, Friedman, Manes 2017), as short as it can be.

What is new enters a window that keeps the latest by recency. Where room is needed, the oldest of a window that has
outgrown its share meets the least worth of a few of the rest, drawn at random; the lesser leaves, and who survives the
window joins the rest. Worth is uses × cost ÷ size. The uses are counted exactly, where the original has a sketch, and
halved again and again. It is the real cache's equal in one thing: what was just stored is there.
"""

from __future__ import annotations

from collections import OrderedDict
from random import Random
from typing import Any, NamedTuple


class Entry(NamedTuple):
    size: float
    cost: float


class WTinyLFU:
    """The part of `LRUCache` that the simulator uses."""

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
