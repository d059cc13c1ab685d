"""Lanes, joining, leaving, the bound, the slot, and what is told of time; the work itself is the test's."""

import queue
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from asks import outcome, request
from live_server import PATIENCE

from errors import EmptyMeshError, GenerationCancelledError, QueueFullError, StoppedError
from work.queue import Queue


class Step:
    """One execution under way; the test says how it ends."""

    def __init__(self, run, report):
        self.run, self.report = run, report
        self._result = queue.SimpleQueue()

    def end(self, result=None):
        self._result.put(outcome() if result is None else result)

    def wait(self):
        result = self._result.get(timeout=PATIENCE)
        if isinstance(result, BaseException):
            raise result
        return result


class Office:
    """A queue, and who does its work."""

    def __init__(self, max_queued=10):
        lock = threading.RLock()
        self.changed = threading.Condition(lock)
        self.now = 0.0
        self.taken, self.open = queue.SimpleQueue(), []
        self._begun, self._over = queue.SimpleQueue(), queue.SimpleQueue()
        self.queue = Queue(
            lock,
            self.changed,
            execute=self._execute,
            started=lambda tickets: self.taken.put(list(tickets)),
            ended=lambda tickets, result: self._over.put((tickets, result)),
            max_queued=max_queued,
            monotonic=lambda: self.now,
        )

    def _execute(self, run, report):
        return self._begin(run, report).wait()

    def _begin(self, run, report):
        step = Step(run, report)
        self.open.append(step)
        self._begun.put(step)
        return step

    def ask(self, model="m", *, key=None, workers=1, **wishes):
        return self.queue.submit(request(model, **wishes), None, key, workers)

    def begun(self):
        return self._begun.get(timeout=PATIENCE)

    def over(self):
        return self._over.get(timeout=PATIENCE)

    def nothing_begins(self):
        return self._begun.empty()

    def close(self):
        self.queue.stop()
        for step in self.open:
            step.end()
        self.queue.join(PATIENCE)
        assert not [thread for thread in threading.enumerate() if thread.name.startswith("m-")]


@pytest.fixture
def office():
    office = Office()
    yield office
    office.close()


class TestLanes:
    def test_two_models_run_side_by_side(self, office):
        tickets = [office.ask("m-one"), office.ask("m-two")]
        steps = [office.begun(), office.begun()]
        assert {step.run for step in steps} == {ticket.run for ticket in tickets}
        assert office.queue.lengths() == (2, 0)

    def test_one_model_runs_one_after_the_other_in_the_order_asked(self, office):
        tickets = [office.ask() for _ in range(3)]
        for number, ticket in enumerate(tickets):
            step = office.begun()
            assert step.run is ticket.run
            assert office.queue.lengths() == (1, 2 - number)
            assert [office.queue.place(each.run)[0] for each in tickets[number:]] == list(range(3 - number))
            assert office.nothing_begins()
            step.end()
            assert office.over() == ([ticket], outcome())
        assert office.queue.lengths() == (0, 0)

    def test_a_model_of_several_threads_gets_as_many_workers_as_it_may_and_no_more(self, office):
        for _ in range(3):
            office.ask(workers=2)
        steps = [office.begun(), office.begun()]
        assert office.queue.lengths() == (2, 1)
        assert office.nothing_begins()
        steps[1].end()
        office.begun()

    def test_an_idle_worker_is_used_before_another_is_made(self, office):
        for _ in range(3):
            office.ask(workers=4)
            office.begun().end()
            office.over()
        assert len([thread for thread in threading.enumerate() if thread.name.startswith("m-")]) <= 2

    def test_who_starts_is_told_before_the_work_begins(self, office):
        ticket = office.ask()
        office.begun()
        assert office.taken.get(block=False) == [ticket]


class TestBound:
    def test_it_holds_for_all_lanes_together(self):
        office = Office(max_queued=2)
        running = [office.ask("m-one"), office.begun(), office.ask("m-two"), office.begun()]
        waiting = [office.ask("m-one", key="k"), office.ask("m-two")]
        for model in ("m-one", "m-two", "m-three"):
            with pytest.raises(QueueFullError) as full:
                office.ask(model)
            assert full.value.details["retry_after"] >= 1
        assert office.queue.lengths() == (2, 2)
        joined = office.ask("m-one", key="k")  # who joins takes no place
        assert joined.run is waiting[0].run
        office.queue.leave(waiting[1])
        assert office.ask("m-three").run is office.begun().run
        assert running
        office.close()

    def test_it_says_when_to_come_again(self):
        office = Office(max_queued=1)
        office.queue.remember(("m", 7), 100.0)
        office.ask()
        office.begun()
        office.ask()
        office.now = 58.0
        with pytest.raises(QueueFullError) as full:
            office.ask()
        assert full.value.details["retry_after"] == 42
        office.close()


