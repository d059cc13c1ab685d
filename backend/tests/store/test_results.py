"""The server's view of the cache: memory, which is the LRU cache, or the plain dict when that is wanted or the other
breaks, in front of the disk; or none."""

import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest
from asks import made
from live_server import PATIENCE

from cache_manager import CircularComputationError, LRUCache
from store.disk import Disk
from store.files import Files
from store.results import LegacyDict, Results

VALUE = made(b"value")


@pytest.fixture
def files(tmp_path):
    files = Files(tmp_path, tmp_path / "uploads", tmp_path / "outputs")
    yield files
    files.close()


@pytest.fixture
def over(files):
    """Results over a disk of so many MB, 0 if nothing is said: then memory is alone."""

    def over(lru=None, legacy=None, disk_mb=0, **how):
        lru, legacy = LRUCache() if lru is None else lru, {} if legacy is None else legacy
        return Results(lru, legacy, Disk(files, disk_mb), **how)

    return over


@pytest.fixture(params=["lru", "dict"])
def backend(request):
    return request.param


@pytest.fixture(params=[0, 100], ids=["no disk", "disk"])
def results(request, over, backend):
    return over(backend=backend, disk_mb=request.param)


def ask(results, key="k", value=VALUE):
    """Compute it, if it is not there; whether it had to be."""
    runs = []
    assert results.get_or_compute(key, lambda: runs.append(1) or value).data == value.data
    return bool(runs)


class TestBoth:
    def test_what_is_computed_is_found(self, results):
        assert results.find("k") is results.peek("k") is None
        assert "k" not in results
        assert ask(results)
        assert results.find("k") == results.peek("k") == VALUE
        assert "k" in results
        assert (len(results), bool(results)) == (1, True)
        assert [results.delete("k"), results.delete("k")] == [True, False]
        assert (len(results), bool(results)) == (0, True)
        assert "k" not in results

    def test_what_is_set_is_found(self, results):
        results.set("k", VALUE, VALUE.size_mb)
        assert results.find("k") is results.peek("k") is VALUE
        assert not ask(results)

    def test_it_is_computed_once(self, results):
        assert [ask(results) for _ in range(3)] == [True, False, False]
        assert results.clear() == 1
        assert ask(results)

    def test_an_error_of_the_computation_is_its_own_and_is_not_stored(self, results):
        for error in (ValueError("the model failed"), KeyboardInterrupt()):

            def fail(error=error):
                raise error

            with pytest.raises(type(error)):
                results.get_or_compute("k", fail)
            assert "k" not in results
            assert results.fallback_reason is None

    def test_what_was_asked_for_is_counted(self, results):
        asked = [ask(results), ask(results), ask(results, "other")]
        assert asked == [True, False, True]
        results.peek("k"), results.peek("third")
        results.find("k"), results.find("third")  # who did not find it will ask again, by computing
        stats = results.stats()
        assert (stats["hits"], stats["misses"], stats["current_items"]) == (2, 2, 2)
        assert stats["hit_rate_percent"] == pytest.approx(50)

    def test_a_listing_has_pages(self, results):
        for number in range(5):
            ask(results, f"k{number}")
        pages = [results.entries(2, offset) for offset in (0, 2, 4, 6)]
        assert [len(page) for page in pages] == [2, 2, 1, 0]
        assert {entry["key"] for page in pages for entry in page} == {f"k{number}" for number in range(5)}
        for entry in (entry for page in pages for entry in page):
            assert entry["size_mb"] == pytest.approx(5e-6)
            assert (entry["tier"], entry["on_disk"]) == ("memory", results.disk.max_bytes > 0)
            assert entry["pinned"] is False

    def test_both_tell_the_same(self, over):
        lru, legacy = (over(backend=backend) for backend in ("lru", "dict"))
        for each in (lru, legacy):
            ask(each)
        assert legacy.stats().keys() <= lru.stats().keys()
        assert legacy.entries(9, 0)[0].keys() <= lru.entries(9, 0)[0].keys()


