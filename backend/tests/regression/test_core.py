"""One test per defect that the first version of this cache had; each fails on it."""

import gc
import threading
import time
import weakref

import pytest

import cache_manager
from cache_manager import LRUCache, get_cache


def within(seconds, action):
    """The result of an action that used to hang."""
    done = []
    thread = threading.Thread(target=lambda: done.append(action()), daemon=True)
    thread.start()
    thread.join(seconds)
    assert done, "hangs"
    return done[0]


# A. The core


def test_a1_an_empty_cache_is_true():
    cache = LRUCache()
    assert cache
    assert len(cache) == 0


def test_a2_no_room_for_any_entry_stores_nothing():
    cache = LRUCache(max_size=0)
    assert within(10, lambda: cache.set("key", 1, 1.0)) is False
    assert cache.get("key") is None


def test_a3_a_negative_bound_is_refused():
    cache = LRUCache()

    def update():
        with pytest.raises(ValueError, match="max_size"):
            cache.update_config(max_size=-1)
        return True

    assert within(10, update)
    assert cache.max_size == 1000


def test_a4_an_oversize_value_leaves_its_neighbours_alone():
    cache = LRUCache(max_memory_mb=10)
    cache.set("neighbour", 1, 5.0)
    cache.set("large", 1, 11.0)
    assert "neighbour" in cache
    assert "large" not in cache
    assert cache.stats["rejected"] == 1


def test_a5_replacing_in_a_full_cache_evicts_nobody():
    cache = LRUCache(max_size=2)
    cache.set("a", 1, 1.0)
    cache.set("b", 1, 1.0)
    cache.set("b", 2, 1.0)
    assert "a" in cache
    assert cache.stats["evictions"] == 0


def test_a6_replacing_is_booked_once():
    cache = LRUCache(max_size=1, max_memory_mb=10)
    for n in range(3):
        cache.set("a", n, 6.0)
        assert cache.stats["current_memory_mb"] == 6.0
        assert cache.stats["current_items"] == len(cache) == 1


def test_a7_the_bound_stays_on():
    cache = LRUCache(max_size=1, max_memory_mb=10)
    for n in range(20):
        cache.set("same", n, 6.0)
    cache.update_config(max_size=100)
    for n in range(20):
        cache.set(f"key{n}", n, 6.0)
    assert len(cache) == 1
    assert cache.stats["current_memory_mb"] == 6.0


def test_a8_storing_again_is_a_use():
    cache = LRUCache(max_size=2)
    cache.set("a", 1)
    cache.set("b", 1)
    cache.set("a", 2)
    cache.set("c", 1)
    assert "a" in cache
    assert "b" not in cache


def test_a9_a_bound_is_checked_before_it_is_used():
    cache = LRUCache()
    for name in ("max_size", "max_memory_mb"):
        with pytest.raises(TypeError, match=name):
            cache.update_config(**{name: "5"})
    cache.set("key", 1, 1.0)
    assert cache.get("key") == 1
    assert cache.get_config()["max_size"] == 1000


@pytest.mark.parametrize("size", [float("nan"), -5.0, float("inf")])
def test_a10_a_size_that_is_none_is_refused(size):
    cache = LRUCache(max_memory_mb=10)
    with pytest.raises(ValueError, match="size_mb"):
        cache.set("key", 1, size)
    assert cache.stats["current_memory_mb"] == 0
    cache.set("a", 1, 6.0)
    cache.set("b", 1, 6.0)
    assert len(cache) == 1


def test_a11_no_memory_still_has_stats():
    cache = LRUCache(max_memory_mb=0)
    assert cache.get_stats()["memory_utilization_percent"] == 0
    assert cache.set("key", 1, 0.0) is False


def test_a12_none_is_cached():
    cache, runs = LRUCache(), []
    for _ in range(2):
        assert cache.get_or_compute("key", lambda: runs.append(1)) is None
    assert len(runs) == 1
    assert cache.get("key", "absent") is None


def test_a13_the_expired_make_room_first(clock):
    cache = LRUCache(max_size=2, clock=clock)
    cache.set("living", 1, ttl_seconds=1000)
    cache.set("dead", 1, ttl_seconds=1)
    cache.get("dead")
    clock.now += 2
    cache.set("new", 1)
    assert "living" in cache


def test_a14_the_wall_clock_may_jump(monkeypatch):
    cache = LRUCache()
    cache.set("key", 1, ttl_seconds=3600)
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 10**6)
    assert cache.get("key") == 1


@pytest.mark.parametrize("ttl", [float("nan"), float("inf"), -1])
def test_a15_a_lifetime_that_is_none_is_refused(ttl):
    with pytest.raises(ValueError, match="ttl_seconds"):
        LRUCache().set("key", 1, ttl_seconds=ttl)
    with pytest.raises(ValueError, match="default_ttl_seconds"):
        LRUCache(default_ttl_seconds=ttl)


# C. What the server saw of it


def test_c2_a_value_is_booked_at_its_size():
    cache = LRUCache(max_memory_mb=10)
    cache.set("key", bytes(3_000_000))
    assert cache.stats["current_memory_mb"] == 3.0
    cache.get_or_compute("computed", lambda: bytes(4_000_000))
    assert cache.stats["current_memory_mb"] == 7.0


