"""Several pictures of one object, and none at all: what comes to the models that can use them."""

import io

import numpy as np
import pytest
from asks import ellipse
from in_process import Stage, house, puppet
from live_server import PATIENCE, encode, fresh_png
from PIL import Image

from errors import NotFoundError, RequestError
from work.jobs import EVERYONE, Caller, JobStatus
from work.request import Wishes

MASK = encode(Image.new("L", (96, 128), 255))


@pytest.fixture
def stage():
    return Stage()


def receive(service, data=None, **more):
    return service.receive(data or fresh_png(), "a.png", EVERYONE, **more)


class TestViews:
    """Several pictures of one object, and a model that reads them all."""

    @pytest.fixture
    def models(self, stage):
        all_sides = puppet(stage, "all-sides", reads=frozenset({"image", "views"}))
        return all_sides, puppet(stage, "front-only", reads=frozenset({"image"}))

    def test_they_come_to_the_model_by_name_and_make_a_shape_of_their_own(self, tmp_path, stage, models):
        sides = {view: fresh_png() for view in ("front", "back", "left", "right")}
        with house(tmp_path, *models) as client:
            service = client.server.service

            def shape(views, model="all-sides"):
                pictures = {view: (sides[view], view) for view in views}
                job = service.receive_all(pictures, EVERYONE)
                service.make(job, Wishes(model=model))
                service.jobs.wait(job, PATIENCE, final=True)
                return job.delivery.shape_key

            keys = [shape(views) for views in (["front"], ["front", "back"], ["front", "left"], list(sides))]
            assert len(set(keys)) == 4
            assert [set(run.options.views) for run in stage.runs] == [
                set(),
                {"back"},
                {"left"},
                {"back", "left", "right"},
            ]
            for run in stage.runs:
                for view, pixels in run.options.views.items():
                    alpha = np.asarray(Image.open(io.BytesIO(sides[view])).getchannel("A"))
                    assert np.array_equal(pixels[..., 3], alpha)
            assert shape(list(sides)) == keys[3]
            assert len(stage.runs) == 4
            assert shape(list(sides), "front-only") == shape(["front"], "front-only")
            assert len(stage.runs) == 5
            assert not stage.runs[4].options.views

    def test_a_view_whose_background_is_to_be_found(self, tmp_path, stage, models):
        with house(tmp_path, *models) as client:
            service = client.server.service
            job = receive(service)
            receive(service, encode(Image.fromarray(ellipse())), job=job, view="back")
            service.make(job, Wishes())
            service.jobs.wait(job, PATIENCE, final=True)
            back = stage.runs[0].options.views["back"]
            assert 0.1 < (back[..., 3] > 127).mean() < 0.9

    def test_a_view_that_is_gone_is_a_picture_that_is_lost(self, tmp_path, models):
        with house(tmp_path, *models) as client:
            service = client.server.service
            job = receive(service)
            receive(service, job=job, view="back")
            service.files.upload(job.pictures["back"].name).unlink()
            service.make(job, Wishes())
            service.jobs.wait(job, PATIENCE, final=True)
            assert job.failure.error_type == "upload_lost"


class TestPromptAlone:
    @pytest.fixture
    def models(self, stage):
        words = puppet(stage, "words", reads=frozenset({"prompt", "seed"}), needs_image=False)
        return words, puppet(stage, "pictures")

    def test_a_model_that_needs_no_picture_is_asked_for_one_thing(self, tmp_path, stage, models):
        with house(tmp_path, *models) as client:
            service = client.server.service
            wishes = Wishes(prompt="a red cup")
            job = service.prompt_only(wishes, Caller("a"))
            assert (job.pictures, job.owner) == ({}, "a")
            service.make(job, wishes)
            service.jobs.wait(job, PATIENCE, final=True)
            assert job.status is JobStatus.COMPLETED
            (run,) = stage.runs
            assert (run.image, run.options.prompt, dict(run.options.views)) == (None, "a red cup", {})
            again = service.prompt_only(wishes, EVERYONE)
            service.make(again, wishes)
            assert again.delivery.cached
            file, size, _ = service.fetch(again, "model.glb")
            with file:
                assert len(file.read()) == size
            for call in (service.mask, lambda job, _: service.set_mask(job, MASK)):
                with pytest.raises(NotFoundError):
                    call(job, Wishes())

    def test_without_a_prompt_there_is_nothing_to_make(self, tmp_path, models):
        with house(tmp_path, *models) as client:
            service = client.server.service
            job = service.prompt_only(Wishes(prompt="a cup"), EVERYONE)
            with pytest.raises(RequestError, match="prompt"):
                service.make(job, Wishes())

    def test_a_model_that_needs_a_picture_says_so(self, tmp_path, models):
        with house(tmp_path, *models) as client:
            service = client.server.service
            with pytest.raises(RequestError, match="pictures needs a picture"):
                service.prompt_only(Wishes(prompt="a cup", model="pictures"), EVERYONE)
            job = service.prompt_only(Wishes(prompt="a cup"), EVERYONE)
            with pytest.raises(RequestError, match="front"):
                service.make(job, Wishes(prompt="a cup", model="pictures"))
            receive(service, job=job, view="back")
            with pytest.raises(RequestError, match="front"):
                service.make(job, Wishes(prompt="a cup"))


