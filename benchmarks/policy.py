"""Which policy saves the most generation time? The real cache, a clock that is moved by hand, and synthetic requests.

    python benchmarks/policy.py [--seeds 5] [--csv docs/cache-policies.csv] [--plot docs/cache-policies.png]

5,000 objects, 60,000 requests, sizes log-normal about 9 MB (1 to 125). A policy scores the seconds of generation that
its hits saved, in per cent of what no cache at all would have spent. `w-tinylfu`, with a sample of 10 and of 50 uses
for each entry, is a contender that the cache does not have. Two yardsticks know the future: `belady` evicts what saves
least per byte and request until its next use; `bound` is the fractional relaxation, which nothing can beat (each reuse
buys room for as long as it has to wait; the dearest per byte and request are bought first).
"""

from __future__ import annotations

import argparse
import csv
import statistics
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from itertools import product
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).parent.parent / "backend"))

from wtinylfu import WTinyLFU

from cache_manager import LRUCache
from cache_policies import POLICIES, PolicyName

OBJECTS, REQUESTS = 5_000, 60_000
MEAN = "mean but loop"
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


TRACES: dict[str, Callable[[np.random.Generator], Ints]] = {
    "zipf 0.8": lambda rng: zipf(rng, REQUESTS, 0.8),
    "zipf 1.0": lambda rng: zipf(rng, REQUESTS, 1.0),
    "zipf 1.2": lambda rng: zipf(rng, REQUESTS, 1.2),
    "scan": scan,
    "shift": shift,
    "loop": loop,
}
COSTS: dict[str, Callable[[np.random.Generator, Floats], Floats]] = {
    "flat": lambda rng, sizes: np.full(OBJECTS, 124.0),
    "tiers": lambda rng, sizes: rng.choice([20.0, 60.0, 124.0], OBJECTS),
    "by size": lambda rng, sizes: 20.0 + 8.0 * sizes,
}


def saved_by(policy: PolicyName, capacity_mb: float, trace: Ints, sizes: Floats, costs: Floats) -> float:
    """Drive the real cache; seconds saved as it counts them itself."""
    now = [0.0]
    cache = LRUCache(OBJECTS, capacity_mb, policy=policy, clock=lambda: now[0])
    names = [str(n) for n in range(OBJECTS)]
    megabytes, seconds = sizes.tolist(), costs.tolist()
    for n in trace.tolist():
        now[0] += 1.0
        if cache.get(names[n]) is None:
            cache.set(names[n], True, megabytes[n], cost_seconds=seconds[n])
    return float(cache.stats["seconds_saved"])


def saved_by_tinylfu(sample: int, capacity_mb: float, trace: Ints, sizes: Floats, costs: Floats) -> float:
    """The same for the contender."""
    cache = WTinyLFU(capacity_mb, sample)
    names = [str(n) for n in range(OBJECTS)]
    megabytes, seconds = sizes.tolist(), costs.tolist()
    for n in trace.tolist():
        if cache.get(names[n]) is None:
            cache.set(names[n], megabytes[n], seconds[n])
    return cache.seconds_saved


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


Task = tuple[float, Ints, Floats, Floats]
SAVERS: dict[str, Callable[[*Task], float]] = {
    **{policy: partial(saved_by, policy) for policy in POLICIES},
    "w-tinylfu 10": partial(saved_by_tinylfu, 10),
    "w-tinylfu 50": partial(saved_by_tinylfu, 50),
    "belady": saved_by_belady,
    "bound": saved_at_most,
}


class Cell(NamedTuple):
    """One figure's place."""

    capacity_mb: float
    trace: str
    cost: str
    policy: str


def one_seed(seed: int, capacities: list[float]) -> dict[Cell, float]:
    """Per cent of the generation seconds saved."""
    saved: dict[Cell, float] = {}
    for place, (trace_name, make_trace) in enumerate(TRACES.items()):
        rng = np.random.default_rng([seed, place])
        sizes: Floats = np.round(np.clip(rng.lognormal(np.log(9.0), 0.8, OBJECTS), 1.0, 125.0), 6)
        trace = make_trace(rng)
        for cost_name, make_costs in COSTS.items():
            costs = make_costs(rng, sizes)
            total = float(costs[trace].sum())
            for capacity, (policy, saver) in product(capacities, SAVERS.items()):
                seconds = saver(capacity, trace, sizes, costs)
                saved[Cell(capacity, trace_name, cost_name, policy)] = 100 * seconds / total
    return saved


def two_stages(seed: int, capacity_mb: float, policy: PolicyName, staged: bool) -> float:
    """Per cent of generation seconds saved when 30 % of the requests want another format or size of the object.

    One stage keeps files; a file of a known object is generated again. Two stages keep the shape as well, in the same
    memory, and a file is a conversion of two seconds.
    """
    rng = np.random.default_rng(seed)
    sizes = np.clip(rng.lognormal(np.log(9.0), 0.8, OBJECTS), 1.0, 125.0).tolist()
    trace = zipf(rng, REQUESTS, 1.0).tolist()
    variants = np.where(rng.random(REQUESTS) < 0.3, rng.integers(1, 6, REQUESTS), 0).tolist()
    cache = LRUCache(10**6, capacity_mb, policy=policy)
    spent = 0.0
    for n, variant in zip(trace, variants, strict=True):
        if cache.get(f"file {n} {variant}") is not None:
            continue
        if not staged or cache.get(f"shape {n}") is None:
            spent += 124.0
            if staged:
                cache.set(f"shape {n}", True, sizes[n], cost_seconds=124.0)
        spent += 2.0
        cache.set(f"file {n} {variant}", True, sizes[n], cost_seconds=2.0 if staged else 126.0)
    return 100 * (1 - spent / (REQUESTS * 126.0))


