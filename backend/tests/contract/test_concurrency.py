"""Threads that get in each other's way on purpose, and finalisers that call the cache from within."""

import gc
import itertools
import os
import random
import sys
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from functools import cache as memoised

import pytest

from cache.policies import POLICIES, Deadlines
from cache_manager import LRUCache
from tests.contract.checks import check

NIGHTLY = bool(os.environ.get("CACHE_NIGHTLY"))


@pytest.fixture(autouse=True)
def impatient_switching():
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


# Linearizability: there is an order of all calls, each at one moment between its begin and its end, that explains them


class Call:
    """One call as its thread saw it."""

    def __init__(self, name, value, ticks):
        self.name, self.value, self.ticks = name, value, ticks
        self.computed = False

    def run(self, cache):
        self.begin = next(self.ticks)
        self.result = {
            "get": lambda: cache.get("key"),
            "set": lambda: cache.set("key", self.value),
            "delete": lambda: cache.delete("key"),
            "get_or_compute": lambda: cache.get_or_compute("key", self.compute),
        }[self.name]()
        self.end = next(self.ticks)

    def compute(self):
        self.computed = True
        sum(range(100))  # somewhere for another thread to come in
        return self.value

    def outcomes(self, state, stale):
        """The states that this call may leave behind it, given its result."""
        if self.name == "set":
            return {self.value}
        if self.name == "delete":
            return {None} if self.result == (state is not None) else set()
        if self.name == "get" or self.result == state:
            return {state} if self.result == state else set()
        allowed = {state} if self.result in stale else set()
        return allowed | ({self.value} if self.computed and state is None and self.result == self.value else set())


def linearizable(history):
    """Search for such an order; `stale`: results whose computing overlapped a set or delete; returned, not stored."""
    stale = {
        call.value
        for call in history
        for other in history
        if call.computed and other.name in ("set", "delete") and call.begin < other.end and other.begin < call.end
    }

    @memoised
    def explains(rest, state):
        if not rest:
            return True
        first_end = min(history[n].end for n in rest)
        return any(
            explains(rest - {n}, after)
            for n in rest
            if history[n].begin < first_end
            for after in history[n].outcomes(state, stale)
        )

    return explains(frozenset(range(len(history))), None)


def test_the_search_knows_a_lie():
    ticks = itertools.count()
    stored, read = Call("set", 1, ticks), Call("get", None, ticks)
    stored.run(LRUCache())
    read.begin, read.end, read.result = next(ticks), next(ticks), None
    assert not linearizable([stored, read])
    read.result = 1
    assert linearizable([stored, read])


def test_histories_of_one_key_are_linearizable():
    rng = random.Random(1)
    with ThreadPoolExecutor(3) as pool:
        for _ in range(5_000 if NIGHTLY else 300):
            cache, ticks, values = LRUCache(), itertools.count(), itertools.count(1)
            names = ["get", "set", "delete", "get_or_compute", "get_or_compute"]
            plans = [[Call(rng.choice(names), next(values), ticks) for _ in range(4)] for _ in range(3)]
            together = threading.Barrier(3)

            def work(plan, cache=cache, together=together):
                together.wait(10)
                for call in plan:
                    call.run(cache)

            list(pool.map(work, plans))
            history = [call for plan in plans for call in plan]
            assert linearizable(history), [
                (call.name, call.value, call.begin, call.end, call.result) for call in history
            ]
            check(cache)


# Exact sums


@pytest.mark.parametrize("policy", POLICIES)
def test_sums_are_exact(policy):
    operations = 1_000_000 if NIGHTLY else 3_000
    left = Counter()
    listening = threading.Lock()

    def hear(_key, _value, reason):
        with listening:
            left[reason] += 1

    cache = LRUCache(40, 0.02, 0.001, policy=policy, on_evict=hear)

    def work(seed):
        rng, own = random.Random(seed), Counter()
        for n in range(operations):
            key, kind = f"key{rng.randrange(64)}", rng.random()
            if kind < 0.5:
                own["hits" if cache.get(key) is not None else "misses"] += 1
            elif kind < 0.9:
                stored = cache.set(key, n, rng.choice([0.0001, 0.0005, 0.03]), rng.choice([None, 10]))
                own["stored" if stored else "rejected"] += 1
            elif kind < 0.95:
                own["deleted"] += cache.delete(key)
            elif kind < 0.999:
                ran = []
                cache.get_or_compute(key, lambda ran=ran: ran.append(1) or 1, size_mb=0.0001)
                own["stored"] += len(ran)
                own["ran"] += len(ran)
                own["asked"] += 1
            else:
                own["cleared"] += cache.clear()
        return own

    with ThreadPoolExecutor(8) as pool:
        own = sum(pool.map(work, range(8)), Counter())
    stats = cache.get_stats()
    unstored = stats["misses"] - own["misses"]  # runs of get_or_compute
    assert unstored == own["ran"]
    assert stats["hits"] - own["hits"] + stats["coalesced"] + own["ran"] == own["asked"]
    assert stats["rejected"] == own["rejected"]
    assert own["stored"] - own["ran"] <= stats["stored"] <= own["stored"]  # some runs had become stale
    assert (stats["deleted"], stats["cleared"]) == (own["deleted"], own["cleared"])
    names = {"count": "evictions_by_count", "size": "evictions_by_size", "expired": "expirations"}
    for reason in ("count", "size", "expired", "replaced", "deleted", "cleared"):
        assert stats[names.get(reason, reason)] == left[reason]
    check(cache)


# Re-entrancy


