"""Train the built-in model's depth network.

    python training/train.py --run DIR --minutes 60 --extra-meshes MESHES

Workers make views without end into DIR/pool while this process trains on them. Everything is in DIR: `checkpoint.pt`
(start the same command again and it goes on from there), `log.jsonl`, and `report/` with a montage and the scores.
Ctrl-C and SIGTERM save the checkpoint before they end it. `export.py` then turns it into the weights that ship.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, TextIO, cast

import torch

import checkpoint
import corpus
import data
import validate
from losses import loss
from models.builtin import weights
from models.builtin.network import NetworkConfig
from network import DepthNetwork, from_files

_AVERAGED = 4
"""Steps between two updates of the averaged weights, which are the ones that ship."""
_WARM = 0.03
"""The share of the run over which the learning rate rises."""


def options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", type=Path, required=True, metavar="DIR", help="where everything is written")
    parser.add_argument("--start", type=Path, metavar="DIR", help="weights to begin from, such as the shipped ones")
    parser.add_argument(
        "--minutes", type=ranged(float, 0.01), default=60, help="how long this call takes, but for its report"
    )
    parser.add_argument(
        "--total-minutes", type=ranged(float, 0.01), help="over all calls, for the learning rate; default: --minutes"
    )
    parser.add_argument("--extra-meshes", type=Path, metavar="DIR", help="real meshes, see corpus.py; optional")
    parser.add_argument(
        "--extra-share", type=ranged(float, 0, 1), default=0.55, help="of the shapes, how many are extra meshes"
    )
    parser.add_argument("--hold-out", type=int, nargs="*", default=[0, 8], help="sources of meshes to validate on only")
    parser.add_argument("--seed", type=ranged(int, 0), default=1)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=ranged(int, 1), default=1, help="of this process, on the CPU")
    parser.add_argument("--workers", type=ranged(int, 0), default=1, help="processes that make views")
    parser.add_argument(
        "--loaders",
        type=ranged(int, 0),
        help="processes that light them; 0: they are kept and lit on the device, as is best, and default, on a GPU",
    )
    parser.add_argument(
        "--pool", type=ranged(int, 1), default=64, help=f"files of {data.SHARD} views that each worker keeps"
    )
    parser.add_argument(
        "--rest",
        type=ranged(float, 0),
        default=3,
        help="how long a worker sleeps for each second of work once its pool is full",
    )
    parser.add_argument("--batch", type=ranged(int, 1), default=32)
    parser.add_argument("--size", type=ranged(int, 24), default=NetworkConfig().size, help="pixels, a multiple of 24")
    parser.add_argument("--rate", type=ranged(float, 0, 1), default=4e-4, help="the highest learning rate")
    parser.add_argument("--compile", action="store_true", help="a tenth faster; needs a C++ compiler")
    parser.add_argument("--check-minutes", type=ranged(float, 0), default=5, help="between two validations")
    parser.add_argument("--checks", type=ranged(int, 1), default=96, help="views in each validation set")
    args = parser.parse_args()
    if args.size % 24:
        parser.error(f"--size {args.size} is not a multiple of 24")
    if args.run.exists() and not args.run.is_dir():
        parser.error(f"--run {args.run} is not a folder")
    try:
        torch.empty(0, device=args.device)
    except (RuntimeError, AssertionError) as error:
        parser.error(f"--device {args.device}: {str(error).splitlines()[0]}")
    if args.loaders is None:
        args.loaders = 1 if args.device == "cpu" else 0
    return args


def ranged(kind: type[int] | type[float], low: float, high: float = 1e9) -> Callable[[str], float]:
    """A number from `low` to `high`, for argparse."""

    def number(text: str) -> float:
        if not low <= (value := kind(text)) <= high:
            raise argparse.ArgumentTypeError(f"{text} is not from {low:g} to {high:g}")
        return value

    return number


def main() -> None:
    """Train for a while."""
    started = time.monotonic()
    args = options()
    stop = Stop()
    torch.manual_seed(args.seed)
    torch.set_num_threads(args.threads)
    torch.backends.cudnn.benchmark = True
    args.run.mkdir(parents=True, exist_ok=True)
    log = (args.run / "log.jsonl").open("a")
    network, average, optimizer, state, origin = beginning(args)
    forward = torch.compile(network, dynamic=False) if args.compile else network

    seed = seeds(args.seed, log, state["step"])
    meshes, held_out = corpus.split(args.extra_meshes, args.hold_out)
    workers = start_workers(args, data.Source(meshes, args.extra_share), seed)
    pool = data.Pool(args.run / "pool")
    print("rendering the views to check on…", flush=True)
    checks = validate.Checks(held_out, args.checks, args.size)
    print("rendering the first views…", flush=True)
    room = args.workers * args.pool
    pool.wait(max(1, min(2, room)), lambda: any(worker.is_alive() for worker in workers))
    room = max(room, len(pool.files()))
    batches = data.batches(pool, seed, room, args.batch, args.size, args.loaders, args.device)

    settings = {name: value.name if isinstance(value, Path) else value for name, value in vars(args).items()} | {
        "before": origin,
        "config": asdict(network.config),
    }
    slow, fast = ([p.data for p in each.parameters()] for each in (average, network))
    began, sums = state["minutes"], dict[str, torch.Tensor]()
    total = args.total_minutes or began + args.minutes
    next_check = began + min(1, args.check_minutes)

    def keep() -> None:
        state["minutes"] = began + (time.monotonic() - started) / 60
        checkpoint.save(args.run, network, average, optimizer, state, settings)

    if began >= total:
        print(f"this run has had its {total:.1f} minutes already")
    stop.now = False
    while not stop.asked():
        now = began + (time.monotonic() - started) / 60
        if now >= min(began + args.minutes, total):
            break
        if now >= next_check:
            next_check = now + args.check_minutes
            keep()
            if workers and not any(worker.is_alive() for worker in workers):
                raise SystemExit("\nall workers have ended; the checkpoint is saved")
            stop.now = True
            scores = checks.scores(average, args.device)
            stop.now = False
            note(log, {**state, "scores": scores})
            print(f"\n{state['minutes']:.1f} min {text(scores)}")

        try:
            batch = next(batches).to(args.device)
        except RuntimeError:
            if stop.asked():  # it went to the loaders as well
                break
            raise
        with torch.autocast(args.device.split(":")[0], torch.bfloat16):
            found = forward(batch.picture, batch.mask, batch.height)
        value, parts = loss(found, batch)
        for group in optimizer.param_groups:
            group["lr"] = rate(args.rate, now / total)
        optimizer.zero_grad(set_to_none=True)
        value.backward()  # type: ignore[no-untyped-call]
        if not torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0).isfinite():
            print("\na gradient that is not finite: step skipped")
            continue
        optimizer.step()
        state["step"] += 1
        state["views"] += args.batch
        if state["step"] % _AVERAGED == 0:
            share = min(0.999, state["step"] / (state["step"] + 10)) ** _AVERAGED
            torch._foreach_lerp_(slow, fast, 1 - share)

        for name, part in parts.items():
            sums[name] = 0.98 * sums.get(name, part) + 0.02 * part
        if state["step"] % 20 == 1:
            means = {name: float(part) for name, part in sums.items()}
            show((now - began) / args.minutes, f"step {state['step']} {text(means)}")
            used = optimizer.param_groups[0]["lr"]
            note(log, {**state, "minutes": now, "rate": used, "files": len(pool.files()), **means})

    keep()
    for worker in workers:
        worker.terminate()
    if stop.asked():
        print(f"the checkpoint is saved, after step {state['step']}", flush=True)
        raise SystemExit(128 + stop.signal)
    stop.now = True
    scores = checks.report(average, args.device, args.run, state)
    note(log, {**state, "scores": scores})
    print(f"\n{state['minutes']:.1f} min {text(scores)}\nreport: {args.run / 'report'}")


class Stop:
    """SIGTERM and Ctrl-C end the process: at once while `now`, else as soon as the loop asks."""

    def __init__(self) -> None:
        self.now, self.signal = True, 0
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._came)

    def asked(self) -> bool:
        """Whether one of them came."""
        return self.signal > 0

    def _came(self, number: int, _: object) -> None:
        self.signal = number
        if hasattr(signal, "SIGCHLD"):  # torch would complain of loaders that the same signal has ended
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        with contextlib.suppress(OSError):  # not print(), which may be at work already
            os.write(1, f"\nended by {signal.Signals(number).name}\n".encode())
        if self.now:
            raise SystemExit(128 + number)


def beginning(
    args: argparse.Namespace,
) -> tuple[DepthNetwork, DepthNetwork, torch.optim.Optimizer, dict[str, Any], dict[str, Any] | None]:
    """The network, its average, the optimizer, the counts so far, and what `--start` was: from the checkpoint if there
    is one, else new."""

    saved = checkpoint.load(args.run, args.device) if (args.run / checkpoint.NAME).exists() else None
    shipped = None
    if saved:
        same_size(args.size, saved["settings"]["size"], f"the checkpoint in {args.run}")
    elif args.start:
        try:
            shipped, _ = from_files(args.start)
        except weights.WeightsError as error:
            raise SystemExit(f"--start: {error}") from error
        same_size(args.size, shipped.config.size, f"the weights in {args.start}")
    config = sizes(saved["settings"]) if saved else grown(shipped, NetworkConfig(size=args.size))

    def fresh() -> DepthNetwork:
        network: Any = DepthNetwork(config)
        return cast(DepthNetwork, network.to(args.device, memory_format=torch.channels_last))

    network, average = fresh(), fresh()
    optimizer = torch.optim.AdamW(network.parameters(), lr=args.rate, betas=(0.9, 0.98), weight_decay=0.02, fused=True)
    state: dict[str, Any] = {"step": 0, "minutes": 0.0, "views": 0}
    origin: dict[str, Any] | None = None
    if saved:
        network.load_state_dict(saved["network"])
        average.load_state_dict(saved["average"])
        optimizer.load_state_dict(saved["optimizer"])
        state, origin = saved["state"], saved["settings"].get("before")
        print(f"going on after {state['minutes']:.1f} minutes, {state['views']} views")
        return network, average, optimizer, state, origin
    if shipped:
        # Layers that those weights are too old for start as ones that do nothing.
        if network.load_state_dict(shipped.state_dict(), strict=False).unexpected_keys:
            raise SystemExit(f"--start: the network in {args.start} has layers that this one lacks")
        origin = before(args.start)
    average.load_state_dict(network.state_dict())
    return network, average, optimizer, state, origin


def sizes(settings: dict[str, Any]) -> NetworkConfig:
    """Of the network that a checkpoint's settings speak of."""
    found: dict[str, Any] = settings.get("config", {"size": settings["size"]})
    parts: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in found.items()}
    return NetworkConfig(**parts)


