"""Servers in processes of their own, on folders of their own, and what they use of the machine. Linux only."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Server:
    name: str
    pid: int
    port: int

    def cpu(self) -> float:
        """Seconds that all its threads have used, those that have ended too."""
        return time.clock_gettime(~self.pid << 3 | 2)  # what clock_getcpuclockid(3) gives

    def cpu_at_rest(self) -> float:
        """The same, once it has stopped using any."""
        before = -1.0
        while (now := self.cpu()) != before:
            before = now
            time.sleep(0.002)
        return now

    def memory(self) -> float:
        """Resident, in MB (10^6 bytes)."""
        return int(Path(f"/proc/{self.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


@contextmanager
def running(name: str, command: Iterable[str | Path], **environment: str) -> Iterator[Server]:
    """A server that says its address in its first line."""
    with subprocess.Popen(
        [*map(str, command)], env={**os.environ, **environment}, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            line = process.stdout.readline() if process.stdout else ""
            found = re.search(r"http://127\.0\.0\.1:(\d+)", line)
            if found is None:
                raise SystemExit(f"{name} did not start: {line}")
            yield Server(name, process.pid, int(found[1]))
        finally:
            process.terminate()


@contextmanager
def orfeas(checkout: Path, python: str = sys.executable, parent: str | None = None) -> Iterator[Server]:
    """A checkout's server on an empty folder (in `parent`)."""
    command = [python, checkout / "backend" / "main.py"]
    with tempfile.TemporaryDirectory(dir=parent) as data, on_folder(checkout.name, command, data) as server:
        yield server


@contextmanager
def on_folder(name: str, command: Iterable[str | Path], data: str, **settings: str) -> Iterator[Server]:
    """A server whose folder stays."""
    environment = {"DATA_DIR": data, "ORFEAS_PORT": "0", "LOG_LEVEL": "ERROR", **settings}
    with running(name, command, **environment) as server:
        yield server
