"""Train the built-in model's depth network.

    python training/train.py --run DIR --minutes 60 --extra-meshes MESHES

Workers make views without end into DIR/pool while this process trains on them. Everything is in DIR: `checkpoint.pt`
(start the same command again and it goes on from there), `log.jsonl`, and `report/` with a montage and the scores.
`export.py` then turns the checkpoint into the weights that ship.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import time
from pathlib import Path
from typing import Any, cast

import torch

import data
import validate
from lighting import Batch
from losses import loss
from models.builtin import weights
from models.builtin.network import DepthNetwork, NetworkConfig

_AVERAGED = 4
"""Steps between two updates of the averaged weights, which are the ones that ship."""


def options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", type=Path, required=True, metavar="DIR", help="where everything is written")
    parser.add_argument("--start", type=Path, metavar="DIR", help="weights to begin from, such as the shipped ones")
    parser.add_argument("--minutes", type=float, default=60, help="how long this call trains")
    parser.add_argument("--total-minutes", type=float, help="over all calls, for the learning rate; default: --minutes")
    parser.add_argument("--extra-meshes", type=Path, metavar="DIR", help="real meshes, see corpus.py; optional")
    parser.add_argument("--extra-share", type=float, default=0.55, help="of the shapes, how many are extra meshes")
    parser.add_argument("--hold-out", type=int, nargs="*", default=[0, 8], help="sources of meshes to validate on only")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=int, default=1, help="of this process, on the CPU")
    parser.add_argument("--workers", type=int, default=1, help="processes that make views")
    parser.add_argument("--loaders", type=int, default=1, help="processes that light them")
    parser.add_argument("--pool", type=int, default=160, help=f"files of {data.SHARD} views that each worker keeps")
    parser.add_argument(
        "--rest", type=float, default=3, help="how long a worker sleeps for each second of work once its pool is full"
    )
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--size", type=int, default=NetworkConfig().size, help="pixels, a multiple of 24")
    parser.add_argument("--rate", type=float, default=4e-4, help="the highest learning rate")
    parser.add_argument("--compile", action="store_true", help="a tenth faster; needs a C++ compiler")
    parser.add_argument("--check-minutes", type=float, default=5, help="between two validations")
    parser.add_argument("--checks", type=int, default=96, help="views in each validation set")
    return parser.parse_args()


def main() -> None:
    """Train for a while."""
    args = options()
    torch.manual_seed(args.seed)
    torch.set_num_threads(args.threads)
    args.run.mkdir(parents=True, exist_ok=True)
    log = (args.run / "log.jsonl").open("a")

    def fresh() -> DepthNetwork:
        network: Any = DepthNetwork(NetworkConfig(size=args.size))
        return cast(DepthNetwork, network.to(args.device, memory_format=torch.channels_last))

    network, average = fresh(), fresh()
    average.load_state_dict(network.state_dict())
    optimizer = torch.optim.AdamW(network.parameters(), lr=args.rate, betas=(0.9, 0.98), weight_decay=0.02, fused=True)
    state: dict[str, Any] = {"step": 0, "minutes": 0.0, "views": 0}
    origin: dict[str, Any] | None = None
    checkpoint = args.run / "checkpoint.pt"
    if checkpoint.exists():
        saved = torch.load(checkpoint, map_location=args.device, weights_only=True)
        network.load_state_dict(saved["network"])
        average.load_state_dict(saved["average"])
        optimizer.load_state_dict(saved["optimizer"])
        state, origin = saved["state"], saved["settings"].get("before")
        print(f"going on after {state['minutes']:.1f} minutes, {state['views']} views")
    elif args.start:
        network.load_state_dict(weights.load(args.start).network.state_dict())
        average.load_state_dict(network.state_dict())
        origin = before(args.start)
    forward = torch.compile(network, dynamic=False) if args.compile else network

    source = data.Source(args.extra_meshes, tuple(args.hold_out), args.extra_share)
    workers = start_workers(args, source, state["step"])
    pool = data.Pool(args.run / "pool")
    checks = validate.Checks(args.extra_meshes, tuple(args.hold_out), args.checks, args.size)
    pool.wait()
    batches = iter(data.loader(pool, args.seed + state["step"], args.batch, args.size, args.loaders))

    settings = {
        name: value.name if isinstance(value, Path) else value if isinstance(value, int | float | list) else str(value)
        for name, value in vars(args).items()
    } | {"before": origin}
    slow, fast = ([p.data for p in each.parameters()] for each in (average, network))
    began, clock = state["minutes"], Clock(args.device, args.threads)
    total = args.total_minutes or began + args.minutes
    next_check, sums = began + args.check_minutes, dict[str, float]()
    while (spent := clock.minutes()) < args.minutes and began + spent < total:
        share = (began + spent) / total
        rate = args.rate * min(1, (state["step"] + 1) / 300) * (0.02 + 0.98 * (1 + math.cos(math.pi * share)) / 2)
        for group in optimizer.param_groups:
            group["lr"] = rate

        batch = Batch(*next(batches)).to(args.device)
        with torch.autocast(args.device.split(":")[0], torch.bfloat16):
            found = forward(batch.picture, batch.mask, batch.height)
        value, parts = loss(found, batch)
        optimizer.zero_grad(set_to_none=True)
        value.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        state["step"] += 1
        state["views"] += args.batch
        if state["step"] % _AVERAGED == 0:
            keep = min(0.999, state["step"] / (state["step"] + 10)) ** _AVERAGED
            torch._foreach_lerp_(slow, fast, 1 - keep)

        for name, part in parts.items():
            sums[name] = 0.98 * sums.get(name, part) + 0.02 * part
        if state["step"] % 20 == 0:
            show(spent / args.minutes, f"step {state['step']} {text(sums)}")
        if state["step"] % 100 == 0:
            note(log, {**state, "minutes": began + spent, "rate": rate, "files": len(pool.files()), **sums})
        if began + spent >= next_check:
            next_check += args.check_minutes
            state["minutes"] = began + clock.minutes()
            save(checkpoint, network, average, optimizer, state, settings)
            clock.pause()
            scores = checks.scores(average, args.device)
            note(log, {**state, "scores": scores})
            print(f"\n{state['minutes']:.1f} min {text(scores)}")
            clock.go_on()

    state["minutes"] = began + clock.minutes()
    save(checkpoint, network, average, optimizer, state, settings)
    for worker in workers:
        worker.terminate()
    scores = checks.report(average, args.device, args.run, state)
    note(log, {**state, "scores": scores})
    print(f"\n{state['minutes']:.1f} min {text(scores)}\nreport: {args.run / 'report'}")


def start_workers(args: argparse.Namespace, source: data.Source, step: int) -> list[multiprocessing.Process]:
    """Processes that render; each resumed run has seeds of its own, so that its views are new."""
    (args.run / "pool").mkdir(exist_ok=True)
    workers = []
    for number in range(args.workers):
        seed = args.seed * 1_000_003 + number * 1009 + step
        job = (args.run / "pool", number, seed, source, args.pool, args.rest)
        workers.append(multiprocessing.Process(target=data.work, args=job, daemon=True))
        workers[-1].start()
    return workers


def before(folder: Path) -> dict[str, Any]:
    """How the weights to begin from were trained, for the manifest of those that come of them."""
    manifest = json.loads((folder / weights.MANIFEST).read_text(encoding="utf-8"))
    training = manifest["training"]
    return {"sha256": manifest["sha256"]} | {
        name: training.get(name) for name in ("step", "minutes", "views", "before")
    }


class Clock:
    """Minutes of training: on the CPU its own time, so that other work on the machine does not shorten the schedule."""

    def __init__(self, device: str, threads: int) -> None:
        self._now = time.perf_counter if device.startswith("cuda") else lambda: time.process_time() / threads
        self._past, self._start = 0.0, self._now()

    def minutes(self) -> float:
        """So far."""
        return (self._past + self._now() - self._start) / 60

    def pause(self) -> None:
        """What follows is not training."""
        self._past += self._now() - self._start

    def go_on(self) -> None:
        """Training again."""
        self._start = self._now()


def save(
    file: Path, network: Any, average: Any, optimizer: Any, state: dict[str, Any], settings: dict[str, Any]
) -> None:
    """All that is needed to go on."""
    parts = {"network": network.state_dict(), "average": average.state_dict(), "optimizer": optimizer.state_dict()}
    torch.save({**parts, "state": state, "settings": settings}, file.with_suffix(".part"))
    file.with_suffix(".part").replace(file)


def note(log: Any, entry: dict[str, Any]) -> None:
    """One line of the log."""
    print(
        json.dumps({name: round(v, 6) if isinstance(v, float) else v for name, v in entry.items()}),
        file=log,
        flush=True,
    )


def text(values: dict[str, float]) -> str:
    """`name value name value`."""
    return " ".join(f"{name} {value:.3f}" for name, value in values.items())


def show(share: float, words: str) -> None:
    """A progress bar."""
    done = int(30 * min(share, 1))
    print(f"\r[{'█' * done}{'·' * (30 - done)}] {100 * share:3.0f} % {words}", end="", flush=True)


if __name__ == "__main__":
    main()
