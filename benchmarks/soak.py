#!/usr/bin/env python3
"""Mixed load for a while, on a server that this script starts, on this machine alone: are the answers right, and does
its memory stay?

    python benchmarks/soak.py [--seconds 60] [--clients 4] [--seed 0] [--memory-mb 20] [--disk-mb 60]

Each client sends new pictures and known ones, in every format and some sizes, with masks of its own, asks how jobs
stand, cancels and deletes them, clears and pins what is cached, and sends what is wrong. The cache's bounds are low, so
that both tiers evict. Every status is checked, and that the same picture with the same wishes is the same bytes,
whether they were made, found in memory, on the disk, or kept for the job alone.

Prints the answers by kind and status; the server's resident memory (MB are 10^6 bytes), and whether the medians of the
third and the last quarter of the time are within 5 % of each other; and what temporary files are left. Exit status 1 if
an answer was wrong, the server failed (5xx) or a temporary file is left. Linux only.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import random
import statistics
import sys
import tempfile
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw
from servers import ROOT, Server, on_folder
from side_by_side import machine, table

FORMATS = ("stl", "obj", "glb", "ply", "3mf")
KNOWN = 6
"""Pictures that all clients send again and again."""
KEPT = 15
"""Jobs that a client remembers; the server keeps 500 in all."""
FLAT = 0.05


def drawn(number: int) -> bytes:
    """A small cut-out, another for each number."""
    chance = random.Random(number)
    image = Image.new("RGBA", (120, 96))
    pen = ImageDraw.Draw(image)
    pen.ellipse((10, 8, chance.randrange(70, 110), 88), fill=(*chance.randbytes(3), 255))
    pen.rectangle((30, 30, 34, 34), fill=(number % 256, number // 256 % 256, number // 65536, 255))
    return encoded(image)


def encoded(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def half() -> bytes:
    """A mask of the same size: the left half."""
    mask = Image.new("L", (120, 96))
    mask.paste(255, (0, 0, 60, 96))
    return encoded(mask)


class Wrong(Exception):  # noqa: N818  (it says what was wrong)
    """An answer that ought to have been another."""


class Log:
    """What all clients saw."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._digests: dict[str, str] = {}
        self.answers = Counter[tuple[str, int]]()
        self.wrong: list[str] = []
        self.pictures = KNOWN

    def answered(self, kind: str, status: int) -> None:
        with self._lock:
            self.answers[kind, status] += 1

    def new_picture(self) -> int:
        with self._lock:
            self.pictures += 1
            return self.pictures

    def same(self, what: str, data: bytes) -> None:
        """Wrong, unless these are the bytes that it was the first time."""
        digest = hashlib.sha256(data).hexdigest()
        with self._lock:
            first = self._digests.setdefault(what, digest)
        if digest != first:
            raise Wrong(f"{what}: other bytes than the first time")


