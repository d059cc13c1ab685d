"""The list of jobs: who sees which, what is kept, what changes them, and who waits for that."""

import hashlib
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
from work.jobs import EVERYONE, Caller, Job, Jobs
from work.queue import Run, Ticket
from work.records import ACTIVE, FINAL, RECORD_VERSION, Delivery, Failure, JobStatus
from work.request import Wishes


def uuid(number):
    return f"00000000-0000-0000-0000-{number:012d}"


class List:
    """Some jobs, their folder and their clock."""

    def __init__(self, folder, **bounds):
        self.folder, self.now, self.bounds = folder, 1000.0, bounds
        self.changed = threading.Condition(threading.RLock())
        self.open()

    def open(self):
        self.files = Files(self.folder, self.folder / "uploads", self.folder / "outputs")
        self.jobs = Jobs(self.files, self.changed, clock=lambda: self.now, **self.bounds)
        return self.jobs

    def add(self, number, **facts):
        name = f"{uuid(number)}.png"
        front = picture(name=name, image_info={"file_size": 6})
        facts = {"owner": None, "created_at": float(number), "pictures": {"front": front}, **facts}
        job = Job(id=uuid(number), **facts)
        self.files.save(self.files.upload(name), b"pixels")
        self.surplus = self.jobs.add(job)
        return job

    def deliver(self, job, file=b"file", shape=b"shape", status=JobStatus.COMPLETED):
        """It is over, and names these contents."""
        with self.files.blobs.holding((sha256(file), file), (sha256(shape), shape)), self.changed:
            self.jobs.settle(job, status, delivery=delivery(sha256=sha256(file), shape_sha256=sha256(shape)))

    def contents(self):
        """Of the files of results."""
        return {path.read_bytes() for path in (self.folder / "results").iterdir()}

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
        return json.loads(dict(self.files.index.jobs())[job.id])

    def write(self, job, record):
        """Put that in the place of its record."""
        self.files.index.save_job(job.id, record, *job.contents)


class Held:
    def __init__(self, jobs):
        self._jobs = jobs

    def __getattr__(self, name):
        def call(*args, **facts):
            with self._jobs.changed:
                return getattr(self._jobs.jobs, name)(*args, **facts)

        return call


def sha256(data):
    return hashlib.sha256(data).hexdigest()


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
        added = [jobs.add(number) for number in (1, 2, 3, 4, 5)]
        numbers = [[job.created_at for job in jobs.jobs.page(2, offset)[0]] for offset in (0, 2, 4, 6)]
        assert numbers == [[5, 4], [3, 2], [1], []]
        assert jobs.jobs.page(2, 6)[1] == len(added)

    def test_a_page_of_one_status(self, jobs):
        done, running = jobs.add(1), jobs.add(2)
        jobs.deliver(done)
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


def delivery(**facts):
    mesh = {"vertices": 3, "faces": 1, "watertight": False, "volume_mm3": 0.0, "extents_mm": [1.0, 1.0, 0.0]}
    facts = {"sha256": None, "shape_key": "shape:x", "shape_sha256": None, **facts}
    return Delivery("model_a.stl", 4, "file:x", **facts, model="m", cached=False, mesh=mesh, timings={"total": 1.0})


