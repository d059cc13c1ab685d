"""What every cache promises, whatever its policy, its lifetime and the bound that binds."""

import gc
import logging
import weakref

import pytest

from cache.policies import POLICIES, Deadlines
from cache_manager import LRUCache

ROOM = 4
"""Entries of 1 MB that fit, whichever bound is the tighter."""


@pytest.fixture(params=[None, 100.0], ids=["no lifetime", "lifetime"])
def ttl(request):
    return request.param


@pytest.fixture(params=[(ROOM, 1000.0), (1000, float(ROOM)), (ROOM, float(ROOM))], ids=["count", "size", "both"])
def bound(request):
    return request.param


@pytest.fixture
def heard():
    return []


@pytest.fixture(params=POLICIES)
def cache(request, ttl, bound, clock, heard):
    return LRUCache(
        *bound, ttl, policy=request.param, clock=clock, on_evict=lambda key, value, why: heard.append((key, value, why))
    )


def fill(cache, count=ROOM):
    for n in range(count):
        cache.set(f"key{n}", n, 1.0)


class TestContract:
    def test_gives_back_the_very_object(self, cache):
        value = object()
        assert cache.set("key", value, 1.0) is True
        assert cache.get("key") is value
        assert cache.peek("key") is value
        assert "key" in cache

    def test_none_is_a_value(self, cache):
        cache.set("key", None, 1.0)
        assert "key" in cache
        assert cache.get("key", "default") is None
        assert cache.get_or_compute("key", lambda: pytest.fail("is there")) is None

    def test_what_is_just_stored_is_there(self, cache):
        for n in range(3 * ROOM):
            cache.set(f"key{n}", n, 1.0, cost_seconds=1.0 / (n + 1))
            assert cache.peek(f"key{n}") == n

    def test_full_but_not_over(self, cache):
        fill(cache)
        assert len(cache) == ROOM
        assert cache.stats["evictions"] == 0
        cache.set("one more", 1, 1.0)
        assert len(cache) == ROOM
        assert cache.stats["evictions"] == 1

    def test_equals_leave_oldest_first(self, cache, clock, heard):
        for n in range(2 * ROOM):
            clock.now += 1
            cache.set(f"key{n}", n, 1.0)
        assert [key for key, _, _ in heard] == [f"key{n}" for n in range(ROOM)]

    def test_a_use_protects(self, cache, clock):
        for n in range(ROOM):
            clock.now += 1
            cache.set(f"key{n}", n, 1.0)
        cache.get("key0")
        cache.set("new", 1, 1.0)
        assert "key0" in cache
        assert "key1" not in cache

    def test_peek_and_in_leave_no_trace(self, cache, clock):
        for n in range(ROOM):
            clock.now += 1
            cache.set(f"key{n}", n, 1.0)
        before = cache.get_stats()
        assert cache.peek("key0") == 0
        assert cache.peek("absent", 7) == 7
        assert "key0" in cache
        assert cache.get_stats() == before
        cache.set("new", 1, 1.0)
        assert "key0" not in cache

    def test_replacing_costs_no_neighbour(self, cache, heard):
        fill(cache)
        cache.set("key0", "new", 1.0)
        assert heard == [("key0", 0, "replaced")]
        assert len(cache) == ROOM
        assert cache.stats["current_memory_mb"] == ROOM

    def test_too_large_is_refused_and_costs_only_its_old_self(self, cache, heard):
        cache.update_config(max_memory_mb=ROOM)
        fill(cache)
        assert cache.set("key0", "large", ROOM + 0.000001) is False
        assert heard == [("key0", 0, "replaced")]
        assert len(cache) == ROOM - 1
        assert cache.stats["rejected"] == 1
        assert cache.set("all", "large", float(ROOM)) is True
        assert len(cache) == 1

    def test_delete(self, cache, heard):
        cache.set("key", 1, 1.0)
        assert cache.delete("key") is True
        assert cache.delete("key") is False
        assert heard == [("key", 1, "deleted")]

    def test_delete_prefix(self, cache):
        for key in ("a:1", "a:2", "b:1"):
            cache.set(key, 1, 1.0)
        assert cache.delete_prefix("a:") == 2
        assert list(cache.cache) == ["b:1"]
        assert cache.stats["deleted"] == 2

    def test_clear(self, cache, heard):
        fill(cache)
        assert cache.clear() == ROOM
        assert len(cache) == 0
        assert cache.stats["current_memory_mb"] == 0
        assert {why for _, _, why in heard} == {"cleared"}
        fill(cache)
        assert len(cache) == ROOM

    def test_clearing_counts_the_living(self, cache, clock):
        cache.set("dead", 1, 1.0, ttl_seconds=1)
        cache.set("living", 1, 1.0)
        clock.now += 2
        assert cache.clear() == 1
        assert (cache.stats["cleared"], cache.stats["expirations"]) == (1, 1)

    def test_without_any_memory_they_leave_for_their_size(self, cache, heard):
        cache.set("key", 1, 1.0)
        cache.update_config(max_memory_mb=0)
        assert heard == [("key", 1, "size")]

    def test_a_key_of_another_type_can_be_cleared_too(self, cache):
        cache.set(5, 1, 1.0)
        assert cache.clear() == 1

    def test_numbers_beyond_measure_are_refused(self, cache):
        for name, bad in (("size_mb", 1e305), ("size_mb", 10**400), ("ttl_seconds", 10**400)):
            with pytest.raises(ValueError, match=f"^{name} "):
                cache.set("key", 1, **{name: bad})
        with pytest.raises(ValueError, match=r"^max_memory_mb "):
            cache.update_config(max_memory_mb=1e305)

    def test_zero_stores_nothing(self, cache):
        fill(cache)
        for zero in ({"max_size": 0}, {"max_memory_mb": 0}):
            config = cache.get_config()
            cache.update_config(**zero)
            assert len(cache) == 0
            assert cache.set("key", 1, 0.0) is False
            assert cache.get_or_compute("key", lambda: 1) == 1
            assert "key" not in cache
            cache.update_config(max_size=config["max_size"], max_memory_mb=config["max_memory_mb"])
        assert cache.set("key", 1, 0.0) is True

    def test_expires_to_the_tick(self, cache, clock, heard):
        cache.set("key", 1, 1.0, ttl_seconds=10)
        clock.now += 10 - 1e-6
        assert cache.get("key") == 1
        clock.now += 1e-6
        assert cache.peek("key") is None
        assert "key" not in cache
        assert cache.get("key") is None
        assert heard == [("key", 1, "expired")]
        assert (cache.stats["hits"], cache.stats["misses"], cache.stats["expirations"]) == (1, 1, 1)

    def test_zero_lifetime_is_over_at_once(self, cache):
        cache.set("key", 1, 1.0, ttl_seconds=0)
        assert cache.get("key") is None

    def test_deleting_the_expired_says_there_was_none(self, cache, clock):
        cache.set("key", 1, 1.0, ttl_seconds=1)
        clock.now += 2
        assert cache.delete("key") is False
        assert cache.stats["expirations"] == 1
        assert cache.stats["deleted"] == 0

    def test_default_lifetime_is_for_what_comes(self, cache, clock, ttl):
        cache.set("before", 1, 1.0)
        cache.update_config(default_ttl_seconds=5)
        cache.set("after", 1, 1.0)
        clock.now += 6
        assert "before" in cache
        assert "after" not in cache
        cache.update_config(default_ttl_seconds=None)
        cache.set("for good", 1, 1.0)
        clock.now += 10**9
        assert "for good" in cache
        assert ("before" in cache) == (ttl is None)

    def test_the_dead_leave_before_the_living(self, cache, clock):
        cache.set("living", 1, 1.0, ttl_seconds=1000)
        for n in range(ROOM - 1):
            cache.set(f"dead{n}", 1, 1.0, ttl_seconds=1)
            cache.get(f"dead{n}")
        clock.now += 2
        for n in range(ROOM - 1):
            cache.set(f"new{n}", 1, 1.0)
        assert "living" in cache
        assert cache.stats["expirations"] == ROOM - 1
        assert cache.stats["evictions"] == 0

    def test_a_longer_lease_holds(self, cache, clock):
        cache.set("key", 1, 1.0, ttl_seconds=1)
        cache.set("key", 2, 1.0, ttl_seconds=100)
        clock.now += 50
        cache.set("other", 1, 1.0)
        assert cache.get("key") == 2
        cache.set("key", 3, 1.0, ttl_seconds=1)
        clock.now += 2
        cache.set("other", 1, 1.0)
        assert len(cache) == 1

    def test_get_or_compute(self, cache, clock):
        def compute():
            clock.now += 3
            return "made"

        assert cache.get_or_compute("key", compute, size_mb=1.0) == "made"
        assert cache.get_or_compute("key", compute) == "made"
        stats = cache.get_stats()
        assert (stats["hits"], stats["misses"], stats["seconds_saved"]) == (1, 1, 3.0)
        assert stats["current_memory_mb"] == 1.0

    def test_errors_are_not_stored(self, cache):
        with pytest.raises(ZeroDivisionError):
            cache.get_or_compute("key", lambda: 1 / 0)
        assert "key" not in cache
        assert cache.get_or_compute("key", lambda: 1) == 1

    def test_bad_arguments_change_nothing(self, cache, heard):
        fill(cache)
        before = (cache.get_stats(), cache.get_config(), list(cache._entries))
        nan, infinite = float("nan"), float("inf")
        for name, bad in (
            *(("size_mb", value) for value in (-1, nan, infinite, "1", True)),
            *(("ttl_seconds", value) for value in (-1, nan, infinite, "1", True)),
            *(("cost_seconds", value) for value in (-1, nan, infinite, "1", True)),
        ):
            with pytest.raises((TypeError, ValueError), match=f"^{name} "):
                cache.set("key0", 1, **{name: bad})
        for name, bad in (
            *(("max_size", value) for value in (-1, 1.5, "1", True, None)),
            *(("max_memory_mb", value) for value in (-1, nan, infinite, "1", True, None)),
            *(("default_ttl_seconds", value) for value in (-1, nan, infinite, "1", True)),
        ):
            with pytest.raises((TypeError, ValueError), match=f"^{name} "):
                cache.update_config(**{"max_size": 1, "max_memory_mb": 1, "default_ttl_seconds": 1, name: bad})
            with pytest.raises((TypeError, ValueError), match=f"^{name} "):
                LRUCache(**{name: bad})
        with pytest.raises(TypeError):
            cache.set([], 1)
        assert (cache.get_stats(), cache.get_config(), list(cache._entries)) == before
        assert heard == []

    def test_shrinking_keeps_the_worthiest(self, cache, clock):
        for n in range(ROOM):
            clock.now += 1
            cache.set(f"key{n}", n, 1.0)
        cache.get("key0")
        cache.update_config(max_size=2)
        assert sorted(cache.cache) == ["key0", "key3"]
        cache.update_config(max_memory_mb=1.0)
        assert len(cache) == 1

    def test_reset_keeps_the_present(self, cache):
        fill(cache, ROOM + 1)
        cache.get("absent")
        cache.reset_stats()
        stats = cache.get_stats()
        assert stats["stored"] == stats["current_items"] == stats["current_memory_mb"] == ROOM
        assert stats["max_memory_seen_mb"] == ROOM
        assert (stats["hits"], stats["misses"], stats["evictions"], stats["seconds_saved"]) == (0, 0, 0, 0)

    def test_a_listener_that_fails_harms_nobody(self, ttl, bound, clock, caplog):
        def fail(*_):
            raise ValueError("listener")

        cache = LRUCache(*bound, ttl, clock=clock, on_evict=fail)
        fill(cache, ROOM + 2)
        cache.clear()
        assert len([record for record in caplog.records if record.levelno == logging.ERROR]) == ROOM + 2
        assert "on_evict for 'key0' (" in caplog.messages[0]

    def test_a_listener_may_use_the_cache(self, ttl, bound, clock):
        cache = LRUCache(*bound, ttl, clock=clock, on_evict=lambda key, value, why: cache.get(key))
        fill(cache, ROOM + 2)
        assert cache.stats["misses"] == 2

    def test_what_left_is_freed(self, cache, heard):
        class Value:
            pass

        value = Value()
        gone = weakref.ref(value)
        cache.set("key", value, 1.0, ttl_seconds=1000)
        del value
        cache.set("key", 1, 1.0)
        heard.clear()
        gc.collect()
        assert gone() is None

    def test_config_and_stats_name_the_policy(self, cache):
        assert cache.get_config()["policy"] == cache.stats["policy"] in POLICIES
        assert cache.stats["policy"] in repr(cache)

    def test_stats_are_read_only(self, cache):
        with pytest.raises(TypeError):
            cache.stats["hits"] = 5
        with pytest.raises(TypeError):
            cache.cache["key"] = 5
        with pytest.raises(AttributeError):
            cache.max_size = 5


