"""The cache against a model of a page: random operations on sixteen keys, sizes at the bounds, a clock by hand.

5,000 steps and more in the usual run; `CACHE_NIGHTLY=1` takes 100,000 for each policy.
"""

import os
from math import inf, log2

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from cache.policies import LFU
from cache_manager import LRUCache
from tests.contract.checks import Clock, check

NIGHTLY = bool(os.environ.get("CACHE_NIGHTLY"))
ROOM = 1000
"""Bytes that the cache may hold."""

keys = st.sampled_from([f"k{n}" for n in range(16)])
sizes = st.sampled_from([0, 1, 100, 333, 334, 500, ROOM - 1, ROOM, ROOM + 1])
lifetimes = st.sampled_from([None, 0, 1, 2, 10])
costs = st.sampled_from([None, 0.5, 3.0, 120.0])


class Model:
    """What the cache should do, by looking at everything every time. An entry: value, bytes, deadline, cost, stored."""

    def __init__(self, policy, clock):
        self.policy, self.clock = policy, clock
        self.entries, self.gone = {}, []
        self.count, self.room, self.ttl = 4, ROOM, None
        self.uses, self.rank, self.scores, self.age, self.half_lives = {}, {}, {}, 0.0, 0.0

    def note(self, key):
        """A store or a use; the entries stand in the order of their last."""
        size, cost = self.entries[key][1], self.entries[key][3]
        density = (cost or 1.0) / (size or 1)
        self.entries[key] = self.entries.pop(key)
        if self.policy == "gdsf":
            self.rank[key] = self.age + self.uses[key] * density
        if self.policy == "lfu":
            self.half_lives += 1 / (8 * 128)
            before = self.scores.get(key, -inf)
            self.scores[key] = self.half_lives + log2(1 + 2 ** (before - self.half_lives))
            self.rank[key] = self.scores[key] + log2(density)

    def get(self, key):
        if key not in self.live():
            self.leave(key, "expired")
            return None
        self.uses[key] += 1
        self.note(key)
        return self.entries[key][0]

    def live(self):
        return {key for key, entry in self.entries.items() if entry[2] > self.clock()}

    def leave(self, key, reason):
        if key in self.entries:
            self.gone.append((key, self.entries.pop(key)[0], reason))

    def expire(self):
        for key in sorted(set(self.entries) - self.live()):
            self.leave(key, "expired")

    def shrink(self, count, room, limit):
        while len(self.entries) > count or sum(entry[1] for entry in self.entries.values()) > room:
            reason = "count" if len(self.entries) > limit else "size"
            worst = next(iter(self.entries))
            if self.policy != "lru":
                worst = min(self.entries, key=lambda key: (self.rank[key], self.entries[key][4], key))
                self.age = self.rank[worst]
            self.leave(worst, reason)

    def set(self, key, value, size, ttl, cost):
        self.expire()
        self.leave(key, "replaced")
        if size > self.room or not self.count or not self.room:
            return False
        self.shrink(self.count - 1, self.room - size, self.count - 1)
        ttl = self.ttl if ttl is None else ttl
        self.entries[key] = (value, size, inf if ttl is None else self.clock() + ttl, cost or 0.0, self.clock())
        self.uses[key] = 1
        self.note(key)
        return True