class TestOverTheDisk:
    """What memory has lost, and the disk has not, is found there and moves up."""

    @pytest.fixture
    def results(self, over, backend):
        return over(backend=backend, disk_mb=100)

    def test_what_the_disk_has_is_a_hit(self, results):
        ask(results)
        assert results.clear("memory") == 1
        assert results.peek("k") is None
        assert "k" in results
        assert len(results) == 1
        assert [(row["key"], row["tier"]) for row in results.entries(9, 0)] == [("k", "disk")]
        assert not ask(results)
        assert results.peek("k") == VALUE
        stats = results.stats()
        assert (stats["hits"], stats["misses"]) == (1, 1)
        assert (stats["disk"]["hits"], stats["disk"]["misses"], stats["disk"]["items"]) == (1, 1, 1)

    def test_who_only_looks_finds_it_there_too(self, results):
        ask(results)
        results.clear("memory")
        assert results.find("k") == VALUE
        assert results.find("other") is None
        stats = results.stats()
        assert (stats["hits"], stats["misses"]) == (1, 1)

    def test_another_process_finds_all_that_is_known_of_it(self, files, over):
        value = made(b"a file", 2.5, ["a" * 64, "b" * 64], report={"faces": 3}, shape_sha256="c" * 64)
        ask(over(disk_mb=100), value=value)
        found = over(disk_mb=100).find("k")
        for name in ("data", "sha256", "size_mb", "own_seconds", "sources", "report", "shape_sha256"):
            assert getattr(found, name) == getattr(value, name)

    @pytest.mark.parametrize(("tier", "left"), [("memory", "disk"), ("disk", "memory"), ("all", None)])
    def test_each_tier_is_cleared_alone_or_both(self, results, tier, left):
        for number in range(3):
            ask(results, f"k{number}")
        assert results.clear(tier) == 3
        assert {row["tier"] for row in results.entries(9, 0)} == ({left} if left else set())
        assert ask(results, "k0") is (left is None)

    @pytest.mark.parametrize("how", [lambda results: results.clear(), lambda results: results.delete("k")])
    def test_what_is_dropped_while_it_is_computed_leaves_nothing(self, files, results, how):
        def compute():
            how(results)
            return VALUE

        assert results.get_or_compute("k", compute) is VALUE
        assert "k" not in results.disk
        assert not files.blobs.path(VALUE.sha256).exists()

    def test_what_has_no_room_beside_what_is_pinned_leaves_nothing(self, files, over, backend):
        results = over(backend=backend, disk_mb=1e-5)
        ask(results, "k", made(b"a" * 8))
        results.pin("k", True)
        ask(results, "other", VALUE)
        assert set(results.disk.keys()) == {"k"}
        assert not files.blobs.path(VALUE.sha256).exists()

    def test_what_is_pinned_is_known_to_be(self, results):
        ask(results)
        assert results.pin("k", True)
        assert results.entries(9, 0)[0]["pinned"]
        assert not results.pin("other", True)
        assert results.pin("k", False)
        assert not results.entries(9, 0)[0]["pinned"]

    def test_a_listing_goes_on_below_memory(self, results):
        for number in range(4):
            ask(results, f"k{number}")
        results.clear("memory")
        ask(results, "k2")
        pages = [results.entries(3, offset) for offset in (0, 3)]
        assert pages[0][0]["key"] == "k2"
        assert sorted(row["key"] for page in pages for row in page) == ["k0", "k1", "k2", "k3"]
        assert [row["tier"] for page in pages for row in page] == ["memory", "disk", "disk", "disk"]


class TestDisabled:
    def test_nothing_is_kept(self, over):
        lru = LRUCache()
        results = over(lru, enabled=False, disk_mb=100)
        results.set("k", VALUE, 0.1)
        assert [ask(results), ask(results)] == [True, True]
        assert results.find("k") is results.peek("k") is None
        assert "k" not in results
        stats = results.stats()
        assert (len(lru), stats["misses"], stats["disk"]["items"]) == (0, 0, 0)


def test_costs_and_sizes_are_handed_on(over):
    results = over()
    for _ in range(2):
        ask(results, value=made(bytes(2_000_000), own_seconds=40.0))
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

    default_ttl_seconds = None

    def __init__(self):
        self.calls = 0

    def get_or_compute(self, key, compute, **terms):
        self.calls += 1
        compute()
        raise KeyError("corrupted after the computation")

    def get_stats(self):
        raise AssertionError("not asked once the dict has taken over")


class TestFallback:
    @pytest.fixture(autouse=True, params=[0, 100], ids=["no disk", "disk"])
    def over(self, request, over):
        return partial(over, disk_mb=request.param)

    def test_an_error_of_the_lru_cache_switches_to_the_dict_and_service_goes_on(self, over, caplog):
        legacy, lru = {}, BrokenLRU()
        cache = over(lru, legacy)
        # computed once although the cache broke after it
        assert [ask(cache) for _ in range(3)] == [True, False, False]
        assert legacy == {"k": VALUE}
        assert (cache.backend, lru.calls) == ("dict", 1)
        assert "corrupted" in cache.fallback_reason
        assert cache.stats()["hits"] == 2
        assert sum("plain dict takes over" in record.message for record in caplog.records) == 1

    def test_an_error_of_the_computation_is_no_error_of_the_cache(self, over):
        cache = over()

        def fail():
            raise ValueError("the model failed")

        with pytest.raises(ValueError, match="the model failed"):
            cache.get_or_compute("k", fail)
        assert cache.backend == "lru"
        assert cache.fallback_reason is None

    def test_concurrent_failures_switch_once(self, over, caplog):
        cache, barrier = over(BrokenLRU()), threading.Barrier(8)

        def call(_):
            barrier.wait(PATIENCE)
            return cache.get_or_compute("k", lambda: VALUE).data

        with ThreadPoolExecutor(8) as pool:
            assert set(pool.map(call, range(8))) == {b"value"}
        assert sum("plain dict takes over" in record.message for record in caplog.records) == 1

    def test_a_circle_is_the_caller_s_error(self, over):
        results = over()
        with pytest.raises(CircularComputationError):
            results.get_or_compute("k", lambda: results.get_or_compute("k", lambda: VALUE))
        assert results.backend == "lru"

    @pytest.mark.parametrize(
        "call",
        [
            lambda results: results.find("k"),
            lambda results: results.peek("k"),
            lambda results: results.set("k", VALUE, 0.1),
            lambda results: results.delete("k"),
            lambda results: results.clear(),
            lambda results: results.entries(9, 0),
            lambda results: "k" in results,
            lambda results: results.stats(),
            lambda results: len(results),
            lambda results: results.forget(["a"], [], lambda key, sources: False),
        ],
        ids=["find", "peek", "set", "delete", "clear", "entries", "in", "stats", "len", "forget"],
    )
    def test_no_call_fails_when_the_cache_does(self, over, call):
        class Broken:
            default_ttl_seconds = None

            def __getattr__(self, name):
                raise KeyError("corrupted")

            def __contains__(self, key):
                raise KeyError("corrupted")

        results = over(Broken())
        call(results)
        assert (results.backend, results.fallback_reason) == ("dict", "KeyError: 'corrupted'")
        ask(results)
        assert len(results) == 1