def test_unknown_policy():
    with pytest.raises(ValueError, match=r"^policy must be one of lru, gdsf, lfu, not 'fifo'$"):
        LRUCache(policy="fifo")


@pytest.mark.parametrize("policy", ["gdsf", "lfu"])
class TestWorth:
    def test_the_dear_and_the_small_stay(self, policy):
        cache = LRUCache(3, policy=policy)
        cache.set("dear", 1, 1.0, cost_seconds=124)
        cache.set("small", 1, 0.01, cost_seconds=2)
        cache.set("cheap", 1, 1.0, cost_seconds=2)
        cache.set("new", 1, 1.0, cost_seconds=50)
        assert sorted(cache.cache) == ["dear", "new", "small"]

    def test_age_gets_the_better_of_cost(self, policy, clock):
        cache = LRUCache(2, policy=policy, clock=clock)
        cache.set("once dear", 1, 1.0, cost_seconds=100)
        for n in range(3000):
            clock.now += 1
            cache.set(f"key{n % 7}", 1, 1.0, cost_seconds=20)
            cache.get(f"key{n % 7}")
        assert "once dear" not in cache


@pytest.mark.parametrize("policy", ["gdsf", "lfu"])
def test_the_smallest_cost_has_a_worth(policy):
    cache = LRUCache(2, policy=policy)
    for n in range(3):
        cache.set(str(n), 1, 1.0, cost_seconds=5e-324)
    assert len(cache) == 2


