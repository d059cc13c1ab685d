"""The result cache: small, exact, thread-safe and cost-aware, in pure Python.

    >>> cache = LRUCache(max_size=2, max_memory_mb=1.0)
    >>> cache.set("mug", b"mesh of a mug", cost_seconds=124.0)
    True
    >>> cache.get("mug")
    b'mesh of a mug'
    >>> cache.get_or_compute("chair", lambda: b"mesh of a chair")
    b'mesh of a chair'
    >>> cache.stats["hits"], cache.stats["misses"], cache.stats["seconds_saved"]
    (1, 1, 124.0)

Design. One map holds one slot per key, and the map is the policy (`cache/policies.py`): `used` notes a use, `popitem`
gives up the slot that is worth least. Beside it, `Deadlines` knows who expires next. One re-entrant lock guards all of
it. These hold whenever the lock is free, and the tests call them by name:

    Bounds      the sizes of all slots sum to `_bytes`, at most `_max_bytes`; there are at most `_max_size` slots.
    One cause   a slot that was ever stored is still there or has left for exactly one `Reason`: the counters add up.
    Cover       a slot whose deadline is before the horizon stands in the heap of deadlines; none is due before `next`.
    Freshness   what is returned was stored before its deadline and after the last `delete` or `clear` of its key.
    One flight  a key is computed once at a time, unless a `set`, `delete` or `clear` made the run under way stale.

What a reader cannot see. Nothing of the caller's runs while the lock is held: no computation, no listener, no logging,
and no destructor, for what leaves stays in a list of the calling frame until after the release; freeing a large value
takes long. A finaliser or a signal handler may still call the cache in the middle of its own thread's operation, and
the re-entrant lock lets it in: there it may read, and a write of it waits until the write that it has interrupted is
through (`_busy`, `_postponed`). Deadlines are read from a monotonic clock; wall time is shown, never compared.

Eviction, how computations wait for each other and how large a value is are three files of their own: each can be
read, tested and measured without the lock, and this one keeps to what needs it.
"""

from __future__ import annotations

import logging
import os
import threading
import time
import warnings
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from enum import Enum
from functools import partial
from itertools import islice
from math import inf
from numbers import Real
from types import MappingProxyType
from typing import Any, Final, Literal, TypeVar, cast, get_args
from weakref import WeakSet

from cache.flights import ABANDONED, CircularComputationError, Flight
from cache.policies import POLICIES, Deadlines, PolicyName, Slot
from cache.sizes import deep_size

__all__ = ["CacheEntry", "CircularComputationError", "LRUCache", "clear_cache", "deep_size", "get_cache"]
logger = logging.getLogger(__name__)
V = TypeVar("V")

MB: Final = 1_000_000
"""Bytes in the megabyte of every setting and statistic."""

Reason = Literal["count", "size", "expired", "replaced", "deleted", "cleared"]
"""Why an entry left: too many entries, too many bytes, its time was up, or somebody asked for it."""

_all_caches: WeakSet[LRUCache] = WeakSet()

Listener = Callable[[str, Any, Reason], None]
Gone = list[tuple[str, Slot, Reason]]


class _Unchanged(Enum):
    """Stands for an argument that was not given, where None has a meaning."""

    UNCHANGED = "unchanged"


UNCHANGED: Final = _Unchanged.UNCHANGED


@dataclass(frozen=True, slots=True)
class CacheEntry:
    """What the cache knew of one stored value when it was asked; times are seconds of the wall clock."""

    value: Any
    timestamp: float
    access_count: int = 0
    size_mb: float = 0.0
    expires_at: float | None = None

    def is_expired(self) -> bool:
        """Whether its time is up by the wall clock; the cache itself goes by a monotonic one."""
        return self.expires_at is not None and time.time() >= self.expires_at


