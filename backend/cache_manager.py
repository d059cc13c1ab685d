"""The result cache: a small, exact, thread-safe, cost-aware cache in pure Python.

    >>> cache = LRUCache(max_size=2, max_memory_mb=1.0)
    >>> cache.set("mug", b"mesh of a mug", cost_seconds=124.0)
    True
    >>> cache.get("mug")
    b'mesh of a mug'
    >>> cache.get_or_compute("chair", lambda: b"mesh of a chair")
    b'mesh of a chair'
    >>> cache.stats["hits"], cache.stats["misses"], cache.stats["seconds_saved"]
    (1, 1, 124.0)

Design. One map holds one slot per key, and the map itself is the policy: an `OrderedDict` whose `used(key)` notes a use
and whose `evict()` gives up the entry that is worth least. One re-entrant lock guards everything; these hold whenever
it is free, and each has its name in the tests:

    Bounds      the sizes of all slots sum to `_bytes`, at most `_max_bytes`; there are at most `_max_size` slots.
    One cause   every slot that was ever stored is still there or left for exactly one `Reason`, so the counters add up.
    Cover       the agenda of deadlines names every slot with a deadline, too early perhaps, never too late.
    Freshness   what `get` returns was stored before its deadline and after the last `delete` or `clear` of its key.
    One flight  a key is being computed at most once, unless a `set`, `delete` or `clear` has made that result stale.

What a reader cannot see. Nothing of the caller's runs while the lock is held: no computation, no listener, no logging,
and no destructor either, for whatever leaves is kept in a local list until after the release (freeing a large value can
take long). A finaliser or a signal handler may still call the cache in the middle of an operation of its own thread;
the lock lets it in, so every step reads and writes the sums in one go, and bounds are checked again after a store.
Expiry follows a monotonic clock; wall time is shown, never compared.
"""

from __future__ import annotations

import logging
import sys
import threading
import time
import warnings
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from enum import Enum
from heapq import heapify, heappop, heappush, heapreplace
from itertools import islice
from math import inf
from numbers import Real
from operator import attrgetter
from types import BuiltinFunctionType, FunctionType, MappingProxyType, ModuleType
from typing import Any, Final, Literal, TypeVar

logger = logging.getLogger(__name__)

MB: Final = 1_000_000
"""Bytes in the megabyte of every setting and statistic."""

Reason = Literal["count", "size", "expired", "replaced", "deleted", "cleared"]
"""Why an entry left: too many entries, too many bytes, its time was up, or somebody asked for it."""

Listener = Callable[[str, Any, Reason], None]
Policy = Literal["lru", "gdsf"]
V = TypeVar("V")


class _Token(Enum):
    """Stands where None would be an ordinary value."""

    ABSENT = "nothing under this key"
    UNCHANGED = "argument not given"
    ABANDONED = "the leader was cancelled before it had a result"


class CircularComputationError(RuntimeError):
    """A computation asked, directly or through others, for its own result; waiting for it would never end."""


@dataclass(frozen=True, slots=True)
class CacheEntry:
    """What the cache knows of one stored value at the moment it was asked; times are seconds of the wall clock."""

    value: Any
    timestamp: float
    access_count: int = 0
    size_mb: float = 0.0
    expires_at: float | None = None

    def is_expired(self) -> bool:
        """Whether its time is up by the wall clock (the cache itself goes by a monotonic one)."""
        return self.expires_at is not None and time.time() >= self.expires_at


class _Slot:
    """One stored value. Built without `__init__`, whose call would cost as much as the rest of a store."""

    __slots__ = ("access_count", "cost", "deadline", "rank", "size", "stored", "value")
    value: Any
    size: int  # bytes
    stored: float  # by the cache's clock, as is the deadline
    deadline: float  # inf: never
    access_count: int
    cost: float  # seconds it took to compute; 0 where nobody said
    rank: float  # its worth, where the policy goes by worth


