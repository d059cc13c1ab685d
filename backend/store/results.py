"""The server's view of the cache: the LRU cache, or the legacy plain dict when the LRU is not wanted or breaks.

`CACHE_BACKEND=dict` chooses the dict: no bound, no lifetime, for telling cache trouble apart. An unexpected error of
the LRU cache switches to it for the rest of the process: logged once, shown in the stats, and service goes on.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any, TypeVar

from cache_manager import CircularComputationError, LRUCache

T = TypeVar("T")
_MISSING = object()
log = logging.getLogger(__name__)


class _ComputeFailedError(Exception):
    """Carries an error of the computation past the cache, so that it is not taken for an error of the cache."""


class LegacyDict:
    """The plain dict of the original server with the surface that the LRU cache has."""

    def __init__(self, entries: dict[str, Any]) -> None:
        self.entries = entries
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


def _size(value: Any) -> int:
    return len(getattr(value, "data", value))


class Results:
    """One cache with a way out: every call goes to the LRU cache, or to the dict once that is in use."""

    def __init__(self, lru: LRUCache, legacy: dict[str, Any], *, enabled: bool = True, backend: str = "lru") -> None:
        self.lru, self.legacy = lru, LegacyDict(legacy)
        self.enabled, self.backend = enabled, backend
        self.fallback_reason: str | None = None

    def __contains__(self, key: str) -> bool:
        return self.enabled and bool(self._call(lambda cache: key in cache))

    def __len__(self) -> int:
        return len(self.legacy.entries) if self.backend == "dict" else len(self.lru)

    def __bool__(self) -> bool:
        return True

    def get(self, key: str) -> Any:
        """The value or None; counts a hit or a miss."""
        return self._call(lambda cache: cache.get(key)) if self.enabled else None

    def find(self, key: str) -> Any:
        """The value or None; a hit counts, a miss does not: who asks so will ask again by computing."""
        return self._call(lambda cache: cache.get(key) if key in cache else None) if self.enabled else None

    def set(self, key: str, value: Any, size_mb: float) -> None:
        """Store a value of that size in MB (10^6 bytes)."""
        if self.enabled:
            self._call(lambda cache: cache.set(key, value, size_mb))

    def peek(self, key: str) -> Any:
        """The value or None, without counting or changing the order."""
        return self._call(lambda cache: cache.peek(key)) if self.enabled else None

    def get_or_compute(
        self,
        key: str,
        compute: Callable[[], T],
        cost_of: Callable[[T], float] | None = None,
        size_of: Callable[[T], float] | None = None,
    ) -> T:
        """The stored value, or the computed one; identical calls under way at once compute once and share it."""
        if not self.enabled:
            return compute()
        computed: list[T] = []

        def guarded() -> T:
            try:
                if not computed:  # else the LRU cache broke after it, and the dict asks again
                    computed.append(compute())
            except BaseException as error:
                raise _ComputeFailedError from error
            return computed[0]

        try:
            value: T = self._call(lambda cache: cache.get_or_compute(key, guarded, cost_of=cost_of, size_of=size_of))
            return value
        except _ComputeFailedError as failed:
            raise failed.__cause__ or failed from None

    def delete(self, key: str) -> bool:
        """True when there was such a key."""
        return bool(self._call(lambda cache: cache.delete(key)))

    def clear(self) -> int:
        """Drop everything; how many entries there were."""
        return int(self._call(lambda cache: cache.clear()))

    def entries(self, limit: int, offset: int) -> list[dict[str, Any]]:
        """One page of the listing."""
        return self._call(lambda cache: cache.get_entries_summary(limit=limit, offset=offset))

    def stats(self) -> dict[str, Any]:
        """The counters of whichever store is in use."""
        return self._call(lambda cache: cache.get_stats())

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
