"""Lanes of runs: one lane for each model, a bound on all that wait, and the threads that work.

A *run* is one execution of a request. Identical requests that are under way at once share a run, each with a ticket of
its own; who gives up hands the ticket back, and a run without tickets is told to stop. Lanes whose models work on the
same GPU share one slot: their runs wait in the lane, not in a model's lock (the first of a lane, whose model was never
loaded, learns of the slot with the loading). Knows no job and no HTTP.
"""

from __future__ import annotations

import contextlib
import logging
import statistics
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from errors import GenerationCancelledError, OrfeasError, QueueFullError, StoppedError
from work.plan import Plan
from work.request import Outcome, Reporter, Request

log = logging.getLogger(__name__)


@dataclass(eq=False, slots=True)
class Ticket:
    """One request's share in a run."""

    request: Request
    run: Run


@dataclass(eq=False, slots=True)
class Run:
    """One execution, for all who hold a ticket."""

    lane: str
    plan: Plan | None
    """None: its model was never loaded, so its keys are not known yet."""
    key: str | None
    """What makes two requests identical; None: shared with nobody."""
    kind: tuple[str, int]
    """Model and quality: runs of one kind take about equally long."""
    tickets: list[Ticket] = field(default_factory=list)
    cancelled: threading.Event = field(default_factory=threading.Event)
    started: float | None = None
    """Monotonic seconds."""
    slot: str | None = None
    """The slot that it holds."""
    progress: float = 0.0
    stage: str = ""
    version: int = 0


@dataclass(eq=False, slots=True)
class _Lane:
    waiting: deque[Run] = field(default_factory=deque)
    running: list[Run] = field(default_factory=list)
    workers: int = 0
    most: int = 1
    """Workers that it may have."""
    slot: str | None = None
    """What its runs have to hold, one at a time; None: nothing, or not known yet."""


@dataclass(frozen=True, slots=True)
class _RunReporter:
    run: Run
    changed: threading.Condition
    low: float = 0.0
    high: float = 0.99

    def __call__(self, fraction: float, stage: str) -> None:
        if self.run.cancelled.is_set():
            raise GenerationCancelledError
        with self.changed:
            at = self.low + (self.high - self.low) * min(max(fraction, 0.0), 1.0)
            self.run.progress, self.run.stage = max(self.run.progress, at), stage
            self.run.version += 1
            self.changed.notify_all()

    def within(self, low: float, high: float) -> Reporter:
        return replace(self, low=low, high=high)


