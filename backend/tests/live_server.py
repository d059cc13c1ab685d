"""A real server process and what tests ask of it over real HTTP; pictures drawn for them."""

from __future__ import annotations

import io
import itertools
import os
import queue
import re
import signal
import socket
import subprocess
import sys
import threading
from contextlib import contextmanager
from pathlib import Path

import requests
from PIL import Image, ImageDraw

BACKEND = Path(__file__).resolve().parents[1]
PATIENCE = 60
"""Seconds after which something that ought to happen has not: a bound, never a measure."""


def draw(colour=(200, 60, 30), size=(96, 128), mark=0) -> Image.Image:
    """A cut-out ellipse; `mark` makes one picture differ from the next."""
    image = Image.new("RGBA", size)
    pen = ImageDraw.Draw(image)
    pen.ellipse((12, 12, size[0] - 12, size[1] - 12), fill=(*colour, 255))
    pen.rectangle((40, 50, 44, 54), fill=(mark % 256, mark // 256, 90, 255))
    return image


_marks = itertools.count(1)


def fresh_png() -> bytes:
    """A picture that no test has used before."""
    return encode(draw(mark=next(_marks)))


def files_kept(data_dir: Path) -> list[Path]:
    """What lies in a server's data folder, but for its lock and its index."""
    own = ("server.lock", "index.db")
    return [path for path in data_dir.rglob("*") if path.is_file() and not path.name.startswith(own)]


def encode(image: Image.Image, kind: str = "PNG", **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


class Client:
    """A server process and what tests ask of it."""

    def __init__(self, address: str, process: subprocess.Popen) -> None:
        self.address, self.process = address, process
        self.session = requests.Session()

    def __call__(self, method: str, path: str, **options) -> requests.Response:
        return self.session.request(method, self.address + path, timeout=PATIENCE, **options)

    def get(self, path: str, **options) -> requests.Response:
        return self("GET", path, **options)

    def post(self, path: str, **options) -> requests.Response:
        return self("POST", path, **options)

    def upload(self, data: bytes, name: str = "picture.png") -> str:
        answer = self.post("/api/upload-image", files={"image": (name, data)})
        assert answer.status_code == 200, answer.text
        return answer.json()["job_id"]

    def generate(self, job_id: str, **wish) -> requests.Response:
        return self.post("/api/generate-3d", json={"job_id": job_id, **wish})

    def status(self, job_id: str, wait: float = 0) -> dict:
        return self.get(f"/api/job-status/{job_id}", params={"wait": wait}).json()

    def settled(self, job_id: str) -> dict:
        for _ in range(200):
            status = self.status(job_id, wait=10)
            if status["status"] in ("completed", "failed", "cancelled"):
                return status
        raise AssertionError(f"never settled: {status}")

    def make(self, data: bytes, **wish) -> dict:
        """Upload, generate, wait: the final status."""
        job_id = self.upload(data)
        answer = self.generate(job_id, **wish)
        assert answer.status_code == 200, answer.text
        return self.settled(job_id)

    def download(self, status: dict) -> bytes:
        answer = self.get(status["download_url"])
        assert answer.status_code == 200, answer.text
        return answer.content

    def stats(self) -> dict:
        return self.get("/api/cache/stats").json()["stats"]


class Run:
    """One run of the scripted model, held until the test says how it ends."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self.lines = connection.makefile("r")
        self.quality, self.seed = (int(word) for word in self.lines.readline().split()[1:])

    def end(self, how: str = "go") -> None:
        self.connection.sendall(f"{how}\n".encode())
        self.connection.close()

    def wait_until_cancelled(self) -> None:
        assert self.lines.readline() == "cancelled\n"
        self.connection.close()


class Conductor:
    """Listens for the scripted model's runs; counts them; lets them pass unless told to hold."""

    def __init__(self, folder: Path) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port_file = folder / "port"
        self.port_file.write_text(str(self.listener.getsockname()[1]))
        self.runs = 0
        self.hold = False
        self.held: queue.Queue[Run] = queue.Queue()
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            connection.settimeout(PATIENCE)
            run = Run(connection)
            self.runs += 1
            self.held.put(run) if self.hold else run.end()

    def next_run(self) -> Run:
        return self.held.get(timeout=PATIENCE)


@contextmanager
def running_server(data_dir: Path, script: Path = BACKEND / "main.py", **environment):
    """A server process on a free port; its client once it has said which."""
    names = ("PATH", "SYSTEMROOT", "HOME", "LANG", "TMP", "TEMP")
    env = {name: os.environ[name] for name in names if name in os.environ}
    env |= {"DATA_DIR": str(data_dir), "ORFEAS_PORT": "0", "LOG_LEVEL": "WARNING", **environment}
    process = subprocess.Popen([sys.executable, str(script)], env=env, stdout=subprocess.PIPE, text=True)
    try:
        line = process.stdout.readline()
        address = re.search(r"http://\S+?(?=,)", line)
        assert address, f"the server said {line!r}"
        yield Client(address[0], process)
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        try:
            process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
        finally:
            process.stdout.close()


@contextmanager
def scripted_server(folder: Path, *, held: bool = False, **environment):
    """A server whose model the test conducts; `held`: also what it does of its own from the start."""
    conductor = Conductor(folder)
    conductor.hold = held
    environment = {"ORFEAS_MODEL": "scripted", "ORFEAS_MODEL_PATH": str(conductor.port_file), **environment}
    try:
        with running_server(folder / "data", BACKEND / "tests" / "support" / "serve.py", **environment) as client:
            client.conductor = conductor
            yield client
    finally:
        conductor.listener.close()
