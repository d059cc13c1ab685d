"""Serving over HTTP with waitress, until Ctrl-C or SIGTERM."""

from __future__ import annotations

import contextlib
import logging
import select
import signal
import socket
import sys
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

from flask import Flask

THREADS = 32
"""HTTP threads: more than may wait for jobs at once, so that health is always answered."""


def listen(host: str, port: int) -> socket.socket:
    """A bound socket, so that a port of 0 is known before the server is made; OSError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, port), family=family, backlog=128)


def serve(app: Flask, listener: socket.socket, load: Callable[[], None], close: Callable[[], None]) -> None:
    """Answer requests; `load` runs in a thread of its own, `close` when it is time to end."""
    from waitress import wasyncore
    from waitress.server import create_server

    from web.sendfile import Channel, sending_files

    logging.getLogger("waitress.queue").setLevel(logging.ERROR)  # a line for each request that waits
    channels: dict[int, Any] = {}
    sends_files = sys.platform == "linux"
    http: Any = create_server(
        sending_files(app) if sends_files else app,
        map=channels,
        sockets=[listener],
        threads=THREADS,
        channel_request_lookahead=1,  # without it a closed connection goes unnoticed
        # Flask refuses what is too large with a JSON answer; this only keeps the absurd from being read at all.
        max_request_body_size=2 * app.config["MAX_CONTENT_LENGTH"],
        ident="orfeas",
    )
    if sends_files:
        http.channel_class = Channel

    def stop(signum: int, frame: FrameType | None) -> None:
        raise SystemExit

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    loading = threading.Thread(target=load, name="model-loader", daemon=True)
    loading.start()
    closing = threading.Thread(target=close, name="closing", daemon=True)
    with contextlib.suppress(SystemExit):
        wasyncore.loop(timeout=1, map=channels, use_poll=hasattr(select, "poll"))
    closing.start()  # first, as it wakes the requests that wait for a job
    http.task_dispatcher.shutdown(timeout=2)
    closing.join(timeout=3)
    loading.join(timeout=5)  # an interpreter that ends while it imports torch aborts
