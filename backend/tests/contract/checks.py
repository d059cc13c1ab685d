"""What holds of every cache whenever its lock is free: the invariants that the head of cache_manager names."""

from math import inf

import pytest

from cache_manager import LRUCache


class Clock:
    """Monotonic seconds that pass when told to."""

    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


def is_heap(heap):
    return all(heap[(n - 1) // 2] <= heap[n] for n in range(1, len(heap)))


def covered(deadlines, slots):
    """Cover: whose deadline is before the horizon stands in the heap, and nothing is due before `next`."""
    assert is_heap(deadlines.heap)
    noted = set(deadlines.heap)
    for key, slot in slots.items():
        assert slot.deadline >= deadlines.next
        if slot.deadline < deadlines.horizon:
            assert (slot.deadline, key) in noted


def ordered(heap, slots):
    """Order: each slot stands in the heap of worths, not above its worth."""
    assert is_heap(heap)
    lowest = {}
    for rank, _stored, key in heap:
        lowest[key] = min(lowest.get(key, inf), rank)
    for key, slot in slots.items():
        assert lowest[key] <= slot.rank


def check(cache):
    """Bounds, One cause, Cover, Order, One flight."""
    with cache._lock:
        slots, stats = dict(cache._entries), cache.get_stats()
        assert sum(slot.size for slot in slots.values()) == cache._bytes <= cache._max_bytes
        assert len(slots) == stats["current_items"] <= cache._max_size
        assert len(slots) == 0 or cache._max_bytes > 0
        assert cache._bytes <= cache._most_bytes
        gone = ("evictions", "expirations", "replaced", "deleted", "cleared")
        assert all(stats[name] >= 0 for name in (*gone, "hits", "misses", "coalesced", "rejected"))
        assert stats["stored"] == len(slots) + sum(stats[name] for name in gone)
        assert stats["evictions"] == stats["evictions_by_count"] + stats["evictions_by_size"]
        covered(cache._deadlines, slots)
        if hasattr(cache._entries, "heap"):
            ordered(cache._entries.heap, slots)
        assert not cache._flights, "every flight has landed"


@pytest.fixture(autouse=True)
def every_cache_is_sound(monkeypatch):
    """Check every cache that the test made, when it is over."""
    made = []
    construct = LRUCache.__init__

    def constructing(self, *args, **kwargs):
        construct(self, *args, **kwargs)
        made.append(self)

    monkeypatch.setattr(LRUCache, "__init__", constructing)
    yield
    for cache in made:
        check(cache)


@pytest.fixture
def clock():
    return Clock()
