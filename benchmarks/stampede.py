"""Many identical calls at once on one slow function: how often does it run, how long does all take, what memory?

    pip install -r benchmarks/requirements.txt
    python benchmarks/stampede.py [--quick] [--callers N ...] [--only NAME ...] [--json FILE]

Every caller is a thread (for asyncio: a task) and all start together. The function waits for 0.2 s and returns 5 MB,
or raises. Callers keep what they got until all are through, as requests do that are still being answered. A cell runs
in a process of its own; seconds are from the first start to the last end; memory is the peak of what Python allocated
meanwhile (tracemalloc). "hangs": nothing runs, nobody has come back for two seconds, and some still wait.
"""

from __future__ import annotations

import argparse
import asyncio
import functools
import json
import os
import sys
import tempfile
import threading
import time
import tracemalloc
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple

from side_by_side import CellError, machine, run_cell, table

sys.path.insert(0, str(Path(__file__).parent.parent / "backend"))

WAIT, SIZE = 0.2, 5_000_000
QUIET, LIMIT = 2.0, 10.0
"""Seconds without any event after which callers hang, and after which a cell is given up."""
TTL = 3600
Function = Callable[[str], bytes]


class FailedError(Exception):
    """What the slow function raises."""


class Slow:
    """The slow function, and what became of it."""

    def __init__(self, fails: bool) -> None:
        self.fails = fails
        self.lock = threading.Lock()
        self.runs = self.running = 0

    def enter(self) -> None:
        with self.lock:
            self.runs += 1
            self.running += 1

    def leave(self) -> bytes:
        with self.lock:
            self.running -= 1
        if self.fails:
            raise FailedError
        return b"m" * SIZE

    def plain(self) -> Function:
        def generate(picture: str) -> bytes:
            self.enter()
            time.sleep(WAIT)
            return self.leave()

        return generate

    def coroutine(self) -> Callable[[str], Any]:
        async def generate(picture: str) -> bytes:
            self.enter()
            await asyncio.sleep(WAIT)
            return self.leave()

        return generate


# The caches: each takes the function and an empty folder, and gives the function to call


def ours_get_or_compute(function: Function, folder: str) -> Function:
    from cache_manager import LRUCache

    cache = LRUCache(default_ttl_seconds=TTL)
    return lambda picture: cache.get_or_compute(picture, lambda: function(picture))


def ours_decorator(function: Function, folder: str) -> Function:
    from cache_decorator import cached_result_sync
    from cache_manager import LRUCache

    return cached_result_sync(cache=LRUCache(default_ttl_seconds=TTL))(function)


def ours_asyncio(function: Callable[[str], Any], folder: str) -> Callable[[str], Any]:
    from cache_decorator import cached_result
    from cache_manager import LRUCache

    return cached_result(cache=LRUCache(default_ttl_seconds=TTL))(function)


def cachetools_lock(function: Function, folder: str) -> Function:
    from cachetools import TTLCache, cached

    return cached(TTLCache(100, TTL), lock=threading.Lock())(function)


def cachetools_condition(function: Function, folder: str) -> Function:
    from cachetools import TTLCache, cached

    return cached(TTLCache(100, TTL), condition=threading.Condition())(function)


def cachebox_cached(function: Function, folder: str) -> Function:
    from cachebox import TTLCache, cached

    return cached(TTLCache(100, TTL))(function)


def theine_memoize(function: Function, folder: str) -> Function:
    from theine import Memoize

    return Memoize(100, timedelta(seconds=TTL))(function)


def dogpile_region(function: Function, folder: str) -> Function:
    from dogpile.cache import make_region

    return make_region().configure("dogpile.cache.memory", TTL).cache_on_arguments()(function)


def flask_caching_memoize(function: Function, folder: str) -> Function:
    from flask import Flask
    from flask_caching import Cache

    memoized: Function = Cache(Flask("stampede"), config={"CACHE_TYPE": "SimpleCache"}).memoize(TTL)(function)
    return memoized


def diskcache_memoize(function: Function, folder: str) -> Function:
    from diskcache import Cache

    memoized: Function = Cache(folder).memoize(expire=TTL)(function)
    return memoized


def diskcache_stampede(function: Function, folder: str) -> Function:
    from diskcache import Cache, memoize_stampede

    memoized: Function = memoize_stampede(Cache(folder), expire=TTL)(function)
    return memoized


def functools_lru_cache(function: Function, folder: str) -> Function:
    return functools.lru_cache(100)(function)


WAYS: dict[str, Callable[[Any, str], Callable[[str], Any]]] = {
    "ours, get_or_compute": ours_get_or_compute,
    "ours, @cached_result_sync": ours_decorator,
    "ours, @cached_result, asyncio": ours_asyncio,
    "cachetools @cached(lock=)": cachetools_lock,
    "cachetools @cached(condition=)": cachetools_condition,
    "cachebox @cached": cachebox_cached,
    "theine @Memoize": theine_memoize,
    "cachebox @cached, asyncio": cachebox_cached,
    "theine @Memoize, asyncio": theine_memoize,
    "dogpile.cache @cache_on_arguments": dogpile_region,
    "Flask-Caching @memoize, SimpleCache": flask_caching_memoize,
    "diskcache @memoize": diskcache_memoize,
    "diskcache @memoize_stampede": diskcache_stampede,
    "functools @lru_cache": functools_lru_cache,
}


# One cell, in its own process


class Outcome(NamedTuple):
    """What one caller got."""

    began: float
    ended: float
    result: bytes | BaseException


