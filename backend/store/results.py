"""The server's view of the cache: memory in front of the disk, behind one face.

Memory is the LRU cache, or the legacy plain dict when that is not wanted or breaks: `CACHE_BACKEND=dict` chooses it, no
bound, no lifetime, for telling cache trouble apart; an unexpected error of the LRU cache switches to it for the rest of
the process, logged once, shown in the stats, and service goes on.

What is not in memory is looked for on the disk, and what is found there moves up. That is part of the one flight for a
key: however many ask at once, it is read once. What is computed goes into both. A result begun before a `clear` or
`delete` of a tier is not stored in that tier after it.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection
from functools import partial
from operator import attrgetter
from typing import Any, Literal, TypeVar

from cache_manager import CircularComputationError, LRUCache
from store.disk import Disk
from store.filesystem import told
from store.made import Made

_MOST_USES = 256
"""Keys whose uses are noted in memory before the disk is told."""

_BOOKED: dict[str, Any] = {
    "cost_of": attrgetter("own_seconds"),
    "size_of": attrgetter("size_mb"),
    "ttl_of": attrgetter("usable_seconds"),
}
"""How the memory books what a step made."""

T = TypeVar("T")
Tier = Literal["memory", "disk", "shared", "all"]
_MISSING = object()
log = logging.getLogger(__name__)


class _ComputeFailedError(Exception):
    """Carries an error of the computation past the cache, so that it is not taken for an error of the cache."""


class _AbsentError(Exception):
    """The disk has it no more, and nobody would make it."""


class LegacyDict:
    """The plain dict of the original server with the surface that the LRU cache has."""

    def __init__(self, entries: dict[str, Any]) -> None:
        self.entries = self.cache = entries
        self._lock = threading.Lock()
        self._hits = self._misses = 0

    def __contains__(self, key: str) -> bool:
        return key in self.entries

    def get(self, key: str) -> Any:
        """The value or None."""
        value = self.entries.get(key)
        with self._lock:
            self._hits += value is not None
            self._misses += value is None
        return value

    def peek(self, key: str) -> Any:
        """The value or None, uncounted."""
        return self.entries.get(key)

    def get_or_compute(self, key: str, compute: Callable[[], T], **terms: Any) -> T:
        """No single flight here: identical jobs are already merged by the queue."""
        value: T | None = self.get(key)
        if value is None:
            value = self.entries[key] = compute()
        return value

    def set(self, key: str, value: Any, size_mb: float) -> None:
        """Store; the size is not kept."""
        self.entries[key] = value

    def delete(self, key: str) -> bool:
        """True when there was such a key."""
        return self.entries.pop(key, _MISSING) is not _MISSING

    def clear(self) -> int:
        """Drop everything; how many there were."""
        with self._lock:
            count = len(self.entries)
            self.entries.clear()
        return count

    def get_entries_summary(self, limit: int, offset: int) -> list[dict[str, Any]]:
        """Keys and sizes; a plain dict knows no more."""
        unknown = {"timestamp": None, "age_seconds": None, "access_count": None, "expires_at": None, "expired": False}
        page = list(self.entries.copy().items())[offset : offset + limit]
        return [{"key": key, "size_mb": _size(value) / 1e6, **unknown} for key, value in page]

    def get_stats(self) -> dict[str, Any]:
        """The LRU cache's fields; what a plain dict does not do is 0, what it does not bound is None."""
        hits, misses = self._hits, self._misses
        memory = sum(_size(value) for value in self.entries.copy().values()) / 1e6
        zero = dict.fromkeys(
            ("evictions", "evictions_by_count", "evictions_by_size", "expirations", "rejected", "coalesced"), 0
        )
        return {
            **zero,
            "hits": hits,
            "misses": misses,
            "hit_rate_percent": 100 * hits / (hits + misses) if hits + misses else 0.0,
            "seconds_saved": 0.0,
            "current_items": len(self.entries),
            "current_memory_mb": memory,
            "max_items": None,
            "max_memory_mb": None,
            "memory_utilization_percent": 0.0,
            "max_memory_seen_mb": memory,
        }


def _drop(key: str, cache: Any) -> Any:
    return cache.delete(key)


def _absent() -> Made:
    raise _AbsentError


def _size(value: Any) -> int:
    return len(getattr(value, "data", value))