def test_c9_the_listing_is_paged_and_made_without_the_lock(monkeypatch):
    cache = LRUCache()
    for n in range(100):
        cache.set(f"key{n}", n)
    free = []

    class Entry(cache_manager.CacheEntry):
        def __init__(self, *args):
            super().__init__(*args)
            other = threading.Thread(
                target=lambda: free.append(cache._lock.acquire(timeout=5) and not cache._lock.release())
            )
            other.start()
            other.join()

    monkeypatch.setattr(cache_manager, "CacheEntry", Entry)
    rows = cache.get_entries_summary(limit=3, offset=10)
    assert [row["key"] for row in rows] == ["key10", "key11", "key12"]
    assert free == [True] * 3


# D. Accounting


def test_d1_sizes_do_not_drift():
    cache = LRUCache(max_memory_mb=0.3)
    for n in range(3):
        cache.set(f"key{n}", n, 0.1)
    assert len(cache) == 3
    assert cache.stats["current_memory_mb"] == 0.3
    for n in range(1000):
        cache.set(f"key{n % 3}", n, 0.1)
    cache.clear()
    assert cache.stats["current_memory_mb"] == 0


def test_d2_eviction_counters_agree():
    cache = LRUCache(max_size=10, max_memory_mb=10)
    for n in range(20):
        cache.set(f"key{n}", n, 0.5)
    cache.set("large", 1, 9.0)
    cache.update_config(max_size=1)
    cache.update_config(max_memory_mb=1)
    stats = cache.get_stats()
    assert stats["evictions"] == stats["evictions_by_count"] + stats["evictions_by_size"] == 21


@pytest.mark.parametrize("leave", ["replaced", "evicted", "deleted", "cleared", "expired", "shrunk"])
def test_d3_a_value_dies_without_the_lock(leave, clock):
    cache, free = LRUCache(max_size=1, clock=clock), []

    class Value:
        def __del__(self):
            other = threading.Thread(
                target=lambda: free.append(cache._lock.acquire(timeout=5) and not cache._lock.release())
            )
            other.start()
            other.join()

    cache.set("key", Value(), ttl_seconds=10)
    if leave == "expired":
        clock.now += 11
    {
        "replaced": lambda: cache.set("key", 1),
        "evicted": lambda: cache.set("other", 1),
        "deleted": lambda: cache.delete("key"),
        "cleared": cache.clear,
        "expired": lambda: cache.get("key"),
        "shrunk": lambda: cache.update_config(max_size=0),
    }[leave]()
    assert free == [True]


def test_d4_a_finaliser_may_call_the_cache():
    cache = LRUCache(max_size=100, max_memory_mb=3)

    class Value:
        def __del__(self):
            cache.set("from the dying", 1, 1.0)

    for key in "abc":
        cache.set(key, Value(), 1.0)
    cache.set("a", "new", 1.0)
    assert cache.stats["current_memory_mb"] == len(cache) <= 3


def test_d5_a_store_that_fails_changes_nothing():
    cache = LRUCache()
    cache.set("key", 1, 1.0)
    before = cache.get_stats()
    for bad in ({"size_mb": "large"}, {"ttl_seconds": "long"}, {"size_mb": None, "ttl_seconds": []}):
        with pytest.raises(TypeError):
            cache.set("key", 2, **bad)
    assert cache.get_stats() == before
    assert cache.get("key") == 1


def test_d6_expirations_are_counted(clock):
    cache = LRUCache(clock=clock)
    for n in range(3):
        cache.set(f"key{n}", n, ttl_seconds=1)
    clock.now += 2
    cache.get("key0")
    cache.set("new", 1)
    assert cache.stats["expirations"] == 3
    assert cache.stats["evictions"] == cache.stats["deleted"] == 0


def test_d7_what_is_shown_cannot_be_written():
    cache = LRUCache(max_size=5)
    cache.set("key", 1)
    with pytest.raises(AttributeError):
        cache.max_size = 1
    with pytest.raises(AttributeError):
        cache.max_memory_mb = 1
    with pytest.raises(TypeError):
        cache.stats["hits"] = 1
    with pytest.raises(TypeError):
        cache.cache["other"] = 1
    cache.get_stats()["hits"] = 99
    cache.get_entries_summary()[0]["access_count"] = 99
    assert cache.stats["hits"] == 0
    assert cache.get_entries_summary()[0]["access_count"] == 0


def test_b16_get_cache_says_when_it_cannot_do_as_told(monkeypatch):
    monkeypatch.setattr(cache_manager, "_cache_instance", None)
    get_cache(max_size=5)
    with pytest.warns(RuntimeWarning, match="max_size"):
        assert get_cache(max_size=6).max_size == 5


def test_what_was_deleted_is_not_kept_by_the_agenda():
    class Value:
        pass

    cache, value = LRUCache(default_ttl_seconds=10**6), Value()
    alive = weakref.ref(value)
    cache.set("key", value)
    cache.delete("key")
    del value
    gc.collect()
    assert alive() is None