def half_width(values: list[float]) -> float:
    """Of the 95 % interval of the mean (Student's t); NaN for a single seed."""
    student = {2: 12.71, 3: 4.30, 4: 3.18, 5: 2.78, 6: 2.57, 7: 2.45, 8: 2.36, 9: 2.31, 10: 2.26}
    if len(values) not in student:
        return float("nan")
    return student[len(values)] * statistics.stdev(values) / len(values) ** 0.5


def interval(values: list[float]) -> str:
    return f"{statistics.mean(values):.1f} ± {half_width(values):.1f}"


def averaged(runs: list[dict[Cell, float]]) -> list[dict[Cell, float]]:
    """The same with one trace more: the mean of those that are like Zipf's law, all but the loop."""
    likes = [name for name in TRACES if name != "loop"]
    return [
        run
        | {
            cell._replace(trace=MEAN): statistics.mean(run[cell._replace(trace=trace)] for trace in likes)
            for cell in run
            if cell.trace == "loop"
        }
        for run in runs
    ]


def print_table(runs: list[dict[Cell, float]], capacity: float) -> None:
    print(f"\n{capacity:g} MB: generation seconds saved, %, mean of {len(runs)} seeds ± 95 % interval\n")
    print("| trace | cost | " + " | ".join(SAVERS) + " |\n|---|---|" + "---|" * len(SAVERS))
    for trace, cost in product([*TRACES, MEAN], COSTS):
        cells = (interval([run[Cell(capacity, trace, cost, policy)] for run in runs]) for policy in SAVERS)
        print(f"| {trace} | {cost} | " + " | ".join(cells) + " |")


def write_csv(runs: list[dict[Cell, float]], file: Path) -> None:
    with file.open("w", newline="") as text:
        writer = csv.writer(text)
        writer.writerow([*Cell._fields, "saved_percent", "half_width_95"])
        for cell in sorted(runs[0]):
            values = [run[cell] for run in runs]
            writer.writerow([*cell, f"{statistics.mean(values):.2f}", f"{half_width(values):.2f}"])


def plot(runs: list[dict[Cell, float]], file: Path) -> None:
    """A panel per capacity, a group per trace (flat cost) and one per other cost model, the policies side by side."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    colours = ["#9aa5b1", "#4c86c6", "#1d3f72", "#e8b68a", "#d58443", "#c9d6c3", "#e3e6e8"]
    capacities = sorted({cell.capacity_mb for cell in runs[0]})
    groups = [(trace, "flat") for trace in TRACES] + [(MEAN, cost) for cost in COSTS]
    figure, panels = plt.subplots(len(capacities), 1, figsize=(11, 3.6 * len(capacities)), sharey=True, squeeze=False)
    for panel, capacity in zip(panels[:, 0], capacities, strict=True):
        for index, (policy, colour) in enumerate(zip(SAVERS, colours, strict=True)):
            values = [[run[Cell(capacity, *group, policy)] for run in runs] for group in groups]
            places = np.arange(len(groups)) + (index - len(SAVERS) / 2) * 0.84 / len(SAVERS)
            heights, errors = [statistics.mean(v) for v in values], [half_width(v) for v in values]
            panel.bar(
                places, heights, 0.84 / len(SAVERS), yerr=errors, label=policy, align="edge", color=colour,
                error_kw={"elinewidth": 0.6},
            )  # fmt: skip
        panel.set_xticks(range(len(groups)), [f"{trace}\n{cost}" for trace, cost in groups], fontsize=8)
        panel.set_ylabel("generation seconds saved, %")
        panel.set_ylim(0, 100)
        panel.set_title(f"{capacity:g} MB", loc="left", fontsize=10)
        panel.spines[["top", "right"]].set_visible(False)
    panels[0, 0].legend(ncols=len(SAVERS), frameon=False, fontsize=8, loc="upper center")
    figure.tight_layout()
    figure.savefig(file, dpi=100)


def main() -> None:
    """Run every seed, print one table per capacity and what two stages add."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--capacities", type=float, nargs="+", default=[512.0, 4000.0], metavar="MB")
    parser.add_argument("--csv", type=Path, metavar="FILE")
    parser.add_argument("--plot", type=Path, metavar="FILE")
    options = parser.parse_args()
    with ProcessPoolExecutor(2) as pool:
        runs = averaged(list(pool.map(one_seed, range(options.seeds), [options.capacities] * options.seeds)))
    for capacity in options.capacities:
        print_table(runs, capacity)
    print("\nKeys in one stage and in two, 30 % of the requests for another format or size (zipf 1.0, 124 s)\n")
    print("| MB | policy | one stage | two stages |\n|---|---|---|---|")
    for capacity, policy in product(options.capacities, POLICIES):
        one, two = (
            interval([two_stages(seed, capacity, policy, staged) for seed in range(options.seeds)])
            for staged in (False, True)
        )
        print(f"| {capacity:g} | {policy} | {one} | {two} |")
    if options.csv:
        write_csv(runs, options.csv)
    if options.plot:
        plot(runs, options.plot)


if __name__ == "__main__":
    main()
