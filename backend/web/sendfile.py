"""Downloads that the kernel copies from the file to the socket: none of their bytes comes into this process (Linux).

Waitress reads a piece as large as the socket's buffer, sends what fits and reads the rest again: several times the
file's size, megabytes for each download under way.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from waitress.buffers import ReadOnlyFileBasedBuffer
from waitress.channel import HTTPChannel


@dataclass(frozen=True, slots=True)
class _Piece:
    """What is left of a file."""

    descriptor: int
    offset: int
    count: int


class SentFile(ReadOnlyFileBasedBuffer):
    """The `wsgi.file_wrapper` of an app whose server has `Channel` for its channels."""

    def get(self, numbytes: int = -1, skip: bool = False) -> Any:
        """The next bytes of a stream in memory; of a file on the disk, where they are."""
        file: Any = self.file
        if skip or isinstance(file, io.BytesIO):
            return super().get(numbytes, skip)
        return _Piece(file.fileno(), file.tell(), self.remain)


class Channel(HTTPChannel):
    """A connection that knows how to send a piece of a file."""

    def send(self, data: Any, do_close: bool = True) -> int:
        """How many bytes went; 0: none just now, or the connection is over."""
        if not isinstance(data, _Piece):
            return int(super().send(data, do_close))
        assert self.socket is not None
        try:
            sent = os.sendfile(self.socket.fileno(), data.descriptor, data.offset, data.count)
        except BlockingIOError:
            return 0
        except OSError:  # the client has gone
            sent = 0
        if sent == 0 and do_close:  # also where somebody has cut the file short
            self.handle_close()
        return sent


def sending_files(app: Callable[..., Iterable[bytes]]) -> Callable[..., Iterable[bytes]]:
    """The app, whose files are sent by `Channel`."""

    def front(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        environ["wsgi.file_wrapper"] = SentFile
        return app(environ, start_response)

    return front