class Queue:
    """Owns every run and worker thread. It shares its lock with the jobs; `changed` tells those who wait for a job.

    `execute` does the work of a run. `started` hears that a worker has taken it, with the lock held; `ended` that it is
    over for those who still hold a ticket, without.
    """

    def __init__(
        self,
        lock: threading.RLock,
        changed: threading.Condition,
        *,
        execute: Callable[[Run, Reporter], Outcome],
        started: Callable[[list[Ticket]], None],
        ended: Callable[[list[Ticket], Outcome | Exception], None],
        max_queued: int,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._changed, self._execute, self._started, self._ended = changed, execute, started, ended
        self._ready = threading.Condition(lock)
        """Of workers: there is a run, or a slot, to be had."""
        self._max_queued, self._monotonic = max_queued, monotonic
        self._lanes: dict[str, _Lane] = {}
        self._threads: list[threading.Thread] = []
        self._slots: set[str] = set()
        self._past: dict[tuple[str, int], deque[float]] = {}
        self._stopped = False
        self.coalesced = 0
        """Requests that joined a run under way."""

    # ── asking and giving up ─────────────────────────────────────────────────────────────────────────────────────

    def submit(
        self, request: Request, plan: Plan | None, key: str | None, workers: int, *, bounded: bool = True
    ) -> Ticket:
        """Wait in the lane of the request's model, or join the run under way of the same key.

        `workers`: how many threads the lane may have. StoppedError; QueueFullError, if it is `bounded`.
        """
        with self._changed:
            if self._stopped:
                raise StoppedError("the server is shutting down", {"retry_after": 10})
            run = self._under_way(key) if key else None
            if run is None:
                run = self._new_run(request, plan, key, workers, bounded)
            else:
                self.coalesced += 1
            ticket = Ticket(request, run)
            run.tickets.append(ticket)
            self._ready.notify_all()
            return ticket

    def _under_way(self, key: str) -> Run | None:
        runs = (run for lane in self._lanes.values() for run in (*lane.running, *lane.waiting))
        return next((run for run in runs if run.key == key), None)

    def _new_run(self, request: Request, plan: Plan | None, key: str | None, workers: int, bounded: bool) -> Run:
        lane = self._lanes.setdefault(request.model, _Lane())
        lane.most = workers
        # A run that a worker is about to take does not wait.
        waiting = sum(max(0, len(each.waiting) + len(each.running) - each.most) for each in self._lanes.values())
        if bounded and waiting >= self._max_queued:
            raise QueueFullError("too many jobs are waiting", {"retry_after": self._retry_after()})
        run = Run(request.model, plan, key, (request.model, request.wishes.quality))
        lane.waiting.append(run)
        if lane.workers < min(workers, len(lane.waiting) + len(lane.running)):
            lane.workers += 1
            name = f"{request.model}-{lane.workers}"
            thread = threading.Thread(target=self._work, args=(lane,), name=name, daemon=True)
            self._threads.append(thread)
            thread.start()
        return run

    def leave(self, ticket: Ticket) -> None:
        """Give up; a run that everybody has left is told to stop, and nobody may join it any more."""
        with self._changed:
            run = ticket.run
            if ticket not in run.tickets:
                return
            run.tickets.remove(ticket)
            if not run.tickets:
                run.cancelled.set()
                run.key = None
                with contextlib.suppress(ValueError):
                    self._lanes[run.lane].waiting.remove(run)
                self._ready.notify_all()

    def stop(self) -> None:
        """Refuse new runs; idle workers end."""
        with self._changed:
            self._stopped = True
            self._ready.notify_all()

    def join(self, timeout: float) -> None:
        """Wait up to `timeout` seconds for the workers."""
        deadline = time.monotonic() + timeout
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))

    # ── the workers ──────────────────────────────────────────────────────────────────────────────────────────────

    def _work(self, lane: _Lane) -> None:
        while True:
            with self._ready:
                while not self._stopped and (not lane.waiting or lane.slot in self._slots):
                    self._ready.wait()
                if self._stopped:
                    return
                run = lane.waiting.popleft()
                lane.running.append(run)
                run.started = self._monotonic()
                if lane.slot is not None:
                    self._slots.add(lane.slot)
                    run.slot = lane.slot
                self._started(run.tickets)
            try:
                result: Outcome | Exception = self._execute(run, _RunReporter(run, self._changed))
            except (GenerationCancelledError, OrfeasError) as error:
                result = error
            except BaseException as error:  # a fault in one run must never take the worker with it
                log.exception("a run failed unexpectedly")
                result = error if isinstance(error, Exception) else RuntimeError(f"{type(error).__name__}: {error}")
            self._end(lane, run, result)

    def _end(self, lane: _Lane, run: Run, result: Outcome | Exception) -> None:
        with self._changed:
            lane.running.remove(run)  # from here on nobody joins it
            tickets, run.tickets = run.tickets, []
            if run.slot is not None:
                self._slots.discard(run.slot)
                self._ready.notify_all()
            if isinstance(result, Outcome) and not result.cached and run.started is not None:
                self.remember(run.kind, self._monotonic() - run.started)
        try:
            self._ended(tickets, result)
        except Exception:  # a full disk, say
            log.exception("the end of a run could not be told to all")

    def hold(self, run: Run, slot: str) -> None:
        """Hold that slot, which one run at a time may have, until the run is over; its lane waits for it from now on.

        GenerationCancelledError when everybody leaves meanwhile.
        """
        with self._changed:
            lane = self._lanes[run.lane]
            lane.slot = slot
            if run.slot == slot:
                return
            self._ready.wait_for(lambda: slot not in self._slots or run.cancelled.is_set())
            if run.cancelled.is_set():
                raise GenerationCancelledError
            self._slots.add(slot)
            run.slot, run.started = slot, self._monotonic()

    # ── knowing ──────────────────────────────────────────────────────────────────────────────────────────────────

    def makes(self, key: str) -> bool:
        """Whether a run under way that somebody waits for makes, or uses, the shape or the file of that key."""
        with self._changed:
            runs = [run for lane in self._lanes.values() for run in lane.running if run.tickets]
        return any(run.plan is not None and key in (run.plan.shape, run.plan.file) for run in runs)

    def lengths(self) -> tuple[int, int]:
        """Runs under way, runs that wait, in all lanes together."""
        with self._changed:
            lanes = self._lanes.values()
            return sum(len(lane.running) for lane in lanes), sum(len(lane.waiting) for lane in lanes)

    def place(self, run: Run) -> tuple[int, float | None]:
        """Where the run stands in its lane (1 is next, 0 is not waiting), and the seconds until it is done.

        The median time of past runs of each kind, less what has passed; None while a kind before it was never run.
        """
        lane = self._lanes[run.lane]
        position = lane.waiting.index(run) + 1 if run in lane.waiting else 0
        before = [*lane.running, *list(lane.waiting)[:position]] if position else [run]
        lefts = [self._time_left(each) for each in before]
        known = [left for left in lefts if left is not None]
        workers = lane.workers if position else 1
        return position, round(sum(known) / workers, 2) if len(known) == len(lefts) else None

    def _time_left(self, run: Run) -> float | None:
        past = self._past.get(run.kind)
        if not past:
            return None
        elapsed = self._monotonic() - run.started if run.started is not None else 0.0
        return max(0.0, statistics.median(past) - elapsed)

    def _retry_after(self) -> int:
        running = (run for lane in self._lanes.values() for run in lane.running)
        return max(1, round(min((left for run in running if (left := self._time_left(run)) is not None), default=5.0)))

    def remember(self, kind: tuple[str, int], seconds: float) -> None:
        """A run of that kind took so long."""
        self._past.setdefault(kind, deque(maxlen=20)).append(seconds)

    def expected_seconds(self, model: str) -> dict[int, float]:
        """The median time of past runs of a model, for each quality that has been run."""
        with self._changed:
            return {
                quality: round(statistics.median(times), 3)
                for (name, quality), times in sorted(self._past.items())
                if name == model
            }
