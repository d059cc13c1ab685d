"""One run for all who ask at once: threads, event loops, failures, cancellations, and circles."""

import asyncio
import contextlib
import gc
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor

import pytest

from cache_manager import CircularComputationError, LRUCache, _remaining

PATIENCE = 10
"""Seconds after which a test that hangs fails."""


class Slow:
    """A computation that says when it has begun and waits until it may go on."""

    def __init__(self, result=None):
        self.result, self.runs = result, 0
        self.begun, self.go = threading.Event(), threading.Event()

    def __call__(self):
        self.runs += 1
        self.begun.set()
        assert self.go.wait(PATIENCE)
        if isinstance(self.result, BaseException):
            raise self.result
        return self.result

    async def coroutine(self):
        return await asyncio.to_thread(self)


@pytest.fixture
def cache():
    return LRUCache()


@pytest.fixture
def pool():
    with ThreadPoolExecutor(32) as executor:
        yield executor


def joined(cache, count, key="key"):
    """Return once so many calls wait for the flight of `key`."""
    future = cache._flights[key].future
    pause = threading.Event()
    for _ in range(1000 * PATIENCE):
        if len(future._condition._waiters) + len(future._done_callbacks) >= count:
            return
        pause.wait(0.001)
    pytest.fail(f"fewer than {count} wait")


def outcome(future):
    try:
        return future.result(PATIENCE)
    except Exception as error:
        return error


def test_threads_share_one_run(cache, pool):
    slow = Slow("made")
    calls = [pool.submit(cache.get_or_compute, "key", slow) for _ in range(16)]
    slow.begun.wait(PATIENCE)
    joined(cache, 15)
    slow.go.set()
    assert {call.result(PATIENCE) for call in calls} == {"made"}
    assert slow.runs == 1
    assert (cache.stats["misses"], cache.stats["coalesced"], cache.stats["hits"]) == (1, 15, 0)


def test_an_error_reaches_all_once(cache, pool):
    slow = Slow(ValueError("broken"))
    calls = [pool.submit(cache.get_or_compute, "key", slow) for _ in range(8)]
    slow.begun.wait(PATIENCE)
    joined(cache, 7)
    slow.go.set()
    assert {outcome(call) for call in calls} == {slow.result}
    assert slow.runs == 1
    assert cache.get_or_compute("key", lambda: "next") == "next"


def test_an_error_that_no_event_loop_can_raise_hangs_nobody(cache, pool):
    slow = Slow(StopIteration("enough"))
    leader = pool.submit(cache.get_or_compute, "key", slow)
    slow.begun.wait(PATIENCE)
    waiters = [
        pool.submit(asyncio.run, cache.aget_or_compute("key", slow.coroutine)),
        pool.submit(cache.get_or_compute, "key", slow),
    ]
    joined(cache, 2)
    slow.go.set()
    assert outcome(leader) is slow.result
    for waiter in waiters:
        error = outcome(waiter)
        assert isinstance(error, RuntimeError)
        assert error.__cause__ is slow.result


def test_seconds_saved_counts_those_who_waited(pool):
    now = [0.0]
    cache = LRUCache(clock=lambda: now[0])
    slow = Slow(1)
    calls = [pool.submit(cache.get_or_compute, "key", slow) for _ in range(4)]
    slow.begun.wait(PATIENCE)
    joined(cache, 3)
    now[0] += 5
    slow.go.set()
    assert [call.result(PATIENCE) for call in calls] == [1] * 4
    cache.get("key")
    assert cache.stats["seconds_saved"] == 20.0


def test_a_waiter_may_give_up(cache, pool):
    slow = Slow("made")
    leader = pool.submit(cache.get_or_compute, "key", slow)
    slow.begun.wait(PATIENCE)
    with pytest.raises(TimeoutError):
        cache.get_or_compute("key", slow, timeout=0)
    with pytest.raises(TimeoutError):
        asyncio.run(cache.aget_or_compute("key", slow.coroutine, timeout=0))
    slow.go.set()
    assert leader.result(PATIENCE) == "made"
    assert cache.get("key") == "made"
    assert cache.stats["coalesced"] == 2