def grown(shipped: DepthNetwork | None, config: NetworkConfig) -> NetworkConfig:
    """The sizes of a new network that takes over the weights of another: with a trunk if that has one."""
    if shipped is None:
        return config
    return replace(config, trunk=max(config.trunk, shipped.config.trunk), trunk_width=shipped.config.trunk_width)


def same_size(asked: int, found: int, what: str) -> None:
    """A message and the end when they differ: the attention has a weight for each place."""
    if asked != found:
        raise SystemExit(f"{what}: made with --size {found}, not {asked}")


def rate(highest: float, share: float) -> float:
    """The learning rate after that share of the run: a short rise, then along a cosine."""
    return highest * min(1, share / _WARM) * (0.02 + 0.98 * (1 + math.cos(math.pi * share)) / 2)


def seeds(seed: int, log: TextIO, step: int) -> list[int]:
    """What this call's random numbers begin from. The length of the log tells it from those before, whether they lived
    to save anything or not; the step, when only the checkpoint came along. A fresh run's are always the same."""
    log.seek(0, os.SEEK_END)
    found = [seed, log.tell(), step]
    note(log, {"begins_after_step": step})
    return found


def start_workers(args: argparse.Namespace, source: data.Source, seed: list[int]) -> list[multiprocessing.Process]:
    """Processes that render."""
    (args.run / "pool").mkdir(exist_ok=True)
    workers = []
    for number in range(args.workers):
        job = (args.run / "pool", number, seed, source, args.pool, args.rest)
        workers.append(multiprocessing.Process(target=data.work, args=job, daemon=True))
        workers[-1].start()
    return workers


def before(folder: Path) -> dict[str, Any]:
    """How the weights to begin from were trained, for the manifest of those that come of them."""
    manifest = json.loads((folder / weights.MANIFEST).read_text(encoding="utf-8"))
    training = manifest.get("training", {})
    return {"sha256": manifest["sha256"]} | {
        name: training.get(name) for name in ("step", "minutes", "views", "before")
    }


def note(log: TextIO, entry: dict[str, Any]) -> None:
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
