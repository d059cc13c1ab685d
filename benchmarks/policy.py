"""Which policy saves the most generation time? The real cache, a clock that is moved by hand, and synthetic requests.

    python benchmarks/policy.py [--seeds 5] [--csv docs/cache-policies.csv] [--plot docs/cache-policies.png]

5,000 objects, 60,000 requests, sizes log-normal about 9 MB (1 to 125). A policy scores the seconds of generation that
its hits saved, in per cent of what no cache at all would have spent. Two yardsticks know the future: `belady` evicts
what saves least per byte and request until its next use; `bound` is the fractional relaxation, which nothing can beat
(each reuse buys room for as long as it has to wait; the dearest per byte and request are bought first).
"""

from __future__ import annotations

import argparse
import csv
import statistics
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).parent.parent / "backend"))

from cache_manager import LRUCache
from cache_policies import POLICIES

OBJECTS, REQUESTS = 5_000, 60_000
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


def saved_by(policy: str, capacity_mb: float, trace: Ints, sizes: Floats, costs: Floats) -> float:
    """Drive the real cache; seconds saved as it counts them itself."""
    now = [0.0]
    cache = LRUCache(OBJECTS, capacity_mb, policy=policy, clock=lambda: now[0])  # type: ignore[arg-type]
    names = [str(n) for n in range(OBJECTS)]
    megabytes, seconds = sizes.tolist(), costs.tolist()
    for n in trace.tolist():
        now[0] += 1.0
        if cache.get(names[n]) is None:
            cache.set(names[n], True, megabytes[n], cost_seconds=seconds[n])
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


def one_seed(seed: int, capacities: list[float]) -> list[dict[str, object]]:
    """A row per trace, cost model, capacity and policy: per cent of the generation seconds saved."""
    rows: list[dict[str, object]] = []
    for trace_name, make_trace in TRACES.items():
        rng = np.random.default_rng([seed, list(TRACES).index(trace_name)])
        sizes: Floats = np.round(np.clip(rng.lognormal(np.log(9.0), 0.8, OBJECTS), 1.0, 125.0), 6)
        trace = make_trace(rng)
        for cost_name, make_costs in COSTS.items():
            costs = make_costs(rng, sizes)
            total = float(costs[trace].sum())
            for capacity in capacities:
                task: tuple[float, Ints, Floats, Floats] = (capacity, trace, sizes, costs)
                scores: dict[str, float] = {policy: saved_by(policy, *task) for policy in POLICIES}
                scores |= {"belady": saved_by_belady(*task), "bound": saved_at_most(*task)}
                for policy, seconds in scores.items():
                    rows.append(
                        {
                            **{"trace": trace_name, "cost": cost_name, "capacity_mb": capacity, "seed": seed},
                            **{"policy": policy, "saved_percent": round(100 * seconds / total, 3)},
                        }
                    )
    return rows


def two_stages(seed: int, capacity_mb: float, policy: str, staged: bool) -> float:
    """Per cent of generation seconds saved when 30 % of the requests want another format or size of the object.

    One stage keeps files; a file of a known object is generated again. Two stages keep the shape as well, in the same
    memory, and a file is a conversion of two seconds.
    """
    rng = np.random.default_rng(seed)
    sizes = np.clip(rng.lognormal(np.log(9.0), 0.8, OBJECTS), 1.0, 125.0).tolist()
    trace = zipf(rng, REQUESTS, 1.0).tolist()
    variants = np.where(rng.random(REQUESTS) < 0.3, rng.integers(1, 6, REQUESTS), 0).tolist()
    cache = LRUCache(10**6, capacity_mb, policy=policy)  # type: ignore[arg-type]
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


def interval(values: list[float]) -> str:
    """Mean and the half width of its 95 % interval over seeds."""
    student = {2: 12.71, 3: 4.30, 4: 3.18, 5: 2.78, 6: 2.57, 7: 2.45, 8: 2.36}
    if len(values) not in student:
        return f"{statistics.mean(values):5.1f}"
    half = student[len(values)] * statistics.stdev(values) / len(values) ** 0.5
    return f"{statistics.mean(values):5.1f} ±{half:4.1f}"