class _Agenda:
    """A lazy heap: which slot's rank comes first?

    A slot may stand in it too early, never too late (Cover), and may be gone: whoever comes to the top is looked up and
    put right. So a rank that rises, as on every hit or longer lease, costs nothing until then.
    """

    __slots__ = ("_heap", "_rank", "_slots")

    def __init__(self, slots: Mapping[str, _Slot], rank: str) -> None:
        self._slots = slots
        self._rank: Callable[[_Slot], float] = attrgetter(rank)
        self._heap: list[tuple[float, float, str]] = []

    def add(self, key: str, slot: _Slot) -> None:
        heappush(self._heap, (self._rank(slot), slot.stored, key))
        if len(self._heap) > 2 * len(self._slots) + 64:
            rank = self._rank
            self._heap = [(rank(slot), slot.stored, key) for key, slot in self._slots.items() if rank(slot) < inf]
            heapify(self._heap)

    def first(self, limit: float = inf) -> str | None:
        """Take out the key whose rank comes first, if that is not above `limit`."""
        heap, slots, rank = self._heap, self._slots, self._rank
        while heap and heap[0][0] <= limit:
            noted, _, key = heap[0]
            slot = slots.get(key)
            if slot is None or rank(slot) == inf:
                heappop(heap)
            elif rank(slot) > noted:
                heapreplace(heap, (rank(slot), slot.stored, key))
            else:
                heappop(heap)
                return key
        return None


class _LRU(OrderedDict[str, _Slot]):
    """Least recently used first: the order that an OrderedDict keeps by itself."""

    used = OrderedDict.move_to_end

    def evict(self) -> tuple[str, _Slot]:
        """Take out the slot that is worth least; the map is not empty."""
        return self.popitem(last=False)


class _GDSF(_LRU):
    """Greedy-dual-size-frequency (Cherkasova, HP Labs 1998): seconds that a byte saves, aged.

    A slot is worth age + uses × cost ÷ size; the age is the worth of the last one evicted, so that what is not used
    any more falls behind the newcomers.
    """

    def __init__(self) -> None:
        super().__init__()
        self._age = 0.0
        self._worth = _Agenda(self, "rank")

    def _appraise(self, slot: _Slot, uses: int) -> None:
        slot.rank = self._age + uses * (slot.cost or 1.0) / max(slot.size, 1)

    def __setitem__(self, key: str, slot: _Slot) -> None:
        self._appraise(slot, 1)
        super().__setitem__(key, slot)
        self._worth.add(key, slot)

    def used(self, key: str) -> None:  # type: ignore[override]
        slot = self[key]
        self._appraise(slot, slot.access_count + 2)  # one use for the store, one for this

    def evict(self) -> tuple[str, _Slot]:
        key = self._worth.first()
        assert key is not None, "the agenda covers every slot"
        slot = self.pop(key)
        self._age = slot.rank
        return key, slot


_POLICIES: Final[dict[Policy, type[_LRU]]] = {"lru": _LRU, "gdsf": _GDSF}

_computing: ContextVar[_Flight | None] = ContextVar("computing", default=None)
"""The innermost flight that the running code is the leader of."""

_waits_lock = threading.Lock()
"""Guards `_Flight.awaits` of every flight: computations may wait across caches."""


class _Flight:
    """One computation under way. Its leader computes; whoever else asks waits for the future."""

    def __init__(self, loop_thread: int | None) -> None:
        self.future: Future[Any] = Future()
        self.future.set_running_or_notify_cancel()  # from here on, nobody but the leader can settle it
        self.loop_thread = loop_thread
        self.cost = 0.0
        self.awaits: set[_Flight] = set()

    def needs(self, other: _Flight) -> bool:
        """Whether this one cannot land before the other has."""
        return self is other or any(flight.needs(other) for flight in self.awaits)

    @contextmanager
    def awaited(self) -> Iterator[None]:
        """Note, while the body runs, that the computation around it (if any) cannot go on before this one lands."""
        outer = _computing.get()
        if outer is None:
            yield
            return
        with _waits_lock:
            if self.needs(outer):
                raise CircularComputationError("a computation waits for its own result")
            outer.awaits.add(self)
        try:
            yield
        finally:
            with _waits_lock:
                outer.awaits.discard(self)


