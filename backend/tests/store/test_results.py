"""The server's view of the cache: the LRU cache, the plain dict when that is wanted or the other breaks, or none."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from live_server import PATIENCE

from cache_manager import CircularComputationError, LRUCache
from store.results import LegacyDict, Results


@pytest.fixture(params=["lru", "dict"])
def results(request):
    return Results(LRUCache(), {}, backend=request.param)


class TestBoth:
    def test_what_is_set_is_found(self, results):
        assert results.get("k") is results.find("k") is results.peek("k") is None
        assert "k" not in results
        results.set("k", b"value", 0.1)
        assert results.get("k") == results.find("k") == results.peek("k") == b"value"
        assert "k" in results
        assert (len(results), bool(Results(LRUCache(), {}))) == (1, True)
        assert [results.delete("k"), results.delete("k")] == [True, False]
        assert len(results) == 0

    def test_it_is_computed_once(self, results):
        runs = []
        for _ in range(3):
            assert results.get_or_compute("k", lambda: runs.append(1) or b"value") == b"value"
        assert len(runs) == 1
        assert results.clear() == 1
        results.get_or_compute("k", lambda: runs.append(1) or b"value")
        assert len(runs) == 2

    def test_an_error_of_the_computation_is_its_own_and_is_not_stored(self, results):
        for error in (ValueError("the model failed"), KeyboardInterrupt()):

            def fail(error=error):
                raise error

            with pytest.raises(type(error)):
                results.get_or_compute("k", fail)
            assert "k" not in results
            assert results.fallback_reason is None

    def test_what_was_asked_for_is_counted(self, results):
        results.set("k", b"value", 0.1)
        for key in ("k", "k", "other"):
            results.get(key)
        results.peek("k"), results.peek("other")
        results.find("k"), results.find("other")  # who did not find it will ask again, by computing
        stats = results.stats()
        assert (stats["hits"], stats["misses"], stats["current_items"]) == (3, 1, 1)
        assert stats["hit_rate_percent"] == pytest.approx(75)

    def test_a_listing_has_pages(self, results):
        for number in range(5):
            results.set(f"k{number}", b"value", 5e-6)
        pages = [results.entries(2, offset) for offset in (0, 2, 4, 6)]
        assert [len(page) for page in pages] == [2, 2, 1, 0]
        assert {entry["key"] for page in pages for entry in page} == {f"k{number}" for number in range(5)}
        assert all(entry["size_mb"] == pytest.approx(5e-6) for page in pages for entry in page)

    def test_both_tell_the_same(self):
        lru, legacy = (Results(LRUCache(), {}, backend=backend) for backend in ("lru", "dict"))
        for each in (lru, legacy):
            each.set("k", b"value", 0.1)
        assert legacy.stats().keys() <= lru.stats().keys()
        assert legacy.entries(9, 0)[0].keys() <= lru.entries(9, 0)[0].keys()


class TestDisabled:
    def test_nothing_is_kept(self):
        lru = LRUCache()
        results, runs = Results(lru, {}, enabled=False), []
        results.set("k", b"value", 0.1)
        for _ in range(2):
            assert results.get_or_compute("k", lambda: runs.append(1) or b"value") == b"value"
        assert results.get("k") is results.find("k") is results.peek("k") is None
        assert "k" not in results
        assert (len(runs), len(lru), results.stats()["misses"]) == (2, 0, 0)


def test_costs_and_sizes_are_handed_on():
    lru = LRUCache()
    results = Results(lru, {})
    results.get_or_compute("k", lambda: b"value", cost_of=lambda value: 40.0, size_of=lambda value: 2.0)
    results.get("k")
    assert results.stats()["seconds_saved"] == 40.0
    assert results.stats()["current_memory_mb"] == 2.0


def test_the_dict_is_the_server_s_own():
    entries = {"k": b"value"}
    legacy = LegacyDict(entries)
    assert legacy.get("k") == b"value"
    legacy.set("l", b"other", 1.0)
    assert entries.keys() == {"k", "l"}
    assert legacy.get_stats()["current_memory_mb"] == pytest.approx(10e-6)


class BrokenLRU:
    """Fails in every call, as a corrupted cache would."""

    def __init__(self):
        self.calls = 0

    def get_or_compute(self, key, compute, **terms):
        self.calls += 1
        compute()
        raise KeyError("corrupted after the computation")

    def get_stats(self):
        raise AssertionError("not asked once the dict has taken over")


class TestFallback:
    def test_an_error_of_the_lru_cache_switches_to_the_dict_and_service_goes_on(self, caplog):
        legacy, lru, runs = {}, BrokenLRU(), []
        cache = Results(lru, legacy)
        for _ in range(3):
            assert cache.get_or_compute("k", lambda: runs.append(1) or b"value") == b"value"
        assert len(runs) == 1  # computed once although the cache broke after it
        assert legacy == {"k": b"value"}
        assert (cache.backend, lru.calls) == ("dict", 1)
        assert "corrupted" in cache.fallback_reason
        assert cache.stats()["hits"] == 2
        assert sum("plain dict takes over" in record.message for record in caplog.records) == 1

    def test_an_error_of_the_computation_is_no_error_of_the_cache(self):
        cache = Results(LRUCache(), {})

        def fail():
            raise ValueError("the model failed")

        with pytest.raises(ValueError, match="the model failed"):
            cache.get_or_compute("k", fail)
        assert cache.backend == "lru"
        assert cache.fallback_reason is None

    def test_concurrent_failures_switch_once(self, caplog):
        cache, barrier = Results(BrokenLRU(), {}), threading.Barrier(8)

        def call(_):
            barrier.wait(PATIENCE)
            return cache.get_or_compute("k", lambda: b"value")

        with ThreadPoolExecutor(8) as pool:
            assert set(pool.map(call, range(8))) == {b"value"}
        assert sum("plain dict takes over" in record.message for record in caplog.records) == 1

    def test_a_circle_is_the_caller_s_error(self):
        results = Results(LRUCache(), {})
        with pytest.raises(CircularComputationError):
            results.get_or_compute("k", lambda: results.get_or_compute("k", lambda: b"value"))
        assert results.backend == "lru"

    @pytest.mark.parametrize(
        "call",
        [
            lambda results: results.get("k"),
            lambda results: results.find("k"),
            lambda results: results.peek("k"),
            lambda results: results.set("k", b"value", 0.1),
            lambda results: results.delete("k"),
            lambda results: results.clear(),
            lambda results: results.entries(9, 0),
            lambda results: "k" in results,
            lambda results: results.stats(),
        ],
        ids=["get", "find", "peek", "set", "delete", "clear", "entries", "in", "stats"],
    )
    def test_no_call_fails_when_the_cache_does(self, call):
        class Broken:
            def __getattr__(self, name):
                raise KeyError("corrupted")

            def __contains__(self, key):
                raise KeyError("corrupted")

        results = Results(Broken(), {})
        call(results)
        assert (results.backend, results.fallback_reason) == ("dict", "KeyError: 'corrupted'")
        assert results.get_or_compute("k", lambda: b"value") == b"value"
        assert len(results) == 1