class TestKeeping:
    def test_a_new_job_is_on_disk_with_its_picture(self, jobs):
        job = jobs.add(1)
        assert {path.name for path in files_kept(jobs.folder)} == {f"{job.id}.png"}
        assert jobs.on_disk(job)["version"] == RECORD_VERSION
        assert jobs.surplus == []

    def test_what_is_final_survives_a_restart_as_it_was(self, jobs):
        done, failed = jobs.add(1), jobs.add(2, owner="a", mask="f" * 64)
        jobs.held.begin(done, Wishes(quality=3))
        jobs.held.settle(done, JobStatus.COMPLETED, delivery=delivery())
        jobs.held.settle(failed, JobStatus.FAILED, failure=Failure("why", "internal", {"a": 1}))
        first, second = jobs.again().all()
        for before, after in ((done, first), (failed, second)):
            for name in ("id", "owner", "created_at", "pictures", "mask", "status", "wishes", "delivery", "failure"):
                assert getattr(after, name) == getattr(before, name)
            assert (after.ticket, after.version, after.attempt) == (None, 0, 0)

    def test_the_order_is_that_in_which_they_came_whatever_the_clock_says(self, jobs):
        """It jumped back by a day, and a new job was listed below all of the day."""
        for number, day in ((3, 2.0), (1, 3.0), (2, 1.0)):
            jobs.add(number, created_at=day * 86400)
        for each in (jobs.jobs, jobs.again()):
            assert [job.id for job in each.page(9, 0)[0]] == [uuid(2), uuid(1), uuid(3)]
        jobs.add(4, created_at=0.0)
        assert jobs.jobs.page(1, 0)[0][0].id == uuid(4)

    def test_a_record_that_cannot_be_read_stays_with_all_that_it_names(self, jobs, caplog):
        """A later version wrote it, say, and will read it again."""
        odd, fine = jobs.add(1), jobs.add(2)
        jobs.deliver(odd)
        before = jobs.on_disk(odd)
        jobs.write(odd, json.dumps({**before, "version": 99}).encode())
        assert [job.id for job in jobs.again().all()] == [fine.id]
        assert "99" in caplog.text
        assert jobs.files.upload(f"{odd.id}.png").exists()
        assert jobs.contents() == {b"file", b"shape"}
        jobs.write(odd, json.dumps(before).encode())
        again, _ = jobs.again().all()
        assert (again.id, again.delivery) == (odd.id, odd.delivery)

    @pytest.mark.parametrize("record", [b"", b'{"id": "', b"\x00" * 300])
    def test_a_torn_record_harms_nobody(self, jobs, record):
        odd, fine = jobs.add(1), jobs.add(2)
        jobs.write(odd, record)
        assert [job.id for job in jobs.again().all()] == [fine.id]
        assert jobs.add(3) in jobs.jobs.all()

    def test_a_record_of_another_job_is_not_taken_for_its_own(self, jobs):
        odd, fine = jobs.add(1), jobs.add(2)
        jobs.write(odd, fine.dump())
        assert [job.id for job in jobs.again().all()] == [fine.id]

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
        assert [job.created_at for job in jobs.surplus] == [3]
        assert [job.created_at for job in jobs.jobs.all()] == [1, 4, 5]
        assert len(jobs.files.index.job_ids()) == 3

    def test_pictures_of_more_bytes_than_are_allowed_are_too_many_too(self, tmp_path):
        jobs = List(tmp_path / "bounded", max_upload_bytes=3 * 6)
        running = jobs.add(1)
        jobs.held.begin(running, Wishes(), jobs.ticket(running))
        empty = jobs.add(2, pictures={})
        for number in (3, 4):
            jobs.add(number)
        assert jobs.surplus == []
        jobs.add(5)
        assert [job.created_at for job in jobs.surplus] == [3], "what has no picture takes no room"
        jobs.add(6)
        assert [job.created_at for job in jobs.surplus] == [4]
        assert empty in jobs.jobs.all()
        jobs.files.close()

    def test_a_picture_larger_than_all_that_is_allowed_is_kept_alone(self, tmp_path):
        jobs = List(tmp_path / "bounded", max_upload_bytes=5)
        first, second = jobs.add(1), jobs.add(2)
        assert jobs.surplus == [first]
        assert jobs.jobs.all() == [second]
        jobs.files.close()

    def test_a_record_that_cannot_be_written_stops_nobody(self, jobs, monkeypatch, caplog):
        job = jobs.add(1)

        def full(*args):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(jobs.files.index, "save_job", full)
        jobs.held.settle(job, JobStatus.FAILED)
        assert job.status is JobStatus.FAILED
        assert "No space left" in caplog.text

    def test_a_change_that_cannot_be_written_is_none(self, jobs, monkeypatch):
        job = jobs.add(1)
        before, version = job.pictures, job.version

        def full(*args):
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as broken:
            broken.setattr(jobs.files.index, "save_job", full)
            with pytest.raises(OSError, match="No space"):
                jobs.held.change(job, pictures={}, mask="f" * 64)
        assert (job.pictures, job.mask, job.version) == (before, None, version)
        jobs.held.change(job, pictures={}, mask="f" * 64)
        assert (job.pictures, job.mask, job.version) == ({}, "f" * 64, version + 1)


