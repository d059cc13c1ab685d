#!/usr/bin/env python3
"""How soon a server is there, and how much memory it takes.

    python benchmarks/start_up.py [--other CHECKOUT] [--python PYTHON] [--rounds 5]
    python benchmarks/start_up.py --results 10000
    python benchmarks/start_up.py --forward

Starts servers of this checkout and, in turn with them, of another, each in a fresh process on an empty folder. Prints
medians, and least and most: seconds from the start of the process until health answers and until the model is loaded,
and for a first picture at the usual quality; and the resident memory before it and after it, in MB (10^6 bytes), each
three seconds later, on Linux.

`--results` starts this checkout's server, in turn, on an empty folder and on one with so many results (of 200 bytes)
and 500 finished jobs, and prints the ratios of the medians.

`--forward` times the built-in model's network instead, of a picture and its mirror image: in PyTorch, as it is trained,
and in numpy, as it runs, in turn in one process, with one thread and with two. The server uses one.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from round_trip import Client, drawn
from side_by_side import run_cell, table

ROOT = Path(__file__).resolve().parents[1]
REST = 3.0
"""Seconds before memory is read: what is freed goes back a little later."""
PATIENCE = 60
JOBS = 500
"""As many as a server keeps."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--other", type=Path, metavar="CHECKOUT", help="to measure as well")
    parser.add_argument("--python", default=sys.executable, help="that runs the servers")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--results", type=int, metavar="N", help="compare with a folder of so many")
    parser.add_argument("--fill", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--forward", action="store_true", help="time the network instead")
    parser.add_argument("--forward-with", type=int, metavar="THREADS", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.fill:
        fill(Path(options.fill[0]), int(options.fill[1]))
    elif options.results:
        filled(options.python, options.results, options.rounds)
    elif options.forward_with:
        print(json.dumps(forward(options.forward_with)))
    elif options.forward:
        print(table(["threads", "torch, ms", "numpy, ms", "ratio"], map(forward_row, (1, 2))))
    else:
        servers(options.python, [ROOT, *([options.other.resolve()] if options.other else [])], options.rounds)


def servers(python: str, checkouts: list[Path], rounds: int) -> None:
    found: dict[Path, list[list[float]]] = {checkout: [] for checkout in checkouts}
    for _ in range(rounds):
        for checkout in checkouts:
            found[checkout].append(one_start(python, checkout))
    names = ["checkout", "health, s", "ready, s", "first picture, s", "idle, MB", "after it, MB"]
    print(table(names, ([checkout.name, *map(spread, zip(*runs, strict=True))] for checkout, runs in found.items())))


def spread(values: tuple[float, ...]) -> str:
    """The median, and between which values all are."""
    digits = 0 if max(values) > 20 else 2
    low, middle, high = (f"{each:.{digits}f}" for each in (min(values), statistics.median(values), max(values)))
    return f"{middle} ({low}–{high})"


def one_start(python: str, checkout: Path) -> list[float]:
    """What a row has, of one server."""
    with tempfile.TemporaryDirectory() as data, started(python, checkout, data) as (server, port, times):
        time.sleep(REST)
        idle = memory(server.pid)
        first, _ = Client(f"http://127.0.0.1:{port}").make(drawn(0), {"format": "glb"})
        time.sleep(REST)
        return [*times, first, idle, memory(server.pid)]


@contextmanager
def started(
    python: str, checkout: Path, data: str
) -> Iterator[tuple[subprocess.Popen[bytes], int, tuple[float, float]]]:
    """A server on that folder, its port, and the seconds until health answered and until it was ready."""
    port = free_port()
    environment = {**os.environ, "DATA_DIR": data, "ORFEAS_PORT": str(port), "LOG_LEVEL": "CRITICAL"}
    command = [python, str(checkout / "backend" / "main.py")]
    began = time.perf_counter()
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL) as server:
        try:
            health = answered(port, "/api/health", began, server) - began
            ready = answered(port, "/api/ready", began, server) - began
            yield server, port, (health, ready)
        finally:
            server.terminate()


def filled(python: str, results: int, rounds: int) -> None:
    """Print how soon a server is there on an empty folder, and on one with results."""
    with tempfile.TemporaryDirectory() as full:
        subprocess.run([python, __file__, "--fill", full, str(results)], check=True)
        names = ("empty", f"{results} results, {JOBS} jobs")
        found: dict[str, list[tuple[float, float]]] = {name: [] for name in names}
        for number in range(rounds):
            for name in names[:: 1 if number % 2 else -1]:
                with tempfile.TemporaryDirectory() as empty:
                    data = empty if name == "empty" else full
                    with started(python, ROOT, data) as (_, _, times):
                        found[name].append(times)
    columns = {name: list(zip(*times, strict=True)) for name, times in found.items()}
    print(table(["folder", "health, s", "ready, s"], ([name, *map(spread, times)] for name, times in columns.items())))
    ratios = (statistics.median(much) / statistics.median(none) for none, much in zip(*columns.values(), strict=True))
    print("\nratio: health {:.2f}, ready {:.2f}".format(*ratios))


def fill(folder: Path, results: int) -> None:
    """Make the jobs, all of one picture, then the results."""
    sys.path.insert(0, str(ROOT / "backend"))
    from main import OrfeasUnifiedServer
    from settings import load_settings
    from store.made import Made
    from work.jobs import EVERYONE
    from work.request import Wishes

    os.fsync = lambda descriptor: None  # in this process alone: nothing here has to outlive the power
    server = OrfeasUnifiedServer(load_settings({"DATA_DIR": str(folder), "LOG_LEVEL": "ERROR"}, env_file=None))
    server.load_model()
    picture = drawn(0)
    for _ in range(JOBS):
        job = server.service.receive(picture, "picture.png", EVERYONE)
        server.service.make(job, Wishes(quality=1))
        server.service.jobs.wait(job, PATIENCE, final=True)
    for number in range(results):
        data = f"result {number}".encode().ljust(200)
        sha256, source = hashlib.sha256(data).hexdigest(), f"{number:064x}"
        content = Made(data, sha256, len(data) / 1e6, {"shape": 1.0}, 1.0, (source,))
        server.results.disk.put(f"shape:{source}", content, 86_400.0)
    statuses = {job.status.value for job in server.service.jobs.all()}
    server.close()
    print(f"{len(list((folder / 'results').iterdir()))} files of results, jobs that are {' and '.join(statuses)}\n")


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
    return port


def answered(port: int, path: str, started: float, server: subprocess.Popen[bytes]) -> float:
    """When the path first answered 200."""
    while time.perf_counter() < started + PATIENCE and server.poll() is None:
        try:
            Client(f"http://127.0.0.1:{port}").call("GET", path)
            return time.perf_counter()
        except (OSError, SystemExit):  # nobody listens yet, or it is not ready
            time.sleep(0.01)
    raise SystemExit(f"{path} did not answer")


def memory(pid: int) -> float:
    """Resident, in MB; NaN where the system does not say."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
    except OSError:
        return float("nan")
    return next(int(line.split()[1]) * 1024 / 1e6 for line in lines if line.startswith("VmRSS"))


def forward_row(threads: int) -> list[str]:
    for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"):  # read when the library is loaded
        os.environ[name] = str(threads)
    found = run_cell(__file__, "--forward-with", str(threads), timeout=600)
    torch, numpy = (tuple(1000 * seconds for seconds in found[name]) for name in ("torch", "numpy"))
    return [str(threads), spread(torch), spread(numpy), f"{statistics.median(numpy) / statistics.median(torch):.2f}"]


def forward(threads: int, count: int = 30) -> dict[str, list[float]]:
    """Seconds of each pass."""
    sys.path[:0] = [str(ROOT / "backend"), str(ROOT / "training")]
    import numpy as np
    import torch

    from models.builtin import weights
    from network import from_files

    torch.set_num_threads(threads)
    mine, (theirs, _) = weights.load().network, from_files(weights.FOLDER)
    size = mine.config.size
    axis = np.linspace(-1, 1, size, dtype=np.float32)
    height = np.sqrt(np.maximum(0.7 - axis**2 - axis[:, None] ** 2, 0))[None].repeat(2, 0)
    picture = np.random.default_rng(0).random((2, size, size, 3), dtype=np.float32)
    seen = picture, (height > 0).astype(np.float32), height
    tensors = [torch.from_numpy(np.moveaxis(each, -1, 1).copy() if each.ndim == 4 else each) for each in seen]
    times: dict[str, list[float]] = {"torch": [], "numpy": []}
    with torch.inference_mode():
        for _ in range(count + 3):  # the first ones warm up
            for name, run in (("torch", lambda: theirs(*tensors)), ("numpy", lambda: mine(*seen))):
                started = time.perf_counter()
                run()
                times[name].append(time.perf_counter() - started)
    return {name: seconds[3:] for name, seconds in times.items()}


if __name__ == "__main__":
    main()