def call_in_threads(function: Function, callers: int, outcomes: list[Outcome]) -> None:
    """Start the callers, and come back when they are off."""
    barrier = threading.Barrier(callers + 1)

    def call() -> None:
        barrier.wait()
        began, result = time.perf_counter(), b""
        try:
            result = function("picture")
        except BaseException as error:
            outcomes.append(Outcome(began, time.perf_counter(), error))
        else:
            outcomes.append(Outcome(began, time.perf_counter(), result))

    for _ in range(callers):
        threading.Thread(target=call, daemon=True).start()
    tracemalloc.start()  # counts from here on
    barrier.wait()


def call_in_tasks(function: Callable[[str], Any], callers: int, outcomes: list[Outcome]) -> None:
    """The same in one event loop, in a thread of its own."""

    async def call() -> None:
        began = time.perf_counter()
        result = (await asyncio.gather(function("picture"), return_exceptions=True))[0]
        outcomes.append(Outcome(began, time.perf_counter(), result))

    async def call_all() -> None:
        await asyncio.gather(*(call() for _ in range(callers)))

    tracemalloc.start()  # counts from here on
    threading.Thread(target=asyncio.run, args=(call_all(),), daemon=True).start()


def watch(slow: Slow, outcomes: list[Outcome], callers: int) -> str:
    """Wait until all callers are through, or hang, or the time is up; which of these."""
    began = changed = time.perf_counter()
    seen = (0, 0, 0)
    while len(outcomes) < callers:
        time.sleep(0.005)
        now, state = time.perf_counter(), (slow.runs, slow.running, len(outcomes))
        if state != seen:
            seen, changed = state, now
        if not slow.running and now - changed > QUIET:
            return "hangs"
        if now - began > LIMIT:
            return "unfinished"
    return "done"


def cell(way: str, callers: int, fails: bool) -> dict[str, Any]:
    """Runs, seconds, memory, and what the callers got."""
    slow = Slow(fails)
    outcomes: list[Outcome] = []
    in_tasks = way.endswith("asyncio")
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.path.isdir("/dev/shm") else None) as folder:
        function = WAYS[way](slow.coroutine() if in_tasks else slow.plain(), folder)
        (call_in_tasks if in_tasks else call_in_threads)(function, callers, outcomes)
        end = watch(slow, outcomes, callers)
        peak = tracemalloc.get_traced_memory()[1]
    began = min((one.began for one in outcomes), default=0.0)
    return {
        "end": end,
        "runs": slow.runs,
        "seconds": max((one.ended for one in outcomes), default=0.0) - began,
        "peak_mb": peak / 1e6,
        "results": sum(isinstance(one.result, bytes) and len(one.result) == SIZE for one in outcomes),
        "errors": sum(isinstance(one.result, FailedError) for one in outcomes),
        "waiting": callers - len(outcomes),
    }


# Report


def shown(found: dict[str, Any], callers: int, fails: bool) -> str:
    """A cell of the table."""
    runs = f"{found['runs']} run" + "s" * (found["runs"] != 1)
    if found["end"] == "hangs":
        return f"{runs}, **{found['waiting']} hang**"
    if found["end"] == "unfinished":
        return f"{runs} in {LIMIT:.0f} s, {found['waiting']} wait"
    got, what = found["errors" if fails else "results"], f"{callers} errors" if fails else f"{found['peak_mb']:.0f} MB"
    return f"{runs}, {found['seconds']:.2f} s, {what if got == callers else f'**{got} of {callers} right**'}"


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="2 and 16 callers only")
    parser.add_argument("--callers", type=int, nargs="+", metavar="N", help="default: 2 16 64 256")
    parser.add_argument(
        "--only", nargs="+", default=[""], metavar="NAME", help="caches whose name contains one of these"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every cell there")
    parser.add_argument("--cell", nargs=3, help=argparse.SUPPRESS)
    given = parser.parse_args()
    given.callers = given.callers or ([2, 16] if given.quick else [2, 16, 64, 256])
    return given


def rows(ways: Sequence[str], callers: Sequence[int], fails: bool, log: list[dict[str, Any]]) -> list[list[str]]:
    """Run every cell of one table."""
    lines = []
    for way in ways:
        line = [way]
        for number in callers:
            try:
                found = run_cell(__file__, "--cell", way, str(number), "fails" * fails, timeout=LIMIT + 20)
            except CellError as error:
                line.append(f"n/a: {error}")
            else:
                log.append({"cache": way, "callers": number, "fails": fails, **found})
                line.append(shown(found, number, fails))
        lines.append(line)
    return lines


def main() -> None:
    given = arguments()
    if given.cell:
        way, callers, fails = given.cell
        print(json.dumps(cell(way, int(callers), bool(fails))), flush=True)
        os._exit(0)  # callers that hang would keep the process
    began = time.perf_counter()
    print(f"{machine()}\n", flush=True)
    titles = {False: f"{WAIT} s, {SIZE / 1e6:.0f} MB; callers:", True: f"raises after {WAIT} s; callers:"}
    ways = [way for way in WAYS if any(word in way for word in given.only)]
    log: list[dict[str, Any]] = []
    for fails, title in titles.items():
        head = [title, *map(str, given.callers)]
        print(table(head, rows(ways, given.callers, fails, log)), "\n", flush=True)
    print(f"{time.perf_counter() - began:.0f} s in all")
    if given.json:
        given.json.write_text(json.dumps({"machine": machine(), "cells": log}, indent=1))


if __name__ == "__main__":
    main()