class TestSharing:
    @pytest.mark.parametrize("meanwhile", ["waiting", "running"])
    def test_the_same_key_joins_the_run_under_way(self, office, meanwhile):
        if meanwhile == "waiting":
            office.ask()
            in_the_way = office.begun()
        first = office.ask(key="k")
        if meanwhile == "running":
            step = office.begun()
        second = office.ask(key="k")
        assert second.run is first.run
        assert office.queue.coalesced == 1
        if meanwhile == "waiting":
            in_the_way.end()
            office.over()
            step = office.begun()
        step.end()
        assert office.over() == ([first, second], outcome())

    def test_another_key_or_none_shares_with_nobody(self, office):
        runs = {office.ask(key=key).run for key in ("k", "l", None, None)}
        assert len(runs) == 4
        assert office.queue.coalesced == 0

    def test_a_run_that_is_over_is_joined_by_nobody(self, office):
        first = office.ask(key="k")
        office.begun().end()
        office.over()
        assert office.ask(key="k").run is not first.run

    def test_many_at_once_make_one_run(self, office):
        barrier = threading.Barrier(16)

        def ask(_):
            barrier.wait(PATIENCE)
            return office.ask(key="k", workers=4)

        with ThreadPoolExecutor(16) as pool:
            tickets = list(pool.map(ask, range(16)))
        assert len({ticket.run for ticket in tickets}) == 1
        office.begun().end()
        assert sorted(map(id, office.over()[0])) == sorted(map(id, tickets))
        assert office.queue.coalesced == 15

    @pytest.mark.parametrize("error", [EmptyMeshError("nothing is left"), RuntimeError("a fault"), KeyError("x")])
    def test_an_error_is_for_all_and_the_worker_lives_on(self, office, error):
        tickets = [office.ask(key="k"), office.ask(key="k")]
        office.begun().end(error)
        assert office.over() == (tickets, error)
        office.ask()
        office.begun()

    def test_not_even_the_end_of_the_interpreter_takes_a_worker(self, office):
        office.ask()
        office.begun().end(SystemExit("from a library"))
        _, result = office.over()
        assert isinstance(result, Exception)
        assert "from a library" in str(result)
        office.ask()
        office.begun()

    def test_nor_does_an_end_that_cannot_be_told(self, office, caplog):
        def full(tickets, result):
            office.queue._ended = told
            raise OSError(28, "No space left on device")

        told, office.queue._ended = office.queue._ended, full
        for _ in range(2):
            office.ask()
            office.begun().end()
        office.over()
        assert "No space left" in caplog.text


class TestLeaving:
    def test_the_others_keep_the_run(self, office):
        first, second = office.ask(key="k"), office.ask(key="k")
        step = office.begun()
        office.queue.leave(first)
        assert not step.run.cancelled.is_set()
        step.report(0.5, "on it goes")
        step.end()
        assert office.over() == ([second], outcome())

    def test_a_run_that_everybody_has_left_is_told_to_stop_and_not_joined(self, office):
        tickets = [office.ask(key="k"), office.ask(key="k")]
        step = office.begun()
        for ticket in tickets * 2:  # twice does no harm
            office.queue.leave(ticket)
        assert step.run.cancelled.is_set()
        with pytest.raises(GenerationCancelledError):
            step.report(0.5, "too late")
        assert office.ask(key="k").run is not step.run
        step.end(GenerationCancelledError())
        tickets, result = office.over()
        assert tickets == []
        assert isinstance(result, GenerationCancelledError)

    def test_who_waits_and_leaves_never_runs(self, office):
        office.ask()
        step = office.begun()
        gone, next_one = office.ask(), office.ask()
        office.queue.leave(gone)
        assert office.queue.lengths() == (1, 1)
        assert office.queue.place(next_one.run)[0] == 1
        step.end()
        office.over()
        assert office.begun().run is next_one.run

    def test_leaving_after_the_end_changes_nothing(self, office):
        ticket = office.ask()
        office.begun().end()
        office.over()
        office.queue.leave(ticket)
        assert not ticket.run.cancelled.is_set()


class TestStopping:
    def test_nobody_is_let_in_and_who_waits_never_runs(self):
        office = Office()
        running, waiting = office.ask(), office.ask()
        step = office.begun()
        office.queue.stop()
        with pytest.raises(StoppedError):
            office.ask()
        step.end()
        assert office.over()[0] == [running]
        office.queue.join(PATIENCE)
        assert office.nothing_begins()
        assert waiting.run.started is None
        office.close()

    def test_idle_workers_end(self):
        office = Office()
        office.ask("m-idle")
        office.begun().end()
        office.over()
        office.close()