def test_lfu_remembers_what_has_left(clock):
    cache = LRUCache(2, policy="lfu", clock=clock)
    for _ in range(5):
        cache.set("favourite", 1, 1.0)
    cache.delete("favourite")
    for key in ("a", "favourite", "b", "c"):
        clock.now += 1
        cache.set(key, 1, 1.0)
    assert "favourite" in cache


def test_lfu_memory_is_bounded():
    cache = LRUCache(10, policy="lfu")
    for n in range(20_000):
        cache.set(str(n), 1, 1.0)
    assert len(cache._entries._uses) <= 2 * 8 * 128 + 1


def test_what_never_expires_has_no_deadline():
    cache = LRUCache()
    cache.set("key", 1)
    assert not cache._deadlines.heap


def test_deadlines_are_bounded():
    cache = LRUCache(10, default_ttl_seconds=1000)
    for n in range(5000):
        cache.set(str(n), 1, 1.0)
        cache.set("again", n, 1.0, ttl_seconds=1000 - n / 10)
        assert len(cache._deadlines.heap) <= 2 * 10 + 65


@pytest.mark.parametrize("policy", ["gdsf", "lfu"])
def test_worths_are_bounded(policy):
    cache = LRUCache(10, policy=policy)
    for n in range(5000):
        cache.set(str(n % 20), 1, 1.0)
        cache.delete(str((n + 7) % 20))
    assert len(cache._entries.heap) <= 3 * 10 + 65


@pytest.mark.parametrize("lifetimes", [(1000,), (1, 1000), (1, 2, 4, 8, 16, 32, 10**6)])
def test_looking_ahead_is_rare(clock, monkeypatch, lifetimes):
    """The work of finding who expires is spread over the entries: some steps for each, however many there are."""
    looked = [0]
    look_ahead = Deadlines._look_ahead

    def counting(self, now):
        looked[0] += len(self._slots)
        look_ahead(self, now)

    monkeypatch.setattr(Deadlines, "_look_ahead", counting)
    cache = LRUCache(500, clock=clock)
    for n in range(20_000):
        clock.now += 0.5
        cache.set(str(n), 1, 1.0, ttl_seconds=lifetimes[n % len(lifetimes)])
    assert looked[0] <= 4 * 20_000
