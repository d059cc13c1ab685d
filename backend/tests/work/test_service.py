"""The one counter: what every door asks of it, without any door."""

import io
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from in_process import Stage, house, puppet, until
from live_server import PATIENCE, draw, encode, files_kept, fresh_png
from PIL import Image

from errors import (
    EmptyImageError,
    JobBusyError,
    NotAnImageError,
    NotFoundError,
    RequestError,
    ResultEvictedError,
    ShapeLostError,
    StoppedError,
    TooLargeError,
    UploadLostError,
)
from mesh.formats import FORMATS
from work import service as room
from work.jobs import EVERYONE, Caller
from work.records import JobStatus
from work.request import Wishes

MASK = encode(Image.new("L", (96, 128), 255))
STL, GLB = Wishes(format="stl"), Wishes(format="glb")


@pytest.fixture
def stage():
    return Stage()


@pytest.fixture
def service(tmp_path, stage):
    with house(tmp_path, puppet(stage)) as client:
        yield client.server.service


def receive(service, data=None, caller=EVERYONE, **more):
    return service.receive(data or fresh_png(), "a.png", caller, **more)


def made(service, data=None, wishes=STL):
    """A job that is over."""
    job = receive(service, data)
    service.make(job, wishes)
    service.jobs.wait(job, PATIENCE, final=True)
    return job


def fetched(service, job, filename):
    file, size, etag = service.fetch(job, filename)
    with file:
        data = file.read()
    assert len(data) == size
    return data, etag


class TestReceiving:
    def test_a_picture_is_kept_as_it_came_with_what_is_known_of_it(self, service):
        data = encode(draw().convert("RGB"), "JPEG")
        job = service.receive(data, "my cup.png", Caller("a"))
        front = job.pictures["front"]
        assert service.files.upload(front.name).read_bytes() == data
        assert (front.name, front.extension) == (f"{job.id}.jpeg", "jpeg")
        assert (front.original_filename, front.hidden) == ("my cup.png", 0.0)
        assert front.image_info["size"] == [96, 128]
        assert front.empty.keys() == {"false"}
        assert (job.owner, job.status) == ("a", JobStatus.UPLOADED)
        assert service.jobs.get(job.id, Caller("a", first=False)) is job

    def test_the_same_bytes_are_looked_at_once(self, service, monkeypatch):
        import picture.decode

        seen, plain, data = [], picture.decode.facts, fresh_png()
        monkeypatch.setattr(picture.decode, "facts", lambda *args: seen.append(1) or plain(*args))
        first, second = receive(service, data), receive(service, data)
        assert first.id != second.id
        assert first.pictures["front"].sha256 == second.pictures["front"].sha256
        assert len(seen) == 1

    @pytest.mark.parametrize("data", [b"", b"no picture", fresh_png()[:60]])
    def test_what_is_no_picture_leaves_nothing(self, service, data):
        with pytest.raises((RequestError, NotAnImageError)):
            service.receive(data, "a.png", EVERYONE)
        assert service.jobs.page(9, 0) == ([], 0)
        assert not files_kept(service.files.uploads_dir)

    def test_further_views_come_together_or_one_by_one(self, service):
        views = {view: (fresh_png(), f"{view}.png") for view in ("front", "back", "left", "right")}
        together = service.receive_all(views, EVERYONE)
        one_by_one = receive(service, views["front"][0])
        for view in ("back", "left", "right"):
            assert service.receive(*views[view], EVERYONE, job=one_by_one, view=view) is one_by_one
        for job in (together, one_by_one):
            assert job.pictures.keys() == views.keys()
            assert job.pictures["back"].name.startswith(f"{job.id}.back")
            for view, (data, _) in views.items():
                assert service.files.upload(job.pictures[view].name).read_bytes() == data

    def test_one_bad_view_keeps_none(self, service):
        with pytest.raises(NotAnImageError):
            service.receive_all({"front": (fresh_png(), "a"), "back": (b"no picture", "b")}, EVERYONE)
        for bad in ({"back": (fresh_png(), "b")}, {}):
            with pytest.raises(RequestError, match="front"):
                service.receive_all(bad, EVERYONE)
        assert not files_kept(service.files.uploads_dir)

    def test_a_view_sent_again_takes_the_place_of_the_first(self, service):
        job = receive(service)
        names = set()
        for _ in range(3):
            data = fresh_png()
            receive(service, data, job=job, view="back")
            name = job.pictures["back"].name
            assert service.files.upload(name).read_bytes() == data
            names.add(name)
        assert len(names) == 3
        assert len(files_kept(service.files.uploads_dir)) == 2
        receive(service, data, job=job, view="back")
        assert service.files.upload(job.pictures["back"].name).read_bytes() == data
        service.keeping.forget(job)
        assert not files_kept(service.files.uploads_dir)

    def test_another_front_takes_the_mask_along(self, service):
        job = receive(service)
        service.set_mask(job, MASK)
        receive(service, job=job, view="back")
        assert job.mask
        receive(service, job=job, view="front")
        assert job.mask is None
        assert not list((service.files.outputs_dir / job.id).glob("mask*"))

    def test_the_oldest_job_goes_when_there_are_too_many(self, service, monkeypatch):
        monkeypatch.setattr("work.jobs.KEEP_JOBS", 2)
        jobs = [made(service) for _ in range(3)]
        with pytest.raises(NotFoundError):
            service.jobs.get(jobs[0].id)
        assert {job.id for job in service.jobs.page(9, 0)[0]} == {jobs[1].id, jobs[2].id}
        assert not [path for path in files_kept(service.files.outputs_dir.parent) if jobs[0].id in str(path)]


