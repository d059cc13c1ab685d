#!/usr/bin/env python3
"""Where the milliseconds of a repeat go: a picture that is known, sent again, over HTTP.

    python benchmarks/hit_path.py [--other CHECKOUT] [--repeats 40] [--clients 1 8 32] [--seconds 2] [--rounds 5]

One repeat is three requests: upload of a 512×512 cut-out, generate-3d at quality 7, download of the STL. It is asked of
servers in turn: of this checkout, of another if you name one, and of two constants. A constant is waitress with the
same settings and an app that reads the three bodies and answers what this checkout answered: JSON from memory, and the
file through `wsgi.file_wrapper`, or from memory, too (waitress then copies it into a temporary file of its own).

Prints the server's CPU for one repeat, user and system, all threads, in milliseconds: medians of requests sent one by
one, each measured once the process rests again; and how many repeats a second clients get who ask at once, each a
process of its own, in turn over several rounds. Then the CPU again, when as many jobs are kept as the clients left.
Linux only.
"""

from __future__ import annotations

import argparse
import json
import logging
import multiprocessing
import os
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

from round_trip import drawn
from servers import Server, orfeas, running
from side_by_side import machine, table

ROOT = Path(__file__).resolve().parents[1]
THREADS = 32
"""As in backend/web/serve.py, like the other settings of a constant."""
STEPS = ("upload", "generate", "download")
CONSTANTS = {"file": "constant, file", "memory": "constant, memory"}


# ── a constant ───────────────────────────────────────────────────────────────────────────────────────────────────────


def constant(folder: Path, way: str) -> None:
    """Serve what the folder holds."""
    from waitress import wasyncore
    from waitress.server import create_server

    logging.getLogger("waitress.queue").setLevel(logging.ERROR)
    upload, generated = (folder / "upload").read_bytes(), (folder / "generate").read_bytes()
    path, data = folder / "download", (folder / "download").read_bytes()

    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        if environ["REQUEST_METHOD"] == "GET":
            headers = [("Content-Type", "model/stl"), ("Content-Length", str(len(data)))]
            start_response("200 OK", headers)
            return environ["wsgi.file_wrapper"](path.open("rb"), 262_144) if way == "file" else [data]
        environ["wsgi.input"].read()
        body = upload if environ["PATH_INFO"] == "/api/upload-image" else generated
        start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
        return [body]

    channels: dict[int, Any] = {}
    http = create_server(
        app,
        map=channels,
        host="127.0.0.1",
        port=0,
        threads=THREADS,
        channel_request_lookahead=1,
        max_request_body_size=140_000_000,
        ident="orfeas",
    )
    print(f"http://127.0.0.1:{http.effective_port}", flush=True)
    wasyncore.loop(timeout=1, map=channels, use_poll=True)


# ── clients ──────────────────────────────────────────────────────────────────────────────────────────────────────────


