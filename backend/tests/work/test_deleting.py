"""Deleting a job: its picture goes, and everything that was made of it, unless another job names it; from every tier,
whatever is under way meanwhile. A school must be able to promise that."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from asks import ellipse
from in_process import Stage, house, puppet, until
from live_server import PATIENCE, encode, files_kept
from PIL import Image

import work.pipeline
from errors import NotFoundError
from mesh.formats import FORMATS
from picture import cutout
from work.jobs import EVERYONE
from work.records import JobStatus
from work.request import Wishes

STL, GLB = Wishes(), Wishes(format="glb")
NAME, PROMPT = "a name that nobody else may read.png", "a wish that nobody else may read"


class Deaf(Stage):
    """Its models do not hear that nobody waits for them any more."""

    def perform(self, run, cancelled):
        super().perform(run, lambda: False)


@pytest.fixture
def stage():
    return Deaf()


@pytest.fixture
def service(tmp_path, stage):
    with house(tmp_path, puppet(stage, reads=frozenset({"image", "views", "quality", "seed"}))) as client:
        yield client.server.service


def opaque(number=0):
    """A picture whose object has to be looked for."""
    return encode(Image.fromarray(ellipse(colour=(200, 60, number))))


def receive(service, data=None, name="a.png"):
    return service.receive(data or opaque(), name, EVERYONE)


def made(service, data=None, wishes=STL):
    job = receive(service, data)
    service.make(job, wishes)
    service.jobs.wait(job, PATIENCE, final=True)
    assert job.status is JobStatus.COMPLETED
    return job


def read(service, job, filename):
    file, _, _ = service.fetch(job, filename)
    with file:
        return file.read()


def kinds(service):
    """Of all that any tier knows, and of no tier more than of another."""
    rows = service.results.entries(100, 0)
    assert all(row["on_disk"] for row in rows)
    return sorted(row["key"].partition(":")[0] for row in rows)


def nothing_is_left(service):
    assert service.results.entries(100, 0) == []
    assert len(service.results.lru) == len(service._facts) == 0
    assert files_kept(service.files.data_dir) == []
    assert service.files.index.rows("SELECT id FROM jobs UNION ALL SELECT key FROM results") == []
    return True


def deleted_in_the_middle(service, job, step):
    """The job is cancelled and deleted while its run is held at that step; then the run goes on."""
    assert step.reached.wait(PATIENCE)
    assert service.cancel(job)
    service.keeping.forget(job)
    step.go_on.set()
    until(lambda: service.queue.lengths() == (0, 0))
    assert nothing_is_left(service)


class TestNothingIsLeft:
    def test_of_a_job_with_everything_that_a_job_can_have(self, service):
        views = {"front": (opaque(), NAME), "back": (opaque(1), NAME)}
        job = service.receive_all(views, EVERYONE)
        service.make(job, STL)
        service.jobs.wait(job, PATIENCE, final=True)
        service.set_thumbnail(job, opaque(2))
        for kind in FORMATS:
            assert read(service, job, f"model.{kind}")
        assert service.mask(job, STL)
        service.set_mask(job, encode(Image.new("L", (96, 128), 255)))
        assert kinds(service) == ["cutout", "cutout", *["file"] * len(FORMATS), "shape"]
        service.keeping.forget(job)
        assert nothing_is_left(service)

    def test_of_what_only_the_disk_still_has(self, service):
        job = made(service)
        service.results.clear("memory")
        service.keeping.forget(job)
        assert nothing_is_left(service)

    def test_of_what_only_memory_still_has(self, service):
        job = made(service)
        service.results.clear("disk")
        service.keeping.forget(job)
        assert nothing_is_left(service)

    def test_of_what_is_pinned(self, service):
        job = made(service)
        for row in service.results.entries(9, 0):
            assert service.results.pin(row["key"], True)
        service.keeping.forget(job)
        assert nothing_is_left(service)

    def test_of_what_an_earlier_process_made(self, tmp_path):
        model = puppet(Stage())
        with house(tmp_path, model) as client:
            job_id = made(client.server.service).id
        with house(tmp_path, model) as client:
            service = client.server.service
            service.keeping.forget(service.jobs.get(job_id))
            assert nothing_is_left(service)

    def test_of_what_was_made_with_other_wishes_in_between(self, service):
        job = made(service)
        for wishes in (GLB, Wishes(quality=3), Wishes(seed=5, format="ply")):
            service.make(job, wishes)
            service.jobs.wait(job, PATIENCE, final=True)
        assert kinds(service) == ["cutout", *["file"] * 4, *["shape"] * 3]
        service.keeping.forget(job)
        assert nothing_is_left(service)

    def test_of_a_job_that_was_made_from_a_prompt_alone(self, tmp_path):
        model = puppet(Stage(), needs_image=False, reads=frozenset({"prompt"}))
        with house(tmp_path, model) as client:
            service = client.server.service
            wishes = Wishes(prompt=PROMPT)
            job = service.prompt_only(wishes, EVERYONE)
            service.make(job, wishes)
            service.jobs.wait(job, PATIENCE, final=True)
            assert read(service, job, "model.obj")
            assert kinds(service) == ["file", "file", "shape"]
            service.keeping.forget(job)
            assert nothing_is_left(service)

    def test_of_its_words_in_the_files_of_the_index(self, service):
        others = [made(service, opaque(number)) for number in range(3)]
        job = receive(service, opaque(9), NAME)
        service.make(job, Wishes(prompt=PROMPT))
        service.jobs.wait(job, PATIENCE, final=True)
        words = [word.encode() for word in (NAME, PROMPT, job.id, job.pictures["front"].sha256)]
        sources = others[0].pictures["front"].sha256.encode()

        def in_the_index(word):
            return any(word in path.read_bytes() for path in service.files.data_dir.glob("index.db*"))

        assert all(map(in_the_index, words))
        service.keeping.forget(job)
        assert not any(map(in_the_index, words))
        assert in_the_index(sources), "another job's are there"

    def test_of_a_picture_that_another_took_the_place_of(self, service):
        job = made(service)
        receive_again(service, job, opaque(1))
        assert service.results.entries(9, 0) == []
        assert len(files_kept(service.files.data_dir)) == 1
        service.keeping.forget(job)
        assert nothing_is_left(service)


def receive_again(service, job, data):
    return service.receive(data, "b.png", EVERYONE, job=job, view="front")


class TestOthersKeepTheirs:
    def test_what_another_job_of_the_same_picture_names(self, service):
        first, second = made(service), made(service, wishes=GLB)
        before = {name: read(service, second, name) for name in ("model.glb", "model.ply")}
        service.keeping.forget(first)
        assert kinds(service) == ["cutout", "file", "shape"], "not the STL and the PLY"
        assert {name: read(service, second, name) for name in before} == before
        service.keeping.forget(second)
        assert nothing_is_left(service)

    def test_a_job_that_has_the_picture_alone_keeps_the_cut_out(self, service, stage):
        first, second = made(service), receive(service)
        service.keeping.forget(first)
        assert kinds(service) == ["cutout"]
        service.make(second, STL)
        service.jobs.wait(second, PATIENCE, final=True)
        assert (second.delivery.cached, len(stage.runs)) == (False, 2)

    def test_other_pictures_are_none_of_it(self, service):
        first, second = made(service, opaque(1)), made(service, opaque(2))
        service.keeping.forget(first)
        assert kinds(service) == ["cutout", "file", "shape"]
        assert read(service, second, "model.stl")

    def test_a_shape_of_two_pictures_goes_with_either(self, service):
        views = {"front": (opaque(1), "a.png"), "back": (opaque(2), "b.png")}
        both, back = service.receive_all(views, EVERYONE), receive(service, opaque(2))
        service.make(both, STL)
        service.jobs.wait(both, PATIENCE, final=True)
        service.keeping.forget(both)
        assert kinds(service) == ["cutout"], "of the back, which another job has"
        service.keeping.forget(back)
        assert nothing_is_left(service)

    def test_a_run_under_way_of_another_job_goes_on(self, service, stage):
        stage.hold = True
        first, second = receive(service), receive(service)
        for job in (first, second):
            service.make(job, STL)
        run = stage.next_run()
        assert service.cancel(first)
        service.keeping.forget(first)
        run.end()
        service.jobs.wait(second, PATIENCE, final=True)
        assert read(service, second, "model.stl")
        assert kinds(service) == ["cutout", "file", "shape"]
        service.keeping.forget(second)
        assert nothing_is_left(service)


class Held:
    """A step that waits in its middle until the test lets it go on."""

    def __init__(self, monkeypatch, owner, name):
        self.reached, self.go_on, plain = threading.Event(), threading.Event(), getattr(owner, name)

        def held(*args, **options):
            self.reached.set()
            assert self.go_on.wait(PATIENCE)
            return plain(*args, **options)

        monkeypatch.setattr(owner, name, held)


class TestUnderWay:
    """What is stored after the deletion goes as well."""

    def test_a_run_whose_model_does_not_hear_of_it(self, service, stage):
        stage.hold = True
        job = receive(service)
        service.make(job, STL)
        run = stage.next_run()
        assert service.cancel(job)
        service.keeping.forget(job)
        run.end()
        until(lambda: service.queue.lengths() == (0, 0))
        assert nothing_is_left(service)

    @pytest.mark.parametrize(("owner", "name"), [(cutout, "foreground"), (work.pipeline, "make_file")])
    def test_a_run_in_one_of_its_other_steps(self, service, monkeypatch, owner, name):
        step = Held(monkeypatch, owner, name)
        job = receive(service)
        service.make(job, STL)
        deleted_in_the_middle(service, job, step)

    def test_a_run_that_two_of_its_jobs_have_left(self, service, stage):
        stage.hold = True
        jobs = [receive(service) for _ in range(2)]
        for job in jobs:
            service.make(job, STL)
        run = stage.next_run()
        for job in jobs:
            assert service.cancel(job)
            service.keeping.forget(job)
        run.end()
        until(lambda: service.queue.lengths() == (0, 0))
        assert nothing_is_left(service)

    def test_a_run_of_a_prompt_alone(self, tmp_path, monkeypatch):
        with house(tmp_path, puppet(Stage(), needs_image=False, reads=frozenset({"prompt"}))) as client:
            service, step = client.server.service, Held(monkeypatch, work.pipeline, "make_file")
            wishes = Wishes(prompt=PROMPT)
            job = service.prompt_only(wishes, EVERYONE)
            service.make(job, wishes)
            deleted_in_the_middle(service, job, step)

    def test_a_conversion_for_a_download(self, service, monkeypatch):
        job = made(service)
        step = Held(monkeypatch, work.pipeline, "make_file")
        with ThreadPoolExecutor(1) as pool:
            download = pool.submit(service.fetch, job, "model.ply")
            assert step.reached.wait(PATIENCE)
            service.keeping.forget(job)
            step.go_on.set()
            with pytest.raises(NotFoundError):
                download.result(PATIENCE)
        assert nothing_is_left(service)

    def test_a_look_at_the_mask(self, service, monkeypatch):
        job = receive(service)
        step = Held(monkeypatch, cutout, "foreground")
        with ThreadPoolExecutor(1) as pool:
            mask = pool.submit(service.mask, job, STL)
            assert step.reached.wait(PATIENCE)
            service.keeping.forget(job)
            step.go_on.set()
            mask.exception(PATIENCE)
        assert nothing_is_left(service)

    def test_an_answer_from_the_cache(self, service, monkeypatch):
        first, job = made(service), receive(service)
        step = Held(monkeypatch, work.pipeline, "make_file")
        with ThreadPoolExecutor(1) as pool:
            making = pool.submit(service.make, job, GLB)
            assert step.reached.wait(PATIENCE)
            for each in (job, first):
                service.keeping.forget(each)
            step.go_on.set()
            assert isinstance(making.exception(PATIENCE), NotFoundError)
        assert nothing_is_left(service)

    def test_a_download_that_has_begun_is_finished(self, service):
        job = made(service)
        whole = read(service, job, "model.stl")
        file, size, _ = service.fetch(job, "model.stl")
        with file:
            head = file.read(10)
            service.keeping.forget(job)
            assert head + file.read() == whole
        assert size == len(whole)
        assert nothing_is_left(service)
