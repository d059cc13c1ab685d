"""Computations under way: who leads, who waits, and who must not."""

from __future__ import annotations

import os
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import Any, Final

ABANDONED: Final = object()
"""What a flight lands with when its leader was cancelled or interrupted: one who waits has to lead another."""


class CircularComputationError(RuntimeError):
    """A computation asked, directly or through others, for its own result; waiting for it would never end."""


_leading: ContextVar[Flight | None] = ContextVar("leading", default=None)
"""The innermost flight that the running code computes; tasks and `asyncio.to_thread` inherit it."""

_waits_lock = threading.RLock()
"""Guards `_needs` of every flight, as a computation may wait for another cache's; a finaliser may come in between."""

if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_waits_lock.acquire, after_in_parent=_waits_lock.release, after_in_child=_waits_lock.release
    )


class Flight:
    """One computation under way. Its leader computes; whoever else asks waits for the future."""

    def __init__(self, began: float, loop_thread: int | None) -> None:
        """`loop_thread`: the thread whose event loop the leader runs in, None for a plain leader."""
        self.began = began
        self.future: Future[Any] = Future()
        self.future.set_running_or_notify_cancel()  # from here on nobody but the leader settles it
        self.loop_thread = loop_thread
        self.cost = 0.0
        self._needs: Counter[Flight] = Counter()  # several tasks of one computation may wait for the same

    @contextmanager
    def led(self) -> Iterator[None]:
        """Compute in the body, which settles the future with the value; an error settles it here and goes on."""
        with self.awaited():
            outer = _leading.set(self)
            try:
                yield
            except StopIteration as error:  # no event loop can raise it into those who wait: as PEP 479 has it
                stopped = RuntimeError("the computation raised StopIteration")
                stopped.__cause__ = error
                self.future.set_exception(stopped)
                raise
            except Exception as error:
                self.future.set_exception(error)
                raise
            except BaseException:
                self.future.set_result(ABANDONED)
                raise
            finally:
                with suppress(ValueError):  # a coroutine that is thrown away ends in another context
                    _leading.reset(outer)
                del self  # else the error would hold this frame, this frame the flight, and the flight the error

    @contextmanager
    def awaited(self) -> Iterator[None]:
        """Note, while the body runs, that the computation around it (if any) needs this one; refuse a circle."""
        outer = _leading.get()
        if outer is None:
            yield
            return
        with _waits_lock:
            if self._depends_on(outer):
                raise CircularComputationError("a computation waits for its own result")
            outer._needs[self] += 1
        try:
            yield
        finally:
            with _waits_lock:
                outer._needs -= Counter({self: 1})

    def _depends_on(self, other: Flight) -> bool:
        return self is other or any(needed._depends_on(other) for needed in tuple(self._needs))

    def would_block(self, thread: int) -> bool:
        """Whether it, or a computation that it waits for, is led in the event loop of that thread."""
        with _waits_lock:
            return self.loop_thread == thread or any(needed.would_block(thread) for needed in tuple(self._needs))
