"""One test per defect of the house before it was built anew; each says what used to happen."""

import base64
import io
import re
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from types import ModuleType, SimpleNamespace

import pytest
import trimesh
from in_process import InProcess, Stage, house, puppet, until
from live_server import PATIENCE, draw, encode, fresh_png, scripted_server
from PIL import Image, ImageFile

import errors
from web.responses import STATUS


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """A scripted server for the tests that leave it as they found it."""
    with scripted_server(tmp_path_factory.mktemp("shared"), MAX_UPLOAD_MB="0.2", MAX_IMAGE_PIXELS="100000") as client:
        yield client


def started(client, data, **wish):
    job_id = client.upload(data)
    assert client.generate(job_id, **wish).status_code == 200
    return job_id


def half_mask(left):
    """Half of the picture is the object, the left or the right one."""
    mask = Image.new("L", (96, 128))
    mask.paste(255, (0, 0, 48, 128) if left else (48, 0, 96, 128))
    return encode(mask)


# ── a joined run makes the object that was asked for ─────────────────────────────────────────────────────────────────


def the_other_mask(client, job_id):
    return client("PUT", f"/api/jobs/{job_id}/mask", data=half_mask(left=False))


def no_mask(client, job_id):
    return client("DELETE", f"/api/jobs/{job_id}/mask")


def deleted(client, job_id):
    return client("DELETE", f"/api/jobs/{job_id}")


def another_picture(client, job_id):
    return client.post(f"/api/upload-image?job_id={job_id}", files={"image": ("b.png", fresh_png())})


@pytest.mark.parametrize("change", [the_other_mask, no_mask, deleted, another_picture])
def test_who_joined_a_run_gets_what_they_asked_for_whatever_becomes_of_the_first(tmp_path, change):
    """The run read the mask and the picture of its first job when its turn came, in whatever state they were then;
    and what it made was cached under the key of what had been asked for."""
    stage, png = Stage(hold=True), fresh_png()
    with house(tmp_path, puppet(stage)) as client:
        started(client, fresh_png())
        in_the_way = stage.next_run()
        ids = [client.upload(png) for _ in range(2)]
        for job_id in ids:
            assert client("PUT", f"/api/jobs/{job_id}/mask", data=half_mask(left=True)).status_code == 200
            assert client.generate(job_id).status_code == 200
        first, second = ids
        assert client.stats()["coalesced"] == 1
        assert client("DELETE", f"/api/jobs/{first}").json()["status"] == "cancelled"
        assert change(client, first).status_code == 200
        in_the_way.end()
        run = stage.next_run()
        run.end()
        assert client.settled(second)["status"] == "completed"
        opaque = run.image[..., 3] > 127
        assert opaque[:, :48].all()
        assert not opaque[:, 48:].any()


def test_a_picture_that_was_changed_under_a_run_is_not_taken_for_the_one_asked_for(tmp_path, monkeypatch):
    """A picture sent again lay where the earlier one had lain. Here two jobs share a run, which still looks for the
    object in the front when the first of them is cancelled and has its back replaced."""
    from picture import cutout

    stage, looking, go_on = Stage(), threading.Event(), threading.Event()
    plain = cutout.foreground

    def foreground(rgba, background="auto"):
        looking.set()
        assert go_on.wait(PATIENCE)
        return plain(rgba, background)

    front, back = encode(draw(mark=901).convert("RGB")), fresh_png()
    with house(tmp_path, puppet(stage, reads=frozenset({"image", "views"}))) as client:
        ids = []
        for _ in range(2):
            files = {"front": ("f.png", front), "back": ("b.png", back)}
            ids.append(client.post("/api/upload-image", files=files).json()["job_id"])
        monkeypatch.setattr(cutout, "foreground", foreground)
        for job_id in ids:
            assert client.generate(job_id).status_code == 200
        assert looking.wait(PATIENCE)
        first, second = ids
        assert client("DELETE", f"/api/jobs/{first}").json()["status"] == "cancelled"
        other = Image.new("RGBA", (96, 128))
        other.paste((0, 0, 255, 255), (30, 30, 60, 60))
        answer = client.post(f"/api/upload-image?job_id={first}&view=back", files={"image": ("b.png", encode(other))})
        assert answer.status_code == 200
        go_on.set()
        assert client.settled(second)["status"] == "completed"
        asked_for = Image.open(io.BytesIO(back)).getchannel("A").tobytes()
        assert stage.runs[-1].options.views["back"][..., 3].tobytes() == asked_for