class Finaliser:
    """Cyclic garbage, so that it dies wherever the collector happens to run: in the middle of a store, for one."""

    def __init__(self, cache, rng):
        self.cache, self.rng, self.me = cache, rng, self

    def __del__(self):
        key = f"key{self.rng.randrange(12)}"
        what = self.rng.randrange(5)
        if what == 0:
            self.cache.delete(key)
        elif what == 1:
            self.cache.get(key)
        elif what == 2 and self.rng.random() < 0.1:
            self.cache.clear()
        else:
            self.cache.set(key, bytes(10), self.rng.choice([0.001, 0.004]), cost_seconds=self.rng.random())


@pytest.mark.parametrize("policy", POLICIES)
def test_finalisers_that_call_the_cache(policy):
    rng = random.Random(2)
    cache = LRUCache(8, 0.02, 100.0, policy=policy)
    thresholds = gc.get_threshold()
    try:
        for n in range(50_000 if NIGHTLY else 1_500):
            gc.set_threshold(rng.choice([1, 2, 3, 7]))
            Finaliser(cache, rng)
            cache.set(f"key{rng.randrange(12)}", [], rng.choice([0.001, 0.004]), cost_seconds=1.0)
            cache.get(f"key{rng.randrange(12)}")
            if n % 50 == 0:
                gc.set_threshold(0)
                check(cache)
    finally:
        gc.set_threshold(*thresholds)
    gc.collect()
    check(cache)


@pytest.fixture
def interrupted(monkeypatch):
    """A cache of two entries, and a way to call it in the middle of the store of a third."""
    cache, ttl = LRUCache(10, 10.0), 100.0
    cache.set("one", 1, 1.0, ttl)
    cache.set("two", 2, 1.0, ttl)
    add = Deadlines.add

    def interrupt(action):
        answers = []

        def adding(self, deadline, key):
            monkeypatch.setattr(Deadlines, "add", add)
            answers.append(action())
            add(self, deadline, key)

        monkeypatch.setattr(Deadlines, "add", adding)
        assert cache.set("three", 3, 1.0, ttl)
        return answers[0]

    return cache, interrupt


@pytest.mark.parametrize(
    ("write", "answer", "left"),
    [
        (lambda cache: cache.set("four", 4, 1.0), True, ["one", "two", "three", "four"]),
        (lambda cache: cache.set("one", 4, 1.0), True, ["two", "three", "one"]),
        (lambda cache: cache.delete("one"), True, ["two", "three"]),
        (lambda cache: cache.delete("absent"), False, ["one", "two", "three"]),
        (lambda cache: cache.delete_prefix("t"), 2, ["one"]),
        (lambda cache: cache.clear(), 3, []),
        (lambda cache: cache.update_config(max_size=2), None, ["two", "three"]),
        (lambda cache: cache.update_config(max_memory_mb=1.0), None, ["three"]),
        (lambda cache: cache.get("one"), 1, ["one", "two", "three"]),
    ],
)
def test_a_write_from_within_a_write_comes_after_it(interrupted, write, answer, left):
    cache, interrupt = interrupted
    assert interrupt(lambda: write(cache)) == answer
    assert list(cache.cache) == left
    if isinstance(answer, int) and answer > 1:
        assert cache.stats["deleted"] + cache.stats["cleared"] == answer


def test_a_store_from_within_a_store_keeps_its_terms(interrupted):
    cache, interrupt = interrupted
    value = object()
    interrupt(lambda: cache.set("four", value, 2.0, 0.0, 7.0))
    slot = cache._entries["four"]
    assert (slot.value, slot.size, slot.cost, slot.ttl) == (value, 2_000_000, 7.0, 0.0)


def test_a_computation_from_within_a_write(interrupted):
    cache, interrupt = interrupted
    assert interrupt(lambda: cache.get_or_compute("four", lambda: 4)) == 4
    assert cache.get("four") == 4
    cache.clear()


def test_a_computation_from_within_a_write_that_its_key_was_deleted_under(interrupted):
    cache, interrupt = interrupted
    assert interrupt(lambda: cache.get_or_compute("four", lambda: (cache.delete("four"), 4)[1])) == 4
    assert "four" not in cache


def test_settings_from_within_a_write(interrupted):
    cache, interrupt = interrupted
    interrupt(lambda: cache.update_config(5, 6.0, 7.0))
    assert cache.get_config() == {"max_size": 5, "max_memory_mb": 6.0, "default_ttl_seconds": 7.0, "policy": "lru"}


def test_a_write_from_within_that_fails_is_logged_and_harms_nobody(interrupted, caplog):
    cache, interrupt = interrupted
    interrupt(lambda: cache.set([], 1))
    assert cache.get("three") == 3
    assert caplog.messages == ["a write from within another failed"]
    assert "unhashable" in caplog.text


def test_finalisers_that_compute():
    cache, rng = LRUCache(8), random.Random(3)

    class Computing:
        def __init__(self):
            self.me = self

        def __del__(self):
            cache.get_or_compute(f"key{rng.randrange(12)}", lambda: 1)

    def nested(depth):
        Computing()
        return depth and cache.get_or_compute(f"deep{depth}", lambda: nested(depth - 1))

    thresholds = gc.get_threshold()
    try:
        for _ in range(300):
            gc.set_threshold(rng.choice([1, 2, 3, 7]))
            nested(4)
    finally:
        gc.set_threshold(*thresholds)
    gc.collect()
    check(cache)


def test_a_value_that_calls_the_cache_as_it_dies():
    cache = LRUCache(2)

    class Value:
        def __del__(self):
            cache.set("from the dying", 1)

    for n in range(20):
        cache.set(f"key{n}", Value())
    cache.clear()
    assert cache.peek("from the dying") == 1
