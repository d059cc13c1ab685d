"""The list of jobs: who sees which, what is kept, what changes them, and who waits for that."""

import json
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from asks import picture, request
from in_process import until
from live_server import PATIENCE, files_kept

from errors import JobBusyError, NotFoundError
from store.files import Files
from work import jobs as room
from work.jobs import ACTIVE, EVERYONE, FINAL, Caller, Delivery, Failure, Job, Jobs, JobStatus
from work.queue import Run, Ticket
from work.request import Wishes


def uuid(number):
    return f"00000000-0000-0000-0000-{number:012d}"


class List:
    """Some jobs, their folder and their clock."""

    def __init__(self, folder):
        self.folder, self.now = folder, 1000.0
        self.changed = threading.Condition(threading.RLock())
        self.open()

    def open(self):
        self.files = Files(self.folder, self.folder / "uploads", self.folder / "outputs")
        self.jobs = Jobs(self.files, self.changed, clock=lambda: self.now)
        return self.jobs

    def add(self, number, **facts):
        name = f"{uuid(number)}.png"
        facts = {"owner": None, "created_at": float(number), "pictures": {"front": picture(name=name)}, **facts}
        job = Job(id=uuid(number), **facts)
        self.surplus = self.jobs.add(job, {name: b"pixels"})
        return job

    def ticket(self, job, started=None):
        run = Run("m", None, None, ("m", 7), started=started)
        run.tickets.append(Ticket(request(job_id=job.id), run))
        return run.tickets[0]

    @property
    def held(self):
        """The jobs, with the lock held around each call."""
        return Held(self)

    def again(self):
        """The list as the next process has it."""
        self.files.close()
        return self.open()

    def on_disk(self, job):
        return json.loads((self.folder / "outputs" / job.id / "job.json").read_bytes())


class Held:
    def __init__(self, jobs):
        self._jobs = jobs

    def __getattr__(self, name):
        def call(*args, **facts):
            with self._jobs.changed:
                return getattr(self._jobs.jobs, name)(*args, **facts)

        return call


@pytest.fixture
def jobs(tmp_path):
    jobs = List(tmp_path)
    yield jobs
    jobs.files.close()


class TestFinding:
    def test_one(self, jobs):
        job = jobs.add(1)
        assert jobs.jobs.get(job.id) is job
        with pytest.raises(NotFoundError):
            jobs.jobs.get("nobody")

    def test_a_page_is_newest_first_and_says_how_many_there_are(self, jobs):
        added = [jobs.add(number) for number in (2, 5, 3, 4, 1)]
        numbers = [[job.created_at for job in jobs.jobs.page(2, offset)[0]] for offset in (0, 2, 4, 6)]
        assert numbers == [[5, 4], [3, 2], [1], []]
        assert jobs.jobs.page(2, 6)[1] == len(added)

    def test_a_page_of_one_status(self, jobs):
        done, running = jobs.add(1), jobs.add(2)
        jobs.held.settle(done, JobStatus.COMPLETED)
        ticket = jobs.ticket(running, started=1.0)
        jobs.held.begin(running, Wishes(), ticket)
        assert jobs.jobs.page(9, 0, JobStatus.COMPLETED) == ([done], 1)
        assert jobs.jobs.page(9, 0, JobStatus.INITIALIZING) == ([running], 1)
        ticket.run.stage = "shape"
        assert jobs.jobs.page(9, 0, JobStatus.PROCESSING) == ([running], 1)
        counts = jobs.jobs.counts()
        assert {status: count for status, count in counts.items() if count} == {"completed": 1, "processing": 1}
        assert counts.keys() == set(JobStatus)

    @pytest.mark.parametrize(
        ("caller", "seen"),
        [
            (EVERYONE, {1, 2, 3}),
            (Caller("a", first=True), {1, 3}),
            (Caller("a", first=False), {1}),
            (Caller("b", first=False), {2}),
            (Caller("c", first=False), set()),
        ],
    )
    def test_who_sees_which(self, jobs, caller, seen):
        for number, owner in ((1, "a"), (2, "b"), (3, None)):
            jobs.add(number, owner=owner)
        page, total = jobs.jobs.page(9, 0, None, caller)
        assert ({job.created_at for job in page}, total) == (seen, len(seen))
        for number in (1, 2, 3):
            if number in seen:
                assert jobs.jobs.get(uuid(number), caller)
            else:
                with pytest.raises(NotFoundError):
                    jobs.jobs.get(uuid(number), caller)

    def test_which_shapes_are_named(self, jobs):
        job = jobs.add(1)
        jobs.held.settle(job, JobStatus.COMPLETED, delivery=delivery("shape:x"))
        assert jobs.jobs.names_shape("shape:x")
        assert not jobs.jobs.names_shape("shape:y")
        jobs.held.remove(job)
        assert not jobs.jobs.names_shape("shape:x")