# ── a GET never runs the model ───────────────────────────────────────────────────────────────────────────────────────


def lose(client, folder, keep=()):
    """All results but those with these bytes, as if the disk had been full."""
    client.post("/api/cache/clear")
    for path in (folder / "data" / "results").iterdir():
        if path.read_bytes() not in keep:
            path.unlink()


def test_a_get_never_runs_the_model(scripted, tmp_path):
    """With the shape gone, a GET of another format ran the model, for minutes, outside the queue and its bound."""
    png = fresh_png()
    status = scripted.make(png, format="stl")
    job_id, delivered = status["job_id"], scripted.download(status)
    lose(scripted, tmp_path, keep=[delivered])
    for path in (f"download/{job_id}/model.ply", f"download-base64/{job_id}/model_{job_id}.glb"):
        answer = scripted.get(f"/api/{path}")
        assert (answer.status_code, answer.json()["code"]) == (409, "shape_lost")
        assert "generate-3d" in answer.json()["error"]
    assert scripted("HEAD", f"/api/download/{job_id}/model.ply").status_code == 409
    assert scripted.download(status) == delivered, "what was delivered is there still"
    assert scripted.conductor.runs == 1

    assert scripted.generate(job_id).status_code == 200
    assert scripted.settled(job_id)["status"] == "completed"
    assert scripted.conductor.runs == 2
    assert scripted.get(f"/api/download/{job_id}/model.ply").status_code == 200
    assert scripted.download(status) == delivered

    lose(scripted, tmp_path)
    for path in (status["download_url"], f"/api/download-base64/{job_id}/model.stl"):
        answer = scripted.get(path)
        assert (answer.status_code, answer.json()["code"]) == (409, "result_evicted")
        assert "generate-3d" in answer.json()["error"]
    told = scripted.get(f"/status/{job_id}").json()
    assert (told["status"], "generate-3d" in told["message"]) == ("error", True)
    (tmp_path / "data" / "uploads" / f"{job_id}.png").unlink()
    for path in (f"/api/download/{job_id}/model.ply", status["download_url"]):
        answer = scripted.get(path)
        assert (answer.status_code, answer.json()["code"]) == (410, "upload_lost")
    assert scripted.conductor.runs == 2

    assert scripted.generate(job_id).status_code == 200
    assert scripted.settled(job_id)["error_type"] == "upload_lost"
    assert scripted.make(png)["status"] == "completed", "the same picture, sent again"


# ── decoding is bounded ──────────────────────────────────────────────────────────────────────────────────────────────


class Turnstile:
    """Counts who decodes at once; holds those inside until so many have come to the door."""

    def __init__(self, monkeypatch, inside, at_the_door):
        self.now = self.most = self.came = 0
        self._wanted = (inside, at_the_door)
        self._changed = threading.Condition()
        self._opened = False
        load, plain_open = ImageFile.ImageFile.load, Image.open

        def counted_load(image):
            if getattr(image, "counted", False) or image.tile == []:
                return load(image)
            image.counted = True
            with self._changed:
                self.now += 1
                self.most = max(self.most, self.now)
                self._look()
                assert self._changed.wait_for(lambda: self._opened, PATIENCE)
            try:
                return load(image)
            finally:
                with self._changed:
                    self.now -= 1

        def counted_open(*args, **options):
            with self._changed:
                self.came += 1
                self._look()
            return plain_open(*args, **options)

        monkeypatch.setattr(ImageFile.ImageFile, "load", counted_load)
        monkeypatch.setattr(Image, "open", counted_open)

    def _look(self):
        if self.now >= self._wanted[0] and self.came >= self._wanted[1]:
            self._opened = True
            self._changed.notify_all()


