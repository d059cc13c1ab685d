"""The caches that cache_operations.py compares, each behind the same few methods and used as its manual shows."""

from __future__ import annotations

import functools
import os
import shutil
import sys
import tempfile
import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, ClassVar

sys.path.insert(0, str(Path(__file__).parent.parent / "backend"))

from cache_manager import LRUCache

VALUE = b"v" * 100
TTL = 3600
OPERATIONS = ("hit", "miss", "replace", "evict")


class Contender:
    """A cache as every cell drives it: `read` and `write` are loops over keys such as a user of that cache writes."""

    name: ClassVar[str]
    made_in: ClassVar[str]
    package: ClassVar[str] = ""
    lacks: ClassVar[str] = ""
    offers: ClassVar[Sequence[str]] = OPERATIONS
    share: ClassVar[float] = 1.0
    """Of the operations of a cell, how many a slow cache has to do."""
    map: Any
    get: Callable[[str], Any]
    set: Callable[[str, bytes], Any]

    def __init__(self, entries: int) -> None:
        raise NotImplementedError

    def read(self, keys: Iterable[str]) -> None:
        get = self.get
        for key in keys:
            get(key)

    def write(self, keys: Iterable[str]) -> None:
        set_ = self.set
        for key in keys:
            set_(key, VALUE)

    fill = write

    def held(self) -> int:
        """Entries in it."""
        return len(self.map)

    def close(self) -> None:
        """Let go of everything."""


class Floor(Contender):
    name, made_in, lacks, offers = "floor", "Python", "TTL, bounds, statistics", ("hit",)

    def __init__(self, entries: int) -> None:
        self.lock = threading.RLock()
        self.map = OrderedDict()
        self.set = self.map.__setitem__

    def get(self, key: str) -> Any:
        with self.lock:
            value = self.map.get(key)
            self.map.move_to_end(key)
            return value


class Ours(Contender):
    name, made_in = "ours (lru)", "Python"
    policy: ClassVar[str] = "lru"

    def __init__(self, entries: int) -> None:
        megabytes = 1 + 2 * entries * len(VALUE) / 1e6
        self.map = LRUCache(entries, megabytes, TTL, policy=self.policy)  # type: ignore[arg-type]
        self.get, self.set = self.map.get, self.map.set


class OursGdsf(Ours):
    name, policy = "ours (gdsf)", "gdsf"


class OursLfu(Ours):
    name, policy = "ours (lfu)", "lfu"


class CachetoolsTTL(Contender):
    """Under an RLock, as its manual asks for; `try` as in its own decorator, for its `get` looks up twice."""

    package = "cachetools"
    name, made_in, lacks = (
        "cachetools TTLCache",
        "Python",
        "lock of its own, statistics, bytes and count bounded at once",
    )

    def __init__(self, entries: int) -> None:
        import cachetools

        self.lock = threading.RLock()
        self.map = cachetools.TTLCache(entries, TTL)

    def get(self, key: str) -> Any:
        with self.lock:
            try:
                return self.map[key]
            except KeyError:
                return None

    def set(self, key: str, value: bytes) -> Any:
        with self.lock:
            self.map[key] = value


class CachetoolsTLRU(CachetoolsTTL):
    name = "cachetools TLRUCache"

    def __init__(self, entries: int) -> None:
        super().__init__(entries)
        import cachetools

        self.map = cachetools.TLRUCache(entries, ttu=lambda key, value, now: now + TTL)


class Dogpile(Contender):
    package = "dogpile.cache"
    name, made_in, offers = "dogpile.cache memory", "Python", ("hit", "miss", "replace")
    lacks = "bounds (so no evict), lock around the map, statistics"

    def __init__(self, entries: int) -> None:
        from dogpile.cache import make_region

        self.map = {}
        region = make_region().configure("dogpile.cache.memory", TTL, {"cache_dict": self.map})
        self.get, self.set = region.get, region.set


class Theine(Contender):
    package = "theine"
    name, made_in, lacks = "theine", "Python + Rust", "bound in bytes, exact statistics"

    def __init__(self, entries: int) -> None:
        import theine

        self.map = theine.Cache(entries)
        self.get = self.map.get

    def write(self, keys: Iterable[str]) -> None:
        set_, ttl = self.map.set, timedelta(seconds=TTL)
        for key in keys:
            set_(key, VALUE, ttl)

    fill = write

    def close(self) -> None:
        self.map.close()  # its maintenance would hold it for ever


class Cachebox(Contender):
    package = "cachebox"
    name, made_in, lacks = "cachebox TTLCache", "Rust", "order of use (first in, first out), statistics"

    def __init__(self, entries: int) -> None:
        import cachebox

        self.map = cachebox.TTLCache(entries, TTL)
        self.get, self.set = self.map.get, self.map.insert


class CacheboxVTTL(Contender):
    """The one with a lifetime per entry, as ours has."""

    package = "cachebox"
    name, made_in, lacks = "cachebox VTTLCache", "Rust", "order of use (soonest to expire goes first), statistics"

    def __init__(self, entries: int) -> None:
        import cachebox

        self.map = cachebox.VTTLCache(entries)
        self.get = self.map.get

    def write(self, keys: Iterable[str]) -> None:
        insert = self.map.insert
        for key in keys:
            insert(key, VALUE, TTL)

    fill = write


class LruDict(Contender):
    package = "lru-dict"
    name, made_in, lacks = "lru-dict", "C", "TTL, bound in bytes"

    def __init__(self, entries: int) -> None:
        from lru import LRU

        self.map = LRU(entries)
        self.get = self.map.get

    def write(self, keys: Iterable[str]) -> None:
        cached = self.map
        for key in keys:
            cached[key] = VALUE

    fill = write


class Functools(Contender):
    """A miss of it calls the function and evicts: that is the figure under evict."""

    name, made_in, offers = "functools.lru_cache", "C", ("hit", "evict")
    lacks = "TTL, bound in bytes, get and set of their own"

    def __init__(self, entries: int) -> None:
        self.get = functools.lru_cache(entries)(lambda key: VALUE)

    def write(self, keys: Iterable[str]) -> None:
        self.read(keys)

    fill = write

    def held(self) -> int:
        return self.get.cache_info().currsize  # type: ignore[attr-defined, no-any-return]


class Diskcache(Contender):
    """In a folder in memory where there is one. Its bound is in bytes and set when it is filled."""

    package = "diskcache"
    name, made_in, share, lacks = "diskcache", "SQLite", 0.01, "order of use (as it comes), bound in entries"

    def __init__(self, entries: int) -> None:
        import diskcache

        folder = tempfile.mkdtemp(dir="/dev/shm" if os.path.isdir("/dev/shm") else None)
        weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        self.map = diskcache.Cache(folder)
        self.get = self.map.get

    def write(self, keys: Iterable[str]) -> None:
        set_ = self.map.set
        for key in keys:
            set_(key, VALUE, TTL)

    def fill(self, keys: Iterable[str]) -> None:
        with self.map.transact():
            self.write(keys)
        self.map.reset("size_limit", self.map.volume())

    def close(self) -> None:
        self.map.close()


CONTENDERS: list[type[Contender]] = [
    Floor,
    Ours,
    OursGdsf,
    OursLfu,
    CachetoolsTTL,
    CachetoolsTLRU,
    Dogpile,
    Theine,
    Cachebox,
    CacheboxVTTL,
    LruDict,
    Functools,
    Diskcache,
]
