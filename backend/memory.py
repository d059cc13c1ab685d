"""Give freed memory back to the system: on Linux with glibc, elsewhere nothing is done.

glibc keeps what a thread has freed in an arena of that thread, up to eight for each processor: a server whose results
are megabytes would never shrink again. Few arenas share what is free, and `give_back` returns it (mallopt(3),
malloc_trim(3)). Mapping large blocks on their own would return them by itself, but costs a quarter more of a
generation's time in page faults.
"""

from __future__ import annotations

import ctypes
import functools
import sys
from typing import Any

_M_ARENA_MAX = -8
_ARENAS = 2


@functools.cache
def _libc() -> Any:
    """The C library, if it is glibc on Linux; else None."""
    if not sys.platform.startswith("linux"):
        return None
    try:
        library = ctypes.CDLL(None)
        return library if library.mallopt and library.malloc_trim else None
    except (OSError, AttributeError):  # musl has neither
        return None


def keep_little() -> None:
    """Before the first thread: let all of them share two arenas."""
    if (libc := _libc()) is not None:
        libc.mallopt(_M_ARENA_MAX, _ARENAS)


def give_back() -> None:
    """Return what is free to the system; some milliseconds."""
    if (libc := _libc()) is not None:
        libc.malloc_trim(0)
