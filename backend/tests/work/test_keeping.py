"""How long things are kept: by days, by the bytes of the uploads, and never less because a clock was set."""

import time

import pytest
from in_process import Stage, house, puppet, until
from live_server import PATIENCE, files_kept, fresh_png

from errors import NotFoundError
from work.jobs import EVERYONE
from work.records import JobStatus
from work.request import Wishes

DAY = 86400.0


@pytest.fixture
def stage():
    return Stage()


@pytest.fixture
def wall(monkeypatch):
    """A clock on the wall that can be set, and moves on by itself."""
    plain = time.time

    class Wall:
        ahead = 0.0

    monkeypatch.setattr(time, "time", lambda: plain() + Wall.ahead)
    return Wall


def made(service, data=None):
    job = service.receive(data or fresh_png(), "a.png", EVERYONE)
    service.make(job, Wishes())
    service.jobs.wait(job, PATIENCE, final=True)
    assert job.status is JobStatus.COMPLETED
    return job


def later(service, monkeypatch, wall, seconds):
    """So much time has passed, by every clock."""
    clock = service.results.disk.clock
    monkeypatch.setattr(service.results.disk, "clock", lambda: clock() + seconds)
    wall.ahead += seconds


class TestRetention:
    @pytest.fixture
    def service(self, tmp_path, stage, wall, monkeypatch):
        with house(tmp_path, puppet(stage), RETENTION_DAYS="2") as client:
            monkeypatch.setattr(client.server.service.jobs, "_clock", lambda: time.time())
            yield client.server.service

    def test_what_nobody_touched_for_so_long_goes_with_all_that_was_made_of_it(self, service, monkeypatch, wall):
        made(service)
        later(service, monkeypatch, wall, 1.5 * DAY)
        young = made(service)
        service.keeping.sweep()
        assert len(service.jobs.all()) == 2
        later(service, monkeypatch, wall, DAY)
        service.keeping.sweep()
        assert service.jobs.all() == [young]
        assert len(files_kept(service.files.data_dir)) == 3, "the young one's picture, shape and file"
        later(service, monkeypatch, wall, DAY)
        service.keeping.sweep()
        assert service.jobs.all() == []
        assert files_kept(service.files.data_dir) == []
        assert len(service.results) == 0

    def test_a_job_that_was_made_again_is_young(self, service, monkeypatch, wall):
        job = made(service)
        later(service, monkeypatch, wall, 1.5 * DAY)
        service.make(job, Wishes(format="glb"))
        later(service, monkeypatch, wall, DAY)
        service.keeping.sweep()
        assert service.jobs.all() == [job]

    def test_what_waits_or_runs_stays(self, service, stage, monkeypatch, wall):
        stage.hold = True
        jobs = [service.receive(fresh_png(), "a.png", EVERYONE) for _ in range(2)]
        for job in jobs:
            service.make(job, Wishes())
        run = stage.next_run()
        later(service, monkeypatch, wall, 9 * DAY)
        service.keeping.sweep()
        assert service.jobs.all() == jobs
        run.end()
        stage.next_run().end()
        for job in jobs:
            service.jobs.wait(job, PATIENCE, final=True)
            assert job.status is JobStatus.COMPLETED

    def test_what_is_pinned_stays_without_its_job(self, service, stage, monkeypatch, wall):
        png = fresh_png()
        made(service, png)
        for row in service.results.entries(9, 0):
            service.results.pin(row["key"], True)
        later(service, monkeypatch, wall, 9 * DAY)
        service.keeping.sweep()
        assert service.jobs.all() == []
        assert made(service, png).delivery.cached
        assert len(stage.runs) == 1

    @pytest.mark.parametrize("days", [-3, -1, 1, 3])
    def test_a_clock_that_is_set_deletes_nothing(self, service, wall, days):
        jobs = [made(service)]
        wall.ahead = days * DAY
        service.keeping.sweep()
        jobs.append(made(service))
        service.keeping.sweep()
        assert service.jobs.all() == jobs
        wall.ahead = 0.0
        service.keeping.sweep()
        assert jobs[0] in service.jobs.all()
        png = fresh_png()
        assert [made(service, png).delivery.cached for _ in range(2)] == [False, True]


def test_a_start_sweeps_by_itself(tmp_path, wall):
    model = puppet(Stage())
    with house(tmp_path, model) as client:
        made(client.server.service)
    wall.ahead = 3 * DAY
    with house(tmp_path, model, RETENTION_DAYS="2") as client:
        until(lambda: client.get("/api/jobs").json()["total"] == 0)
        until(lambda: files_kept(tmp_path) == [])


def test_without_a_limit_everything_is_kept(tmp_path, stage, wall, monkeypatch):
    with house(tmp_path, puppet(stage), CACHE_TTL_SECONDS="0") as client:
        service, png = client.server.service, fresh_png()
        job = made(service, png)
        later(service, monkeypatch, wall, 9999 * DAY)
        service.keeping.sweep()
        assert service.jobs.all() == [job]
        assert made(service, png).delivery.cached


class TestUploads:
    """UPLOADS_DISK_MB bounds the pictures of all jobs together."""

    @pytest.fixture
    def service(self, tmp_path, stage):
        mb = 2.5 * len(fresh_png()) / 1e6
        with house(tmp_path, puppet(stage), UPLOADS_DISK_MB=f"{mb:.6f}") as client:
            yield client.server.service

    def test_the_oldest_job_makes_room(self, service):
        jobs = [made(service) for _ in range(2)]
        third = service.receive(fresh_png(), "a.png", EVERYONE)
        assert service.jobs.all() == [jobs[1], third]
        with pytest.raises(NotFoundError):
            service.jobs.get(jobs[0].id)
        assert {path.stem for path in files_kept(service.files.uploads_dir)} == {jobs[1].id, third.id}

    def test_never_one_that_waits_or_runs(self, service, stage):
        stage.hold = True
        jobs = [service.receive(fresh_png(), "a.png", EVERYONE) for _ in range(2)]
        for job in jobs:
            service.make(job, Wishes())
        run = stage.next_run()
        third = service.receive(fresh_png(), "a.png", EVERYONE)
        assert service.jobs.all() == [*jobs, third], "there is nothing that may go"
        fourth = service.receive(fresh_png(), "a.png", EVERYONE)
        assert service.jobs.all() == [*jobs, fourth]
        run.end()
        stage.next_run().end()
        for job in jobs:
            service.jobs.wait(job, PATIENCE, final=True)
            assert job.status is JobStatus.COMPLETED

    def test_a_further_view_counts(self, service):
        first, second = (service.receive(fresh_png(), "a.png", EVERYONE) for _ in range(2))
        service.receive(fresh_png(), "b.png", EVERYONE, job=second, view="back")
        assert service.jobs.all() == [first, second], "only a new job makes others go"
        third = service.receive(fresh_png(), "a.png", EVERYONE)
        assert service.jobs.all() == [third]

    def test_what_an_earlier_process_received_counts(self, tmp_path):
        model, mb = puppet(Stage()), 2.5 * len(fresh_png()) / 1e6
        with house(tmp_path, model, UPLOADS_DISK_MB=f"{mb:.6f}") as client:
            first, second = (client.upload(fresh_png()) for _ in range(2))
        with house(tmp_path, model, UPLOADS_DISK_MB=f"{mb:.6f}") as client:
            third = client.upload(fresh_png())
            assert [job["job_id"] for job in client.get("/api/jobs").json()["jobs"]] == [third, second]
            assert client.get(f"/api/job-status/{first}").status_code == 404