class Comparison(RuleBasedStateMachine):
    policy = "lru"

    @initialize()
    def begin(self):
        self.clock, self.heard, self.values = Clock(), [], 0
        self.hits = self.misses = 0
        self.model = Model(self.policy, self.clock)
        self.cache = LRUCache(
            4, ROOM / 1e6, policy=self.policy, clock=self.clock, on_evict=lambda *gone: self.heard.append(gone)
        )

    def value(self):
        self.values += 1
        return self.values

    @rule(key=keys, size=sizes, ttl=lifetimes, cost=costs)
    def set(self, key, size, ttl, cost):
        value = self.value()
        stored = self.cache.set(key, value, size / 1e6, ttl, cost_seconds=cost)
        assert stored == self.model.set(key, value, size, ttl, cost)

    @rule(key=keys)
    def get(self, key):
        expected = self.model.get(key)
        assert self.cache.get(key) == expected
        self.hits, self.misses = self.hits + (expected is not None), self.misses + (expected is None)

    @rule(key=keys, size=sizes, seconds=st.sampled_from([0, 1, 5]), cost=costs)
    def get_or_compute(self, key, size, seconds, cost):
        expected, value = self.model.get(key), self.value()

        def compute():
            self.clock.now += seconds
            return value

        booked = {} if cost is None else {"cost_of": lambda _: cost}
        assert self.cache.get_or_compute(key, compute, size_of=lambda _: size / 1e6, **booked) == (expected or value)
        if expected is None:
            self.model.set(key, value, size, None, float(seconds) if cost is None else cost)
        self.hits, self.misses = self.hits + (expected is not None), self.misses + (expected is None)

    @rule(key=keys)
    def look(self, key):
        live = key in self.model.live()
        assert (key in self.cache) == live
        assert self.cache.peek(key, "none") == (self.model.entries[key][0] if live else "none")

    @rule(key=keys)
    def delete(self, key):
        live = key in self.model.live()
        self.model.leave(key, "deleted" if live else "expired")
        assert self.cache.delete(key) == live

    @rule(prefix=st.sampled_from(["k1", "k", "x"]))
    def delete_prefix(self, prefix):
        self.model.expire()
        named = [key for key in self.model.entries if key.startswith(prefix)]
        for key in named:
            self.model.leave(key, "deleted")
        assert self.cache.delete_prefix(prefix) == len(named)

    @rule()
    def clear(self):
        self.model.expire()
        count = len(self.model.entries)
        for key in list(self.model.entries):
            self.model.leave(key, "cleared")
        assert self.cache.clear() == count

    @rule(seconds=st.sampled_from([0.5, 1, 3, 20]))
    def wait(self, seconds):
        self.clock.now += seconds

    @rule(count=st.sampled_from([0, 1, 3, 16]), room=st.sampled_from([0, 500, ROOM]), ttl=lifetimes)
    def configure(self, count, room, ttl):
        self.model.count, self.model.room, self.model.ttl = count, room, ttl
        self.model.expire()
        self.model.shrink(count if room else 0, room, count)
        self.cache.update_config(count, room / 1e6, ttl)

    @invariant()
    def same(self):
        if not hasattr(self, "cache"):
            return
        assert sorted(self.heard) == sorted(self.model.gone)
        assert {key: entry.value for key, entry in self.cache.cache.items()} == {
            key: entry[0] for key, entry in self.model.entries.items()
        }
        if self.policy == "lru":
            assert list(self.cache._entries) == list(self.model.entries)
        stats = self.cache.get_stats()
        assert (stats["hits"], stats["misses"]) == (self.hits, self.misses)
        for reason, name in (
            ("count", "evictions_by_count"),
            ("size", "evictions_by_size"),
            ("expired", "expirations"),
        ):
            assert stats[name] == sum(gone[2] == reason for gone in self.heard)
        check(self.cache)


@pytest.mark.parametrize("policy", ["lru", "gdsf", "lfu"])
def test_same_as_the_model(policy):
    machine = type(f"Comparison_{policy}", (Comparison,), {"policy": policy})
    machine.TestCase.settings = settings(
        max_examples=3_000 if NIGHTLY else 60,
        stateful_step_count=50,
        deadline=None,
        derandomize=not NIGHTLY,
        suppress_health_check=list(HealthCheck),
    )
    machine.TestCase().runTest()


def test_a_score_halves_in_a_half_life():
    """Not by the formula of the policy but by what it says: so many uses later, a use counts half."""
    cache = LRUCache(4, policy="lfu")
    cache.set("key", 1, 1.0)
    for _ in range(LFU.HALF_LIFE * LFU.FEW - 1):
        cache.set("other", 1, 1.0)
    cache.set("new", 1, 1.0)
    scores = cache._entries._uses
    assert 2 ** (scores["new"] - scores["key"]) == pytest.approx(2.0)