class Client:
    """One connection, and one action after the other. It alone knows its jobs, so it knows what each answer must be."""

    def __init__(self, port: int, log: Log, seed: str) -> None:
        self._http = HTTPConnection("127.0.0.1", port, timeout=60)
        self._log, self._chance = log, random.Random(seed)
        self._jobs: list[tuple[str, bytes, str, dict[str, Any]]] = []
        """Id, upload, name of the picture, wishes."""

    def call(
        self, kind: str, wanted: int | tuple[int, ...], method: str, path: str, body: Any = None, **headers: str
    ) -> bytes:
        if isinstance(body, dict):
            body, headers = json.dumps(body).encode(), {"Content-Type": "application/json"}
        self._http.request(method, path, body, headers)
        answer = self._http.getresponse()
        data = answer.read()
        self._log.answered(kind, answer.status)
        if answer.status not in (wanted if isinstance(wanted, tuple) else (wanted,)):
            raise Wrong(f"{kind}: {method} {path}: {answer.status} and not {wanted}: {data[:300]!r}")
        return data

    def read(self, kind: str, path: str) -> Any:
        return json.loads(self.call(kind, 200, "GET", path))

    def act(self) -> None:
        """Do one thing, whichever comes."""
        actions: dict[Callable[[], None], int] = {
            self.repeat: 30,
            self.new: 8,
            self.masked: 6,
            self.convert: 12,
            self.look: 12,
            self.overview: 8,
            self.bad: 10,
            self.delete: 6,
            self.cancel: 4,
            self.pin: 3,
            self.clear: 1,
        }
        self._chance.choices(list(actions), list(actions.values()))[0]()

    # ── making ───────────────────────────────────────────────────────────────────────────────────────────────────────

    def upload(self, kind: str, picture: bytes) -> str:
        part = b'--x\r\nContent-Disposition: form-data; name="image"; filename="p.png"\r\n\r\n'
        form = part + picture + b"\r\n--x--\r\n"
        answer = self.call(
            kind, 200, "POST", "/api/upload-image", form, **{"Content-Type": "multipart/form-data; boundary=x"}
        )
        job_id: str = json.loads(answer)["job_id"]
        return job_id

    def wish(self) -> dict[str, Any]:
        wish: dict[str, Any] = {"format": self._chance.choice(FORMATS), "quality": self._chance.choice((1, 1, 2))}
        if self._chance.random() < 0.3:
            wish["dimensions"] = {"width": self._chance.choice((20, 40))}
        return wish

    def make(self, kind: str, name: str, picture: bytes, mask: bytes | None = None) -> None:
        job_id, wish = self.upload(kind, picture), self.wish()
        if mask is not None:
            self.call("mask", 200, "PUT", f"/api/jobs/{job_id}/mask", mask, **{"Content-Type": "image/png"})
        job = json.loads(self.call(kind, 200, "POST", "/api/generate-3d", {"job_id": job_id, **wish}))
        while job["status"] not in ("completed", "failed"):
            job = self.read("status", f"/api/job-status/{job_id}?wait=10&until=final")
        if job["status"] == "failed":
            raise Wrong(f"{kind}: {name} {wish} failed: {job['error']}")
        self._jobs.append((job_id, picture, name, wish))
        del self._jobs[:-KEPT]
        self.fetch(kind, job_id, name, wish)

    def fetch(self, kind: str, job_id: str, name: str, wish: dict[str, Any]) -> None:
        data = self.call(kind, 200, "GET", f"/api/download/{job_id}/model.{wish['format']}")
        self._log.same(f"{name} {json.dumps(wish, sort_keys=True)}", data)

    def repeat(self) -> None:
        number = self._chance.randrange(KNOWN)
        self.make("repeat", f"picture {number}", drawn(number))

    def new(self) -> None:
        number = self._log.new_picture()
        self.make("new picture", f"picture {number}", drawn(number))

    def masked(self) -> None:
        number = self._chance.randrange(KNOWN)
        self.make("with a mask", f"masked {number}", drawn(number), half())

    def convert(self) -> None:
        """A finished job in another format."""
        if self._jobs:
            job_id, _, name, wish = self._chance.choice(self._jobs)
            self.fetch("conversion", job_id, name, {**wish, "format": self._chance.choice(FORMATS)})

    # ── looking ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def look(self) -> None:
        if self._jobs:
            job_id, picture, name, wish = self._chance.choice(self._jobs)
            job = self.read("status", f"/api/job-status/{job_id}")
            if job["status"] != "completed":
                raise Wrong(f"{name} {wish} is {job['status']}: {job['error']}")
            if self.call("preview", 200, "GET", job["preview_url"]) != picture:
                raise Wrong(f"{name}: the preview is not what was uploaded")
            part = self.call("range", 206, "GET", job["download_url"], Range="bytes=0-99")
            if len(part) != 100:
                raise Wrong(f"{name}: a range of 100 bytes has {len(part)}")

    def overview(self) -> None:
        paths = ("/api/jobs", "/api/cache/stats", "/api/cache/entries", "/api/models-info", "/api/health")
        self.read("overview", self._chance.choice(paths))
        self.call("overview", 200, "GET", "/metrics")

    def bad(self) -> None:
        nobody = str(uuid.uuid4())
        form = b'--x\r\nContent-Disposition: form-data; name="image"; filename="p.png"\r\n\r\nno picture\r\n--x--\r\n'
        multipart = {"Content-Type": "multipart/form-data; boundary=x"}
        self._chance.choice(
            (
                lambda: self.call("bad", 404, "GET", f"/api/job-status/{nobody}"),
                lambda: self.call("bad", 404, "GET", f"/api/download/{nobody}/model.stl"),
                lambda: self.call("bad", 404, "DELETE", f"/api/jobs/{nobody}"),
                lambda: self.call("bad", 404, "GET", "/api/preview/../index.db"),
                lambda: self.call("bad", 404, "DELETE", "/api/cache/entries/file:none"),
                lambda: self.call("bad", 400, "POST", "/api/generate-3d", {"job_id": nobody, "quality": 11}),
                lambda: self.call("bad", 400, "POST", "/api/generate-3d", b'{"half'),
                lambda: self.call("bad", 400, "POST", "/api/cache/clear?tier=attic"),
                lambda: self.call("bad", 405, "PUT", "/api/upload-image", b"x"),
                lambda: self.call("bad", 415, "POST", "/api/upload-image", form, **multipart),
            )
        )()

    # ── dropping ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def delete(self) -> None:
        if self._jobs:
            job_id, *_ = self._jobs.pop(self._chance.randrange(len(self._jobs)))
            self.call("delete", 200, "DELETE", f"/api/jobs/{job_id}")
            self.call("deleted", 404, "GET", f"/api/job-status/{job_id}")
            self.call("deleted", 404, "GET", f"/api/download/{job_id}/model.stl")

    def cancel(self) -> None:
        """At once: it waits, runs, or is over already."""
        job_id = self.upload("cancel", drawn(self._log.new_picture()))
        self.call("cancel", 200, "POST", "/api/generate-3d", {"job_id": job_id, "quality": 3})
        done = json.loads(self.call("cancel", 200, "DELETE", f"/api/jobs/{job_id}"))
        wanted = 200 if done["status"] == "cancelled" else 404
        self.call("cancelled", wanted, "GET", f"/api/job-status/{job_id}")

    def pin(self) -> None:
        entries = self.read("overview", "/api/cache/entries?limit=20")["entries"]
        if entries:
            path = f"/api/cache/entries/{self._chance.choice(entries)['key']}/pin"
            self.call("pin", (200, 404), "PUT", path)  # another client may drop it, or the bound
            self.call("pin", (200, 404), "DELETE", path)

    def clear(self) -> None:
        self.call("clear", 200, "POST", f"/api/cache/clear?tier={self._chance.choice(('memory', 'disk', 'all'))}")


