#!/usr/bin/env python3
"""Memory that a server takes for many downloads at once of one large result.

    python benchmarks/downloads.py [--other CHECKOUT] [--megabytes 125] [--at-once 6] [--slow 5]

A server makes the result, an STL of about that size, from a model that returns a torus; then it ends, and another one
on the same folder is asked for it: by one client, then by all at once as fast as they can, then by all at once so
slowly that it takes each `--slow` seconds. Prints resident memory before, at most meanwhile (looked at every 5 ms), the
difference, and seconds from the first request to the last byte; MB are 10^6 bytes. Linux only.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import threading
import time
from http.client import HTTPConnection
from pathlib import Path

from round_trip import Client, drawn
from servers import ROOT, Server, on_folder
from side_by_side import table

PART = 262_144


def serve(checkout: str, megabytes: str) -> None:
    """A checkout's server with one more model."""
    sys.path.insert(0, str(Path(checkout) / "backend"))
    import numpy as np

    import main as front_door
    from models import registry
    from models.base import Mesh, Model

    class Torus(Model):
        id = "torus"
        licence = "MIT"
        reads = frozenset({"image"})

        def load(self) -> None:
            self.device, self.revision = "cpu", "1"

        def generate(self, image: object, options: object, progress: object, cancelled: object) -> Mesh:
            side = int((float(megabytes) * 1e6 / 50 / 2) ** 0.5)  # 50 bytes a triangle, two triangles a square
            turn = np.linspace(0, 2 * np.pi, side, endpoint=False, dtype=np.float32)
            around, across = (each.ravel() for each in np.meshgrid(turn, turn, indexing="ij"))
            out = 2 + np.cos(across)
            vertices = np.stack([out * np.cos(around), out * np.sin(around), np.sin(across)], 1)
            here = np.arange(side * side, dtype=np.int32).reshape(side, side)
            right, up = np.roll(here, -1, 0), np.roll(here, -1, 1)
            both = np.roll(right, -1, 1)
            faces = np.stack([here, right, both, here, both, up], -1).reshape(-1, 3)
            return Mesh(vertices, faces)

    registry.register("torus", Torus)
    front_door.main()


class Peak:
    """The most memory that a server has had while the body ran."""

    def __init__(self, server: Server) -> None:
        self._server, self._over = server, threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self.most = 0.0

    def _watch(self) -> None:
        while not self._over.wait(0.005):
            self.most = max(self.most, self._server.memory())

    def __enter__(self) -> Peak:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()


def download(server: Server, path: str, size: int, seconds: float) -> None:
    """Read it evenly over so many seconds, and keep nothing."""
    http = HTTPConnection("127.0.0.1", server.port, timeout=60)
    began, received, buffer = time.perf_counter(), 0, bytearray(PART)
    http.request("GET", path)
    answer = http.getresponse()
    while count := answer.readinto(buffer):
        received += count
        time.sleep(max(0.0, began + seconds * received / size - time.perf_counter()))
    if received != size:
        raise SystemExit(f"{received} of {size} bytes came")


def row(server: Server, what: str, path: str, size: int, at_once: int, seconds: float) -> list[str]:
    before, began = server.memory(), time.perf_counter()
    with Peak(server) as peak:
        threads = [threading.Thread(target=download, args=(server, path, size, seconds)) for _ in range(at_once)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    took = time.perf_counter() - began
    return [f"{server.name}, {what}", *(f"{mb:.0f}" for mb in (before, peak.most, peak.most - before)), f"{took:.1f}"]


def rows(checkout: Path, given: argparse.Namespace) -> list[list[str]]:
    command = [sys.executable, __file__, "--serve", checkout, str(given.megabytes)]
    with tempfile.TemporaryDirectory() as data:
        with on_folder(checkout.name, command, data, ORFEAS_MODEL="torus") as server:
            _, job = Client(f"http://127.0.0.1:{server.port}").make(drawn(0), {"format": "stl"})
        path, size = job["download_url"], job["file_size"]
        print(f"{checkout.name}: {size / 1e6:.1f} MB", flush=True)
        with on_folder(checkout.name, command, data, ORFEAS_MODEL="torus") as server:
            return [
                row(server, "one", path, size, 1, 0),
                row(server, f"{given.at_once} at once", path, size, given.at_once, 0),
                row(server, f"{given.at_once} at once, slowly", path, size, given.at_once, given.slow),
            ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--other", type=Path, metavar="CHECKOUT", help="to measure as well")
    parser.add_argument("--megabytes", type=float, default=125.0)
    parser.add_argument("--at-once", type=int, default=6)
    parser.add_argument("--slow", type=float, default=5.0, metavar="SECONDS")
    parser.add_argument("--serve", nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.serve:
        serve(*given.serve)
        return
    checkouts = [ROOT, *([given.other.resolve()] if given.other else [])]
    found = [each for checkout in checkouts for each in rows(checkout, given)]
    print("\n" + table(["resident", "before, MB", "at most, MB", "more, MB", "s"], found))


if __name__ == "__main__":
    main()