class LRUCache:
    """A bounded map from keys to values that threads and event loops may share.

    `max_size` entries and `max_memory_mb` (10^6 bytes) bound it; either may be 0, and then nothing is kept. An entry
    lives for `default_ttl_seconds` (None: until evicted) unless `set` says otherwise. `policy` chooses who leaves when
    there is no room: the least recently used (`lru`), or the one that saves the fewest seconds per byte (`gdsf`).
    `on_evict(key, value, reason)` hears of every entry that leaves, after the lock is free; what it raises is logged.
    `clock` gives monotonic seconds. A value is returned as the very object that was stored: do not change it.

    An empty cache is true, so `if cache:` asks whether there is one.
    """

    def __init__(
        self,
        max_size: int = 1000,
        max_memory_mb: float = 512.0,
        default_ttl_seconds: float | None = None,
        *,
        policy: Policy = "lru",
        clock: Callable[[], float] = time.monotonic,
        on_evict: Listener | None = None,
    ) -> None:
        if policy not in _POLICIES:
            raise ValueError(f"policy must be one of {', '.join(_POLICIES)}, not {policy!r}")
        self._max_size = _count("max_size", max_size)
        self._max_bytes = _bytes("max_memory_mb", max_memory_mb)
        self._default_ttl = _lifetime("default_ttl_seconds", default_ttl_seconds)
        self._policy = policy
        self._clock = clock
        self._on_evict = on_evict
        self._lock = threading.RLock()
        self._flights: dict[str, _Flight] = {}
        self._max_bytes_seen = 0
        self._start_empty()
        self.reset_stats()

    def _start_empty(self) -> None:
        self._entries = _POLICIES[self._policy]()
        self._deadlines = _Agenda(self._entries, "deadline")
        self._bytes = 0

    # Reading

    def get(self, key: str, default: Any = None) -> Any:
        """The value under `key`, or `default`. Counts a hit or a miss, and a hit as a use."""
        with self._lock:
            slot = self._entries.get(key)
            if slot is not None and slot.deadline > self._clock():
                self._hit(key, slot)
                return slot.value
            self._misses += 1
            if slot is None:
                return default
            self._remove(key, "expired")
        self._part_with([(key, slot, "expired")])
        return default

    def _hit(self, key: str, slot: _Slot) -> None:
        self._entries.used(key)
        slot.access_count += 1
        self._hits += 1
        self._seconds_saved += slot.cost

    def peek(self, key: str, default: Any = None) -> Any:
        """The value under `key`, or `default`, without a trace: neither counted nor a use."""
        with self._lock:
            slot = self._entries.get(key)
            return slot.value if slot is not None and slot.deadline > self._clock() else default

    def __contains__(self, key: str) -> bool:
        return self.peek(key, _Token.ABSENT) is not _Token.ABSENT

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
        *,
        cost_seconds: float = 0.0,
    ) -> bool:
        """Store a value; False if it cannot be kept: larger than the whole cache. The older value under the key goes.

        `size_mb` None: measured by `deep_size`. `ttl_seconds` None: the cache's default; 0: expired at once.
        `cost_seconds`: what it took to make, for the policy and for `seconds_saved`.
        """
        slot = self._new_slot(value, size_mb, ttl_seconds, _quantity("cost_seconds", cost_seconds))
        gone: list[tuple[str, _Slot, Reason]] = []
        with self._lock:
            self._flights.pop(key, None)
            stored = self._store(key, slot, gone)
        self._part_with(gone)
        return stored

    def _new_slot(self, value: Any, size_mb: float | None, ttl_seconds: float | None, cost: float) -> _Slot:
        slot = _Slot()
        slot.size = deep_size(value) if size_mb is None else _bytes("size_mb", size_mb)
        ttl = self._default_ttl if ttl_seconds is None else _quantity("ttl_seconds", ttl_seconds)
        slot.stored = self._clock()
        slot.deadline = inf if ttl is None else slot.stored + ttl
        slot.value = value
        slot.access_count = 0
        slot.cost = cost
        return slot

    def _store(self, key: str, slot: _Slot, gone: list[tuple[str, _Slot, Reason]]) -> bool:
        self._drop_expired(gone)
        old = self._entries.get(key)
        if old is not None:
            self._remove(key, "replaced")
            gone.append((key, old, "replaced"))
        if slot.size > self._max_bytes or not (self._max_size and self._max_bytes):
            self._rejected += 1
            return False
        self._make_room(self._max_size - 1, self._max_bytes - slot.size, gone)
        self._entries[key] = slot
        self._bytes += slot.size
        self._stored += 1
        if slot.deadline < inf:
            self._deadlines.add(key, slot)
        self._make_room(self._max_size, self._max_bytes, gone)  # only a re-entrant store leaves it work
        if self._bytes > self._max_bytes_seen:
            self._max_bytes_seen = self._bytes
        return True

    def _remove(self, key: str, reason: Reason) -> None:
        self._bytes -= self._entries.pop(key).size
        self._left[reason] += 1

    def _drop_expired(self, gone: list[tuple[str, _Slot, Reason]]) -> None:
        now = self._clock()
        while (key := self._deadlines.first(now)) is not None:
            gone.append((key, self._entries[key], "expired"))
            self._remove(key, "expired")

    def _make_room(self, count: int, size: int, gone: list[tuple[str, _Slot, Reason]]) -> None:
        """Evict until at most `count` entries of `size` bytes together are left."""
        while len(self._entries) > count or self._bytes > size:
            reason: Reason = "count" if len(self._entries) > count else "size"
            key, slot = self._entries.evict()
            self._bytes -= slot.size
            self._left[reason] += 1
            gone.append((key, slot, reason))

    def delete(self, key: str) -> bool:
        """Remove one entry; False if there was none. A computation of it under way will not be stored."""
        with self._lock:
            self._flights.pop(key, None)
            slot = self._entries.get(key)
            if slot is None:
                return False
            reason: Reason = "deleted" if slot.deadline > self._clock() else "expired"
            self._remove(key, reason)
        self._part_with([(key, slot, reason)])
        return reason == "deleted"

    def delete_prefix(self, prefix: str) -> int:
        """Remove every entry whose key begins with `prefix`; how many. Computations under way are not stored."""
        with self._lock:
            for key in [key for key in self._flights if key.startswith(prefix)]:
                del self._flights[key]
            gone: list[tuple[str, _Slot, Reason]] = [
                (key, slot, "deleted") for key, slot in self._entries.items() if key.startswith(prefix)
            ]
            for key, _, _ in gone:
                self._remove(key, "deleted")
        self._part_with(gone)
        return len(gone)

    def clear(self) -> int:
        """Remove every entry; how many. A computation under way will not be stored."""
        with self._lock:
            entries = self._entries
            self._left["cleared"] += len(entries)
            self._start_empty()
            self._flights.clear()
        self._part_with([(key, slot, "cleared") for key, slot in entries.items()])
        return len(entries)

    def _part_with(self, gone: list[tuple[str, _Slot, Reason]]) -> None:
        """Tell the listener; the lock is free, and what left dies with the caller's list."""
        if self._on_evict is None:
            return
        for key, slot, reason in gone:
            try:
                self._on_evict(key, slot.value, reason)
            except Exception:
                logger.exception("on_evict failed for %r (%s)", key, reason)

    # Computing once

    def get_or_compute(
        self,
        key: str,
        compute: Callable[[], V],
        *,
        size_mb: float | None = None,
        ttl_seconds: float | None = None,
        timeout: float | None = None,
    ) -> V:
        """The value under `key`; if there is none, `compute()` it, once for all who ask meanwhile, and store it.

        Everyone gets the leader's result or its error; an error is not stored. A result begun before a `set`, `delete`
        or `clear` of its key is returned, not stored. A leader that is cancelled or interrupted hands over to one who
        waits. `timeout` bounds the waiting for somebody else, in seconds (TimeoutError), and harms nobody else.
        Raises CircularComputationError where waiting would never end.
        """
        self._check_hints(size_mb, ttl_seconds)
        until = None if timeout is None else time.monotonic() + timeout
        while True:
            flight, leads, value = self._claim(key, None)
            if flight is None:
                return value  # type: ignore[no-any-return]
            with flight.awaited():
                if leads:
                    with self._leading(key, flight) as land:
                        return land(compute(), size_mb, ttl_seconds)  # type: ignore[no-any-return]
                if flight.loop_thread == threading.get_ident():
                    raise CircularComputationError(f"{key!r} is computed by the event loop that this wait would block")
                try:
                    value = flight.future.result(None if until is None else max(0.0, until - time.monotonic()))
                finally:
                    self._joined(flight)
            if value is not _Token.ABANDONED:
                return value  # type: ignore[no-any-return]

    async def aget_or_compute(
        self,
        key: str,
        compute: Callable[[], Awaitable[V]],
        *,
        size_mb: float | None = None,
        ttl_seconds: float | None = None,
        timeout: float | None = None,
    ) -> V:
        """`get_or_compute` for coroutines: the same keys, flights and promises, shared with threads and other loops."""
        import asyncio

        self._check_hints(size_mb, ttl_seconds)
        until = None if timeout is None else time.monotonic() + timeout
        while True:
            flight, leads, value = self._claim(key, threading.get_ident())
            if flight is None:
                return value  # type: ignore[no-any-return]
            with flight.awaited():
                if leads:
                    with self._leading(key, flight) as land:
                        return land(await compute(), size_mb, ttl_seconds)  # type: ignore[no-any-return]
                try:
                    async with asyncio.timeout(None if until is None else max(0.0, until - time.monotonic())):
                        value = await asyncio.shield(asyncio.wrap_future(flight.future))
                finally:
                    self._joined(flight)
            if value is not _Token.ABANDONED:
                return value  # type: ignore[no-any-return]

    def _check_hints(self, size_mb: float | None, ttl_seconds: float | None) -> None:
        """Refuse before the work what `set` would refuse after it."""
        if size_mb is not None:
            _bytes("size_mb", size_mb)
        _lifetime("ttl_seconds", ttl_seconds)

    def _claim(self, key: str, loop_thread: int | None) -> tuple[_Flight | None, bool, Any]:
        """The value if it is there, else the flight to wait for, or to lead; look and claim are one step."""
        gone: list[tuple[str, _Slot, Reason]] = []
        with self._lock:
            slot = self._entries.get(key)
            if slot is not None and slot.deadline > self._clock():
                self._hit(key, slot)
                return None, False, slot.value
            if slot is not None:
                self._remove(key, "expired")
                gone.append((key, slot, "expired"))
            flight = self._flights.get(key)
            leads = flight is None
            if flight is None:
                self._misses += 1
                flight = self._flights[key] = _Flight(loop_thread)
        self._part_with(gone)
        return flight, leads, None

    @contextmanager
    def _leading(self, key: str, flight: _Flight) -> Iterator[Callable[[Any, float | None, float | None], Any]]:
        """Whatever becomes of the body, the flight lands: with its value, its error, or abandoned."""

        def land(value: Any, size_mb: float | None, ttl_seconds: float | None) -> Any:
            flight.cost = self._clock() - began
            slot = self._new_slot(value, size_mb, ttl_seconds, flight.cost)
            gone: list[tuple[str, _Slot, Reason]] = []
            with self._lock:
                if self._flights.get(key) is flight:
                    self._store(key, slot, gone)
                    del self._flights[key]
            self._part_with(gone)
            flight.future.set_result(value)
            return value

        outer = _computing.set(flight)
        began = self._clock()
        try:
            yield land
        except BaseException as error:
            with self._lock:
                if self._flights.get(key) is flight:
                    del self._flights[key]
            if isinstance(error, Exception):
                flight.future.set_exception(error)
            else:
                flight.future.set_result(_Token.ABANDONED)
            raise
        finally:
            _computing.reset(outer)

    def _joined(self, flight: _Flight) -> None:
        with self._lock:
            self._coalesced += 1
            self._seconds_saved += flight.cost

    # Knowing

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
        """Lifetime of an entry that was stored without one; None: until evicted."""
        return self._default_ttl

    @property
    def policy(self) -> Policy:
        """Who leaves when there is no room."""
        return self._policy

    @property
    def stats(self) -> Mapping[str, Any]:
        """`get_stats()` as a read-only mapping."""
        return MappingProxyType(self.get_stats())

    def get_stats(self) -> dict[str, Any]:
        """Counters since the last `reset_stats`, and the present.

        They add up: `stored` = `current_items` + `evictions` + `expirations` + `replaced` + `deleted` + `cleared`. A
        `get` is a hit or a miss; a `get_or_compute` is a hit, a miss, or `coalesced` when it waited for another's run.
        """
        with self._lock:
            left = dict(self._left)
            hits, misses, coalesced = self._hits, self._misses, self._coalesced
            stored, rejected, seconds_saved = self._stored, self._rejected, self._seconds_saved
            items, size, most = len(self._entries), self._bytes, self._max_bytes_seen
            max_size, max_bytes = self._max_size, self._max_bytes
        return {
            "hits": hits,
            "misses": misses,
            "hit_rate_percent": round(100 * hits / (hits + misses), 2) if hits + misses else 0.0,
            "coalesced": coalesced,
            "seconds_saved": seconds_saved,
            "stored": stored,
            "rejected": rejected,
            "evictions": left["count"] + left["size"],
            "evictions_by_count": left["count"],
            "evictions_by_size": left["size"],
            "expirations": left["expired"],
            "replaced": left["replaced"],
            "deleted": left["deleted"],
            "cleared": left["cleared"],
            "current_items": items,
            "current_memory_mb": size / MB,
            "max_items": max_size,
            "max_memory_mb": max_bytes / MB,
            "memory_utilization_percent": round(100 * size / max_bytes, 2) if max_bytes else 0.0,
            "max_memory_seen_mb": most / MB,
            "policy": self._policy,
        }

    def reset_stats(self) -> None:
        """Begin counting anew; what describes the present stays, so the counters go on adding up."""
        with self._lock:
            self._hits = self._misses = self._coalesced = self._rejected = 0
            self._seconds_saved = 0.0
            self._left: dict[Reason, int] = dict.fromkeys(
                ("count", "size", "expired", "replaced", "deleted", "cleared"), 0
            )
            self._stored = len(self._entries)
            self._max_bytes_seen = self._bytes

    def get_entries_summary(self, limit: int | None = None, offset: int = 0) -> list[dict[str, Any]]:
        """One row per entry, the next to leave first under `lru`: key, size_mb, timestamp, age_seconds, access_count,
        expires_at (wall clock; None: never) and expired."""
        with self._lock:
            page = list(islice(self._entries.items(), offset, None if limit is None else offset + limit))
            now = self._clock()
        wall = time.time()
        return [
            {
                "key": key,
                "size_mb": slot.size / MB,
                "timestamp": wall - (now - slot.stored),
                "age_seconds": now - slot.stored,
                "access_count": slot.access_count,
                "expires_at": wall + (slot.deadline - now) if slot.deadline < inf else None,
                "expired": slot.deadline <= now,
            }
            for key, slot in page
        ]

    @property
    def cache(self) -> Mapping[str, CacheEntry]:
        """A read-only picture of all entries by key."""
        with self._lock:
            slots = list(self._entries.items())
            now = self._clock()
        wall = time.time()
        return MappingProxyType(
            {
                key: CacheEntry(
                    slot.value,
                    wall - (now - slot.stored),
                    slot.access_count,
                    slot.size / MB,
                    wall + (slot.deadline - now) if slot.deadline < inf else None,
                )
                for key, slot in slots
            }
        )

    def get_config(self) -> dict[str, Any]:
        """max_size, max_memory_mb, default_ttl_seconds and policy, all of one moment."""
        with self._lock:
            return {
                "max_size": self._max_size,
                "max_memory_mb": self._max_bytes / MB,
                "default_ttl_seconds": self._default_ttl,
                "policy": self._policy,
            }

    def update_config(
        self,
        max_size: int | Literal[_Token.UNCHANGED] = _Token.UNCHANGED,
        max_memory_mb: float | Literal[_Token.UNCHANGED] = _Token.UNCHANGED,
        default_ttl_seconds: float | Literal[_Token.UNCHANGED] | None = _Token.UNCHANGED,
    ) -> None:
        """Change any of the three at once, or none: ValueError or TypeError names the argument at fault.

        What no longer fits is evicted. A new lifetime holds for what is stored from now on; None means until evicted.
        """
        gone: list[tuple[str, _Slot, Reason]] = []
        with self._lock:
            count = self._max_size if max_size is _Token.UNCHANGED else _count("max_size", max_size)
            size = self._max_bytes if max_memory_mb is _Token.UNCHANGED else _bytes("max_memory_mb", max_memory_mb)
            if default_ttl_seconds is not _Token.UNCHANGED:
                self._default_ttl = _lifetime("default_ttl_seconds", default_ttl_seconds)
            self._max_size, self._max_bytes = count, size
            self._drop_expired(gone)
            self._make_room(count if size else 0, size, gone)
        self._part_with(gone)

    def __repr__(self) -> str:
        now = self.get_stats()
        return (
            f"LRUCache({now['policy']}, items={now['current_items']}/{now['max_items']}, "
            f"memory={now['current_memory_mb']:.1f}/{now['max_memory_mb']:g}MB, "
            f"hit_rate={now['hit_rate_percent']:.1f}%)"
        )


