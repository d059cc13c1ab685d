"""What `policy.py` measured: as tables on the screen, as a CSV file, as a picture."""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from statistics import mean, stdev
from typing import NamedTuple

STUDENT = {2: 12.71, 3: 4.30, 4: 3.18, 5: 2.78, 6: 2.57, 7: 2.45, 8: 2.36, 9: 2.31, 10: 2.26}
"""By the number of seeds: half the width of a 95 % interval, in standard errors."""
MEAN = "mean of the five"
KEYS = ("files alone", "booked by run", "booked by step")
"""Whether shapes are cached as well, and at which seconds a file is booked: the last is what the server does."""


class Score(NamedTuple):
    """Per cent of the generation seconds saved, in one run."""

    trace: str
    cost: str
    capacity_mb: float
    policy: str
    seed: int
    percent: float


class Interval(NamedTuple):
    """A mean over seeds, and how far it may be off."""

    mean: float
    half: float

    def __str__(self) -> str:
        return f"{self.mean:.1f} ±{self.half:.1f}"


def interval(values: list[float]) -> Interval:
    """95 % interval of the mean."""
    return Interval(mean(values), STUDENT[len(values)] * stdev(values) / len(values) ** 0.5)


Cell = tuple[str, str, float, str]


class Table:
    """The scores by trace, cost model, capacity and policy, and their mean over the traces `averaged`."""

    def __init__(self, scores: Iterable[Score], averaged: Iterable[str]) -> None:
        runs: dict[Cell, dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
        for score in scores:
            runs[score.trace, score.cost, score.capacity_mb, score.policy][score.seed].append(score.percent)
            if score.trace in averaged:
                runs[MEAN, score.cost, score.capacity_mb, score.policy][score.seed].append(score.percent)
        self._by_seed = {cell: [mean(seeds[seed]) for seed in sorted(seeds)] for cell, seeds in runs.items()}
        self.seeds = max(map(len, self._by_seed.values()))

    def cell(self, trace: str, cost: str, capacity: float, policy: str) -> Interval:
        return interval(self._by_seed[trace, cost, capacity, policy])

    def lead(self, trace: str, cost: str, capacity: float, policy: str, other: str) -> Interval:
        """By how much `policy` is ahead, compared seed by seed."""
        pairs = zip(*(self._by_seed[trace, cost, capacity, who] for who in (policy, other)), strict=True)
        return interval([ours - theirs for ours, theirs in pairs])

    def print(
        self, capacities: list[float], traces: list[str], costs: list[str], columns: list[str], keyed: list[str]
    ) -> None:
        """Markdown: a table per capacity, `lfu`'s lead over each contender, and what two keys add."""
        for capacity in capacities:
            print(f"\n{capacity:g} MB: generation seconds saved, %, mean of {self.seeds} seeds ± 95 % interval\n")
            _row("trace", "cost", *columns)
            _row(*["---"] * (2 + len(columns)))
            for trace in [*traces, MEAN]:
                for cost in costs:
                    _row(trace, cost, *(self.cell(trace, cost, capacity, policy) for policy in columns))
        print(f"\nPoints by which `lfu` leads, {MEAN}, seed by seed\n")
        others = [column for column in columns if column not in ("lfu", "belady-size", "bound")]
        _row("MB", "cost", *others)
        _row(*["---"] * (2 + len(others)))
        for capacity in capacities:
            for cost in costs:
                _row(f"{capacity:g}", cost, *(self.lead(MEAN, cost, capacity, "lfu", other) for other in others))
        print("\nFiles alone and shapes as well, zipf 1.0, 30 % of the requests for another format or size\n")
        _row("MB", "policy", *KEYS)
        _row(*["---"] * (2 + len(KEYS)))
        for capacity in capacities:
            for policy in keyed:
                _row(f"{capacity:g}", policy, *(self.cell(keys, "flat", capacity, policy) for keys in KEYS))

    def save(self, path: Path) -> None:
        """One line per cell."""
        with path.open("w", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(["trace", "cost", "capacity_mb", "policy", "saved_percent", "half_interval", "seeds"])
            for (trace, cost, capacity, policy), values in self._by_seed.items():
                middle, half = interval(values)
                writer.writerow([trace, cost, f"{capacity:g}", policy, f"{middle:.2f}", f"{half:.2f}", len(values)])

    def plot(self, path: Path, capacities: list[float], traces: list[str], columns: list[str]) -> None:
        """A panel per capacity, a line per trace, a mark per policy; flat cost."""
        import matplotlib

        matplotlib.use("Agg")
        import matplotlib.pyplot as plt

        marks = dict(zip(columns, ["o", "s", "D", "X", "^", "|", "|"], strict=True))
        colours = dict(
            zip(columns, ["#7f7f7f", "#0072b2", "#d55e00", "#00805e", "#7fcbb3", "#999999", "k"], strict=True)
        )
        lines = [*traces, MEAN]
        figure, panels = plt.subplots(1, len(capacities), figsize=(11, 6.4), sharey=True, squeeze=False)
        for panel, capacity in zip(panels[0], capacities, strict=True):
            for place, policy in enumerate(columns):
                cells = [self.cell(trace, "flat", capacity, policy) for trace in lines]
                lane = 0.0 if marks[policy] == "|" else 0.5 * place / len(columns) - 0.2
                panel.errorbar(
                    [cell.mean for cell in cells],
                    [line + lane for line in range(len(lines))],
                    xerr=[cell.half for cell in cells],
                    fmt=marks[policy],
                    color=colours[policy],
                    markersize=20 if marks[policy] == "|" else 6,
                    markeredgewidth=2 if marks[policy] == "|" else 0.5,
                    markeredgecolor=colours[policy] if marks[policy] == "|" else "white",
                    elinewidth=1,
                    label=policy,
                )
            panel.axhline(len(traces) - 0.5, color="0.6", linewidth=0.8)
            panel.set_yticks(range(len(lines)), lines)
            panel.set_xlim(0, 101)
            panel.set_xlabel("generation seconds saved, %")
            panel.set_title(f"{capacity:g} MB", loc="left", fontsize=11)
            panel.grid(axis="y", color="0.92")
            panel.set_axisbelow(True)
            panel.tick_params(length=0)
            panel.spines[["top", "right", "left"]].set_visible(False)
        panels[0, 0].invert_yaxis()
        handles, labels = panels[0, 0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="upper center", ncols=len(columns), frameon=False)
        figure.tight_layout(rect=(0, 0, 1, 0.93))
        figure.savefig(path, dpi=120, facecolor="white")


def _row(*cells: object) -> None:
    print("| " + " | ".join(map(str, cells)) + " |")