class TestTime:
    def test_what_is_left_of_a_run(self, office):
        ticket = office.ask()
        office.begun()
        assert office.queue.place(ticket.run) == (0, None)
        for seconds in (10.0, 2.0, 12.0):
            office.queue.remember(("m", 7), seconds)
        for office.now, left in ((0.0, 10.0), (4.0, 6.0), (99.0, 0.0)):
            assert office.queue.place(ticket.run) == (0, left)

    def test_what_stands_before_it_in_its_lane_counts(self, office):
        office.queue.remember(("m", 7), 10.0)
        office.queue.remember(("m", 9), 100.0)
        tickets = [office.ask(), office.ask(quality=9), office.ask(), office.ask("m-other")]
        for _ in range(2):
            office.begun()
        office.now = 3.0
        assert [office.queue.place(ticket.run) for ticket in tickets] == [(0, 7.0), (1, 107.0), (2, 117.0), (0, None)]

    def test_a_kind_that_was_never_run_makes_the_time_unknown(self, office):
        office.queue.remember(("m", 7), 10.0)
        office.ask(quality=3)
        office.begun()
        assert office.queue.place(office.ask().run) == (1, None)

    def test_a_run_has_one_worker_however_many_its_lane_has(self, office):
        office.queue.remember(("m", 7), 10.0)
        tickets = [office.ask(workers=2) for _ in range(2)]
        for _ in range(2):
            office.begun()
        assert office.queue.place(tickets[0].run) == (0, 10.0)

    def test_two_workers_share_what_stands_before(self, office):
        office.queue.remember(("m", 7), 10.0)
        tickets = [office.ask(workers=2) for _ in range(4)]
        for _ in range(2):
            office.begun()
        assert office.queue.place(tickets[3].run) == (2, 20.0)

    def test_runs_are_remembered_by_model_and_quality_but_hits_and_failures_are_not(self, office):
        for result in (outcome(), outcome(cached=True), RuntimeError()):
            office.ask(quality=3)
            step = office.begun()
            office.now += 8.0
            step.end(result)
            office.over()
        assert office.queue.expected_seconds("m") == {3: 8.0}
        assert office.queue.expected_seconds("another") == {}

    def test_the_median_is_of_the_last_twenty(self, office):
        for _ in range(20):
            office.queue.remember(("m", 5), 100.0)
        for _ in range(11):
            office.queue.remember(("m", 5), 1.0)
        assert office.queue.expected_seconds("m") == {5: 1.0}


class TestProgress:
    def test_it_never_goes_back_and_never_says_done(self, office):
        ticket = office.ask()
        report = office.begun().report
        seen = []
        for fraction in (0.2, 0.1, 0.7, 5.0, -1.0, 1.0):
            report(fraction, f"at {fraction}")
            seen.append(ticket.run.progress)
        assert seen == sorted(seen)
        assert seen[0] == pytest.approx(0.2, abs=0.01)
        assert seen[-1] == 0.99
        assert ticket.run.stage == "at 1.0"

    def test_a_part_of_the_whole(self, office):
        ticket = office.ask()
        part = office.begun().report.within(0.2, 0.6)
        for fraction, whole in ((0.0, 0.2), (0.5, 0.4), (1.0, 0.6)):
            part(fraction, "s")
            assert ticket.run.progress == pytest.approx(whole)

    def test_it_wakes_who_waits_for_a_change(self, office):
        ticket = office.ask()
        step = office.begun()
        seen = ticket.run.version
        with office.changed:
            threading.Thread(target=step.report, args=(0.5, "half way")).start()
            assert office.changed.wait_for(lambda: ticket.run.version > seen, PATIENCE)


class SharedGPU(Office):
    """All lanes work in one slot."""

    def _execute(self, run, report):
        self.queue.hold(run, "cuda:0" if "gpu" in run.lane else run.lane)
        return self._begin(run, report).wait()


@pytest.fixture
def gpu():
    office = SharedGPU()
    yield office
    office.close()


class TestSlot:
    def test_two_models_on_one_gpu_take_turns_and_others_do_not_wait(self, gpu):
        gpu.ask("m-gpu-one")
        first = gpu.begun()
        gpu.ask("m-gpu-two")
        gpu.ask("m-processor")
        assert gpu.begun().run.lane == "m-processor"
        assert gpu.nothing_begins()
        first.end()
        assert gpu.begun().run.lane == "m-gpu-two"

    def test_a_lane_that_knows_its_slot_waits_for_it_in_the_lane(self, gpu):
        for lane in ("m-gpu-one", "m-gpu-two"):
            gpu.ask(lane)
            gpu.begun().end()
            gpu.over()
        gpu.ask("m-gpu-one")
        first = gpu.begun()
        ticket = gpu.ask("m-gpu-two")
        assert gpu.nothing_begins()
        with gpu.changed:
            assert gpu.queue.place(ticket.run)[0] == 1
        assert gpu.queue.lengths() == (1, 1)
        first.end()
        assert gpu.begun().run is ticket.run

    def test_a_run_that_fails_leaves_it(self, gpu):
        gpu.ask("m-gpu-one")
        gpu.begun().end(RuntimeError("a fault"))
        gpu.over()
        gpu.ask("m-gpu-two")
        gpu.begun()

    def test_who_waits_for_it_can_leave_at_once_and_never_had_it(self, gpu):
        gpu.ask("m-gpu-one")
        first = gpu.begun()
        ticket = gpu.ask("m-gpu-two")
        assert [gpu.taken.get(timeout=PATIENCE) for _ in range(2)][1] == [ticket]
        gpu.queue.leave(ticket)
        tickets, result = gpu.over()
        assert (tickets, type(result)) == ([], GenerationCancelledError)
        assert gpu.queue.lengths() == (1, 0)
        gpu.ask("m-gpu-three")
        first.end()
        assert gpu.begun().run.lane == "m-gpu-three"