def deep_size(value: Any) -> int:
    """Bytes that keeping `value` costs: its own and, once each, those of all it refers to.

    Bytes count their length; arrays, tensors and pictures the memory behind them; classes, functions and modules
    nothing, as they are there anyway.

    >>> deep_size(b"0123456789"), deep_size([bytes(64)] * 3) < 300
    (10, True)
    """
    if type(value) is bytes:
        return len(value)
    total, seen, todo = 0, set(), [value]
    while todo:
        item = todo.pop()
        if id(item) in seen or isinstance(item, type | ModuleType | FunctionType | BuiltinFunctionType):
            continue
        seen.add(id(item))
        nbytes = getattr(item, "nbytes", None)
        if isinstance(item, bytes | bytearray):
            total += len(item)
        elif isinstance(nbytes, int):  # ndarray, tensor, memoryview; a view keeps all of its base alive
            base = getattr(item, "base", None)
            if base is not None:
                todo.append(base)
            else:
                total += nbytes
        elif callable(getattr(item, "getbands", None)):  # a PIL image keeps 1 or 4 bytes per pixel
            total += item.width * item.height * (1 if item.mode in ("1", "L", "P") else 4)
        else:
            total += sys.getsizeof(item, 64)
            if isinstance(item, Mapping):
                todo += item.keys()
                todo += item.values()
            elif isinstance(item, list | tuple | set | frozenset):
                todo += item
            todo += getattr(item, "__dict__", {}).values()
            for kind in type(item).__mro__:
                slots = kind.__dict__.get("__slots__", ())
                names = (slots,) if isinstance(slots, str) else slots
                todo += [getattr(item, name) for name in names if hasattr(item, name)]
    return total