@pytest.mark.parametrize(
    ("doors", "inside", "at_the_door"),
    [
        (["upload"] * 12, 4, 12),
        (["new mask"] * 12, 4, 12),
        (["mask"] * 12, 2, 2),  # looking for objects is bounded once more, at two
        (["upload", "new mask", "mask"] * 4, 4, 10),
    ],
    ids=["uploads", "masks put", "masks asked for", "all doors"],
)
def test_decoding_is_bounded_whichever_door_the_pictures_come_through(
    tmp_path, monkeypatch, doors, inside, at_the_door
):
    """Uploads were bounded; twelve GETs of masks decoded twelve pictures at once, 200 MB each."""
    with house(tmp_path, puppet(Stage())) as client:
        jobs = [client.upload(encode(draw(mark=700 + n, size=(400, 300)))) for n in range(len(doors))]
        fresh = [encode(draw(mark=800 + n, size=(400, 300))) for n in range(len(doors))]
        mask = encode(Image.new("L", (400, 300), 255))
        turnstile = Turnstile(monkeypatch, inside, at_the_door)

        def pass_through(number):
            visitor = InProcess(client.server)
            if doors[number] == "upload":
                return visitor.post("/api/upload-image", files={"image": ("a.png", fresh[number])})
            if doors[number] == "new mask":
                return visitor("PUT", f"/api/jobs/{jobs[number]}/mask", data=mask)
            return visitor.get(f"/api/jobs/{jobs[number]}/mask")

        with ThreadPoolExecutor(len(doors)) as pool:
            answers = list(pool.map(pass_through, range(len(doors))))
        assert {answer.status_code for answer in answers} == {200}
        assert inside <= turnstile.most <= 4


# ── one process, two servers; and health ─────────────────────────────────────────────────────────────────────────────


def test_two_servers_in_one_process_have_caches_of_their_own(tmp_path):
    """The caches of decoded pictures and of runs were the module's: the limits of the server made last held for all."""
    stage, png = Stage(), fresh_png()
    with (
        house(tmp_path / "one", puppet(stage), CACHE_MAX_SIZE="1") as one,
        house(tmp_path / "two", puppet(stage), CACHE_MAX_SIZE="50", MAX_IMAGE_PIXELS="1000") as two,
    ):
        assert one.make(png)["status"] == "completed"
        answer = two.post("/api/upload-image", files={"image": ("a.png", png)})
        assert answer.status_code == 413, "known to the other server alone"
        assert (one.stats()["current_items"], two.stats()["current_items"]) == (1, 0)
        assert (one.stats()["max_items"], two.stats()["max_items"]) == (1, 50)
        small = encode(draw(size=(24, 32)))
        assert two.make(small)["cached"] is False
        assert one.make(small)["cached"] is False
        assert two.make(small)["cached"] is True
        two.post("/api/cache/config", json={"max_size": 7})
        assert (one.stats()["max_items"], two.stats()["max_items"]) == (1, 7)
        two.post("/api/cache/clear")
        assert (one.stats()["current_items"], two.stats()["current_items"]) == (1, 0)


def failing_cuda(**found):
    def no():
        raise RuntimeError("CUDA error: unspecified launch failure")

    return SimpleNamespace(cuda=SimpleNamespace(is_available=lambda: True, mem_get_info=no, **found))


@pytest.mark.parametrize("torch", [ModuleType("torch"), failing_cuda(), None], ids=["half imported", "broken", "none"])
@pytest.mark.parametrize("loaded", [True, False], ids=["loaded", "loading"])
def test_health_answers_whatever_is_being_imported(tmp_path, monkeypatch, torch, loaded):
    """While a model's load imported torch, health asked the half-imported module for its GPU and answered 500."""
    monkeypatch.setitem(sys.modules, "torch", torch)
    begun, go_on = threading.Event(), threading.Event()

    class Slow(puppet(Stage(), "slow")):
        def load(self):
            begun.set()
            assert go_on.wait(PATIENCE)
            super().load()

    with house(tmp_path, Slow, load=False) as client:
        loading = threading.Thread(target=client.server.load_model)
        loading.start()
        assert begun.wait(PATIENCE)
        if loaded:
            go_on.set()
            loading.join(PATIENCE)
        health, ready = client.get("/api/health"), client.get("/api/ready")
        assert (health.status_code, ready.status_code) == (200, 200 if loaded else 503)
        for answer in (health, ready):
            assert answer.json()["models_status"] == ("ready" if loaded else "loading")
            assert answer.json()["gpu_info"] is None
        assert client.get("/api/models-info").status_code == client.get("/metrics").status_code == 200
        go_on.set()
        loading.join(PATIENCE)