class TestMasks:
    def test_a_mask_is_set_changed_and_taken_away(self, service):
        job = receive(service)
        white = service.mask(job, Wishes())
        digests = []
        for width in (96, 48):
            mask = Image.new("L", (96, 128))
            mask.paste(255, (0, 0, width, 128))
            service.set_mask(job, encode(mask))
            digests.append(job.mask)
            shown = np.asarray(Image.open(io.BytesIO(service.mask(job, Wishes()))))
            assert (shown > 127).mean() == pytest.approx(width / 96, abs=0.02)
            assert len(list((service.files.outputs_dir / job.id).glob("mask*"))) == 1
        assert len(set(digests)) == 2
        service.set_mask(job, None)
        assert (job.mask, service.mask(job, Wishes())) == (None, white)

    def test_the_same_mask_has_the_same_digest_however_it_is_saved(self, service):
        job, digests = receive(service), set()
        grey = Image.new("L", (96, 128))
        grey.paste(255, (10, 10, 50, 60))
        transparent = Image.new("RGBA", (96, 128), (255, 255, 255, 0))
        transparent.putalpha(grey)
        for data in (
            encode(grey),
            encode(grey, "BMP"),
            encode(transparent),
            encode(grey.convert("RGB"), "WEBP", lossless=True),
        ):
            service.set_mask(job, data)
            digests.add(job.mask)
        assert len(digests) == 1

    @pytest.mark.parametrize(
        ("mask", "error"),
        [
            (encode(Image.new("L", (96, 128))), EmptyImageError),
            (encode(Image.new("L", (128, 96), 255)), RequestError),
            (b"no picture", NotAnImageError),
            (encode(Image.new("L", (9000, 12000), 255)), TooLargeError),
        ],
    )
    def test_a_mask_that_will_not_do_changes_nothing(self, service, mask, error):
        job = receive(service)
        service.set_mask(job, MASK)
        before = job.mask
        with pytest.raises(error):
            service.set_mask(job, mask)
        assert job.mask == before
        assert service.mask(job, Wishes())

    def test_a_busy_job_takes_none(self, service, stage):
        stage.hold = True
        job = receive(service)
        service.make(job, STL)
        run = stage.next_run()
        for mask in (MASK, None):
            with pytest.raises(JobBusyError):
                service.set_mask(job, mask)
        with pytest.raises(JobBusyError):
            receive(service, job=job, view="back")
        run.end()


