"""Give freed memory back to the system: on Linux with glibc, elsewhere nothing is done.

glibc keeps what a thread has freed in an arena of that thread, up to eight for each processor, and raises the size from
which blocks are mapped on their own, and given back at once, with every block that was freed. A server whose results
are megabytes then never shrinks again. mallopt(3)
"""

from __future__ import annotations

import ctypes
import sys

_M_MMAP_THRESHOLD, _M_ARENA_MAX = -3, -8
_ARENAS = 2
_MAPPED = 1 << 20
"""Bytes from which a block is mapped on its own."""


def keep_little() -> bool:
    """Before the first thread: few arenas, large blocks mapped on their own. False where there is no such C library."""
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # musl has none
        return False
    return bool(mallopt(_M_ARENA_MAX, _ARENAS) and mallopt(_M_MMAP_THRESHOLD, _MAPPED))