@pytest.mark.parametrize("invalidate", ["clear", "delete", "delete_prefix", "set"])
def test_a_result_begun_before_is_returned_not_stored(cache, pool, invalidate):
    slow, later = Slow("old"), Slow("new")
    leader = pool.submit(cache.get_or_compute, "key", slow)
    slow.begun.wait(PATIENCE)
    waiter = pool.submit(cache.get_or_compute, "key", slow)
    joined(cache, 1)
    {
        "clear": cache.clear,
        "delete": lambda: cache.delete("key"),
        "delete_prefix": lambda: cache.delete_prefix("k"),
        "set": lambda: cache.set("key", "set"),
    }[invalidate]()
    if invalidate != "set":
        second = pool.submit(cache.get_or_compute, "key", later)
        assert later.begun.wait(PATIENCE), "a call after it computes anew"
    slow.go.set()
    assert (leader.result(PATIENCE), waiter.result(PATIENCE)) == ("old", "old")
    if invalidate == "set":
        assert cache.get("key") == "set"
    else:
        assert "key" not in cache
        later.go.set()
        assert second.result(PATIENCE) == "new"
        assert cache.get("key") == "new"


def test_other_keys_are_left_alone(cache, pool):
    slow = Slow("made")
    leader = pool.submit(cache.get_or_compute, "key", slow)
    slow.begun.wait(PATIENCE)
    cache.delete("other")
    cache.delete_prefix("other")
    assert cache.get_or_compute("other", lambda: 1) == 1
    slow.go.set()
    leader.result(PATIENCE)
    assert cache.get("key") == "made"


def test_threads_and_two_event_loops_share_one_run(cache, pool):
    slow = Slow("made")

    async def several():
        return await asyncio.gather(*(cache.aget_or_compute("key", slow.coroutine) for _ in range(3)))

    leader = pool.submit(cache.get_or_compute, "key", slow)
    slow.begun.wait(PATIENCE)
    loops = [pool.submit(asyncio.run, several()) for _ in range(2)]
    joined(cache, 6)
    slow.go.set()
    assert leader.result(PATIENCE) == "made"
    assert [loop.result(PATIENCE) for loop in loops] == [["made"] * 3] * 2
    assert slow.runs == 1


def test_a_thread_may_wait_for_a_coroutine(cache, pool):
    slow = Slow("made")
    loop = pool.submit(asyncio.run, cache.aget_or_compute("key", slow.coroutine))
    slow.begun.wait(PATIENCE)
    waiter = pool.submit(cache.get_or_compute, "key", slow)
    joined(cache, 1)
    slow.go.set()
    assert loop.result(PATIENCE) == waiter.result(PATIENCE) == "made"
    assert slow.runs == 1


def test_a_cancelled_waiter_cancels_nobody(cache):
    async def main():
        go = asyncio.Event()

        async def compute():
            await go.wait()
            return "made"

        leader, first, second = (asyncio.create_task(cache.aget_or_compute("key", compute)) for _ in range(3))
        await asyncio.sleep(0)
        first.cancel()
        await asyncio.sleep(0)
        go.set()
        with pytest.raises(asyncio.CancelledError):
            await first
        return await asyncio.gather(leader, second)

    assert asyncio.run(main()) == ["made", "made"]


def test_a_cancelled_leader_hands_over(cache):
    runs = []

    async def main():
        go = asyncio.Event()

        async def compute():
            runs.append(1)
            await go.wait()
            return "made"

        leader, *waiters = (asyncio.create_task(cache.aget_or_compute("key", compute)) for _ in range(4))
        await asyncio.sleep(0)
        leader.cancel()
        with pytest.raises(asyncio.CancelledError):
            await leader
        go.set()
        return await asyncio.gather(*waiters)

    assert asyncio.run(main()) == ["made"] * 3
    assert len(runs) == 2
    assert (cache.stats["misses"], cache.stats["coalesced"] + cache.stats["hits"]) == (2, 2)


