"""How long does one cache operation take, and how much memory one entry? Ours and its peers, side by side in one run.

    pip install -r benchmarks/requirements.txt
    python benchmarks/cache_operations.py [--quick] [--profile] [--only NAME ...] [--json FILE]

A figure is the median time of an operation over several rounds, divided by the median of the floor in the same rounds:
the least that a thread-safe cache with an order does for a hit (RLock, OrderedDict.get, move_to_end). The quartiles
follow in brackets. In every round every cache takes its turn, in an order drawn anew; the cyclic garbage collector is
off, as in `timeit`; keys are made and hashed beforehand. With several threads it is the time from the first one's start
to the last one's end, divided by the operations of all; they take turns every 0.5 ms (Python's own 5 ms would let most
of them finish their short cell alone). The caches of one size are in memory together: 4 GB at a million entries.
"""

from __future__ import annotations

import argparse
import gc
import json
import random
import statistics
import sys
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterable, Sequence
from itertools import count, cycle, islice, product
from pathlib import Path
from typing import NamedTuple

from contenders import CONTENDERS, OPERATIONS, Contender, Floor
from profile_parts import profile
from side_by_side import CellError, installed, machine, run_cell, table

TARGETS = {"hit": 1.5, "miss": 1.1, "replace": 3.5, "evict": 3.5}
LARGEST_RISE = 1.3
"""What a target may grow by from a thousand entries to a million."""
SWITCH_SECONDS = 0.0005
BYTES_TARGET, BYTES_ENTRIES = 350, 100_000


class Cell(NamedTuple):
    """One figure's place."""

    entries: int
    threads: int
    operation: str
    cache: str


Rounds = dict[Cell, list[float]]
"""Nanoseconds per operation, one number per round."""
Memory = dict[str, dict[str, float]]
"""Bytes per entry of each cache, `traced` by tracemalloc and `resident` in the process."""


# Time


def keys_named(prefix: str, number: int) -> list[str]:
    keys = [f"{prefix}-{n:08}" for n in range(number)]
    for key in keys:
        hash(key)  # a string keeps its hash: whoever comes first would pay for all
    return keys


def nanoseconds(cache: Contender, operation: str, keys: Sequence[str], threads: int) -> float:
    """Time per operation: every thread works through its share of the keys, from a common start."""
    work = cache.write if operation in ("replace", "evict") else cache.read
    barrier = threading.Barrier(threads)
    spans: list[tuple[int, int]] = []

    def run(share: Sequence[str]) -> None:
        work(share[:1])  # diskcache opens a connection per thread
        rest = share[1:]
        barrier.wait()
        start = time.perf_counter_ns()
        work(rest)
        spans.append((start, time.perf_counter_ns()))

    pool = [threading.Thread(target=run, args=(keys[n::threads],)) for n in range(threads)]
    for thread in pool:
        thread.start()
    for thread in pool:
        thread.join()
    return (max(end for _, end in spans) - min(start for start, _ in spans)) / (len(keys) - threads)


def measure(kinds: Sequence[type[Contender]], entries: int, threads: Sequence[int], rounds: int, size: int) -> Rounds:
    """All operations at one number of entries; `size` operations a cell. Evictions last: they change who is there."""
    log: Rounds = {}
    rng, serial = random.Random(entries), count()
    known, absent = keys_named("known", entries), keys_named("absent", size)
    asked = cycle(rng.sample(known, entries))
    keys_for: dict[str, Callable[[], list[str]]] = {
        "hit": lambda: list(islice(asked, size)),
        "miss": lambda: absent,
        "replace": lambda: list(islice(asked, size)),
        "evict": lambda: keys_named(f"new{next(serial)}", size),
    }
    caches = [kind(entries) for kind in kinds]
    usual = sys.getswitchinterval()
    gc.disable()
    for cache in caches:
        cache.fill(rng.sample(known, entries))
        check(cache, entries, "after it was filled")
    for operation, number in product(OPERATIONS, threads):
        sys.setswitchinterval(usual if number == 1 else SWITCH_SECONDS)
        turn = [cache for cache in caches if operation in cache.offers or isinstance(cache, Floor)]
        for _ in range(rounds):
            for cache in rng.sample(turn, len(turn)):
                done = "hit" if isinstance(cache, Floor) else operation
                took = nanoseconds(cache, done, keys_for[done]()[: int(size * cache.share)], number)
                log.setdefault(Cell(entries, number, operation, cache.name), []).append(took)
    sys.setswitchinterval(usual)
    for cache in caches:
        if "evict" in cache.offers:
            check(cache, entries, "after evictions")
        cache.close()
    gc.enable()
    return log