class Asker:
    """One keep-alive connection, and the requests of a repeat."""

    def __init__(self, port: int, picture: bytes, wish: dict[str, Any]) -> None:
        self._http, self._wish = HTTPConnection("127.0.0.1", port, timeout=60), wish
        part = b'--x\r\nContent-Disposition: form-data; name="image"; filename="p.png"\r\n\r\n'
        self._form = part + picture + b"\r\n--x--\r\n"
        self._buffer = bytearray(1 << 20)
        self.answers: dict[str, bytes] = {}
        """Of the last repeat, as they came."""
        self.received = 0
        """Bytes of the last download."""

    def ask(self, method: str, path: str, body: bytes | None = None, kind: str = "application/json") -> bytes:
        self._http.request(method, path, body, {"Content-Type": kind} if body else {})
        answer = self._http.getresponse()
        data = answer.read()
        if answer.status != 200:
            raise SystemExit(f"{method} {path}: {answer.status} {data[:200]!r}")
        return data

    def download(self, path: str) -> int:
        """Read it as it comes, and keep nothing of it: its bytes."""
        self._http.request("GET", path)
        answer, received = self._http.getresponse(), 0
        while count := answer.readinto(self._buffer):
            received += count
        if answer.status != 200:
            raise SystemExit(f"GET {path}: {answer.status}")
        return received

    def steps(self) -> Iterator[str]:
        """Send one repeat; the name of each request when it is answered."""
        uploaded = self.ask("POST", "/api/upload-image", self._form, "multipart/form-data; boundary=x")
        yield "upload"
        wish = {"job_id": json.loads(uploaded)["job_id"], **self._wish}
        generated = self.ask("POST", "/api/generate-3d", json.dumps(wish).encode())
        yield "generate"
        job = json.loads(generated)
        while job["status"] not in ("completed", "failed"):
            job = json.loads(self.ask("GET", f"/api/job-status/{job['job_id']}?wait=10"))
        if job["status"] == "failed":
            raise SystemExit(job["error"])
        self.received = self.download(job["download_url"])
        if self.received != job["file_size"]:
            raise SystemExit(f"{self.received} of {job['file_size']} bytes came")
        self.answers = {"upload": uploaded, "generate": generated, "url": job["download_url"].encode()}
        yield "download"

    def repeat(self) -> None:
        for _ in self.steps():
            pass


def record(asker: Asker, folder: Path) -> None:
    """Keep what a server answered, for the constants."""
    asker.repeat()
    for name in ("upload", "generate"):
        (folder / name).write_bytes(asker.answers[name])
    (folder / "download").write_bytes(asker.ask("GET", asker.answers["url"].decode()))


# ── measuring ────────────────────────────────────────────────────────────────────────────────────────────────────────


def cpu_by_step(server: Server, asker: Asker) -> dict[str, float]:
    """Milliseconds of each request of one repeat, and of all."""
    found, before = {}, server.cpu_at_rest()
    for step in asker.steps():
        after = server.cpu_at_rest()
        found[step] = 1000 * (after - before)
        before = after
    return found | {"repeat": sum(found.values())}


def cpu_table(servers: list[Server], ask: Callable[[Server], Asker], repeats: int) -> str:
    """Medians, a repeat's quartiles, and its ratio to both constants."""
    askers = {server: ask(server) for server in servers}
    times: dict[str, dict[str, list[float]]] = {server.name: defaultdict(list) for server in servers}
    for number in range(repeats + 3):
        for server, asker in askers.items():
            for step, milliseconds in cpu_by_step(server, asker).items():
                if number >= 3:  # the first ones warm up
                    times[server.name][step].append(milliseconds)
    medians = {name: {step: statistics.median(all_) for step, all_ in steps.items()} for name, steps in times.items()}
    rows = []
    for name, steps in medians.items():
        low, _, high = statistics.quantiles(times[name]["repeat"])
        ratios = [f"{steps['repeat'] / medians[each]['repeat']:.2f}" for each in CONSTANTS.values()]
        rows.append(
            [name, *(f"{steps[step]:.2f}" for step in STEPS), f"{steps['repeat']:.1f} ({low:.1f}–{high:.1f})", *ratios]
        )
    head = ["CPU, ms", *STEPS, "a repeat (quartiles)", *(f"× {name}" for name in CONSTANTS.values())]
    return table(head, rows)


def crowd(server: Server, ask: Callable[[Server], Asker], clients: int, seconds: float) -> tuple[float, float]:
    """Repeats a second that so many clients get together, and the server's CPU for one, in milliseconds."""
    context = multiprocessing.get_context("fork")
    start, results = context.Barrier(clients + 1), context.SimpleQueue()

    def client() -> None:
        asker, count = ask(server), 0
        start.wait(60)
        began = time.perf_counter()
        while (passed := time.perf_counter() - began) < seconds:
            asker.repeat()
            count += 1
        results.put((count, passed))

    processes = [context.Process(target=client, daemon=True) for _ in range(clients)]
    for process in processes:
        process.start()
    start.wait(60)
    before = server.cpu()
    for process in processes:
        process.join()
        if process.exitcode:
            raise SystemExit(f"a client of {server.name} failed")
    used = server.cpu_at_rest() - before
    counts, rates = zip(*((count, count / passed) for count, passed in (results.get() for _ in processes)), strict=True)
    return sum(rates), 1000 * used / sum(counts)