def _quantity(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name} must be a number, not {value!r}")
    number = float(value)
    if not 0 <= number < inf:
        raise ValueError(f"{name} must be finite and not negative, not {value!r}")
    return number


def _bytes(name: str, megabytes: Any) -> int:
    return round(_quantity(name, megabytes) * MB)


def _count(name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be a whole number, not {value!r}")
    if value < 0:
        raise ValueError(f"{name} must not be negative, not {value!r}")
    return value


def _lifetime(name: str, seconds: Any) -> float | None:
    return None if seconds is None else _quantity(name, seconds)


_cache_instance: LRUCache | None = None
_instance_lock = threading.Lock()


def get_cache(
    max_size: int | Literal[_Token.UNCHANGED] = _Token.UNCHANGED,
    max_memory_mb: float | Literal[_Token.UNCHANGED] = _Token.UNCHANGED,
    default_ttl_seconds: float | Literal[_Token.UNCHANGED] | None = _Token.UNCHANGED,
    policy: Policy | Literal[_Token.UNCHANGED] = _Token.UNCHANGED,
) -> LRUCache:
    """The one cache of this process, made by the first call; who asks for another later gets a warning."""
    global _cache_instance
    asked = {
        "max_size": max_size,
        "max_memory_mb": max_memory_mb,
        "default_ttl_seconds": default_ttl_seconds,
        "policy": policy,
    }
    asked = {name: value for name, value in asked.items() if value is not _Token.UNCHANGED}
    with _instance_lock:
        if _cache_instance is None:
            _cache_instance = LRUCache(**asked)  # type: ignore[arg-type]
            return _cache_instance
    has = _cache_instance.get_config()
    ignored = {name: value for name, value in asked.items() if value != has[name]}
    if ignored:
        warnings.warn(f"the cache exists already; ignored: {ignored}", RuntimeWarning, stacklevel=2)
    return _cache_instance


def clear_cache() -> int:
    """Empty the cache of this process, if there is one; how many entries went."""
    return 0 if _cache_instance is None else _cache_instance.clear()