def check(cache: Contender, entries: int, when: str) -> None:
    """A cache that lost entries would be timed at something else than what the column says."""
    if not 0.9 * entries <= cache.held() <= 1.02 * entries:
        print(f"Note: {cache.name} held {cache.held():,} of {entries:,} entries {when}.\n")


# Memory


def resident() -> int:
    import psutil

    return int(psutil.Process().memory_info().rss)


def memory_of(name: str, entries: int) -> dict[str, float]:
    """Bytes per entry in this process, keys and value not counted: by growth of the process, then by tracemalloc."""
    kind = next(kind for kind in CONTENDERS if kind.name == name)
    keys = keys_named("key", entries)
    kind(10).fill(keys[:10])  # imports what it needs
    gc.collect()
    before = resident()
    first = kind(entries)
    first.fill(keys)
    gc.collect()
    grown = resident() - before
    tracemalloc.start()
    second = kind(entries)
    second.fill(keys)
    gc.collect()
    traced = tracemalloc.get_traced_memory()[0]
    held = second.held()
    for cache in (first, second):
        cache.close()
    return {"traced": traced / held, "resident": grown / held}


def memory_table(kinds: Sequence[type[Contender]], entries: int) -> tuple[str, Memory]:
    found: Memory = {}
    for kind in kinds:
        try:
            found[kind.name] = run_cell(__file__, "--memory-of", kind.name, str(entries), timeout=120)
        except CellError as error:
            print(f"Note: no memory figure for {kind.name}: {error}\n")
    rows = [(name, f"{bytes_['traced']:.0f}", f"{bytes_['resident']:.0f}") for name, bytes_ in found.items()]
    text = table((f"bytes per entry, of {entries:,}", "tracemalloc", "resident"), rows)
    note = "Without keys, value and the file of diskcache; tracemalloc does not see what Rust and SQLite allocate."
    return f"{text}\n\n{note}", found


# Report


def quartiles(times: list[float]) -> list[float]:
    return statistics.quantiles(times, n=4, method="inclusive") if len(times) > 1 else times * 3


def relative(log: Rounds, cell: Cell) -> list[float]:
    """Lower quartile, median and upper quartile, in multiples of the floor's median in the same rounds."""
    floor = statistics.median(log[cell._replace(cache=Floor.name)])
    return [time / floor for time in quartiles(log[cell])]


def shown(log: Rounds, cell: Cell) -> str:
    if cell not in log:
        return "n/a"
    if cell.cache == Floor.name:
        low, middle, high = quartiles(log[cell])
        return f"{middle:.0f} ns ({low:.0f}–{high:.0f})"
    low, middle, high = relative(log, cell)
    digits = 2 if middle < 20 else 0
    return f"{middle:.{digits}f} ({low:.{digits}f}–{high:.{digits}f})"


def time_table(log: Rounds, kinds: Sequence[type[Contender]], entries: int, threads: int) -> str:
    rows = [
        (kind.name, *(shown(log, Cell(entries, threads, operation, kind.name)) for operation in OPERATIONS))
        for kind in kinds
    ]
    return table((f"{entries:,} entries, threads: {threads}", *OPERATIONS), rows)


def against_targets(log: Rounds, memory: Memory, ours: str) -> Iterable[tuple[str, str, str]]:
    """Target, measured, reached: what can be told from the cells of this run that had one thread."""
    for entries, rise in ((1_000, 1.0), (1_000_000, LARGEST_RISE)):
        for operation, target in TARGETS.items():
            cell = Cell(entries, 1, operation, ours)
            if cell in log:
                measured = relative(log, cell)[1]
                target *= rise
                yield f"{operation} ≤ {target:.2f}, {entries:,} entries", f"{measured:.2f}", verdict(measured <= target)
    if ours in memory:
        measured = memory[ours]["traced"]
        yield f"≤ {BYTES_TARGET} bytes per entry", f"{measured:.0f}", verdict(measured <= BYTES_TARGET)