def delivery(shape_key="shape:x"):
    mesh = {"vertices": 3, "faces": 1, "watertight": False, "volume_mm3": 0.0, "extents_mm": [1.0, 1.0, 0.0]}
    return Delivery("model_a.stl", 4, "e", shape_key, "m", False, mesh, {"total": 1.0})


class TestKeeping:
    def test_a_new_job_is_on_disk_with_its_picture(self, jobs):
        job = jobs.add(1)
        assert {path.name for path in files_kept(jobs.folder)} == {f"{job.id}.png", "job.json"}
        assert jobs.surplus == []

    def test_what_is_final_survives_a_restart_as_it_was(self, jobs):
        done, failed = jobs.add(1), jobs.add(2, owner="a", mask="f" * 64)
        jobs.held.begin(done, Wishes(quality=3))
        jobs.held.settle(done, JobStatus.COMPLETED, delivery=delivery())
        jobs.held.settle(failed, JobStatus.FAILED, failure=Failure("why", "internal", {"a": 1}))
        first, second = jobs.again().restore()
        for before, after in ((done, first), (failed, second)):
            for name in ("id", "owner", "created_at", "pictures", "mask", "status", "wishes", "delivery", "failure"):
                assert getattr(after, name) == getattr(before, name)
            assert (after.ticket, after.version, after.attempt) == (None, 0, 0)

    def test_the_oldest_that_are_over_are_too_many_one_day(self, jobs, monkeypatch):
        monkeypatch.setattr(room, "KEEP_JOBS", 3)
        running = jobs.add(1)
        jobs.held.begin(running, Wishes(), jobs.ticket(running))
        for number in (2, 3):
            jobs.add(number)
        assert jobs.surplus == []
        jobs.add(4)
        assert [job.created_at for job in jobs.surplus] == [2]
        jobs.add(5)
        assert [job.created_at for job in jobs.surplus] == [2, 3]

    def test_a_record_that_cannot_be_written_stops_nobody(self, jobs, monkeypatch, caplog):
        job = jobs.add(1)

        def full(job_id, record):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(jobs.files, "save_record", full)
        jobs.held.settle(job, JobStatus.FAILED)
        assert job.status is JobStatus.FAILED
        assert "No space left" in caplog.text


class TestChanging:
    def test_a_job_that_waits(self, jobs):
        job = jobs.add(1)
        jobs.held.settle(job, JobStatus.FAILED, failure=Failure("why", "internal"))
        jobs.now = 2000.0
        assert jobs.held.begin(job, Wishes(quality=3), jobs.ticket(job)) == 1
        assert (job.status, job.wishes.quality) == (JobStatus.QUEUED, 3)
        assert job.failure is job.started_at is job.finished_at is None
        jobs.held.started([job.ticket])
        assert (job.status, job.started_at) == (JobStatus.INITIALIZING, 2000.0)

    @pytest.mark.parametrize("how", ["answered at once", "joins a run that works already"])
    def test_a_job_that_starts_with_its_beginning(self, jobs, how):
        job = jobs.add(1)
        jobs.held.begin(job, Wishes(), None if how == "answered at once" else jobs.ticket(job, started=5.0))
        assert (job.status, job.started_at) == (JobStatus.INITIALIZING, 1000.0)

    @pytest.mark.parametrize("status", sorted(ACTIVE))
    def test_a_busy_job_is_not_begun_again(self, jobs, status):
        job = jobs.add(1)
        job.status = status
        with pytest.raises(JobBusyError):
            jobs.held.begin(job, Wishes())
        assert jobs.jobs.all_active() == [job]

    @pytest.mark.parametrize("status", sorted(FINAL))
    def test_the_end(self, jobs, status):
        job = jobs.add(1)
        jobs.held.begin(job, Wishes(), jobs.ticket(job))
        before = job.version
        jobs.held.settle(job, status)
        assert (job.status, job.ticket, job.finished_at) == (status, None, 1000.0)
        assert job.version > before
        assert jobs.on_disk(job)["status"] == status
        assert jobs.jobs.all_active() == []
        assert jobs.held.begin(job, Wishes()) == 2

    def test_its_version_never_goes_back(self, jobs):
        job, seen = jobs.add(1), []

        def look():
            seen.append(job.version + (job.ticket.run.version if job.ticket else 0))

        for _ in range(2):
            ticket = jobs.ticket(job)
            jobs.held.begin(job, Wishes(), ticket)
            look()
            ticket.run.version = 40
            look()
            jobs.held.settle(job, JobStatus.CANCELLED)
            look()
            jobs.held.changed(job)
            look()
        assert seen == sorted(set(seen))

    def test_only_who_holds_a_ticket_is_reached_by_its_run(self, jobs):
        staying, left, gone, anew = (jobs.add(number) for number in range(1, 5))
        tickets = [jobs.ticket(job) for job in (staying, left, gone, anew)]
        for job, ticket in zip((staying, left, gone, anew), tickets, strict=True):
            jobs.held.begin(job, Wishes(), ticket)
        for job in (left, gone, anew):
            jobs.held.settle(job, JobStatus.CANCELLED)
        jobs.jobs.remove(gone)
        jobs.held.begin(anew, Wishes(), jobs.ticket(anew))
        assert jobs.jobs.holders(tickets) == [staying]

    def test_a_cancelled_job_is_gone_after_a_minute(self, jobs):
        cancelled, failed = jobs.add(1), jobs.add(2)
        jobs.held.settle(cancelled, JobStatus.CANCELLED)
        jobs.held.settle(failed, JobStatus.FAILED)
        for jobs.now, gone in ((1060.0, False), (1060.1, True)):
            assert [jobs.jobs.is_gone(job) for job in (cancelled, failed)] == [gone, False]


