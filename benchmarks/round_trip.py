#!/usr/bin/env python3
"""First and second request over HTTP, upload included, against a server that this script starts.

    python benchmarks/round_trip.py [PICTURE ...]     without pictures: four that it draws, one with a background

Prints, for each picture and wish, the time from sending the upload to having read the whole file: the first time, the
median of nine further times, and their ratio; the first conversion to each other format and to another size; another
quality, which needs a new shape. Beside it what the cache counted in that request (the first of the nine), and the
seconds that it saved.
"""

import io
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.parse
from http.client import HTTPConnection
from pathlib import Path

from PIL import Image, ImageDraw

GREY = (225, 220, 210, 255)
MAIN = Path(__file__).resolve().parents[1] / "backend" / "main.py"


def drawn(kind: int, background: tuple[int, ...] = (0, 0, 0, 0)) -> bytes:
    """512×512 pixels: a cut-out, or before a background that has to be removed."""
    image = Image.new("RGBA", (512, 512), background)
    pen = ImageDraw.Draw(image)
    if kind == 0:
        pen.ellipse((60, 60, 450, 450), fill=(190, 70, 40, 255))
    elif kind == 1:
        pen.rounded_rectangle((150, 40, 360, 470), 60, fill=(40, 110, 190, 255))
    else:
        pen.polygon([(256, 30), (480, 470), (30, 470)], fill=(60, 160, 80, 255))
    pen.line((256, 120, 256, 400), fill=(250, 240, 200, 255), width=12)
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


class Client:
    """One keep-alive connection."""

    def __init__(self, address: str) -> None:
        self.http = HTTPConnection(urllib.parse.urlsplit(address).netloc)

    def call(self, method: str, path: str, body: bytes | None = None, kind: str = "") -> bytes:
        self.http.request(method, path, body, {"Content-Type": kind} if kind else {})
        answer = self.http.getresponse()
        data = answer.read()
        if answer.status != 200:
            raise SystemExit(f"{method} {path}: {answer.status} {data[:200]!r}")
        return data

    def make(self, picture: bytes, wish: dict[str, str]) -> tuple[float, dict]:
        """Upload, generate, download; the seconds it took and the final status."""
        fields = "".join(
            f'--x\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n' for name, value in wish.items()
        )
        part = '--x\r\nContent-Disposition: form-data; name="image"; filename="p"\r\n\r\n'
        body = fields.encode() + part.encode() + picture + b"\r\n--x--\r\n"
        started = time.perf_counter()
        job = json.loads(self.call("POST", "/api/generate-3d", body, "multipart/form-data; boundary=x"))
        while job["status"] not in ("completed", "failed"):
            job = json.loads(self.call("GET", f"/api/job-status/{job['job_id']}?wait=10"))
        if job["status"] == "failed":
            raise SystemExit(job["error"])
        self.call("GET", job["download_url"])
        return time.perf_counter() - started, job

    def stats(self) -> dict:
        return json.loads(self.call("GET", "/api/cache/stats"))["stats"]

    def told(self, what: str, picture: bytes, wish: dict[str, str]) -> tuple[float, dict]:
        """`make`, and a row of what it took and what the cache counted meanwhile."""
        before = self.stats()
        seconds, job = self.make(picture, wish)
        after = self.stats()
        misses, hits, saved = (after[name] - before[name] for name in ("misses", "hits", "seconds_saved"))
        row(what, f"{1000 * seconds:.1f}", misses, hits, f"{saved:.3f}")
        return seconds, job


def row(*cells: object) -> None:
    print("| " + " | ".join(map(str, cells)) + " |", flush=True)


def main() -> None:
    pictures = {Path(name).stem: Path(name).read_bytes() for name in sys.argv[1:]}
    if not pictures:
        pictures = {f"drawn {kind}": drawn(kind) for kind in range(3)} | {"drawn 2 on grey": drawn(2, GREY)}
    with tempfile.TemporaryDirectory() as data:
        environment = {**os.environ, "DATA_DIR": data, "ORFEAS_PORT": "0", "LOG_LEVEL": "WARNING"}
        with subprocess.Popen([sys.executable, MAIN], env=environment, stdout=subprocess.PIPE, text=True) as server:
            try:
                client = Client(re.search(r"http://\S+?(?=,)", server.stdout.readline())[0])
                client.make(drawn(0, GREY), {"quality": "1"})  # imports are not what is measured
                for name, picture in pictures.items():
                    measure(client, name, picture)
            finally:
                server.terminate()


def measure(client: Client, name: str, picture: bytes) -> None:
    print(f"\n{name}\n")
    row("asked for", "ms", "misses", "hits", "s saved")
    row(*["---"] * 6)
    first, job = client.told("glb", picture, {"format": "glb"})
    again = [client.told("the same again", picture, {"format": "glb"})[0]]
    for kind in ("stl", "ply", "obj", "3mf"):
        client.told(f"as {kind}", picture, {"format": kind})
    client.told("in another size", picture, {"format": "glb", "dimensions": '{"width": 40}'})
    client.told("in another quality", picture, {"format": "glb", "quality": "3"})
    again += [client.make(picture, {"format": "glb"})[0] for _ in range(8)]
    second = statistics.median(again)
    print(
        f"\n{job['mesh']['faces']} faces; first {1000 * first:.0f} ms, again {1000 * second:.1f} ms "
        f"({1000 * min(again):.1f} to {1000 * max(again):.1f}), ratio {first / second:.0f}"
    )


if __name__ == "__main__":
    main()
