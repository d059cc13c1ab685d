"""Runs the real server with one more model in its registry: one whose every run the test steers over a socket."""

import os
import socket
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np

from models import registry
from models.base import GenerationCancelledError, Mesh, Model, ModelUnavailableError


class ScriptedModel(Model):
    """`path` holds the port at which the test listens; it answers each run with go, raise, oom or empty."""

    id = "scripted"
    licence = "MIT"
    reads = frozenset({"image", "quality", "seed"})
    thread_safe = True

    def load(self):
        if self.path is None or not self.path.is_file():
            raise ModelUnavailableError("the port file is missing")
        self.device, self.revision = "cpu", "1"

    def generate(self, image, options, progress, cancelled):
        with socket.create_connection(("127.0.0.1", int(self.path.read_text()))) as conductor:
            conductor.sendall(f"run {options.quality} {options.seed}\n".encode())
            conductor.settimeout(0.02)
            answer = b""
            while not answer.endswith(b"\n"):
                if cancelled():
                    conductor.sendall(b"cancelled\n")
                    raise GenerationCancelledError
                try:
                    part = conductor.recv(100)
                except TimeoutError:
                    continue
                assert part, "the test has gone"
                answer += part
        if answer == b"raise\n":
            raise RuntimeError("the scripted failure\nwith a second line")
        if answer == b"oom\n":
            raise MemoryError
        progress(0.5, "half way")
        return box(1.0, 2.0, 0.5 + 0.01 * options.quality)


def box(width, height, depth):
    import trimesh

    solid = trimesh.creation.box((width, height, depth))
    colours = np.full((len(solid.vertices), 3), (200, 60, 30), np.uint8)
    return Mesh(solid.vertices.astype(np.float32), solid.faces.astype(np.int32), colours=colours)


def set_clock(ahead):
    """A clock on the wall that is so many seconds ahead."""
    plain = time.time
    time.time = lambda: plain() + ahead


if __name__ == "__main__":
    set_clock(float(os.environ.get("CLOCK_AHEAD", "0")))
    import main

    registry.register("scripted", ScriptedModel)
    main.main()
