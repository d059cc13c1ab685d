"""Who leaves the cache when there is no room: its map is its policy.

A policy is an `OrderedDict` from keys to slots with two operations more: `used(key)` notes a use of a key that is
there, after its `access_count` has risen, and `evict()` takes out the slot that is worth least. `cache_manager` does
everything else: it holds the lock, and nothing interrupts an `evict` or a store.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from heapq import heappop, heappush, heapreplace
from math import inf, log2
from operator import attrgetter
from typing import Any, Final, Literal

PolicyName = Literal["lru", "gdsf", "lfu"]


class Slot:
    """One stored value. Filled in by its maker: an `__init__` would cost as much as the rest of a store."""

    __slots__ = ("access_count", "cost", "deadline", "rank", "size", "stored", "value")
    value: Any
    size: int  # bytes
    stored: float  # seconds of the cache's clock, as is the deadline
    deadline: float  # inf: never
    access_count: int
    cost: float  # seconds it took to make; 0 where nobody said
    rank: float  # its worth, where the policy goes by worth


class Agenda:
    """A lazy heap: which slot's rank comes first, the one stored earlier among equals?

    A slot may stand in it too early, never too late (Cover), and may be gone or stand in it twice: whoever comes to the
    top is looked up and put right. So a rank that rises, as it does at every use, costs nothing until then. A rank of
    inf never comes.
    """

    __slots__ = ("_limit", "_rank", "_slots", "heap")

    def __init__(self, slots: Mapping[str, Slot], rank: str) -> None:
        self._slots = slots
        self._rank: Callable[[Slot], float] = attrgetter(rank)
        self.heap: list[tuple[float, float, str]] = []
        self._limit = 64

    def add(self, rank: float, stored: float, key: str) -> None:
        """Note a slot that is new, or whose rank has fallen."""
        heappush(self.heap, (rank, stored, key))
        if len(self.heap) > self._limit:
            self.weed()

    def weed(self) -> None:
        """Leave one item per slot: so rarely that it adds little to an `add`, so often that it bounds the memory."""
        rank = self._rank
        self.heap = [(by, slot.stored, key) for key, slot in self._slots.items() if (by := rank(slot)) < inf]
        self.heap.sort()  # a sorted list is a heap
        self._limit = 3 * len(self._slots) + 64

    def first(self, limit: float = inf) -> str | None:
        """Take out the key whose rank comes first, if that is not above `limit`."""
        heap = self.heap
        while heap and heap[0][0] <= limit:
            noted = heap[0]
            key = noted[2]
            slot = self._slots.get(key)
            if slot is None or self._rank(slot) == inf:
                heappop(heap)
            elif (now := (self._rank(slot), slot.stored, key)) > noted:
                heapreplace(heap, now)
            else:
                heappop(heap)
                return key
        return None


class LRU(OrderedDict[str, Slot]):
    """Least recently used: the order that an OrderedDict keeps by itself."""

    used = OrderedDict.move_to_end

    def evict(self) -> tuple[str, Slot]:
        """Take out the slot that is worth least; the map must not be empty."""
        return self.popitem(last=False)


class _Worth(LRU):
    """Least worth first, where a slot's worth is its `rank` and rises with every use."""

    def __init__(self) -> None:
        super().__init__()
        self._worth = Agenda(self, "rank")

    def _appraise(self, key: str, slot: Slot, uses: int) -> None:
        """Set the rank; `uses` since it was stored, which was the first."""
        raise NotImplementedError

    def __setitem__(self, key: str, slot: Slot) -> None:
        self._appraise(key, slot, 1)
        super().__setitem__(key, slot)
        self._worth.add(slot.rank, slot.stored, key)

    def used(self, key: str) -> None:  # type: ignore[override]
        slot = self[key]
        self._appraise(key, slot, 1 + slot.access_count)

    def evict(self) -> tuple[str, Slot]:
        key = self._worth.first()
        assert key is not None, "every slot is on the agenda"
        return key, self.pop(key)


class GDSF(_Worth):
    """Greedy-dual-size-frequency (Cherkasova, HP Labs technical report HPL-98-69R1): the seconds that a byte saves.

    Worth is age + uses × cost ÷ size, where the age is the worth of the slot evicted last: it rises, so that what is
    not used any more falls behind. Forgets what it evicts. An unknown cost counts as one second.
    """

    _age = 0.0

    def _appraise(self, key: str, slot: Slot, uses: int) -> None:
        slot.rank = self._age + uses * _density(slot)

    def evict(self) -> tuple[str, Slot]:
        """As declared, and the age follows."""
        key, slot = super().evict()
        self._age = slot.rank
        return key, slot


class LFU(_Worth):
    """Least frequently used, weighed: worth is uses × cost ÷ size, and the uses are remembered beyond eviction.

    A use counts half as much after `HALF_LIFE` × entries further uses (as in LRFU, Lee et al. 1999). Both figures are
    kept as logarithms to base 2 on a clock of half-lives: so nothing has to be aged, and a worth only rises.
    `benchmarks/policy.py` tells what this saves; it costs a score for up to 2 × HALF_LIFE keys per entry.
    """

    HALF_LIFE = 8
    FEW = 128
    """Entries that a smaller cache is treated as having; it would forget too fast."""

    def __init__(self) -> None:
        super().__init__()
        self._now = 0.0
        self._uses: dict[str, float] = {}

    def _appraise(self, key: str, slot: Slot, uses: int) -> None:
        horizon = self.HALF_LIFE * max(len(self), self.FEW)
        self._now = now = self._now + 1 / horizon
        before = self._uses.get(key)
        self._uses[key] = score = now if before is None else now + log2(1 + 2 ** (before - now))
        slot.rank = score + log2(_density(slot))
        if len(self._uses) > 2 * horizon:
            left = sorted(self._uses.keys() - self.keys(), key=self._uses.__getitem__)
            for key in left[: len(left) // 2]:
                del self._uses[key]


def _density(slot: Slot) -> float:
    """Seconds that a byte saves at a use."""
    return (slot.cost or 1.0) / (slot.size or 1)


POLICIES: Final[dict[PolicyName, type[LRU]]] = {"lru": LRU, "gdsf": GDSF, "lfu": LFU}