# ── errors say the same wherever they come from ──────────────────────────────────────────────────────────────────────


def test_a_picture_that_is_too_large_is_413_at_every_door(shared):
    """At the mask it was 400, and beyond the form's own limit a page of HTML."""
    job_id = shared.upload(fresh_png())
    many_pixels = encode(Image.new("L", (1000, 1000), 255))
    noise = encode(Image.effect_noise((800, 600), 100), "BMP")
    assert len(many_pixels) < 200_000 < len(noise)
    beyond_any_form = bytes(2_000_000)
    for data in (many_pixels, noise, beyond_any_form):
        for answer in (
            shared.post("/api/upload-image", files={"image": ("a.png", data)}),
            shared("PUT", f"/api/jobs/{job_id}/mask", data=data),
            shared.post("/api/generate-3d", files={"image": ("a.png", data)}),
        ):
            assert (answer.status_code, answer.json()["code"]) == (413, "too_large"), answer.text
    assert shared.status(job_id)["has_user_mask"] is False


def every_error():
    found, todo = [], [errors.OrfeasError]
    while todo:
        kind = todo.pop()
        todo += kind.__subclasses__()
        found.append(kind)
    return [kind for kind in found if kind.__module__ == "errors"]


def test_every_error_has_a_code_with_a_status_and_a_place_in_the_tree():
    drawn = re.findall(r"^[│├└─ ]*(\w+Error) +(.*)$", errors.__doc__, re.MULTILINE)
    tree = {name: text.split("  ")[0].strip() for name, text in drawn}
    assert sorted(tree) == sorted(kind.__name__ for kind in every_error())
    for kind in every_error():
        assert kind.code in STATUS
        own = vars(kind).get("code")
        assert own is None or tree[kind.__name__] == own
        assert own is not None or tree[kind.__name__] not in STATUS
    codes = [vars(kind)["code"] for kind in every_error() if "code" in vars(kind)]
    assert sorted(codes) == sorted(set(codes)) == sorted(STATUS)
    depths = {name: len(prefix) for prefix, name in re.findall(r"^([│├└─ ]*)(\w+Error)", errors.__doc__, re.MULTILINE)}
    for kind in every_error()[1:]:
        assert depths[kind.__name__] == depths[kind.__bases__[0].__name__] + 3


# ── waiting, sizes, odd requests ─────────────────────────────────────────────────────────────────────────────────────


def test_until_final_returns_only_when_it_is(scripted):
    """Every stage answered the request, and a script had to ask again some ten times for one model."""
    scripted.conductor.hold = True
    job_id = started(scripted, fresh_png())
    run = scripted.conductor.next_run()
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(scripted.get, f"/api/job-status/{job_id}", params={"wait": 30, "until": "final"})
        started(scripted, fresh_png())
        assert not waiting.done()
        run.end()
        assert waiting.result(PATIENCE).json()["status"] == "completed"
    answer = scripted.get(f"/api/job-status/{job_id}", params={"wait": 1, "until": "later"})
    assert answer.status_code == 400


@pytest.mark.parametrize("kind", ["stl", "glb", "ply"])
def test_a_unit_scaled_file_is_reported_in_its_own_unit(shared, kind):
    """Of a GLB, whose unit is the metre, the report said a thousandth of it."""
    status = shared.make(fresh_png(), format=kind, scale="unit")
    assert max(status["mesh"]["extents_mm"]) == pytest.approx(2, abs=1e-3)
    scene = trimesh.load(io.BytesIO(shared.download(status)), file_type=kind)
    assert max(scene.extents) == pytest.approx(2, abs=1e-3)