@pytest.fixture
def waiting(jobs, monkeypatch):
    """Waits in a thread of its own, for what comes after what can be seen now."""
    monkeypatch.setattr(room, "BREATH_SECONDS", 0.0)
    with ThreadPoolExecutor(4) as pool:

        def wait(job, **how):
            version = job.version + (job.ticket.run.version if job.ticket else 0)
            return pool.submit(jobs.jobs.wait, job, PATIENCE, **{"since": version, **how})

        yield wait
        jobs.jobs.stop()


class TestWaiting:
    def test_who_waits_hears_of_a_change(self, jobs, waiting):
        job = jobs.add(1)
        future = waiting(job)
        assert not future.done()
        jobs.held.changed(job)
        future.result(PATIENCE)

    def test_who_waits_for_the_end_hears_of_nothing_else(self, jobs, waiting):
        job = jobs.add(1)
        ticket = jobs.ticket(job)
        future = waiting(job, final=True)
        jobs.held.begin(job, Wishes(), ticket)
        jobs.held.started([ticket])
        assert not future.done()
        jobs.held.settle(job, JobStatus.CANCELLED)
        future.result(PATIENCE)

    def test_a_stage_of_the_run_is_a_change(self, jobs, waiting):
        job = jobs.add(1)
        ticket = jobs.ticket(job)
        jobs.held.begin(job, Wishes(), ticket)
        future = waiting(job)
        with jobs.changed:
            ticket.run.version += 1
            jobs.changed.notify_all()
        future.result(PATIENCE)

    def test_the_server_s_end_ends_all_waiting(self, jobs, waiting):
        futures = [waiting(jobs.add(1), final=True), waiting(jobs.add(2))]
        jobs.jobs.stop()
        for future in futures:
            future.result(PATIENCE)

    @pytest.mark.parametrize("status", sorted(FINAL))
    def test_a_job_that_is_over_keeps_nobody_waiting(self, jobs, status):
        job = jobs.add(1)
        jobs.held.settle(job, status)
        for how in ({}, {"final": True}, {"since": job.version}):
            jobs.jobs.wait(job, 3600.0, **how)

    def test_a_change_since_what_was_seen_is_not_waited_for(self, jobs, monkeypatch):
        monkeypatch.setattr(room, "BREATH_SECONDS", 0.0)
        job = jobs.add(1)
        seen = job.version
        jobs.held.changed(job)
        jobs.jobs.wait(job, 3600.0, since=seen)

    def test_the_time_is_up(self, jobs):
        jobs.jobs.wait(jobs.add(1), 0.01)
        jobs.jobs.wait(jobs.add(2), 0.01, final=True)

    def test_a_client_that_has_gone_is_not_waited_for(self, jobs):
        jobs.jobs.wait(jobs.add(1), 3600.0, lambda: True)

    def test_no_more_than_so_many_wait(self, jobs, waiting, monkeypatch):
        monkeypatch.setattr(room, "MAX_WAITERS", 1)
        job = jobs.add(1)
        future = waiting(job, final=True)
        until(lambda: jobs.jobs._waiters == 1)
        jobs.jobs.wait(job, 3600.0, final=True)
        assert not future.done()


def test_an_unexpected_error_is_told_in_one_line():
    error = ValueError("first line\nsecond line with a path")
    assert room.failure_of(error) == Failure("ValueError: first line", "internal")
    assert room.failure_of(RuntimeError()).error == "RuntimeError"
    assert len(room.failure_of(ValueError("x" * 5000)).error) < 320