def plot(rows: list[dict[str, object]], path: str) -> None:
    """Mean saving over the traces for each policy, a panel per capacity, a group per cost model."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    capacities = sorted({float(str(row["capacity_mb"])) for row in rows})
    policies = list(dict.fromkeys(str(row["policy"]) for row in rows))
    groups = [(trace, "flat") for trace in TRACES] + [("zipf 1.0", cost) for cost in COSTS if cost != "flat"]
    figure, panels = plt.subplots(len(capacities), 1, figsize=(9, 3.4 * len(capacities)), sharey=True, squeeze=False)
    for panel, capacity in zip(panels[:, 0], capacities, strict=True):
        for index, policy in enumerate(policies):
            heights = [
                statistics.mean(
                    float(str(row["saved_percent"]))
                    for row in rows
                    if (row["trace"], row["cost"], row["capacity_mb"], row["policy"]) == (*group, capacity, policy)
                )
                for group in groups
            ]
            places = np.arange(len(groups)) + (index - len(policies) / 2) * 0.8 / len(policies)
            panel.bar(places, heights, 0.8 / len(policies), label=policy, align="edge")
        panel.set_xticks(range(len(groups)), [f"{trace}\n{cost}" for trace, cost in groups], fontsize=8)
        panel.set_ylabel("generation seconds saved, %")
        panel.set_title(f"{capacity:g} MB", loc="left", fontsize=10)
        panel.spines[["top", "right"]].set_visible(False)
    panels[0, 0].legend(ncols=len(policies), frameon=False, fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=110)


def main() -> None:
    """Run every seed and print one table per capacity."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--capacities", type=float, nargs="+", default=[512.0, 4000.0], metavar="MB")
    parser.add_argument("--csv")
    parser.add_argument("--plot")
    options = parser.parse_args()
    rows = [row for seed in range(options.seeds) for row in one_seed(seed, options.capacities)]
    policies = [*POLICIES, "belady", "bound"]
    for capacity in options.capacities:
        print(f"\n{capacity:g} MB: generation seconds saved, %, mean of {options.seeds} seeds ± 95 % interval")
        print("| trace | cost | " + " | ".join(policies) + " |\n|---|---|" + "---|" * len(policies))
        for trace in TRACES:
            for cost in COSTS:
                cells = []
                for policy in policies:
                    where = (trace, cost, capacity, policy)
                    cells.append(
                        interval(
                            [
                                float(str(row["saved_percent"]))
                                for row in rows
                                if (row["trace"], row["cost"], row["capacity_mb"], row["policy"]) == where
                            ]
                        )
                    )
                print(f"| {trace} | {cost} | " + " | ".join(cells) + " |")
        for cost in COSTS:
            means = [
                statistics.mean(
                    float(str(row["saved_percent"]))
                    for row in rows
                    if row["trace"] != "loop"
                    and (row["cost"], row["capacity_mb"], row["policy"]) == (cost, capacity, p)
                )
                for p in policies
            ]
            print(f"| **mean without loop** | {cost} | " + " | ".join(f"{mean:.1f}" for mean in means) + " |")
    print("\nKeys in one stage and in two, 30 % of the requests for another format or size (zipf 1.0, 124 s)")
    print("| MB | policy | one stage | two stages |\n|---|---|---|---|")
    for capacity in options.capacities:
        for policy in POLICIES:
            scores = [
                [two_stages(s, capacity, policy, staged) for s in range(options.seeds)] for staged in (False, True)
            ]
            print(f"| {capacity:g} | {policy} | {interval(scores[0])} | {interval(scores[1])} |")
    if options.csv:
        with Path(options.csv).open("w", newline="") as file:
            writer = csv.DictWriter(file, fieldnames=list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    if options.plot:
        plot(rows, options.plot)


if __name__ == "__main__":
    main()