def lead(log: Rounds, memory: Memory, ours: str, peer: type[Contender]) -> dict[str, bool]:
    """Every column of every table in which both have a figure: is ours less?"""
    columns = {
        f"{cell.operation} {cell.entries:,} × {cell.threads}": (
            statistics.median(log[cell._replace(cache=ours)]) < statistics.median(times)
        )
        for cell, times in log.items()
        if cell.cache == peer.name
    }
    ways = ("traced", "resident") if peer.made_in == "Python" else ("resident",)
    if ours in memory and peer.name in memory:
        columns |= {f"bytes {way}": memory[ours][way] < memory[peer.name][way] for way in ways}
    return columns


def print_verdict(log: Rounds, memory: Memory, kinds: Sequence[type[Contender]], ours: str) -> None:
    """The targets, then each peer that is written in Python, with the columns where ours is not ahead."""
    rows, behind = list(against_targets(log, memory, ours)), []
    for peer in kinds:
        if peer.made_in.startswith("Python") and peer.package:
            columns = lead(log, memory, ours, peer)
            lost = [name for name, ahead in columns.items() if not ahead]
            rows.append((f"ahead of {peer.name}", f"{len(columns) - len(lost)} of {len(columns)}", verdict(not lost)))
            behind += [f"- Not ahead of {peer.name}: {', '.join(lost)}."] * bool(lost)
    print(table((f"target, {ours}", "measured", "reached"), rows), "\n")
    print("\n".join(behind), "\n")


def verdict(reached: bool) -> str:
    return "yes" if reached else "**no**"


# Command


def usable(wanted: Sequence[str]) -> list[type[Contender]]:
    """The floor and what was asked for, as far as it is installed."""
    kinds = []
    for kind in CONTENDERS:
        if kind is Floor or not wanted or any(word in kind.name for word in wanted):
            try:
                kind(10).close()
                kinds.append(kind)
            except (ImportError, ValueError) as error:
                print(f"Note: {kind.name} is left out: {error}\n")
    return kinds


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer sizes, threads, rounds and operations: a minute")
    parser.add_argument("--entries", type=int, nargs="+", metavar="N", help="default: 1000 100000 1000000")
    parser.add_argument("--threads", type=int, nargs="+", metavar="N", help="default: 1 4 16")
    parser.add_argument("--rounds", type=int, metavar="N", help="default: 9")
    parser.add_argument("--operations", type=int, metavar="N", help="operations per cell and round; default: 40000")
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME", help="caches whose name contains one of these")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every round's figure there")
    parser.add_argument(
        "--profile", action="store_true", help="instead: the parts of one hit and one evicting set of ours"
    )
    parser.add_argument("--memory-of", nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args()
    given.entries = given.entries or ([1_000, 100_000] if given.quick else [1_000, 100_000, 1_000_000])
    given.threads = given.threads or ([1, 4] if given.quick else [1, 4, 16])
    given.rounds = given.rounds or (3 if given.quick else 9)
    given.operations = given.operations or (20_000 if given.quick else 40_000)
    return given


def main() -> None:
    given = arguments()
    if given.memory_of:
        print(json.dumps(memory_of(given.memory_of[0], int(given.memory_of[1]))))
        return
    print(f"{machine()}\n", flush=True)
    if given.profile:
        profile(given.rounds, given.operations)
        return
    began = time.perf_counter()
    kinds = usable(given.only)
    about = [(kind.name, installed(kind.package), kind.made_in, kind.lacks) for kind in kinds]
    print(table(("cache", "package", "made in", "lacks"), about), "\n")
    log: Rounds = {}
    for entries in given.entries:
        log |= measure(kinds, entries, given.threads, given.rounds, given.operations)
        gc.collect()
        for threads in given.threads:
            print(time_table(log, kinds, entries, threads), "\n", flush=True)
    text, memory = memory_table(kinds, BYTES_ENTRIES)
    print(text, "\n")
    ours = next((kind.name for kind in kinds if kind.name.startswith("ours")), None)
    if ours:
        print_verdict(log, memory, kinds, ours)
    print(f"{time.perf_counter() - began:.0f} s in all")
    if given.json:
        cells = [{**cell._asdict(), "ns_per_operation": rounds} for cell, rounds in log.items()]
        given.json.write_text(json.dumps({"machine": machine(), "cells": cells, "bytes_per_entry": memory}, indent=1))


if __name__ == "__main__":
    main()