def test_an_interrupted_leader_hands_over(cache, pool):
    slow = Slow(KeyboardInterrupt())
    leader = pool.submit(cache.get_or_compute, "key", slow)
    slow.begun.wait(PATIENCE)
    waiter = pool.submit(cache.get_or_compute, "key", lambda: "mine")
    joined(cache, 1)
    slow.go.set()
    assert waiter.result(PATIENCE) == "mine"
    with pytest.raises(KeyboardInterrupt):
        leader.result(PATIENCE)
    assert (cache.stats["misses"], cache.stats["coalesced"]) == (2, 0)


def test_a_coroutine_thrown_away_lets_go_of_its_key(cache):
    async def never():
        await asyncio.get_running_loop().create_future()

    async def main():
        abandoned = cache.aget_or_compute("key", never)
        abandoned.send(None)
        abandoned.close()
        return await cache.aget_or_compute("key", one)

    async def one():
        return 1

    assert asyncio.run(main()) == 1


def test_computations_may_need_others(cache):
    def factorial(n):
        return 1 if n == 0 else n * cache.get_or_compute(f"factorial {n - 1}", lambda: factorial(n - 1))

    assert cache.get_or_compute("factorial 20", lambda: factorial(20)) == 2432902008176640000
    assert len(cache) == 21


def test_a_circle_is_an_error_not_a_deadlock(cache):
    with pytest.raises(CircularComputationError):
        cache.get_or_compute("key", lambda: cache.get_or_compute("key", lambda: 1))
    with pytest.raises(CircularComputationError):
        cache.get_or_compute("a", lambda: cache.get_or_compute("b", lambda: cache.get_or_compute("a", lambda: 1)))

    async def again():
        return await cache.aget_or_compute("key", again)

    with pytest.raises(CircularComputationError):
        asyncio.run(again())

    async def by_a_child_task():
        return await asyncio.create_task(cache.aget_or_compute("key", by_a_child_task))

    with pytest.raises(CircularComputationError):
        asyncio.run(cache.aget_or_compute("key", by_a_child_task))
    assert len(cache) == 0


def test_two_that_need_each_other(pool):
    one, other = LRUCache(), LRUCache()
    both = threading.Barrier(2)

    def a():
        both.wait(PATIENCE)
        return other.get_or_compute("b", lambda: pytest.fail("is led by b"))

    def b():
        both.wait(PATIENCE)
        return one.get_or_compute("a", lambda: pytest.fail("is led by a"))

    results = [
        outcome(call) for call in (pool.submit(one.get_or_compute, "a", a), pool.submit(other.get_or_compute, "b", b))
    ]
    assert all(isinstance(result, CircularComputationError) for result in results)


def test_a_plain_wait_must_not_block_the_loop_it_waits_for(cache):
    async def main():
        go = asyncio.Event()
        leader = asyncio.create_task(cache.aget_or_compute("key", go.wait))
        await asyncio.sleep(0)
        with pytest.raises(CircularComputationError, match=r"^'key' needs the event loop that this wait"):
            cache.get_or_compute("key", lambda: 1)
        go.set()
        return await leader

    assert asyncio.run(main()) is True


def test_a_wait_that_would_block_a_loop_further_on(cache, pool):
    """The loop's own thread asks for `b`, which waits for `a`, which that loop computes."""

    async def main():
        go = asyncio.Event()
        leader = asyncio.create_task(cache.aget_or_compute("a", go.wait))
        await asyncio.sleep(0)
        waits = threading.Event()

        def b():
            waits.set()
            return cache.get_or_compute("a", lambda: pytest.fail("is led by the loop"))

        other = pool.submit(cache.get_or_compute, "b", b)
        await asyncio.to_thread(waits.wait, PATIENCE)
        await asyncio.to_thread(joined, cache, 1, "a")
        with pytest.raises(CircularComputationError):
            cache.get_or_compute("b", lambda: pytest.fail("is led by another thread"))
        go.set()
        assert await leader is True
        return await asyncio.to_thread(other.result, PATIENCE)

    assert asyncio.run(main()) is True