# ── the whole ────────────────────────────────────────────────────────────────────────────────────────────────────────


def load(server: Server, log: Log, given: argparse.Namespace) -> list[tuple[float, float]]:
    """Let the clients work; seconds and the server's memory, four times a second."""
    began = time.perf_counter()
    over = began + given.seconds

    def work(number: int) -> None:
        client = Client(server.port, log, f"{given.seed}/{number}")
        while time.perf_counter() < over and not log.wrong:
            try:
                client.act()
            except (Wrong, OSError, ValueError, KeyError) as error:
                log.wrong.append(f"client {number}: {type(error).__name__}: {error}")

    threads = [threading.Thread(target=work, args=(number,)) for number in range(given.clients)]
    for thread in threads:
        thread.start()
    memory = []
    while any(thread.is_alive() for thread in threads):
        memory.append((time.perf_counter() - began, server.memory()))
        time.sleep(0.25)
    return memory


def quarters(memory: list[tuple[float, float]]) -> list[float]:
    """The median of each quarter of the time."""
    end = memory[-1][0]
    parts = [[mb for at, mb in memory if n * end / 4 <= at <= (n + 1) * end / 4] for n in range(4)]
    return [statistics.median(part) if part else float("nan") for part in parts]


def report(log: Log, memory: list[tuple[float, float]], left: list[str]) -> bool:
    """Print what was found; whether all was right."""
    statuses = sorted({status for _, status in log.answers})
    kinds = sorted({kind for kind, _ in log.answers})
    rows = [[kind, *(str(log.answers[kind, status] or "") for status in statuses)] for kind in kinds]
    print(table(["answers", *map(str, statuses)], rows))
    failed = sum(count for (_, status), count in log.answers.items() if status >= 500)
    print(f"\n{log.answers.total()} answers to {log.pictures} pictures; {failed} with 5xx, {len(log.wrong)} wrong")
    for text in log.wrong:
        print(f"wrong: {text}")
    step = max(1, len(memory) // 12)
    print("\nMB after s: " + ", ".join(f"{mb:.0f} after {at:.0f}" for at, mb in memory[::step]))
    *_, third, last = found = quarters(memory)
    flat = abs(last - third) <= FLAT * third
    print(f"medians of the quarters: {', '.join(f'{mb:.0f}' for mb in found)} MB; the last ", end="")
    print(f"is {last / third - 1:+.1%} against the third: {'flat' if flat else 'NOT FLAT'}")
    print(f"temporary files left: {len(left)} {' '.join(left)}")
    return not (failed or log.wrong or left)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--clients", type=int, default=4)
    parser.add_argument("--seed", default="0")
    parser.add_argument("--memory-mb", default="20", help="of the cache in memory")
    parser.add_argument("--disk-mb", default="60", help="of the cache on disk")
    given = parser.parse_args()
    print(f"{machine()}; {given.clients} clients for {given.seconds:g} s\n", flush=True)
    bounds = {"CACHE_MAX_MEMORY_MB": given.memory_mb, "CACHE_DISK_MB": given.disk_mb}
    log = Log()
    with tempfile.TemporaryDirectory() as data:
        with on_folder("the server", [sys.executable, ROOT / "backend" / "main.py"], data, **bounds) as server:
            memory = load(server, log, given)
            server.cpu_at_rest()
            left = [path.name for path in Path(data).rglob("*.tmp")]
        sys.exit(0 if report(log, memory, left) else 1)


if __name__ == "__main__":
    main()