class TestMaking:
    def test_the_first_is_made_and_the_second_is_answered_at_once(self, service, stage):
        png = fresh_png()
        first = made(service, png)
        second = receive(service, png)
        service.make(second, STL)
        assert (first.status, second.status) == (JobStatus.COMPLETED, JobStatus.COMPLETED)
        assert (first.delivery.cached, second.delivery.cached) == (False, True)
        assert fetched(service, first, "model.stl") == fetched(service, second, f"model_{second.id}.stl")
        assert len(stage.runs) == 1

    def test_keys_are_computed_once_for_each_request(self, service, stage, monkeypatch):
        asked, plain = [], room.plan
        monkeypatch.setattr(room, "plan", lambda *args: asked.append(args) or plain(*args))
        png = fresh_png()
        made(service, png)
        assert len(asked) == 1
        service.make(receive(service, png), STL)
        service.make(receive(service, png), GLB)
        assert len(asked) == 3

    def test_a_failure_is_told_and_the_next_attempt_forgets_it(self, service, stage):
        stage.hold = True
        job = receive(service)
        service.make(job, STL)
        stage.next_run().end(MemoryError())
        service.jobs.wait(job, PATIENCE, final=True)
        assert (job.status, job.failure.error_type, job.delivery) == (JobStatus.FAILED, "out_of_memory", None)
        stage.hold = False
        service.make(job, STL)
        service.jobs.wait(job, PATIENCE, final=True)
        assert (job.status, job.failure) == (JobStatus.COMPLETED, None)

    def test_what_is_seen_at_a_glance_to_be_empty_is_refused_and_not_queued(self, service, stage):
        job = receive(service, encode(draw().convert("RGB")))
        with pytest.raises(EmptyImageError):
            service.make(job, Wishes(remove_background="false"))
        assert job.status is JobStatus.UPLOADED
        service.set_mask(job, MASK)
        service.make(job, Wishes(remove_background="false"))
        service.jobs.wait(job, PATIENCE, final=True)
        assert job.status is JobStatus.COMPLETED

    def test_a_view_says_all_of_a_run_at_one_instant(self, service, stage):
        stage.hold = True
        first, second = receive(service), receive(service)
        for job in (first, second):
            service.make(job, STL)
        run = stage.next_run()
        until(lambda: service.view(first).step == "shape")
        seen, waiting = service.view(first), service.view(second)
        assert (seen.status, seen.queue_position) == (JobStatus.PROCESSING, 0)
        assert 0 < seen.progress < 100
        assert (waiting.status, waiting.queue_position, waiting.progress) == (JobStatus.QUEUED, 1, 0)
        assert waiting.step == "queued"
        run.end()
        service.jobs.wait(first, PATIENCE, final=True)
        seen = service.view(first)
        assert (seen.status, seen.progress, seen.step) == (JobStatus.COMPLETED, 100, "completed")
        assert seen.started_at <= seen.finished_at
        stage.next_run().end()

    def test_a_busy_job_is_not_made_and_not_forgotten(self, service, stage):
        stage.hold = True
        job = receive(service)
        service.make(job, STL)
        run = stage.next_run()
        with pytest.raises(JobBusyError):
            service.make(job, GLB)
        with pytest.raises(JobBusyError):
            service.keeping.forget(job)
        assert job.wishes == STL
        run.end()
        service.jobs.wait(job, PATIENCE, final=True)
        assert service.cancel(job) is False
        service.keeping.forget(job)
        with pytest.raises(NotFoundError):
            service.keeping.forget(job)
        assert not files_kept(service.files.outputs_dir.parent)

    @pytest.mark.parametrize("call", ["write", "rename", "sync_folder"])
    def test_a_full_disk_fails_the_job_and_the_next_one_works(self, service, monkeypatch, call):
        def full(*args):
            raise OSError(28, "No space left on device")

        job = receive(service)
        with monkeypatch.context() as patched:
            patched.setattr(service.files.system, call, full)
            service.make(job, STL)
            service.jobs.wait(job, PATIENCE, final=True)
        assert (job.status, job.failure.error_type) == (JobStatus.FAILED, "disk_full")
        assert made(service).status is JobStatus.COMPLETED
        service.make(job, STL)
        service.jobs.wait(job, PATIENCE, final=True)
        assert (job.status, job.delivery.cached) == (JobStatus.COMPLETED, True), "it was made, and is in memory"
        assert not [path for path in files_kept(service.files.data_dir) if path.suffix == ".tmp"]

    def test_a_job_that_cannot_be_written_down_is_not_queued(self, service, stage, monkeypatch):
        """A restart would not know of it."""

        def full(*args):
            raise OSError(28, "No space left on device")

        stage.hold = True
        blocking, job = receive(service), receive(service)
        service.make(blocking, STL)
        run = stage.next_run()
        with monkeypatch.context() as patched:
            patched.setattr(service.files.index, "save_job", full)
            service.make(job, STL)
        assert (job.status, job.failure.error_type) == (JobStatus.FAILED, "disk_full")
        assert service.queue.lengths() == (1, 0)
        run.end()