@pytest.mark.parametrize("path", ["/api/upload-image", "/api/generate-3d"])
def test_a_file_name_in_the_code_page_of_windows_is_read(shared, path):
    """One byte that is no UTF-8 in the file's name, as Windows' curl sends it, and the whole form was dropped."""
    body = (
        b'--limit\r\nContent-Disposition: form-data; name="image"; filename="f\xfcr.png"\r\n'
        b"Content-Type: image/png\r\n\r\n" + fresh_png() + b"\r\n--limit--\r\n"
    )
    answer = shared.post(path, data=body, headers={"Content-Type": "multipart/form-data; boundary=limit"})
    assert answer.status_code == 200, answer.text
    assert answer.json()["original_filename"] == "für.png"


def test_ranges_in_units_that_nobody_knows_are_ignored(shared):
    """They answered 416; RFC 9110, section 14.2, has them ignored."""
    status = shared.make(fresh_png())
    whole = shared.download(status)
    for unit in ("items=0-1", "BITES=0-1"):
        answer = shared.get(status["download_url"], headers={"Range": unit})
        assert (answer.status_code, answer.content) == (200, whole)
    assert shared.get(status["download_url"], headers={"Range": "bytes=0-1"}).content == whole[:2]
    assert shared.get(status["download_url"], headers={"Range": "bytes=99999999-"}).status_code == 416


@pytest.mark.parametrize("how", ["url-safe, no padding", "line breaks", "data address"])
def test_base64_is_read_as_it_is_written(shared, how):
    """Only the plain alphabet with its padding was; browsers' and Python's own URL-safe one was refused."""
    png = next(
        png for png in (fresh_png() for _ in range(1000)) if len(png) % 3 and b"_" in base64.urlsafe_b64encode(png)
    )
    text = {
        "url-safe, no padding": base64.urlsafe_b64encode(png).rstrip(b"=").decode(),
        "line breaks": base64.encodebytes(png).decode(),
        "data address": "data:image/png;base64," + base64.b64encode(png).decode(),
    }[how]
    answer = shared.post("/generate", json={"image": text})
    assert answer.status_code == 200, answer.text
    assert answer.content.startswith(b"glTF")
    assert shared.post("/generate", json={"image": text[:50] + "!" + text[51:]}).status_code == 400


# ── waiting for a model that is busy ─────────────────────────────────────────────────────────────────────────────────


def test_a_job_that_waits_for_a_model_of_one_thread_is_cancelled_at_once(tmp_path):
    """It waited in the model's own lock, held a worker, and heard of its end only when the other run was over."""
    stage = Stage(hold=True)
    with house(tmp_path, puppet(stage), ORFEAS_WORKERS="2") as client:
        first = started(client, fresh_png())
        run = stage.next_run()
        second, third = started(client, fresh_png()), started(client, fresh_png())
        assert client.status(second)["queue_position"] == 1
        assert client("DELETE", f"/api/jobs/{second}").json()["status"] == "cancelled"
        assert client.status(second)["status"] == "cancelled"
        assert client.status(third)["queue_position"] == 1
        assert client.get("/api/health").json()["queue_length"] == 1
        run.end()
        stage.next_run().end()
        assert client.settled(first)["status"] == client.settled(third)["status"] == "completed"
        assert len(stage.runs) == 2


def test_a_job_that_waits_for_the_gpu_of_another_model_is_cancelled_at_once(tmp_path):
    stage = Stage(hold=True)
    models = [puppet(stage, name, on="cuda:0", thread_safe=True) for name in ("left", "right")]
    with house(tmp_path, *models) as client:
        first = started(client, fresh_png(), model="left")
        run = stage.next_run()
        second = started(client, fresh_png(), model="right")
        until(lambda: client.status(second)["status"] == "initializing")
        assert client.get("/api/health").json()["active_jobs"] == 2
        assert stage.idle(), "the GPU is taken"
        assert client("DELETE", f"/api/jobs/{second}").json()["status"] == "cancelled"
        until(lambda: client.get("/api/health").json()["active_jobs"] == 1)
        assert stage.idle()
        third = started(client, fresh_png(), model="right")
        run.end()
        run = stage.next_run()
        assert run.model.id == "right"
        run.end()
        assert client.settled(first)["status"] == client.settled(third)["status"] == "completed"
        assert len(stage.runs) == 2
