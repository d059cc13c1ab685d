"""Which policy saves the most generation time? The real cache, a clock that is moved by hand, and synthetic requests.

    python benchmarks/policy.py [--seeds 5] [--csv docs/cache-policies.csv] [--plot docs/cache-policies.png]

5,000 objects, 60,000 requests, sizes log-normal about 9 MB (1 to 125). A policy scores the seconds of generation that
its hits saved, in per cent of what no cache at all would have spent. Beside the policies that the cache offers stand
two forms of one that it does not, W-TinyLFU (`wtinylfu.py`). Two yardsticks know the future: `belady-size` evicts what
saves least per byte and request until its next use; `bound` is the fractional relaxation, which nothing can beat (each
reuse buys room for as long as it has to wait; the dearest per byte and request are bought first).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from itertools import count, product
from pathlib import Path
from typing import Any

import numpy as np
import policy_report
from numpy.typing import NDArray
from policy_report import Score
from wtinylfu import SampledWTinyLFU, WTinyLFU

sys.path.insert(0, str(Path(__file__).parent.parent / "backend"))

from cache.policies import POLICIES
from cache_manager import LRUCache

OBJECTS, REQUESTS = 5_000, 60_000
GENERATION, EXPORT = 124.0, 2.0
"""Seconds that a shape takes on a slow machine, and a file made from it."""
Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


def zipf(rng: np.random.Generator, count: int, exponent: float) -> Ints:
    """Independent draws, object n with probability ~ (n + 1)^-exponent."""
    weights = np.arange(1, OBJECTS + 1) ** -exponent
    return rng.choice(OBJECTS, size=count, p=weights / weights.sum())


def scan(rng: np.random.Generator) -> Ints:
    """Zipf 1.0 over the first half; every third request walks once through the other half, over and over."""
    trace = zipf(rng, REQUESTS, 1.0) % (OBJECTS // 2)
    trace[::3] = OBJECTS // 2 + np.arange(len(trace[::3])) % (OBJECTS // 2)
    return trace


def shift(rng: np.random.Generator) -> Ints:
    """Zipf 1.0 whose favourites are other objects after every sixth of the requests."""
    parts = [rng.permutation(OBJECTS)[zipf(rng, REQUESTS // 6, 1.0)] for _ in range(6)]
    return np.concatenate(parts)


def loop(rng: np.random.Generator) -> Ints:
    """Two hundred objects in turn, with a random jump to another place of the round at one request in twenty."""
    steps = np.where(rng.random(REQUESTS) < 0.05, rng.integers(0, 200, REQUESTS), 1)
    return np.cumsum(steps) % 200


def visits(rng: np.random.Generator) -> Ints:
    """Somebody comes for one object, asks for it three times on average, about 60 requests apart, and leaves it.

    Half of the visitors come for any object, half for one that is popular (Zipf 1.0).
    """
    asks = rng.geometric(1 / 3, REQUESTS)
    popular = zipf(rng, REQUESTS, 1.0)
    objects = np.where(rng.random(REQUESTS) < 0.5, rng.integers(0, OBJECTS, REQUESTS), popular)
    waits = np.repeat(rng.exponential(3.0, REQUESTS).cumsum(), asks)  # until a visitor comes
    ends = asks.cumsum()
    gaps = rng.exponential(60.0, ends[-1])
    gaps[ends - asks] = 0.0
    since = gaps.cumsum()
    moments = waits + since - np.repeat(since[ends - asks], asks)
    return np.repeat(objects, asks)[np.argsort(moments, kind="stable")][:REQUESTS]


TRACES: dict[str, Callable[[np.random.Generator], Ints]] = {
    "zipf 0.8": lambda rng: zipf(rng, REQUESTS, 0.8),
    "zipf 1.0": lambda rng: zipf(rng, REQUESTS, 1.0),
    "zipf 1.2": lambda rng: zipf(rng, REQUESTS, 1.2),
    "scan": scan,
    "shift": shift,
    "loop": loop,
    "visits": visits,
}
ZIPF_LIKE = ("zipf 0.8", "zipf 1.0", "zipf 1.2", "scan", "shift")
"""The traces of the mean: the other two ask what happens where popularity does not last."""

COSTS: dict[str, Callable[[np.random.Generator, Floats], Floats]] = {
    "flat": lambda rng, sizes: np.full(OBJECTS, GENERATION),
    "tiers": lambda rng, sizes: rng.choice([20.0, 60.0, GENERATION], OBJECTS),
    "by size": lambda rng, sizes: 20.0 + 8.0 * sizes,
}


def offered(policy: str, capacity_mb: float) -> LRUCache:
    """The real cache under one of its policies."""
    return LRUCache(OBJECTS, capacity_mb, policy=policy, clock=count().__next__)  # type: ignore[arg-type]


CONTENDERS: dict[str, Callable[[float], Any]] = {
    **{policy: partial(offered, policy) for policy in POLICIES},
    "w-tinylfu": partial(WTinyLFU, sample=50),
    "w-tinylfu by samples": partial(SampledWTinyLFU, window=0.01),
}
COLUMNS = [*CONTENDERS, "belady-size", "bound"]


def some_sizes(rng: np.random.Generator) -> Floats:
    """Megabytes per object, to the byte, as the cache counts them."""
    sizes: Floats = np.clip(rng.lognormal(np.log(9.0), 0.8, OBJECTS), 1.0, 125.0)
    return sizes.round(6)


def saved_by(cache: Any, trace: Ints, sizes: Floats, costs: Floats) -> float:
    """Drive the cache; seconds saved as it counts them itself."""
    names = [str(n) for n in range(OBJECTS)]
    megabytes, seconds = sizes.tolist(), costs.tolist()
    get, put = cache.get, cache.set
    for n in trace.tolist():
        if get(names[n]) is None:
            put(names[n], True, megabytes[n], cost_seconds=seconds[n])
    return float(cache.stats["seconds_saved"])


def next_uses(trace: Ints) -> Ints:
    """For every request, the position of the next one for the same object; a very late one if there is none."""
    upcoming = np.full(OBJECTS, 1 << 40)
    following = np.empty(len(trace), dtype=np.int64)
    for position in range(len(trace) - 1, -1, -1):
        following[position] = upcoming[trace[position]]
        upcoming[trace[position]] = position
    return following


def saved_by_belady(capacity_mb: float, trace: Ints, sizes: Floats, costs: Floats) -> float:
    """Evict what saves least per byte and request until its next use; the new one may be that itself."""
    following, density = next_uses(trace), costs / sizes
    members = np.zeros(0, dtype=np.int64)
    due = np.zeros(OBJECTS, dtype=np.int64)
    room, saved = capacity_mb, 0.0
    inside = np.zeros(OBJECTS, dtype=bool)
    for position, n in enumerate(trace.tolist()):
        due[n] = following[position]
        if inside[n]:
            saved += costs[n]
            continue
        inside[n], members, room = True, np.append(members, n), room - sizes[n]
        while room < 0:
            worst = int(np.argmin(density[members] / (due[members] - position)))
            room += sizes[members[worst]]
            inside[members[worst]] = False
            members = np.delete(members, worst)
    return saved


def saved_at_most(capacity_mb: float, trace: Ints, sizes: Floats, costs: Floats) -> float:
    """Fractional knapsack of the waits between two requests for one object in capacity × time."""
    following = next_uses(trace)
    reused = following < len(trace)
    objects = trace[reused]
    volume = sizes[objects] * (following[reused] - np.arange(len(trace))[reused])
    value = costs[objects]
    order = np.argsort(-value / volume)
    used = np.cumsum(volume[order])
    fraction = np.clip((capacity_mb * len(trace) - (used - volume[order])) / volume[order], 0.0, 1.0)
    return float((fraction * value[order]).sum())


def one_trace(task: tuple[int, str, list[float]]) -> list[Score]:
    """Every cost model, capacity and contender on one trace."""
    seed, name, capacities = task
    rng = np.random.default_rng([seed, list(TRACES).index(name)])
    sizes = some_sizes(rng)
    trace = TRACES[name](rng)
    scores = []
    for cost_name, make_costs in COSTS.items():
        costs = make_costs(rng, sizes)
        total = float(costs[trace].sum())
        for capacity in capacities:
            seconds = {who: saved_by(make(capacity), trace, sizes, costs) for who, make in CONTENDERS.items()}
            seconds["belady-size"] = saved_by_belady(capacity, trace, sizes, costs)
            seconds["bound"] = saved_at_most(capacity, trace, sizes, costs)
            for who, saved in seconds.items():
                scores.append(Score(name, cost_name, capacity, who, seed, 100 * saved / total))
    return scores


def two_keys(task: tuple[int, float]) -> list[Score]:
    """Every policy of the cache when 30 % of the requests want another format or size of the object (one of five).

    With `files alone` another file of the same object is generated anew. Else the shape is cached as well, in the same
    memory, and another file is an export. `booked by run`: a file exported from a new shape counts as all that its run
    took, generation and export. `booked by step`: as the export alone, by `cost_of`, as the server does it.
    """
    seed, capacity = task
    rng = np.random.default_rng([seed, len(TRACES)])
    sizes = some_sizes(rng).tolist()
    variants = np.where(rng.random(REQUESTS) < 0.3, rng.integers(1, 6, REQUESTS), 0).tolist()
    requests = list(zip(zipf(rng, REQUESTS, 1.0).tolist(), variants, strict=True))
    return [
        Score(keys, "flat", capacity, policy, seed, saved_by_keys(policy, keys, capacity, requests, sizes))
        for policy, keys in product(POLICIES, policy_report.KEYS)
    ]


def saved_by_keys(
    policy: str, keys: str, capacity_mb: float, requests: list[tuple[int, int]], sizes: list[float]
) -> float:
    """Per cent of the seconds that no cache at all would have spent."""
    now = 0.0
    cache = LRUCache(10**6, capacity_mb, policy=policy, clock=lambda: now)  # type: ignore[arg-type]
    alone, _, by_step = policy_report.KEYS
    booked = {"cost_of": lambda _: EXPORT} if keys == by_step else {}

    def work(seconds: float) -> bool:
        nonlocal now
        now += seconds
        return True

    def shape(n: int) -> bool:
        if keys == alone:
            return work(GENERATION)
        return cache.get_or_compute(f"shape {n}", partial(work, GENERATION), size_mb=sizes[n])

    def file(n: int) -> bool:
        return shape(n) and work(EXPORT)

    for n, variant in requests:
        cache.get_or_compute(f"file {n} {variant}", partial(file, n), size_mb=sizes[n], **booked)
    return 100 * (1 - now / ((GENERATION + EXPORT) * len(requests)))


def simulate(seeds: int, capacities: list[float], jobs: int) -> Iterator[Score]:
    """All there is to know."""
    with ProcessPoolExecutor(jobs) as pool:
        keyed = pool.map(two_keys, product(range(seeds), capacities))
        for scores in pool.map(one_trace, product(range(seeds), TRACES, [capacities])):
            yield from scores
        for scores in keyed:
            yield from scores


def main() -> None:
    """Run every seed and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5, choices=range(2, 11), help="2 to 10")
    parser.add_argument("--capacities", type=float, nargs="+", default=[512.0, 4000.0], metavar="MB")
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    parser.add_argument("--csv", type=Path)
    parser.add_argument("--plot", type=Path)
    options = parser.parse_args()
    table = policy_report.Table(simulate(options.seeds, options.capacities, options.jobs), ZIPF_LIKE)
    table.print(options.capacities, list(TRACES), list(COSTS), COLUMNS, list(POLICIES))
    if options.csv:
        table.save(options.csv)
    if options.plot:
        table.plot(options.plot, options.capacities, list(TRACES), COLUMNS)


if __name__ == "__main__":
    main()