class Results:
    """One cache of two tiers. `enabled` false: nothing is looked up, nothing stored."""

    def __init__(
        self, lru: LRUCache, legacy: dict[str, Any], disk: Disk, *, enabled: bool = True, backend: str = "lru"
    ) -> None:
        self.lru, self.legacy, self.disk = lru, LegacyDict(legacy), disk
        self.enabled, self.backend = enabled, backend
        self.fallback_reason: str | None = None
        self._counting = threading.Lock()
        self._uses = Counter[str]()
        self._not_missed = 0
        """Misses of the memory that are none of the cache."""

    def __contains__(self, key: str) -> bool:
        return self.enabled and (self._in_memory(key) or self._on_disk(key))

    def __len__(self) -> int:
        return len({*self._memory_keys(), *self.disk.keys()})

    def __bool__(self) -> bool:
        return True

    def _uses_disk(self) -> bool:
        """A cache that may have no entries has none anywhere."""
        return getattr(self.legacy if self.backend == "dict" else self.lru, "max_size", 1) > 0

    def _on_disk(self, key: str) -> bool:
        return self._uses_disk() and key in self.disk

    def _in_memory(self, key: str) -> bool:
        return bool(self._call(lambda cache: key in cache))

    def _memory_keys(self) -> list[str]:
        keys: list[str] = self._call(lambda cache: list(cache.cache))
        return keys

    # ── reading and storing ──────────────────────────────────────────────────────────────────────────────────────

    def find(self, key: str) -> Any:
        """The value or None; a hit counts, a miss does not: who asks so will ask again by computing."""
        if not self.enabled:
            return None
        value = self._call(lambda cache: cache.get(key) if key in cache else None)
        if value is not None:
            self._note_use(key)
            return value
        if not self._on_disk(key):
            return None

        try:
            return self.get_or_compute(key, _absent)
        except _AbsentError:
            return None

    def peek(self, key: str) -> Any:
        """What is in memory, or None, without counting or changing the order."""
        return self._call(lambda cache: cache.peek(key)) if self.enabled else None

    def set(self, key: str, value: Any, size_mb: float) -> None:
        """Store a value of that size in MB (10^6 bytes), in memory."""
        if self.enabled:
            self._call(lambda cache: cache.set(key, value, size_mb))

    def get_or_compute(self, key: str, compute: Callable[[], Made]) -> Made:
        """The stored value, or the computed one; identical calls under way at once compute once and share it."""
        if not self.enabled:
            return compute()
        computed: list[Made] = []
        led = False

        def guarded() -> Made:
            nonlocal led
            led = True
            try:
                if not computed:  # else the LRU cache broke after it, and the dict asks again
                    computed.append(self._from_below(key, compute))
            except BaseException as error:
                raise _ComputeFailedError from error
            return computed[0]

        while True:
            try:
                value: Made = self._call(lambda cache: cache.get_or_compute(key, guarded, **_BOOKED))
            except _ComputeFailedError as failed:
                if isinstance(failed.__cause__, _AbsentError) and not led and compute is not _absent:
                    continue  # had joined one who only looked
                raise failed.__cause__ or failed from None
            if not led:
                self._note_use(key)
            return value

    def _from_below(self, key: str, compute: Callable[[], Made]) -> Made:
        """From the disk, or computed and kept there."""
        if not self._uses_disk():
            return compute()
        claim = self.disk.claim(key)
        try:
            found = self.disk.get(key)
            if found is not None:
                self._note_use(key)
            if found is not None or compute is _absent:
                self._no_miss()
            return found or self._kept(key, compute(), claim)
        finally:
            self.disk.give_up(key, claim)

    def _kept(self, key: str, value: Made, claim: object) -> Made:
        self.write_uses()  # before anything is evicted
        try:
            self.disk.put(key, value, self.lru.default_ttl_seconds, claim)
        except OSError as error:  # it was made all the same; who needs its bytes on the disk will say so
            log.error("the result %s could not be kept on the disk: %s", key, error)
        return value

    def _no_miss(self) -> None:
        with self._counting:
            self._not_missed += 1

    def _note_use(self, key: str) -> None:
        with self._counting:
            self._uses[key] += 1
            many = len(self._uses) >= _MOST_USES
        if many:
            self.write_uses()

    def write_uses(self) -> None:
        """Tell the disk what was used since it was told last."""
        with self._counting:
            uses, self._uses = self._uses, Counter()
        self.disk.note_uses(uses)

    # ── dropping and pinning ─────────────────────────────────────────────────────────────────────────────────────

    @told()
    def delete(self, key: str) -> bool:
        """Drop it from every tier; True when there was such a key."""
        on_disk = self.disk.delete(key)  # first: what is looked for in between must not come up from there
        return bool(self._call(lambda cache: cache.delete(key))) or on_disk

    @told()
    def clear(self, tier: Tier = "all") -> int:
        """Drop everything that a tier holds, or all do; how many entries there were."""
        keys = set[str]()
        if tier in ("disk", "all"):  # first: what is looked for in between must not come up from there
            keys.update(self.disk.keys())
            self.disk.clear()
        if tier in ("memory", "all"):
            keys.update(self._memory_keys())
            self._call(lambda cache: cache.clear())
        return len(keys)

    @told()
    def forget(
        self, sources: Collection[str], shapes: Collection[str], keep: Callable[[str, tuple[str, ...]], bool]
    ) -> None:
        """Drop from every tier what was made of one of those pictures, or of a shape with one of those contents, but
        for what `keep(key, sources)` wants. DiskFullError, StorageError."""
        wanted = set(sources)
        found = self.disk.derived(sources, shapes)
        for key, entry in self._call(lambda cache: dict(cache.cache)).items():  # what has expired, too
            value = getattr(entry, "value", entry)
            if isinstance(value, Made) and (
                wanted & set(value.sources) or value.sha256 in shapes or value.shape_sha256 in shapes
            ):
                found.append((key, value.sources))
        gone = {key for key, made_of in found if not keep(key, made_of)}
        try:
            self.disk.forget(gone)  # first, as above
        finally:
            for key in gone:
                self._call(partial(_drop, key))

    @told()
    def pin(self, key: str, pinned: bool) -> bool:
        """Keep it on the disk until it is unpinned, or no more; False: there is no such key. DiskFullError."""
        if pinned and self.disk.max_bytes and key not in self.disk:
            claim = self.disk.claim(key)  # it may be deleted between the look and the writing
            try:
                if isinstance(value := self.peek(key), Made):
                    self.disk.put(key, value, self.lru.default_ttl_seconds, claim)
            finally:
                self.disk.give_up(key, claim)
        return self.disk.pin(key, pinned)

    @told()
    def sweep(self, unused_seconds: float | None) -> None:
        """Drop from every tier what has expired, and what was not used for so long."""
        self.write_uses()
        self.disk.sweep(unused_seconds)
        for key, entry in self.lru.cache.items() if unused_seconds is not None else ():
            if time.time() - entry.timestamp > (unused_seconds or 0):  # used since, it comes up from the disk again
                self._call(partial(_drop, key))

    # ── knowing ──────────────────────────────────────────────────────────────────────────────────────────────────

    @told()
    def entries(self, limit: int, offset: int) -> list[dict[str, Any]]:
        """One page of the listing, what is in memory first; each row says its nearest tier and whether it is pinned."""
        on_disk, in_memory = self.disk.keys(), self._memory_keys()
        page: list[dict[str, Any]] = self._call(lambda cache: cache.get_entries_summary(limit=limit, offset=offset))
        rows = [{**row, "tier": "memory", "on_disk": row["key"] in on_disk} for row in page]
        if len(rows) < limit:
            rest = self.disk.entries(limit - len(rows), max(0, offset - len(in_memory)), without=in_memory)
            rows += [{**row, "tier": "disk", "on_disk": True} for row in rest]
        return [{**row, "pinned": on_disk.get(row["key"], False)} for row in rows]

    @told()
    def stats(self) -> dict[str, Any]:
        """The memory's counters, where what was found on the disk is a hit and no miss; and those of the disk."""
        memory, disk = self._call(lambda cache: cache.get_stats()), self.disk.stats()
        hits, misses = memory["hits"] + disk["hits"], memory["misses"] - self._not_missed
        rate = round(100 * hits / max(hits + misses, 1), 2)
        return {**memory, "hits": hits, "misses": misses, "hit_rate_percent": rate, "disk": disk}

    def _call(self, action: Callable[[Any], T]) -> T:
        if self.backend == "lru":
            try:
                return action(self.lru)
            except (_ComputeFailedError, CircularComputationError):
                raise
            except Exception as error:
                self._fall_back(error)
        return action(self.legacy)

    def _fall_back(self, error: Exception) -> None:
        if self.fallback_reason is None:
            self.fallback_reason = f"{type(error).__name__}: {error}"
            log.error("the LRU cache failed; the plain dict takes over until the restart", exc_info=error)
        self.backend = "dict"
