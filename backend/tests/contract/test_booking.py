"""What a result is booked at: its run's seconds and its measured size, or what `cost_of` and `size_of` say."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from cache.policies import POLICIES
from cache_manager import LRUCache
from tests.contract.test_single_flight import PATIENCE, Slow, joined

BAD = [float("nan"), float("inf"), -1.0, "1", True]


@pytest.fixture(params=POLICIES)
def cache(request, clock):
    return LRUCache(2, policy=request.param, clock=clock)


@pytest.fixture(params=["thread", "coroutine"])
def ask(request, cache):
    """`get_or_compute` or its sister; the computation is a plain function for both."""

    def by_coroutine(key, compute, **terms):
        return asyncio.run(cache.aget_or_compute(key, lambda: asyncio.to_thread(compute), **terms))

    return cache.get_or_compute if request.param == "thread" else by_coroutine


@pytest.fixture
def take(clock):
    """A computation that takes so long by the cache's clock."""

    def taking(seconds, value="made"):
        def compute():
            clock.now += seconds
            return value

        return compute

    return taking


def saved_by_a_hit(cache, key):
    before = cache.stats["seconds_saved"]
    assert cache.get(key) is not None
    return cache.stats["seconds_saved"] - before


def test_a_hit_saves_what_was_booked(cache, ask, take):
    ask("all", take(100))
    ask("own", take(100), cost_of=lambda _: 2)
    assert saved_by_a_hit(cache, "all") == 100.0
    assert saved_by_a_hit(cache, "own") == 2.0


def test_a_run_within_another_is_booked_once(cache, ask, take):
    def file():
        ask("shape", take(124), cost_of=lambda _: 124.0)
        return take(2)()

    ask("file", file, cost_of=lambda _: 2.0)
    assert saved_by_a_hit(cache, "file") == 2.0
    assert saved_by_a_hit(cache, "shape") == 124.0
    cache.clear()
    ask("file", file)
    assert saved_by_a_hit(cache, "file") == 126.0


def test_what_was_booked_decides_who_leaves(cache, ask, take):
    ask("dear", take(1), size_mb=1.0, cost_of=lambda _: 100.0)
    ask("cheap", take(100), size_mb=1.0, cost_of=lambda _: 1.0)
    ask("new", take(1), size_mb=1.0, cost_of=lambda _: 50.0)
    assert set(cache.cache) == {"cheap" if cache.stats["policy"] == "lru" else "dear", "new"}


def test_the_size_that_was_booked_decides_who_leaves(cache, ask, take):
    ask("small", take(1, b"long" * 1000), size_of=lambda _: 0.1)
    ask("large", take(1, b""), size_of=lambda _: 10.0)
    ask("new", take(1), size_of=lambda _: 1.0)
    assert set(cache.cache) == {"large" if cache.stats["policy"] == "lru" else "small", "new"}


def test_the_size_that_was_booked_counts_in_the_bound(cache, ask):
    cache.update_config(max_memory_mb=3.0)
    ask("one", lambda: 1, size_of=lambda _: 2.0)
    assert cache.stats["current_memory_mb"] == 2.0
    ask("two", lambda: 2, size_of=lambda _: 1.5)
    assert cache.stats["current_memory_mb"] == 1.5
    assert ask("too large", lambda: 3, size_of=lambda _: 3.5) == 3
    assert (list(cache.cache), cache.stats["rejected"]) == (["two"], 1)


def test_each_is_asked_once_of_each_result_and_of_nothing_else(cache, ask):
    seen, value = [], object()

    def one(result):
        seen.append(result)
        return 1.0

    for _ in range(3):
        assert ask("key", lambda: value, cost_of=one, size_of=one) is value
    with pytest.raises(ZeroDivisionError):
        ask("failing", lambda: 1 / 0, cost_of=one, size_of=one)
    assert seen == [value, value]


@pytest.mark.parametrize("name", ["cost_of", "size_of"])
@pytest.mark.parametrize("bad", [*BAD, KeyError("fails")], ids=repr)
def test_a_result_that_cannot_be_booked_is_delivered_not_stored(cache, ask, take, caplog, name, bad):
    def book(_):
        if isinstance(bad, Exception):
            raise bad
        return bad

    cache.set("key", "old", ttl_seconds=0)
    assert ask("key", take(1), **{name: book}) == "made"
    assert "key" not in cache
    assert caplog.messages == ["the result for 'key' could not be stored"]
    assert (cache.stats["misses"], cache.stats["seconds_saved"]) == (1, 0.0)
    assert ask("key", take(1, "again"), cost_of=lambda _: 3.0) == "again"
    assert saved_by_a_hit(cache, "key") == 3.0


@pytest.fixture
def together(cache, clock):
    """What four callers get who ask at once, two of them in event loops; the run takes five seconds."""

    def asking(**terms):
        slow = Slow("made")
        with ThreadPoolExecutor(4) as pool:
            calls = [pool.submit(cache.get_or_compute, "key", slow, **terms)]
            assert slow.begun.wait(PATIENCE)
            calls.append(pool.submit(cache.get_or_compute, "key", slow, **terms))
            calls += [pool.submit(asyncio.run, cache.aget_or_compute("key", slow.coroutine, **terms)) for _ in "12"]
            joined(cache, 3)
            clock.now += 5
            slow.go.set()
            results = [call.result(PATIENCE) for call in calls]
        assert (slow.runs, cache.stats["misses"], cache.stats["coalesced"]) == (1, 1, 3)
        return results

    return asking


def test_those_who_waited_saved_what_was_booked(cache, together):
    assert together(cost_of=lambda _: 2.0, size_of=lambda _: 1.0) == ["made"] * 4
    assert cache.stats["seconds_saved"] == 3 * 2.0
    assert saved_by_a_hit(cache, "key") == 2.0


@pytest.mark.parametrize("bad", BAD, ids=repr)
def test_what_cannot_be_booked_reaches_those_who_waited_and_spoils_no_sum(cache, together, caplog, bad):
    assert together(cost_of=lambda _: bad) == ["made"] * 4
    assert "key" not in cache
    assert cache.stats["seconds_saved"] == 3 * 5.0  # what the run took
    assert caplog.messages == ["the result for 'key' could not be stored"]


def test_a_stale_result_is_booked_to_those_who_waited_alone(cache, clock):
    slow = Slow("old")
    with ThreadPoolExecutor(2) as pool:
        calls = [pool.submit(cache.get_or_compute, "key", slow, cost_of=lambda _: 2.0)]
        assert slow.begun.wait(PATIENCE)
        calls.append(pool.submit(cache.get_or_compute, "key", slow))
        joined(cache, 1)
        cache.delete("key")
        slow.go.set()
        assert [call.result(PATIENCE) for call in calls] == ["old", "old"]
    assert "key" not in cache
    assert cache.stats["seconds_saved"] == 2.0


def test_the_lock_is_free_while_they_are_asked(cache, ask):
    cache.set("other", 7)
    heard = []

    def elsewhere(_):
        thread = threading.Thread(target=lambda: heard.append(cache.get("other")), daemon=True)
        thread.start()
        thread.join(PATIENCE)
        return 1.0

    ask("key", lambda: 1, cost_of=elsewhere, size_of=elsewhere)
    assert heard == [7, 7]
    assert "key" in cache