class TestDelivering:
    """A job that was cancelled while its file was on the way may have been begun anew, and be done already."""

    @pytest.fixture
    def on_the_way(self, service, stage, monkeypatch):
        """A job whose run is over and whose result is about to be named; go_on lets it."""
        ready, go_on, plain = threading.Event(), threading.Event(), service._deliver
        stage.hold = True
        job = receive(service)
        service.make(job, STL)
        run = stage.next_run()

        def deliver(*args):
            if not ready.is_set():
                ready.set()
                assert go_on.wait(PATIENCE)
            plain(*args)

        monkeypatch.setattr(service, "_deliver", deliver)
        run.end()
        assert ready.wait(PATIENCE)
        assert service.cancel(job)
        return job, go_on

    def settle(self, service, go_on):
        """Let the worker finish: the next run of its lane begins after it."""
        go_on.set()
        service.queue.stop()
        service.queue.join(PATIENCE)

    def test_the_earlier_file_does_not_take_the_place_of_the_later(self, service, on_the_way):
        job, go_on = on_the_way
        service.make(job, GLB)
        assert job.status is JobStatus.COMPLETED, "the shape is known"
        before = fetched(service, job, "model.glb")
        self.settle(service, go_on)
        assert fetched(service, job, "model.glb") == before
        assert before[0].startswith(b"glTF")
        assert job.delivery.filename == f"model_{job.id}.glb"

    def test_a_job_that_was_deleted_leaves_nothing(self, service, on_the_way):
        job, go_on = on_the_way
        service.keeping.forget(job)
        self.settle(service, go_on)
        assert not files_kept(service.files.data_dir)
        assert len(service.results) == 0


class TestFetching:
    @pytest.mark.parametrize(
        "name", ["model.exe", "model", "model.stl.exe", "../job.json", "other.stl", "model_x.stl", ".stl"]
    )
    def test_other_names(self, service, name):
        with pytest.raises(NotFoundError):
            service.fetch(made(service), name)

    def test_what_is_not_made_cannot_be_had(self, service):
        with pytest.raises(NotFoundError, match="uploaded"):
            service.fetch(receive(service), "model.stl")

    def test_every_format_has_a_tag_of_its_own(self, service):
        job = made(service)
        files = {kind: fetched(service, job, f"model.{kind}") for kind in FORMATS}
        assert len({etag for _, etag in files.values()}) == len(FORMATS)
        assert files == {kind: fetched(service, job, f"model_{job.id}.{kind}") for kind in FORMATS}

    def test_what_is_lost(self, service):
        job = made(service)
        lose(service, job, shape=True)
        assert fetched(service, job, "model.stl"), "what was delivered is there still"
        with pytest.raises(ShapeLostError):
            service.fetch(job, "model.glb")
        assert service.view(job).status is JobStatus.COMPLETED
        lose(service, job, file=True)
        with pytest.raises(ResultEvictedError):
            service.fetch(job, "model.stl")
        seen = service.view(job)
        assert (seen.status, seen.failure.error_type, seen.delivery) == (JobStatus.FAILED, "result_evicted", None)
        service.files.upload(job.pictures["front"].name).unlink()
        for name in ("model.stl", "model.glb"):
            with pytest.raises(UploadLostError):
                service.fetch(job, name)

    def test_a_file_that_is_lost_is_made_again_from_its_shape(self, service, stage):
        job = made(service)
        before = fetched(service, job, "model.stl")
        lose(service, job, file=True)
        assert service.view(job).status is JobStatus.COMPLETED
        assert fetched(service, job, "model.stl") == before
        assert service.files.blobs.path(before[1]).read_bytes() == before[0], "and kept for the job again"
        assert len(stage.runs) == 1

    def test_what_had_to_make_room_is_made_again_with_one_call(self, service, stage):
        job = made(service)
        before = fetched(service, job, "model.stl")
        lose(service, job, file=True, shape=True)
        service.make(job, STL)
        service.jobs.wait(job, PATIENCE, final=True)
        assert fetched(service, job, "model.stl") == before
        assert service.view(job).status is JobStatus.COMPLETED
        assert len(stage.runs) == 2

    def test_what_a_job_names_stays_as_long_as_a_job_names_it(self, service):
        png = fresh_png()
        jobs = [made(service, png) for _ in range(3)]
        for job in jobs[:2]:
            service.keeping.forget(job)
        service.results.clear()
        assert fetched(service, jobs[2], "model.stl")
        assert fetched(service, jobs[2], "model.ply")
        service.keeping.forget(jobs[2])
        assert not files_kept(service.files.data_dir)