class LRUCache:
    """A bounded map from keys to values that threads and event loops may share.

    `max_size` entries and `max_memory_mb` (10^6 bytes) bound it; with either at 0 it keeps nothing. An entry lives for
    `default_ttl_seconds` (None: until evicted) unless `set` says otherwise. `policy` says what is evicted when there is
    no room: the least recently used (`lru`), or the one that saves the fewest seconds per byte, as far as its uses tell
    since it was stored (`gdsf`) or ever (`lfu`).
    `on_evict(key, value, reason)` hears of every entry that left, once the lock is free; what it raises is logged.
    `clock` gives monotonic seconds. Keys are strings. A value comes back as the very object that was stored, for
    everybody: change a copy of it. An empty cache is true, so `if cache:` asks whether there is one.
    """

    def __init__(
        self,
        max_size: int = 1000,
        max_memory_mb: float = 512.0,
        default_ttl_seconds: float | None = None,
        *,
        policy: PolicyName = "lru",
        clock: Callable[[], float] = time.monotonic,
        on_evict: Listener | None = None,
    ) -> None:
        if policy not in POLICIES:
            raise ValueError(f"policy must be one of {', '.join(POLICIES)}, not {policy!r}")
        self._bound(_count("max_size", max_size), _bytes("max_memory_mb", max_memory_mb))
        self._default_ttl = _lifetime("default_ttl_seconds", default_ttl_seconds)
        self._policy: PolicyName = policy
        self._clock = clock
        self._on_evict = on_evict
        self._lock = threading.RLock()
        self._acquire, self._release = self._lock.acquire, self._lock.release
        self._flights: dict[str, Flight] = {}
        self._entries = POLICIES[policy]()
        self._deadlines = Deadlines(self._entries)
        self._bytes = self._most_bytes = 0
        self._busy = False
        self._postponed: deque[Callable[[], object]] = deque()
        self.reset_stats()
        _all_caches.add(self)

    def _bound(self, count: int, size: int) -> None:
        self._max_size, self._max_bytes = count, size
        self._largest = size if count and size else -1  # bytes of the largest value to keep; -1: not even an empty one

    # Reading

    def get(self, key: str, default: Any = None) -> Any:
        """The value under `key`, or `default`. Counts a hit or a miss, and a hit as a use."""
        self._acquire()  # a `with` would take as long again as the lock itself
        try:
            slot = self._entries.get(key)
            if slot is not None and slot.stored + slot.ttl > self._clock():
                return self._hit(key, slot)
            self._misses += 1
        finally:
            self._release()
        if slot is not None and not self._busy:  # else this, or another thread's, write will find it
            with self._writing() as gone:
                if self._entries.get(key) is slot:
                    self._remove(key, "expired", gone)
        return default

    def _hit(self, key: str, slot: Slot) -> Any:
        slot.access_count += 1
        self._hits += 1
        self._seconds_saved += slot.cost
        try:  # `suppress` would take as long again as the rest
            if not self._busy:
                self._entries.used(key)
        except KeyError:  # a finaliser has just removed it
            pass
        return slot.value

    def peek(self, key: str, default: Any = None) -> Any:
        """The value under `key`, or `default`, without a trace: neither counted nor a use."""
        with self._lock:
            slot = self._entries.get(key)
            return slot.value if slot is not None and slot.stored + slot.ttl > self._clock() else default

    def __contains__(self, key: str) -> bool:
        return self.peek(key, UNCHANGED) is not UNCHANGED

    def __len__(self) -> int:
        return len(self._entries)

    def __bool__(self) -> bool:
        return True

    # Writing

    def set(
        self,
        key: str,
        value: Any,
        size_mb: float | None = None,
        ttl_seconds: float | None = None,
        cost_seconds: float | None = None,
        _flight: Flight | None = None,
    ) -> bool:
        """Store a value in the place of an older one; False if it is too large for the cache: then only the old leaves.

        `size_mb` None: measured by `deep_size`. `ttl_seconds` None: the default; 0: expired at once. `cost_seconds`:
        what it took to make, for the policy and for `seconds_saved`. (`_flight` is for `get_or_compute` alone: its
        result is stored only if the flight still has its claim on the key.)
        """
        slot = Slot()
        slot.value = value
        if size_mb is not None:
            slot.size = size = _bytes("size_mb", size_mb)
        else:
            slot.size = size = len(value) if type(value) is bytes else deep_size(value)
        slot.cost = 0.0 if cost_seconds is None else _quantity("cost_seconds", cost_seconds)
        slot.access_count = 0
        slot.stored = now = self._clock()
        slot.ttl = ttl = self._default_ttl if ttl_seconds is None else _quantity("ttl_seconds", ttl_seconds)
        gone: Gone = []
        self._acquire()
        if self._busy:
            self._postponed.append(partial(self.set, key, value, size_mb, ttl_seconds, cost_seconds, _flight))
            self._release()
            return True
        self._busy = True
        try:
            if (self._flights or _flight) and not self._retire(key, _flight):
                return False
            entries, deadlines = self._entries, self._deadlines
            if deadlines.next <= now:
                self._drop_expired(now, gone)
            # The two usual ways to leave stand here as in `_remove` and `_evict`: a call takes as long as the deed.
            old = entries.pop(key, None)
            if old is not None:
                self._bytes -= old.size
                self._left["replaced"] += 1
                if self._on_evict is not None:
                    gone.append((key, old, "replaced"))
            if size > self._largest:
                self._rejected += 1
                return False
            if len(entries) >= self._max_size:
                victim, worst = entries.popitem(False)
                self._bytes -= worst.size
                self._left["count"] += 1
                gone.append((victim, worst, "count"))
            while (held := self._bytes + size) > self._max_bytes:
                self._evict("size", gone)
            entries[key] = slot
            self._bytes = held
            if held > self._most_bytes:
                self._most_bytes = held
            if (deadline := now + ttl) < deadlines.horizon:
                deadlines.add(deadline, key)
            return True
        finally:
            self._busy = False
            self._release()
            if self._postponed or (gone and self._on_evict is not None):
                self._part_with(gone)

    @contextmanager
    def _writing(self) -> Iterator[Gone]:
        """What `set` does for itself: the lock, for nobody else, and afterwards the listener."""
        gone: Gone = []
        with self._lock:
            self._busy = True
            try:
                yield gone
            finally:
                self._busy = False
        self._part_with(gone)

    def _interrupts(self, write: Callable[[], object]) -> bool:
        """Whether this call has come in the middle of a write of its own thread; then it is made again later."""
        with self._lock:
            if self._busy:
                self._postponed.append(write)
            return self._busy

    def _remove(self, key: str, reason: Reason, gone: Gone) -> None:
        """Take the slot out, if it is there."""
        slot = self._entries.pop(key, None)
        if slot is not None:
            self._bytes -= slot.size
            self._left[reason] += 1
            gone.append((key, slot, reason))

    def _evict(self, reason: Reason, gone: Gone) -> None:
        """Take out the slot that is worth least."""
        key, slot = self._entries.popitem(False)
        self._bytes -= slot.size
        self._left[reason] += 1
        gone.append((key, slot, reason))

    def _drop_expired(self, now: float, gone: Gone) -> None:
        for key in self._deadlines.expired(now):
            self._remove(key, "expired", gone)

    def delete(self, key: str) -> bool:
        """Remove one entry; False if there was none. A computation of it under way will not be stored."""
        if self._interrupts(lambda: self.delete(key)):
            return key in self
        with self._writing() as gone:
            self._flights.pop(key, None)
            live = key in self
            self._remove(key, "deleted" if live else "expired", gone)
        return live

    def delete_prefix(self, prefix: str) -> int:
        """`delete` every key that begins with `prefix`; how many entries went."""
        return self._remove_all(prefix, "deleted")

    def clear(self) -> int:
        """Remove every entry; how many went. Computations under way will not be stored."""
        return self._remove_all("", "cleared")

    def _remove_all(self, prefix: str, reason: Reason) -> int:
        def chosen(keys: Iterable[str]) -> list[str]:
            return [key for key in keys if not prefix or key.startswith(prefix)]

        if self._interrupts(lambda: self._remove_all(prefix, reason)):
            return len(chosen(self._entries))
        with self._writing() as gone:
            self._drop_expired(self._clock(), gone)
            expired = len(gone)
            for key in chosen(self._flights):
                del self._flights[key]
            for key in chosen(self._entries):
                self._remove(key, reason, gone)
        return len(gone) - expired

    def _part_with(self, gone: Gone) -> None:
        """Tell the listener, and let in the writes that had to wait. The lock is free; what left dies with the list."""
        with suppress(IndexError):  # none is left
            while True:
                _guarded("a write from within another", self._postponed.popleft())
        if self._on_evict is not None:
            for key, slot, reason in gone:
                _guarded(f"on_evict for {key!r} ({reason})", partial(self._on_evict, key, slot.value, reason))

    # Computing once

    def get_or_compute(
        self,
        key: str,
        compute: Callable[[], V],
        *,
        size_mb: float | None = None,
        ttl_seconds: float | None = None,
        timeout: float | None = None,
        cost_of: Callable[[V], float] | None = None,
        size_of: Callable[[V], float] | None = None,
        ttl_of: Callable[[V], float | None] | None = None,
    ) -> V:
        """The value under `key`, or else what `compute()` gives: run once for all who ask meanwhile, and stored.

        Everyone gets the leader's result, or its error, which is not stored. A result begun before a `set`, `delete` or
        `clear` of its key is returned, not stored. A leader that is cancelled or interrupted hands over to one who
        waits. `timeout` bounds the wait for another's run, in seconds, without harm to it: TimeoutError. Raises
        CircularComputationError where waiting would never end.

        Booked, for the policy and for `seconds_saved`, is all that the run took, the runs of other keys within it
        included; or what `cost_of(value)` says, in seconds: so a step can be booked at its own time alone. `size_of`
        says its MB and `ttl_of` its lifetime (None: the default), where they cannot be known before. Should one fail or
        say what `set` would refuse, the result is returned, the error logged, and nothing stored.
        """
        _check_terms(size_mb, ttl_seconds, timeout)
        until = None if timeout is None else time.monotonic() + timeout
        try:
            while True:
                flight, leads, value = self._claim(key, loop_thread=None)
                if flight is None:
                    return cast(V, value)
                if leads:
                    with self._led(key, flight):
                        return self._land(key, flight, compute(), size_mb, ttl_seconds, cost_of, size_of, ttl_of)
                try:
                    if flight.would_block(threading.get_ident()):
                        raise CircularComputationError(f"{key!r} needs the event loop that this wait would block")
                    with flight.awaited():
                        value = flight.future.result(_remaining(until))
                finally:
                    self._joined(flight, value)
                if value is not ABANDONED:
                    return cast(V, value)
        finally:
            flight = None  # as `Flight.led` does with its own

    async def aget_or_compute(
        self,
        key: str,
        compute: Callable[[], Awaitable[V]],
        *,
        size_mb: float | None = None,
        ttl_seconds: float | None = None,
        timeout: float | None = None,
        cost_of: Callable[[V], float] | None = None,
        size_of: Callable[[V], float] | None = None,
        ttl_of: Callable[[V], float | None] | None = None,
    ) -> V:
        """`get_or_compute` for coroutines: the same keys, runs and promises, shared with threads and other loops."""
        import asyncio

        _check_terms(size_mb, ttl_seconds, timeout)
        until = None if timeout is None else time.monotonic() + timeout
        try:
            while True:
                flight, leads, value = self._claim(key, threading.get_ident())
                if flight is None:
                    return cast(V, value)
                if leads:
                    with self._led(key, flight):
                        return self._land(key, flight, await compute(), size_mb, ttl_seconds, cost_of, size_of, ttl_of)
                try:
                    with flight.awaited():
                        async with asyncio.timeout(_remaining(until)):
                            # A waiter that is cancelled must not cancel the run.
                            value = await asyncio.shield(asyncio.wrap_future(flight.future))
                finally:
                    self._joined(flight, value)
                if value is not ABANDONED:
                    return cast(V, value)
        finally:
            flight = None  # as `Flight.led` does with its own

    def _claim(self, key: str, loop_thread: int | None) -> tuple[Flight | None, bool, Any]:
        """The value if it is there, else a flight to lead or to join. Looking and claiming are one step."""
        with self._lock:
            slot = self._entries.get(key)
            if slot is not None and slot.stored + slot.ttl > self._clock():
                return None, False, self._hit(key, slot)
            mine = Flight(self._clock(), loop_thread)
            flight = self._flights.setdefault(key, mine)
            if flight is mine:
                self._misses += 1
        return flight, flight is mine, None

    @contextmanager
    def _led(self, key: str, flight: Flight) -> Iterator[None]:
        """The body computes and lands. If it cannot, the key is free before those who wait hear of it."""
        with flight.led():
            try:
                yield
            except BaseException:
                with self._lock:
                    self._retire(key, flight)
                raise
            finally:
                del flight  # as `Flight.led` does with its own

    def _land(
        self,
        key: str,
        flight: Flight,
        value: V,
        size_mb: float | None,
        ttl_seconds: float | None,
        cost_of: Callable[[V], float] | None,
        size_of: Callable[[V], float] | None,
        ttl_of: Callable[[V], float | None] | None,
    ) -> V:
        """Store the result unless the flight is stale, then hand it to those who wait."""
        flight.cost = self._clock() - flight.began
        try:
            if cost_of is not None:
                flight.cost = _quantity("cost_of(value)", cost_of(value))
            if size_of is not None:
                size_mb = size_of(value)
            if ttl_of is not None:
                ttl_seconds = ttl_of(value)
            self.set(key, value, size_mb, ttl_seconds, flight.cost, flight)
        except Exception:  # its size or its cost cannot be had: no reason to lose it
            logger.exception("the result for %r could not be stored", key)
            with self._lock:
                self._retire(key, flight)
        flight.future.set_result(value)
        return value

    def _retire(self, key: str, flight: Flight | None) -> bool:
        """End the claim on the key; False if this flight had lost it: a `set`, `delete` or `clear` came between."""
        if flight is not None and self._flights.get(key) is not flight:
            return False
        self._flights.pop(key, None)
        return True

    def _joined(self, flight: Flight, value: Any) -> None:
        """Count a call that waited, unless it has to begin again."""
        if value is not ABANDONED:
            with self._lock:
                self._coalesced += 1
                self._seconds_saved += flight.cost

    # Knowing and changing

    @property
    def max_size(self) -> int:
        """Most entries."""
        return self._max_size

    @property
    def max_memory_mb(self) -> float:
        """Most MB held."""
        return self._max_bytes / MB

    @property
    def default_ttl_seconds(self) -> float | None:
        """Lifetime of what is stored without one; None: until evicted."""
        return None if self._default_ttl == inf else self._default_ttl

    def get_config(self) -> dict[str, Any]:
        """max_size, max_memory_mb, default_ttl_seconds and policy, all of one moment."""
        with self._lock:
            size, max_bytes, ttl = self._max_size, self._max_bytes, self.default_ttl_seconds
        return {
            "max_size": size,
            "max_memory_mb": max_bytes / MB,
            "default_ttl_seconds": ttl,
            "policy": self._policy,
        }

    def update_config(
        self,
        max_size: int | _Unchanged = UNCHANGED,
        max_memory_mb: float | _Unchanged = UNCHANGED,
        default_ttl_seconds: float | _Unchanged | None = UNCHANGED,
    ) -> None:
        """Change what is given, all or nothing: ValueError or TypeError names the argument at fault.

        What no longer fits is evicted. A new lifetime is for what is stored from now on; None: until evicted.
        """
        count = None if max_size is UNCHANGED else _count("max_size", max_size)
        size = None if max_memory_mb is UNCHANGED else _bytes("max_memory_mb", max_memory_mb)
        ttl = None if default_ttl_seconds is UNCHANGED else _lifetime("default_ttl_seconds", default_ttl_seconds)
        if self._interrupts(lambda: self.update_config(max_size, max_memory_mb, default_ttl_seconds)):
            return
        with self._writing() as gone:
            if ttl is not None:
                self._default_ttl = ttl
            self._bound(self._max_size if count is None else count, self._max_bytes if size is None else size)
            self._drop_expired(self._clock(), gone)
            while len(self) > self._max_size:
                self._evict("count", gone)
            while self._bytes > self._max_bytes or (len(self) and not self._max_bytes):
                self._evict("size", gone)

    @property
    def stats(self) -> Mapping[str, Any]:
        """`get_stats()`, read-only."""
        return MappingProxyType(self.get_stats())

    def get_stats(self) -> dict[str, Any]:
        """Counters since the last `reset_stats`, and the present, all of one moment.

        They add up: `stored` = `current_items` + `evictions` + `expirations` + `replaced` + `deleted` + `cleared`. A
        `get` is a hit or a miss; a `get_or_compute` is a hit, a miss (it computed), or `coalesced` (it waited for
        another's run, whatever came of it).
        """
        with self._lock:
            left = dict(self._left)
            hits, misses, items, size, max_bytes = self._hits, self._misses, len(self), self._bytes, self._max_bytes
            stats = {
                "hits": hits,
                "misses": misses,
                "coalesced": self._coalesced,
                "seconds_saved": self._seconds_saved,
                "rejected": self._rejected,
                "max_items": self._max_size,
                "max_memory_seen_mb": self._most_bytes / MB,
            }
        return {
            **stats,
            "hit_rate_percent": round(100 * hits / max(hits + misses, 1), 2),
            "stored": items + sum(left.values()),
            "evictions": left["count"] + left["size"],
            "evictions_by_count": left["count"],
            "evictions_by_size": left["size"],
            "expirations": left["expired"],
            "replaced": left["replaced"],
            "deleted": left["deleted"],
            "cleared": left["cleared"],
            "current_items": items,
            "current_memory_mb": size / MB,
            "max_memory_mb": max_bytes / MB,
            "memory_utilization_percent": round(100 * size / max(max_bytes, 1), 2),
            "policy": self._policy,
        }

    def reset_stats(self) -> None:
        """Count anew. What describes the present stays, and what is there counts as stored, so the sums still hold."""
        with self._lock:
            self._hits = self._misses = self._coalesced = self._rejected = 0
            self._seconds_saved = 0.0
            self._left: dict[Reason, int] = dict.fromkeys(get_args(Reason), 0)
            self._most_bytes = self._bytes

    def get_entries_summary(self, limit: int | None = None, offset: int = 0) -> list[dict[str, Any]]:
        """One page of rows, under `lru` the next to leave first: key, size_mb, timestamp, age_seconds, access_count,
        expires_at (wall clock; None: never), expired."""
        now = time.time()
        return [
            {
                "key": key,
                "size_mb": entry.size_mb,
                "timestamp": entry.timestamp,
                "age_seconds": round(max(0.0, now - entry.timestamp), 3),
                "access_count": entry.access_count,
                "expires_at": entry.expires_at,
                "expired": entry.is_expired(),
            }
            for key, entry in self._snapshot(limit, offset)
        ]

    @property
    def cache(self) -> Mapping[str, CacheEntry]:
        """A read-only picture of every entry, by key."""
        return MappingProxyType(dict(self._snapshot()))

    def _snapshot(self, limit: int | None = None, offset: int = 0) -> list[tuple[str, CacheEntry]]:
        with self._lock:
            keys = list(islice(self._entries, offset, None if limit is None else offset + limit))
            page = [(key, slot) for key in keys if (slot := self._entries.get(key)) is not None]
            shift = time.time() - self._clock()  # from the cache's clock to the wall's
        return [
            (
                key,
                CacheEntry(
                    slot.value,
                    slot.stored + shift,
                    slot.access_count,
                    slot.size / MB,
                    None if slot.deadline == inf else slot.deadline + shift,
                ),
            )
            for key, slot in page
        ]

    def __repr__(self) -> str:
        now = self.get_stats()
        return (
            f"LRUCache({self._policy}, items={now['current_items']}/{now['max_items']}, "
            f"memory={now['current_memory_mb']:.1f}/{now['max_memory_mb']:g}MB, "
            f"hit_rate={now['hit_rate_percent']:.1f}%)"
        )