class TestOverHttp:
    """Two and four pictures under one job, in one form or one by one; any model may be asked by its id."""

    @pytest.fixture
    def client(self, tmp_path, stage):
        all_sides = puppet(stage, "all-sides", reads=frozenset({"image", "views"}))
        with house(tmp_path, puppet(stage, "front-only", reads=frozenset({"image"})), all_sides) as client:
            yield client

    @pytest.mark.parametrize("sides", [("front", "back"), ("front", "back", "left", "right")])
    def test_in_one_form_or_one_by_one_they_make_the_same(self, client, stage, sides):
        pictures = {view: fresh_png() for view in sides}
        answer = client.post(
            "/api/generate-3d",
            files={view: (f"{view}.png", data) for view, data in pictures.items()},
            data={"model": "all-sides", "format": "glb"},
        )
        assert answer.status_code == 200, answer.text
        first = client.settled(answer.json()["job_id"])
        job_id = client.upload(pictures["front"])
        for view in sides[1:]:
            answer = client.post(
                "/api/upload-image", params={"job_id": job_id, "view": view}, files={"image": ("x.png", pictures[view])}
            )
            assert (answer.status_code, answer.json()["job_id"], answer.json()["view"]) == (200, job_id, view)
        assert client.generate(job_id, model="all-sides", format="glb").status_code == 200
        second = client.settled(job_id)
        assert (first["cached"], second["cached"], len(stage.runs)) == (False, True, 1)
        assert set(stage.runs[0].options.views) == set(sides[1:])
        assert client.download(first) == client.download(second)
        for status in (first, second):
            assert status["model"] == "all-sides"
            assert status["views"].keys() == set(sides)
            for view, url in status["views"].items():
                assert client.get(url).content == pictures[view]
            assert client("DELETE", f"/api/jobs/{status['job_id']}").status_code == 200
            assert client.get(status["views"]["back"]).status_code == 404

    def test_image_is_another_word_for_the_front(self, client):
        for name in ("image", "front"):
            answer = client.post("/api/upload-image", files={name: ("a.png", fresh_png()), "back": ("b", fresh_png())})
            assert answer.json()["view"] == "front"
            assert client.status(answer.json()["job_id"])["views"].keys() == {"front", "back"}

    def test_who_reads_the_front_alone_ignores_the_others(self, client, stage):
        front = fresh_png()
        files = {"front": ("a.png", front), "left": ("b.png", fresh_png())}
        first = client.settled(client.post("/api/generate-3d", files=files).json()["job_id"])
        assert not stage.runs[0].options.views
        assert client.make(front)["cached"]
        assert first["model"] == "front-only"

    @pytest.mark.parametrize(
        ("params", "files", "field"),
        [
            ({"view": "back"}, {"image": True}, "front"),
            ({"view": "top"}, {"image": True}, "view"),
            ({}, {"back": True}, "front"),
            ({"job_id": "own", "view": "back"}, {"back": True}, "image"),
            ({"job_id": "own", "view": "back"}, {"image": True, "left": True}, "image"),
            ({"job_id": "own"}, {}, "image"),
        ],
        ids=str,
    )
    def test_what_cannot_be_a_view_is_refused_by_name(self, client, params, files, field):
        job_id = client.upload(fresh_png())
        params = {key: job_id if value == "own" else value for key, value in params.items()}
        sent = {name: ("a.png", fresh_png()) for name in files}
        answer = client.post("/api/upload-image", params=params, files=sent)
        assert answer.status_code == 400
        assert field in answer.json()["details"]
        assert client.status(job_id)["views"].keys() == {"front"}

    def test_a_view_of_a_busy_job_is_refused(self, client, stage):
        stage.hold = True
        job_id = client.upload(fresh_png())
        client.generate(job_id)
        run = stage.next_run()
        answer = client.post(f"/api/upload-image?job_id={job_id}&view=back", files={"image": ("b.png", fresh_png())})
        assert (answer.status_code, answer.json()["code"]) == (409, "job_busy")
        run.end()

    def test_a_prompt_alone(self, tmp_path, stage):
        words = puppet(stage, "words", reads=frozenset({"prompt"}), needs_image=False)
        with house(tmp_path / "words", words) as client:
            answer = client.post("/api/generate-3d", json={"prompt": "a red cup", "format": "glb"})
            assert answer.status_code == 200
            status = client.settled(answer.json()["job_id"])
            assert (status["status"], status["original_filename"], status["views"]) == ("completed", "a red cup", {})
            assert status["preview_url"] is None
            assert client.download(status).startswith(b"glTF")
            answer = client.post("/generate", json={"text": "a red cup"})
            assert (answer.status_code, answer.content[:4]) == (200, b"glTF")
            health = client.get("/api/health").json()
            assert health["capabilities"] == {"image_to_3d": False, "text_to_3d": True, "reads": ["prompt"]}
        with house(tmp_path / "pictures", puppet(stage)) as client:
            answer = client.post("/api/generate-3d", json={"prompt": "a red cup"})
            assert answer.status_code == 400
            assert "prompt" in answer.json()["details"]
            assert client.post("/generate", json={"text": "a red cup"}).status_code == 400
            assert client.get("/api/jobs").json()["total"] == 0