def lose(service, job, *, file=False, shape=False):
    """As if the disk had been full."""
    service.results.clear()
    named = (job.delivery.sha256, file), (job.delivery.shape_sha256, shape)
    service.files.blobs.drop([sha256 for sha256, gone in named if gone])


class TestSharing:
    def test_two_jobs_share_a_run_and_the_file_that_it_makes(self, service, stage):
        stage.hold = True
        png = fresh_png()
        jobs = [receive(service, png) for _ in range(2)]
        for job in jobs:
            service.make(job, STL)
        stage.next_run().end()
        for job in jobs:
            service.jobs.wait(job, PATIENCE, final=True)
        assert len({fetched(service, job, f"model_{job.id}.stl") for job in jobs}) == 1
        assert (service.queue.coalesced, len(stage.runs)) == (1, 1)
        assert len(files_kept(service.files.blobs.path("x").parent)) == 2, "the shape and the file, once"

    def test_who_comes_last_can_have_what_the_first_can_no_more(self, service, stage):
        """The upload of the job that began the run is gone, and another job of the run brought the same picture."""
        stage.hold = True
        blocking = receive(service)
        service.make(blocking, STL)
        in_the_way = stage.next_run()
        png = fresh_png()
        jobs = [receive(service, png) for _ in range(3)]
        for job in jobs:
            service.make(job, STL)
        for job in jobs[:2]:
            service.files.upload(job.pictures["front"].name).unlink()
        in_the_way.end()
        stage.next_run().end()
        for job in jobs:
            service.jobs.wait(job, PATIENCE, final=True)
            assert job.status is JobStatus.COMPLETED

    def test_when_nobody_has_it_any_more_all_are_told(self, service, stage):
        stage.hold = True
        blocking = receive(service)
        service.make(blocking, STL)
        in_the_way = stage.next_run()
        png = fresh_png()
        jobs = [receive(service, png) for _ in range(2)]
        for job in jobs:
            service.make(job, STL)
            service.files.upload(job.pictures["front"].name).unlink()
        in_the_way.end()
        for job in jobs:
            service.jobs.wait(job, PATIENCE, final=True)
            assert (job.status, job.failure.error_type) == (JobStatus.FAILED, "upload_lost")


class TestStopping:
    @pytest.fixture
    def stopped(self, service, stage):
        """A server that was stopped while one of its jobs ran and another waited."""
        stage.hold = True
        running, waiting = receive(service), receive(service)
        for job in (running, waiting):
            service.make(job, STL)
        run = stage.next_run()
        with ThreadPoolExecutor(1) as pool:
            watching = pool.submit(service.jobs.wait, waiting, PATIENCE, final=True)
            service.stop(timeout=PATIENCE)
            watching.result(PATIENCE)
        assert run.cancelled.is_set()
        return running, waiting

    def test_whatever_is_under_way_waits_for_the_next_process(self, service, stopped):
        for job in stopped:
            assert (job.status, job.failure, job.interruptions) == (JobStatus.QUEUED, None, 0)
        assert service.queue.lengths() == (0, 0)

    def test_nothing_is_begun_any_more(self, service, stopped):
        job = receive(service)
        with pytest.raises(StoppedError):
            service.make(job, STL)
        assert job.status is JobStatus.UPLOADED
        service.resume()
        assert service.queue.lengths() == (0, 0)