def test_one_of_two_who_wait_for_the_same_may_give_up(cache, pool):
    """Both belong to one computation, which goes on to need what the other waits for."""
    outcomes = []

    async def b(go):
        await go.wait()
        try:
            return await cache.aget_or_compute("a", lambda: pytest.fail("is under way"))
        except CircularComputationError as error:
            outcomes.append(error)
            return "circle"

    async def a(go):
        patient = asyncio.create_task(cache.aget_or_compute("b", lambda: b(go)))
        await asyncio.sleep(0)
        with pytest.raises(TimeoutError):
            await cache.aget_or_compute("b", lambda: pytest.fail("is under way"), timeout=0)
        go.set()
        return await patient

    async def main():
        return await cache.aget_or_compute("a", lambda: a(asyncio.Event()))

    assert asyncio.run(asyncio.wait_for(main(), PATIENCE)) == "circle"
    assert len(outcomes) == 1


def test_what_cannot_be_measured_is_delivered(cache, pool, caplog):
    class Unmeasurable:
        @property
        def nbytes(self):
            raise RuntimeError("no size")

    value = Unmeasurable()
    assert cache.get_or_compute("key", lambda: value) is value
    assert "key" not in cache
    assert caplog.messages == ["the result for 'key' could not be stored"]


def test_a_failed_run_is_freed_at_once(cache):
    class Large:
        pass

    alive = []

    def fail():
        large = Large()
        alive.append(weakref.ref(large))
        raise ValueError("failed")

    gc.disable()
    try:
        for ask in (
            lambda: cache.get_or_compute("key", fail),
            lambda: asyncio.run(cache.aget_or_compute("key", lambda: asyncio.to_thread(fail))),
        ):
            with contextlib.suppress(ValueError):
                ask()
        assert alive[0]() is None
    finally:
        gc.enable()


@pytest.mark.parametrize(("name", "bad"), [("size_mb", -1), ("ttl_seconds", float("nan")), ("timeout", -1)])
def test_bad_terms_are_refused_before_the_work(cache, name, bad):
    with pytest.raises(ValueError, match=f"^{name} must be finite"):
        cache.get_or_compute("key", lambda: pytest.fail("no work"), **{name: bad})
    with pytest.raises(ValueError, match=f"^{name} must be finite"):
        asyncio.run(cache.aget_or_compute("key", lambda: pytest.fail("no work"), **{name: bad}))


def test_terms_of_a_coroutine_are_kept(clock):
    cache = LRUCache(clock=clock)

    async def compute():
        return 1

    asyncio.run(cache.aget_or_compute("key", compute, size_mb=2.0, ttl_seconds=10))
    assert cache.stats["current_memory_mb"] == 2.0
    clock.now += 10
    assert "key" not in cache


def test_a_waiter_with_time_enough_gets_the_result(cache, pool):
    slow = Slow("made")
    leader = pool.submit(cache.get_or_compute, "key", slow)
    slow.begun.wait(PATIENCE)
    waiter = pool.submit(cache.get_or_compute, "key", slow, timeout=PATIENCE)
    other = pool.submit(asyncio.run, cache.aget_or_compute("key", slow.coroutine, timeout=PATIENCE))
    joined(cache, 2)
    slow.go.set()
    assert waiter.result(PATIENCE) == other.result(PATIENCE) == leader.result(PATIENCE) == "made"


def test_time_that_has_run_out_is_none_not_less():
    assert _remaining(None) is None
    assert _remaining(0.0) == 0.0


def test_a_result_is_there_before_those_who_waited_go_on(cache, pool):
    slow = Slow("made")
    leader = pool.submit(cache.get_or_compute, "key", slow)
    slow.begun.wait(PATIENCE)
    waiter = pool.submit(lambda: (cache.get_or_compute("key", slow), cache.peek("key")))
    joined(cache, 1)
    slow.go.set()
    assert waiter.result(PATIENCE) == ("made", "made")
    leader.result(PATIENCE)


def test_a_lifetime_begins_when_the_result_is_there():
    now = [0.0]
    cache = LRUCache(clock=lambda: now[0])

    def compute():
        now[0] += 100
        return 1

    cache.get_or_compute("key", compute, ttl_seconds=10)
    assert "key" in cache
    now[0] += 10
    assert "key" not in cache