def crowd_rows(
    servers: list[Server], ask: Callable[[Server], Asker], clients: int, seconds: float, rounds: int
) -> Iterator[list[str]]:
    """What so many clients get from each server; the shares of the constants' are of the same round."""
    found: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for number in range(rounds):
        for server in servers[:: 1 if number % 2 else -1]:
            found[server.name].append(crowd(server, ask, clients, seconds))
    for server in servers:
        rates, used = zip(*found[server.name], strict=True)
        shares = []
        for name in CONSTANTS.values():
            of = [rate / theirs for rate, (theirs, _) in zip(rates, found[name], strict=True)]
            shares.append(f"{statistics.median(of):.2f} ({min(of):.2f}–{max(of):.2f})")
        yield [
            server.name,
            str(clients),
            f"{statistics.median(rates):.1f} ({min(rates):.1f}–{max(rates):.1f})",
            *shares,
            f"{statistics.median(used):.1f}",
        ]


def fsync_ms(folder: str | None) -> float:
    """What it takes to put four kilobytes on this disk; a repeat waits for that several times."""
    with tempfile.TemporaryFile(dir=folder) as file:
        times = []
        for _ in range(30):
            file.write(bytes(4096))
            file.flush()
            began = time.perf_counter()
            os.fsync(file.fileno())
            times.append(time.perf_counter() - began)
    return 1000 * statistics.median(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--other", type=Path, metavar="CHECKOUT", help="to measure as well")
    parser.add_argument("--python", default=sys.executable, help="that runs the servers")
    parser.add_argument("--repeats", type=int, default=40)
    parser.add_argument("--clients", type=int, nargs="*", default=[1, 8, 32], help="none: CPU alone")
    parser.add_argument("--seconds", type=float, default=2.0, help="that a crowd asks a server, each round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quality", type=int, default=7)
    parser.add_argument("--picture", type=Path, help="another one than the drawn ellipse")
    parser.add_argument("--data", metavar="FOLDER", help="where the servers' folders lie")
    parser.add_argument("--constant", nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.constant:
        folder, way = given.constant
        constant(Path(folder), way)
    else:
        measure(given)


def measure(given: argparse.Namespace) -> None:
    picture = given.picture.read_bytes() if given.picture else drawn(0)
    wish = {"format": "stl", "quality": given.quality}

    def ask(server: Server) -> Asker:
        return Asker(server.port, picture, wish)

    checkouts = [ROOT, *([given.other.resolve()] if given.other else [])]
    with ExitStack() as stack:
        servers = [stack.enter_context(orfeas(checkout, given.python, given.data)) for checkout in checkouts]
        for server in servers:
            ask(server).repeat()  # the first one is made
        recorded = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        record(ask(servers[0]), recorded)
        for way, name in CONSTANTS.items():
            command = [given.python, __file__, "--constant", recorded, way]
            servers.append(stack.enter_context(running(name, command)))
        megabytes = (recorded / "download").stat().st_size / 1e6
        print(
            f"{machine()}; file {megabytes:.1f} MB, picture {len(picture)} bytes, fsync {fsync_ms(given.data):.2f} ms\n"
        )
        print(cpu_table(servers, ask, given.repeats), "\n", flush=True)
        head = ["at once", "clients", "repeats a second", *(f"of {name}" for name in CONSTANTS.values()), "CPU, ms"]
        rows = [row for count in given.clients for row in crowd_rows(servers, ask, count, given.seconds, given.rounds)]
        if rows:
            print(table(head, rows), "\n\nThe CPU again, after that:\n", flush=True)
            print(cpu_table(servers, ask, given.repeats))


if __name__ == "__main__":
    main()
