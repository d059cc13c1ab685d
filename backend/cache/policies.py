"""Eviction: which entry goes when there is no room. The map of the cache is its policy.

A policy is an `OrderedDict` from keys to slots whose first item is worth least: `popitem(last=False)` takes it out, and
`used(key)` notes a use of a key that is there, after its `access_count` has risen. `cache_manager` does everything
else: it holds the lock, and nothing interrupts a `popitem` or a store.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping
from heapq import heapify, heappop, heappush, heapreplace
from math import inf, log2, nextafter
from typing import Any, Final, Literal

PolicyName = Literal["lru", "gdsf", "lfu"]


class Slot:
    """One stored value. Filled in by its maker: an `__init__` would cost as much as the rest of a store."""

    __slots__ = ("access_count", "cost", "rank", "size", "stored", "ttl", "value")
    value: Any
    size: int  # bytes
    stored: float  # seconds of the cache's clock
    ttl: float  # seconds from then, inf for ever; many slots share one such number, while deadlines would be many
    access_count: int
    cost: float  # seconds it took to make; 0 where nobody said
    rank: float  # its worth, where the policy goes by worth

    @property
    def deadline(self) -> float:
        """When its time is up, on the cache's clock."""
        return self.stored + self.ttl


class Deadlines:
    """Who expires next? It sorts no more deadlines than it must, as most entries leave before they expire.

    Whose deadline is before the `horizon` stands in a heap (Cover); nobody else does. When the horizon is reached, at
    least half of all the deadlines move into the heap: so the work is spread over as many entries as have died since.
    An item whose slot is gone, or was stored again, is passed over: nobody has to tell what was removed.
    """

    __slots__ = ("_limit", "_slots", "heap", "horizon", "next")

    def __init__(self, slots: Mapping[str, Slot]) -> None:
        self._slots = slots
        self.heap: list[tuple[float, str]] = []
        self.horizon = inf
        self.next = inf  # nobody expires before
        self._limit = 64

    def add(self, deadline: float, key: str) -> None:
        """Note a slot that has just been stored, if its deadline is before the horizon."""
        heappush(self.heap, (deadline, key))
        self.next = min(self.next, deadline)
        if len(self.heap) > self._limit:
            self._look_ahead(-inf)

    def expired(self, now: float) -> Iterator[str]:
        """The keys whose time is up; each must have left before the next is asked for."""
        if self.horizon <= now:
            self._look_ahead(now)
        while self.heap and self.heap[0][0] <= now:
            deadline, key = heappop(self.heap)
            slot = self._slots.get(key)
            if slot is not None and slot.deadline == deadline:
                yield key
        self._expect()

    def _look_ahead(self, now: float) -> None:
        """Put the horizon behind `now` and behind half of the deadlines."""
        deadlines = sorted(slot.deadline for slot in self._slots.values() if slot.deadline < inf)
        self.horizon = nextafter(max(now, deadlines[len(deadlines) // 2]), inf) if deadlines else inf
        self.heap = [(slot.deadline, key) for key, slot in self._slots.items() if slot.deadline < self.horizon]
        heapify(self.heap)
        self._limit = 2 * len(self.heap) + 64
        self._expect()

    def _expect(self) -> None:
        self.next = self.heap[0][0] if self.heap else self.horizon


class LRU(OrderedDict[str, Slot]):
    """Least recently used: the order that an OrderedDict keeps by itself."""

    used = OrderedDict.move_to_end


class _Worth(LRU):
    """Least worth first, where a slot's worth is its `rank` and rises with every use.

    A lazy heap: a slot may stand in it too low, never too high (Order), and may be gone or stand in it twice. Whoever
    comes to the top is looked up and put right, so a rank that rises costs nothing until then. Among equals the one
    stored earlier comes first.
    """

    def __init__(self) -> None:
        super().__init__()
        self.heap: list[tuple[float, float, str]] = []

    def _appraise(self, key: str, slot: Slot, uses: int) -> None:
        """Set the rank; `uses` since it was stored, which was the first."""
        raise NotImplementedError

    def __setitem__(self, key: str, slot: Slot) -> None:
        self._appraise(key, slot, 1)
        super().__setitem__(key, slot)
        heappush(self.heap, (slot.rank, slot.stored, key))
        if len(self.heap) > 3 * len(self) + 64:
            self.heap = [(slot.rank, slot.stored, key) for key, slot in self.items()]
            heapify(self.heap)

    def used(self, key: str) -> None:  # type: ignore[override]
        slot = self[key]
        self._appraise(key, slot, 1 + slot.access_count)

    def popitem(self, last: bool = False) -> tuple[str, Slot]:
        """Take out the slot that is worth least."""
        heap = self.heap
        while True:
            noted = heap[0]
            slot = self.get(noted[2])
            if slot is None:
                heappop(heap)
            elif (now := (slot.rank, slot.stored, noted[2])) > noted:
                heapreplace(heap, now)
            else:
                heappop(heap)
                return noted[2], self.pop(noted[2])


class GDSF(_Worth):
    """Greedy-dual-size-frequency (Cherkasova, HP Labs technical report HPL-98-69R1): the seconds that a byte saves.

    Worth is age + uses × cost ÷ size, where the age is the worth of the slot evicted last: it rises, so that what is
    not used any more falls behind. Forgets what it evicts. An unknown cost counts as one second.
    """

    _age = 0.0

    def _appraise(self, key: str, slot: Slot, uses: int) -> None:
        slot.rank = self._age + uses * _density(slot)

    def popitem(self, last: bool = False) -> tuple[str, Slot]:
        """As declared, and the age follows."""
        key, slot = super().popitem()
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
            for forgotten in left[: len(left) // 2]:
                del self._uses[forgotten]


def _density(slot: Slot) -> float:
    """Seconds that a byte saves at a use."""
    return max(slot.cost or 1.0, 1e-9) / (slot.size or 1)


POLICIES: Final[dict[PolicyName, type[LRU]]] = {"lru": LRU, "gdsf": GDSF, "lfu": LFU}