class TestContents:
    """Files of results stay as long as a job names them."""

    def test_they_go_with_the_last_job_that_names_them(self, jobs):
        first, second = jobs.add(1), jobs.add(2)
        jobs.deliver(first, b"stl", b"shape")
        jobs.deliver(second, b"ply", b"shape")
        jobs.held.remove(first)
        assert jobs.contents() == {b"ply", b"shape"}
        jobs.held.remove(second)
        assert jobs.contents() == set()

    def test_what_is_delivered_now_takes_the_place_of_what_was(self, jobs):
        job = jobs.add(1)
        jobs.deliver(job, b"stl", b"shape")
        jobs.deliver(job, b"ply", b"shape")
        assert jobs.contents() == {b"ply", b"shape"}
        jobs.held.settle(job, JobStatus.FAILED, delivery=None)
        assert jobs.contents() == set()

    def test_another_picture_makes_them_void(self, jobs):
        job = jobs.add(1)
        jobs.deliver(job)
        jobs.held.change(job, delivery=None, status=JobStatus.UPLOADED)
        assert jobs.contents() == set()

    def test_they_outlive_the_process(self, jobs):
        job = jobs.add(1)
        jobs.deliver(job)
        (again,) = jobs.again().all()
        assert (again.delivery, jobs.contents()) == (job.delivery, {b"file", b"shape"})

    @pytest.mark.parametrize(
        ("gone", "status"),
        [((), "completed"), ((b"file",), "completed"), ((b"shape",), "completed"), ((b"file", b"shape"), "failed")],
    )
    def test_a_job_whose_contents_are_all_gone_has_no_result(self, jobs, gone, status):
        job = jobs.add(1)
        jobs.deliver(job)
        jobs.files.blobs.drop([sha256(data) for data in gone])
        assert jobs.jobs.status(job) == status
        assert jobs.jobs.page(9, 0, JobStatus(status))[1] == jobs.jobs.counts()[JobStatus(status)] == 1
        (again,) = jobs.again().all()
        assert jobs.jobs.status(again) == status


class TestAfterAnEnd:
    """What a job becomes whose process ended while it waited or ran."""

    def begun(self, jobs, number, *, started):
        job = jobs.add(number)
        ticket = jobs.ticket(job)
        jobs.held.begin(job, Wishes(), ticket)
        jobs.jobs.save(job)
        if started:
            jobs.held.started([ticket])
        return job

    def test_what_waited_waits_again(self, jobs):
        self.begun(jobs, 1, started=False)
        for _ in range(3):
            (job,) = jobs.again().all()
            assert (job.status, job.interruptions) == (JobStatus.QUEUED, 0)

    def test_what_ran_is_run_once_more_and_then_has_failed(self, jobs):
        self.begun(jobs, 1, started=True)
        for _ in range(2):  # it was not begun again in between
            (job,) = jobs.again().all()
            assert (job.status, job.interruptions, job.started_at) == (JobStatus.QUEUED, 1, None)
        ticket = jobs.ticket(job)
        jobs.held.queue_again(job, ticket)
        jobs.held.started([ticket])
        for _ in range(2):
            (job,) = jobs.again().all()
            assert (job.status, job.failure.error_type) == (JobStatus.FAILED, "interrupted")

    def test_who_asks_for_it_once_more_has_two_further_attempts(self, jobs):
        self.begun(jobs, 1, started=True)
        (job,) = jobs.again().all()
        jobs.held.settle(job, JobStatus.CANCELLED)
        ticket = jobs.ticket(job)
        jobs.held.begin(job, Wishes(), ticket)
        jobs.held.started([ticket])
        (job,) = jobs.again().all()
        assert (job.status, job.interruptions) == (JobStatus.QUEUED, 1)


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
        with pytest.raises(JobBusyError):
            jobs.held.remove(job)
        assert jobs.jobs.all() == [job]

    @pytest.mark.parametrize("status", sorted(FINAL))
    def test_the_end(self, jobs, status):
        job = jobs.add(1)
        jobs.held.begin(job, Wishes(), jobs.ticket(job))
        before = job.version
        jobs.held.settle(job, status)
        assert (job.status, job.ticket, job.finished_at) == (status, None, 1000.0)
        assert job.version > before
        assert jobs.on_disk(job)["status"] == status
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
            jobs.held.change(job)
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
        jobs.held.change(job)
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
        jobs.held.change(job)
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
