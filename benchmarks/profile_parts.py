"""Where the time of one hit and of one evicting set goes: what each must do, timed part by part, against the whole.

The parts are written here in their leanest form and not taken from the cache: the remainder is what the real thing
spends on attributes, branches and promises that no part stands for. Each runs alone in a loop whose own time is
taken off; the parts, the whole and the empty loop take turns in every round.
"""

from __future__ import annotations

import random
import statistics
import threading
import time
from collections import OrderedDict
from itertools import cycle, islice
from timeit import Timer
from typing import Any

from contenders import TTL, VALUE, Floor, Ours
from side_by_side import table

ENTRIES = 1_000
HIT = {
    "call with a default": "idle.get(key)",
    "lock, acquire and release": "acquire(); release()",
    "look-up": "entries.get(key)",
    "clock against deadline": "slot.stored + slot.ttl > clock()",
    "call of the part that counts": "idle.hit(key, slot)",
    "counters (uses, hits, seconds saved)": "slot.uses += 1; sums.hits += 1; sums.saved += slot.cost",
    "move to the end": "entries.move_to_end(key)",
}
EVICTING_SET = {
    "call with four defaults": "idle.set(key, VALUE)",
    "size of a bytes value": "type(VALUE) is bytes and len(VALUE)",
    "lock, acquire and release": "acquire(); release()",
    "clock, new deadline": "clock() + slot.ttl",
    "look-up of an old entry": "entries.pop(key, None)",
    "oldest out, new one in": "entries[key] = slot; entries.popitem(False)",
    "new slot, six fields": "new = Slot(); " + "; ".join(f"new.{field} = VALUE" for field in "abcdef"),
    "counters (bytes twice, peak, evicted)": (
        "sums.bytes -= 100; sums.bytes += 100; sums.evicted += 1\n if sums.bytes > sums.peak: pass"
    ),
    "call of the part that evicts": "idle.hit(key, slot)",
    "list of who leaves": "gone = []; gone.append((key, slot, 'count'))",
    "deadline against horizon": "slot.stored + slot.ttl < sums.horizon",
}


class Slot:
    """Stands for an entry."""

    __slots__ = ("a", "b", "c", "cost", "d", "e", "f", "stored", "ttl", "uses")
    uses: int
    cost: float
    stored: float
    ttl: float


class Sums:
    """Stands for the counters of a cache."""

    def __init__(self) -> None:
        self.hits = self.evicted = self.bytes = self.peak = 0
        self.saved = 0.0
        self.horizon = time.monotonic() + 60


class Idle:
    """Methods with the arguments of the cache's, and nothing in them."""

    def get(self, key: str, default: Any = None) -> Any:
        return default

    def set(
        self,
        key: str,
        value: Any,
        size_mb: float | None = None,
        ttl_seconds: float | None = None,
        cost_seconds: float | None = None,
        flight: object = None,
    ) -> bool:
        return True

    def hit(self, key: str, slot: Slot) -> Any:
        return slot


def parts_table(title: str, parts: dict[str, str], keys: list[str], known: list[str], rounds: int) -> str:
    """Every part's median in ns and its portion of the whole; the floor's hit is there to compare."""
    ours, floor, lock = Ours(ENTRIES), Floor(ENTRIES), threading.RLock()
    slot = Slot()
    slot.uses, slot.cost, slot.stored, slot.ttl = 0, 0.0, time.monotonic(), TTL
    ours.fill(known)
    floor.fill(known)
    names = {
        "VALUE": VALUE,
        "Slot": Slot,
        "acquire": lock.acquire,
        "release": lock.release,
        "clock": time.monotonic,
        "entries": OrderedDict.fromkeys(known, slot),
        "floor": floor,
        "idle": Idle(),
        "keys": keys,
        "known": list(islice(cycle(known), len(keys))),
        "ours": ours,
        "slot": slot,
        "sums": Sums(),
    }
    whole = "ours.get(key)" if parts is HIT else "ours.set(key, VALUE)"
    loops = {name: Timer(f"for key in keys:\n {part}", globals=names) for name, part in parts.items()}
    loops |= {
        "whole": Timer(f"for key in keys: {whole}", globals=names),
        "loop": Timer("for key in keys: pass", globals=names),
    }
    loops["floor"] = Timer("for key in known: floor.get(key)", globals=names)
    taken: dict[str, list[float]] = {name: [] for name in loops}
    for _ in range(rounds):
        for name in random.sample(list(loops), len(loops)):
            taken[name].append(loops[name].timeit(1) / len(keys) * 1e9)
    medians = {name: statistics.median(times) for name, times in taken.items()}
    net = {name: medians[name] - medians["loop"] for name in loops}
    total = sum(net[part] for part in parts)
    rows = [*((part, net[part]) for part in parts), ("**all parts**", total), ("**remainder**", net["whole"] - total)]
    rows += [("**the whole**", net["whole"]), ("floor, a hit", net["floor"])]
    return table((title, "ns", "of the whole"), [(name, f"{ns:.0f}", f"{ns / net['whole']:.0%}") for name, ns in rows])


def profile(rounds: int, operations: int) -> None:
    """Print both tables, for a thousand entries and one thread."""
    known = [f"known-{n:08}" for n in range(ENTRIES)]
    random.Random(ENTRIES).shuffle(known)
    hits = (known * (operations // ENTRIES + 1))[:operations]
    fresh = [f"fresh-{n:08}" for n in range(max(operations, 2 * ENTRIES))]  # evicted before its turn comes again
    print(parts_table("one hit", HIT, hits, known, rounds), "\n")
    print(parts_table("one set that evicts", EVICTING_SET, fresh, known, rounds))