def _guarded(what: str, action: Callable[[], object]) -> None:
    """Run what the call under way is not about: its failure must not become that call's."""
    try:
        action()
    except Exception:
        logger.exception("%s failed", what)


def _quantity(name: str, value: Any) -> float:
    if type(value) is not float:  # the usual case costs nothing more
        if isinstance(value, bool) or not isinstance(value, Real):
            raise TypeError(f"{name} must be a number, not {value!r}")
        try:
            value = float(value)
        except OverflowError:
            value = inf
    if not 0 <= value < inf:
        raise ValueError(f"{name} must be finite and not negative, not {value!r}")
    return cast(float, value)


def _bytes(name: str, megabytes: Any) -> int:
    size = _quantity(name, megabytes) * MB + 0.5
    if size == inf:
        raise ValueError(f"{name} is too large: {megabytes!r}")
    return int(size)


def _count(name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be a whole number, not {value!r}")
    if value < 0:
        raise ValueError(f"{name} must not be negative, not {value!r}")
    return value


def _lifetime(name: str, seconds: Any) -> float:
    return inf if seconds is None else _quantity(name, seconds)


def _check_terms(size_mb: Any, ttl_seconds: Any, timeout: Any) -> None:
    """Refuse before the work what `set` would refuse after it."""
    if size_mb is not None:
        _bytes("size_mb", size_mb)
    _lifetime("ttl_seconds", ttl_seconds)
    _lifetime("timeout", timeout)


def _remaining(until: float | None) -> float | None:
    return None if until is None else max(0.0, until - time.monotonic())


def _hold_all() -> None:
    _forking.acquire()
    _held[:] = _all_caches
    for cache in _held:
        cache._lock.acquire()


def _release_all() -> None:
    while _held:
        _held.pop()._lock.release()
    _forking.release()


def _begin_anew_in_child() -> None:
    for cache in _held:
        cache._flights.clear()  # their leaders are threads of the parent
    _release_all()


_forking = threading.Lock()
_held: list[LRUCache] = []
if hasattr(os, "register_at_fork"):
    # A child has the forking thread alone: a lock that another one held would stay locked, its work half done.
    os.register_at_fork(before=_hold_all, after_in_parent=_release_all, after_in_child=_begin_anew_in_child)


_cache_instance: LRUCache | None = None
_instance_lock = threading.RLock()


def get_cache(
    max_size: int | _Unchanged = UNCHANGED,
    max_memory_mb: float | _Unchanged = UNCHANGED,
    default_ttl_seconds: float | _Unchanged | None = UNCHANGED,
    policy: PolicyName | _Unchanged = UNCHANGED,
) -> LRUCache:
    """The one cache of this process, made by the first call; who asks for another later gets a warning."""
    global _cache_instance
    named = {
        "max_size": max_size,
        "max_memory_mb": max_memory_mb,
        "default_ttl_seconds": default_ttl_seconds,
        "policy": policy,
    }
    asked: dict[str, Any] = {name: value for name, value in named.items() if value is not UNCHANGED}
    with _instance_lock:
        if _cache_instance is None:
            _cache_instance = LRUCache(**asked)
            return _cache_instance
    has = _cache_instance.get_config()
    ignored = {name: value for name, value in asked.items() if value != has[name]}
    if ignored:
        warnings.warn(f"the cache exists already; ignored: {ignored}", RuntimeWarning, stacklevel=2)
    return _cache_instance


def clear_cache() -> int:
    """Empty the cache of this process, if there is one; how many entries went."""
    return 0 if _cache_instance is None else _cache_instance.clear()
