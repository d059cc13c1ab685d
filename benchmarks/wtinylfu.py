"""W-TinyLFU, weighed by cost and size: what `policy.py` measures the cache's own policies against."""

from __future__ import annotations

from collections import Counter, OrderedDict
from itertools import chain


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

    def set(self, key: str, size_mb: float, cost_seconds: float) -> None:
        self.window.put(key, (size_mb, cost_seconds))
        while self.window.held > self.window_mb:
            oldest = next(iter(self.window))
            self._admit(oldest, self.window.take(oldest))

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
