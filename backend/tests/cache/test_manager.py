"""What users of the result cache rely on, day to day. Races, policies and past defects have folders of their own."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

import cache_manager
from cache_manager import CacheEntry, LRUCache, clear_cache, get_cache


class Clock:
    """Monotonic seconds that pass when told to."""

    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


class TestLRUCacheBasics:
    def test_initialization(self):
        cache = LRUCache(max_size=100, max_memory_mb=256.0, default_ttl_seconds=60)
        assert (cache.max_size, cache.max_memory_mb, cache.default_ttl_seconds) == (100, 256.0, 60)
        assert len(cache) == 0
        assert cache.get_stats()["current_items"] == 0
        defaults = {"max_size": 1000, "max_memory_mb": 512.0, "default_ttl_seconds": None, "policy": "lru"}
        assert LRUCache().get_config() == defaults

    def test_set_and_get(self):
        cache = LRUCache()
        assert cache.set("key", {"mesh": [1, 2]}, size_mb=1.0)
        assert cache.get("key") == {"mesh": [1, 2]}
        assert "key" in cache
        assert len(cache) == 1

    def test_get_miss(self):
        cache = LRUCache()
        assert cache.get("absent") is None
        assert cache.get("absent", "default") == "default"
        assert cache.stats["misses"] == 2

    def test_delete(self):
        cache = LRUCache()
        cache.set("key", "value", size_mb=1.0)
        assert cache.delete("key") is True
        assert cache.delete("key") is False
        assert cache.get("key") is None
        assert cache.stats["current_memory_mb"] == 0

    def test_clear(self):
        cache = LRUCache()
        for n in range(3):
            cache.set(f"key{n}", n, size_mb=1.0)
        assert cache.clear() == 3
        assert len(cache) == 0
        assert cache.stats["current_memory_mb"] == 0
        assert cache, "an empty cache is still a cache"


class TestLRUEviction:
    def test_eviction_by_count(self):
        cache = LRUCache(max_size=3)
        for n in range(5):
            cache.set(f"key{n}", n, size_mb=1.0)
        assert [f"key{n}" in cache for n in range(5)] == [False, False, True, True, True]
        assert cache.stats["evictions_by_count"] == 2

    def test_eviction_by_memory(self):
        cache = LRUCache(max_memory_mb=10.0)
        for n in range(3):
            cache.set(f"key{n}", n, size_mb=4.0)
        assert "key0" not in cache
        assert cache.stats["current_memory_mb"] == 8.0
        assert cache.stats["evictions_by_size"] == 1

    def test_lru_order(self):
        cache = LRUCache(max_size=2)
        cache.set("used", 1)
        cache.set("unused", 2)
        cache.get("used")
        cache.set("new", 3)
        assert "used" in cache
        assert "unused" not in cache

    def test_eviction_counter(self):
        cache = LRUCache(max_size=2, max_memory_mb=10.0)
        for n in range(4):
            cache.set(f"key{n}", n, size_mb=1.0)
        cache.set("large", "x", size_mb=9.5)
        stats = cache.get_stats()
        assert (stats["evictions_by_count"], stats["evictions_by_size"], stats["evictions"]) == (3, 1, 4)


class TestCacheStatistics:
    def test_shares_are_per_cent_with_two_digits(self):
        cache = LRUCache(max_memory_mb=3e-6)
        cache.set("key", b"1")
        cache.get("key")
        assert cache.stats["hit_rate_percent"] == 100.0
        for key in ("key", "absent"):
            cache.get(key)
        assert (cache.stats["hit_rate_percent"], cache.stats["memory_utilization_percent"]) == (66.67, 33.33)
        assert (cache.stats["max_memory_mb"], cache.stats["max_items"]) == (3e-6, 1000)
        cache.update_config(max_memory_mb=1e-6)
        assert cache.stats["memory_utilization_percent"] == 100.0

    def test_a_value_of_unknown_cost_saves_nothing(self):
        cache = LRUCache()
        cache.set("key", 1)
        cache.set("dear", 1, cost_seconds=2.5)
        cache.get("key"), cache.get("dear"), cache.get("dear")
        assert cache.stats["seconds_saved"] == 5.0

    def test_hit_rate(self):
        cache = LRUCache()
        cache.set("key", "value")
        for key in ("key", "key", "key", "absent"):
            cache.get(key)
        assert cache.get_stats()["hit_rate_percent"] == 75.0

    def test_memory(self):
        cache = LRUCache(max_memory_mb=100.0)
        cache.set("a", 1, size_mb=30.0)
        cache.set("b", 2, size_mb=20.0)
        stats = cache.get_stats()
        assert stats["current_memory_mb"] == 50.0
        assert stats["memory_utilization_percent"] == 50.0

    def test_reset(self):
        cache = LRUCache()
        cache.set("key", "value", size_mb=1.0)
        cache.get("key")
        cache.get("absent")
        cache.reset_stats()
        stats = cache.get_stats()
        assert (stats["hits"], stats["misses"], stats["hit_rate_percent"]) == (0, 0, 0.0)
        assert (stats["current_items"], stats["current_memory_mb"]) == (1, 1.0)

    def test_max_memory(self):
        cache = LRUCache(max_memory_mb=100.0)
        cache.set("a", 1, size_mb=60.0)
        cache.delete("a")
        cache.set("b", 2, size_mb=10.0)
        assert cache.get_stats()["max_memory_seen_mb"] == 60.0


class TestCacheTTL:
    def test_entry_expiration(self, clock):
        cache = LRUCache(clock=clock)
        cache.set("key", "value", ttl_seconds=10)
        clock.now += 9.9
        assert cache.get("key") == "value"
        clock.now += 0.1
        assert cache.get("key") is None
        assert len(cache) == 0
        assert cache.stats["expirations"] == 1

    def test_default_ttl(self, clock):
        cache = LRUCache(default_ttl_seconds=10, clock=clock)
        cache.set("key", "value")
        clock.now += 11
        assert cache.get("key") is None

    def test_ttl_override(self, clock):
        cache = LRUCache(default_ttl_seconds=10, clock=clock)
        cache.set("long", 1, ttl_seconds=100)
        cache.set("short", 2, ttl_seconds=1)
        clock.now += 50
        assert cache.get("long") == 1
        assert cache.get("short") is None


class TestCacheConfiguration:
    def test_get_config(self):
        config = LRUCache(max_size=7, max_memory_mb=8.0, default_ttl_seconds=9).get_config()
        assert config == {"max_size": 7, "max_memory_mb": 8.0, "default_ttl_seconds": 9, "policy": "lru"}

    def test_update_size(self):
        cache = LRUCache(max_size=10)
        for n in range(10):
            cache.set(f"key{n}", n)
        cache.update_config(max_size=5)
        assert cache.max_size == len(cache) == 5
        assert "key4" not in cache
        assert "key5" in cache

    def test_update_memory(self):
        cache = LRUCache(max_memory_mb=10.0)
        for n in range(10):
            cache.set(f"key{n}", n, size_mb=1.0)
        cache.update_config(max_memory_mb=5.0)
        assert cache.max_memory_mb == cache.stats["current_memory_mb"] == 5.0


class TestThreadSafety:
    def test_concurrent_set_and_get(self):
        cache = LRUCache(max_size=1000)

        def work(worker):
            for n in range(100):
                cache.set(f"{worker}:{n}", n, size_mb=0.001)
                assert cache.get(f"{worker}:{n}") == n

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(work, range(8)))
        stats = cache.get_stats()
        assert (stats["hits"], stats["misses"], stats["current_items"]) == (800, 0, 800)
        assert stats["current_memory_mb"] == 0.8

    def test_concurrent_eviction(self):
        cache = LRUCache(max_size=10)
        together = threading.Barrier(8)

        def work(worker):
            together.wait()
            for n in range(100):
                cache.set(f"{worker}:{n}", n, size_mb=0.001)

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(work, range(8)))
        stats = cache.get_stats()
        assert (stats["current_items"], stats["evictions_by_count"]) == (10, 790)
        assert stats["current_memory_mb"] == 0.01


class TestCacheEntries:
    def test_summary(self, clock):
        cache = LRUCache(clock=clock)
        cache.set("old", 1, size_mb=2.0)
        clock.now += 5
        cache.set("new", 2, size_mb=3.0, ttl_seconds=10)
        clock.now += 20
        old, new = cache.get_entries_summary()
        assert (old["key"], old["size_mb"], old["age_seconds"], old["expires_at"], old["expired"]) == (
            *("old", 2.0, 25.0),
            *(None, False),
        )
        assert (new["key"], new["size_mb"], new["age_seconds"], new["expired"]) == ("new", 3.0, 20.0, True)
        assert new["expires_at"] == pytest.approx(new["timestamp"] + 10)
        assert [row["key"] for row in cache.get_entries_summary(limit=1, offset=1)] == ["new"]

    def test_ages_are_milliseconds(self, clock):
        cache = LRUCache(clock=clock)
        cache.set("old", 1)
        clock.now += 0.25
        cache.set("new", 1)
        clock.now += 0.5004
        assert [row["age_seconds"] for row in cache.get_entries_summary()] == [0.75, 0.5]

    def test_an_entry_tells_by_the_wall_clock_whether_it_has_expired(self, monkeypatch):
        monkeypatch.setattr(cache_manager.time, "time", lambda: 100.0)
        entries = [CacheEntry("value", 0.0, expires_at=at) for at in (None, 99.0, 100.0, 100.5)]
        assert [entry.is_expired() for entry in entries] == [False, True, True, False]

    def test_access_count(self):
        cache = LRUCache()
        cache.set("key", "value", size_mb=1.0)
        for _ in range(3):
            cache.get("key")
        cache.peek("key")
        assert cache.get_entries_summary()[0]["access_count"] == 3
        entry = cache.cache["key"]
        assert entry == CacheEntry("value", entry.timestamp, 3, 1.0, None)
        assert not entry.is_expired()


@pytest.fixture
def no_instance(monkeypatch):
    monkeypatch.setattr(cache_manager, "_cache_instance", None)


@pytest.mark.usefixtures("no_instance")
class TestGlobalCacheInstance:
    def test_singleton(self):
        cache = get_cache(max_size=5)
        assert get_cache() is cache
        assert get_cache(max_size=5) is cache
        assert cache.max_size == 5

    def test_persistence(self):
        get_cache().set("key", "value")
        assert get_cache().get("key") == "value"
        assert clear_cache() == 1
        assert get_cache().get("key") is None

    def test_every_argument_counts_at_first_and_is_compared_later(self):
        asked = {"max_size": 5, "max_memory_mb": 6.0, "default_ttl_seconds": 7.0, "policy": "gdsf"}
        assert get_cache(**asked).get_config() == asked
        assert get_cache(**asked) is get_cache()
        for name, other in (("max_size", 1), ("max_memory_mb", 1.0), ("default_ttl_seconds", None), ("policy", "lru")):
            with pytest.warns(RuntimeWarning, match=name) as caught:
                get_cache(**{name: other})
            assert caught[0].filename == __file__
        assert get_cache().get_config() == asked

    def test_clearing_before_there_is_one(self):
        assert clear_cache() == 0
        assert cache_manager._cache_instance is None
