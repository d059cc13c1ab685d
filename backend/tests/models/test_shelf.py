"""Several models on one shelf: loaded on first use, chosen by name, unloaded when idle, tried again after a failure."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from in_process import Stage, house, puppet
from live_server import PATIENCE, fresh_png

from errors import LoadingError, ModelNotReadyError, ModelUnavailableError, RequestError
from models import registry
from models.shelf import RETRY_SECONDS, Shelf


@pytest.fixture(autouse=True)
def own_list(monkeypatch):
    monkeypatch.setattr(registry, "_MODELS", {})


@pytest.fixture
def stage():
    return Stage()


class Clock:
    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


def shelf(*models, clock=None, candidates=None, idle=0.0, paths=None):
    for model in models:
        registry.register(model.id, model)
    names = tuple(model.id for model in models) if candidates is None else candidates
    made = Shelf(names, paths or {}, "cpu", clock=clock or Clock())
    made._idle_seconds = idle  # without the thread that watches the clock of the wall
    return made


def failing(stage, model_id="bad", error=None, **facts):
    """A model whose load fails as long as the stage says so."""

    class Bad(puppet(stage, model_id, **facts)):
        def load(self):
            stage.loads.append(self.id)
            if stage.hold:
                raise error or ModelUnavailableError("its weights are missing")
            self.device, self.revision = "cpu", "1"

    stage.hold = True
    return Bad


class TestLoading:
    def test_the_first_that_can_be_loaded_is_the_default(self, stage):
        made = shelf(failing(stage), puppet(stage, "good"), puppet(stage, "other"))
        assert (made.status, made.default) == ("loading", None)
        made.load_default()
        assert (made.status, made.default) == ("ready", "good")
        assert made.not_ready_reason == "bad: its weights are missing"
        assert stage.loads == ["bad", "good"]

    def test_none_can(self, stage):
        made = shelf(failing(stage, "one"), failing(stage, "two", OSError("no such file")))
        made.load_default()
        assert (made.status, made.default) == ("not_ready", None)
        assert made.not_ready_reason == "one: its weights are missing; two: OSError: no such file"
        with pytest.raises(ModelNotReadyError, match="one: its weights are missing"):
            made.chosen(None)

    def test_a_name_that_there_is_not(self, stage):
        made = shelf(puppet(stage, "good"), candidates=("nonsense", "good"))
        made.load_default()
        assert made.default == "good"
        assert "there is no model 'nonsense'" in made.not_ready_reason

    def test_while_it_loads_a_request_is_told_to_come_again(self, stage):
        made = shelf(puppet(stage))
        with pytest.raises(LoadingError) as told:
            made.chosen(None)
        assert told.value.details["retry_after"] >= 1

    def test_a_model_is_loaded_once_on_first_use(self, stage):
        made = shelf(puppet(stage, "one"), puppet(stage, "two"))
        made.load_default()
        barrier = threading.Barrier(8)

        def use(_):
            barrier.wait(PATIENCE)
            with made.use("two") as model:
                return model

        with ThreadPoolExecutor(8) as pool:
            assert len(set(pool.map(use, range(8)))) == 1
        assert stage.loads == ["one", "two"]

    def test_its_own_weights_and_the_device_are_its_own(self, stage, tmp_path):
        made = shelf(puppet(stage, "one"), puppet(stage, "two"), paths={"two": tmp_path})
        with made.use("one") as one, made.use("two") as two:
            assert (one.path, two.path) == (None, tmp_path)
            assert one.device == two.device == "cpu"


class TestChoosing:
    @pytest.fixture
    def made(self, stage):
        closed = puppet(stage, "closed", why_unavailable=classmethod(lambda kind, path: "set ORFEAS_MODEL_PATH"))
        made = shelf(puppet(stage, "one"), puppet(stage, "two", reads=frozenset({"image"}), thread_safe=True), closed)
        made.load_default()
        return made

    def test_the_default_and_another(self, made, stage):
        assert made.chosen(None).id == made.chosen("one").id == "one"
        two = made.chosen("two")
        assert (two.id, two.revision, two.reads, two.thread_safe) == ("two", None, frozenset({"image"}), True)
        assert stage.loads == ["one"], "to ask loads nothing"
        with made.use("two"):
            pass
        assert made.chosen("two").revision == "1"

    @pytest.mark.parametrize(
        ("wanted", "reason"), [("nonsense", "there is no model 'nonsense'"), ("closed", "set ORFEAS_MODEL_PATH")]
    )
    def test_what_cannot_be_had_is_refused_with_the_list_and_the_reasons(self, made, wanted, reason):
        with pytest.raises(RequestError) as refused:
            made.chosen(wanted)
        told = refused.value.details["model"]
        assert reason in told
        assert "one: available; two: available; closed: set ORFEAS_MODEL_PATH" in told

    def test_rows_say_what_each_is(self, made):
        rows = {row["id"]: row for row in made.rows()}
        assert list(rows) == ["one", "two", "closed"]
        assert {name: row["loaded"] for name, row in rows.items()} == {"one": True, "two": False, "closed": False}
        assert {name: row["available"] for name, row in rows.items()} == {"one": True, "two": True, "closed": False}
        assert rows["closed"]["reason"] == "set ORFEAS_MODEL_PATH"
        assert (rows["one"]["revision"], rows["two"]["revision"]) == ("1", None)
        assert rows["two"]["reads"] == ["image"]

    def test_a_broken_module_hides_no_other(self, made):
        registry.register("broken", "models.there_is_no_such:Model")
        rows = {row["id"]: row for row in made.rows()}
        assert "cannot be imported" in rows["broken"]["reason"]
        assert rows["one"]["available"]
        with pytest.raises(RequestError, match="cannot be imported"):
            made.chosen("broken")


class TestRetrying:
    @pytest.mark.parametrize("error", [None, RuntimeError("CUDA is gone"), ImportError("no module named torch")])
    def test_a_failure_stands_for_a_while_and_then_is_tried_again(self, stage, clock, error):
        good = puppet(stage, "good")
        made = shelf(good, failing(stage, error=error), clock=clock, candidates=("good",))
        stage.hold = False
        made.load_default()
        stage.hold = True
        assert made.chosen("bad").id == "bad", "nobody has tried"
        with pytest.raises(ModelUnavailableError) as failed, made.use("bad"):
            pass
        reason = str(failed.value)
        clock.now += RETRY_SECONDS - 1
        with pytest.raises(RequestError, match=reason):
            made.chosen("bad")
        assert next(row for row in made.rows() if row["id"] == "bad")["reason"] == reason
        clock.now += 2
        assert made.chosen("bad").revision is None
        stage.hold = False
        with made.use("bad") as model:
            assert model.id == "bad"
        assert next(row for row in made.rows() if row["id"] == "bad")["available"]

    def test_a_failure_keeps_no_lock(self, stage):
        made = shelf(failing(stage))
        for _ in range(2):
            with pytest.raises(ModelUnavailableError), made.use("bad"):
                pass
        assert made.unload_idle() == []


class TestIdling:
    def test_what_nobody_has_used_is_unloaded_and_still_known(self, stage, clock):
        made = shelf(puppet(stage, "one"), puppet(stage, "two"), clock=clock, idle=60.0)
        made.load_default()
        with made.use("two"):
            pass
        clock.now += 30
        with made.use("one"):
            pass
        clock.now += 31
        assert made.unload_idle() == ["two"]
        assert stage.unloads == ["two"]
        assert made.chosen("two").revision == "1"
        assert made.unload_idle() == []
        clock.now += 30
        assert made.unload_idle() == ["one"]
        assert (made.status, made.default, made.chosen(None).revision) == ("ready", "one", "1")
        with made.use("two"):
            pass
        assert stage.loads == ["one", "two", "two"]

    def test_what_is_used_is_not(self, stage, clock):
        made = shelf(puppet(stage), clock=clock, idle=60.0)
        with made.use("puppet"):
            clock.now += 1000
            assert made.unload_idle() == []
        assert made.unload_idle() == [], "it was used this very moment"
        clock.now += 60
        assert made.unload_idle() == ["puppet"]

    def test_who_comes_while_it_is_being_unloaded_has_it_loaded_again(self, stage, clock):
        unloading, go_on = threading.Event(), threading.Event()

        class Slow(puppet(stage)):
            def unload(self):
                unloading.set()
                assert go_on.wait(PATIENCE)
                super().unload()

        made = shelf(Slow, clock=clock, idle=60.0)
        with made.use("puppet") as first:
            pass
        clock.now += 60

        def use():
            with made.use("puppet") as model:
                return model

        with ThreadPoolExecutor(2) as pool:
            idle = pool.submit(made.unload_idle)
            assert unloading.wait(PATIENCE)
            using = pool.submit(use)
            go_on.set()
            assert idle.result(PATIENCE) == ["puppet"]
            assert using.result(PATIENCE) is not first
        assert stage.loads == ["puppet", "puppet"]

    def test_an_unload_that_fails_is_logged_and_done_with(self, stage, clock, caplog):
        def fail(model):
            raise RuntimeError("CUDA error")

        made = shelf(puppet(stage, unload=fail), clock=clock, idle=60.0)
        with made.use("puppet"):
            clock.now += 60
        clock.now += 60
        assert made.unload_idle() == ["puppet"]
        assert "CUDA error" in caplog.text
        with made.use("puppet"):
            pass
        assert stage.loads == ["puppet", "puppet"]

    def test_the_end_unloads_all(self, stage):
        made = shelf(puppet(stage, "one"), puppet(stage, "two"))
        for name in ("one", "two"):
            with made.use(name):
                pass
        made.close()
        assert sorted(stage.unloads) == ["one", "two"]


class TestOverHttp:
    def make(self, client, png, **wish):
        return client.make(png, quality=3, **wish)

    def test_each_request_has_the_model_that_it_names(self, tmp_path, stage):
        one, two = puppet(stage, "one"), puppet(stage, "two", reads=frozenset({"image"}))
        png = fresh_png()
        with house(tmp_path, one, two) as client:
            assert self.make(client, png)["model"] == "one"
            first = self.make(client, png, model="two")
            assert (first["model"], first["cached"], stage.loads) == ("two", False, ["one", "two"])
            again = self.make(client, png, model=" TWO ")
            assert (again["model"], again["cached"]) == ("two", True)
            assert self.make(client, png, model="one")["cached"]
            assert [run.model.id for run in stage.runs] == ["one", "two"]
            rows = {row["id"]: row for row in client.get("/api/models-info").json()["models"]}
            assert [rows[name]["loaded"] for name in ("one", "two")] == [True, True]
            assert [set(rows[name]["expected_seconds"]) for name in ("one", "two")] == [{"3"}, {"3"}]
            assert rows["one"]["parameters"]["properties"].keys() == {"quality", "seed"}
            assert rows["two"]["parameters"]["properties"] == {}

    @pytest.mark.parametrize("wish", [{"model": "nonsense"}, {"model": "closed"}, {"model": "x" * 101}, {"model": 5}])
    def test_what_cannot_be_had_is_400_and_nothing_is_kept(self, tmp_path, stage, wish):
        closed = puppet(stage, "closed", why_unavailable=classmethod(lambda kind, path: "its weights are missing"))
        with house(tmp_path, puppet(stage, "one"), closed) as client:
            job_id = client.upload(fresh_png())
            answer = client.generate(job_id, **wish)
            assert (answer.status_code, list(answer.json()["details"])) == (400, ["model"])
            if wish["model"] == "closed":
                assert "its weights are missing (one: available; closed: its weights" in answer.json()["error"]
            form = {"files": {"image": ("a.png", fresh_png())}, "data": {"model": str(wish["model"])}}
            assert client.post("/api/generate-3d", **form).status_code == 400
            assert client.get("/api/jobs").json()["total"] == 1
            assert client.status(job_id)["status"] == "uploaded"

    def test_a_model_that_fails_to_load_fails_its_job_and_no_other(self, tmp_path, stage):
        bad = failing(stage)
        stage.hold = False
        with house(tmp_path, puppet(stage, "one"), bad) as client:
            stage.hold = True
            status = client.make(fresh_png(), model="bad")
            assert (status["status"], status["error_type"]) == ("failed", "model_unavailable")
            assert status["error"] == "its weights are missing"
            stage.hold = False
            assert client.make(fresh_png())["status"] == "completed"

    def test_an_unloaded_model_s_results_are_found_without_loading_it(self, tmp_path, stage):
        png = fresh_png()
        with house(tmp_path, puppet(stage), ORFEAS_MODEL_IDLE_MINUTES="1000") as client:
            first = client.make(png)
            client.server.shelf._idle_seconds = 0.0
            assert client.server.shelf.unload_idle() == ["puppet"]
            second = client.make(png, format="glb")
            assert (first["cached"], second["cached"], stage.loads) == (False, True, ["puppet"])
            assert client.get("/api/ready").status_code == 200
            assert client.make(fresh_png())["status"] == "completed"
            assert stage.loads == ["puppet", "puppet"]
        assert stage.unloads == ["puppet", "puppet"]

    def test_weights_that_were_changed_meanwhile_make_shapes_of_their_own(self, tmp_path, stage):
        """What is found or made after an unload is keyed on the revision that really made it."""

        class Changing(puppet(stage)):
            def load(self):
                super().load()
                self.revision = str(len(stage.loads))

        png = fresh_png()
        with house(tmp_path, Changing, ORFEAS_MODEL_IDLE_MINUTES="1000") as client:
            client.server.shelf._idle_seconds = 0.0
            client.make(fresh_png())
            client.server.shelf.unload_idle()
            assert not client.make(png)["cached"]
            shapes = {entry["key"] for entry in client.get("/api/cache/entries").json()["entries"]}
            assert client.make(png)["cached"]
            assert not client.make(fresh_png())["cached"]
            assert len(stage.runs) == 3
            after = {entry["key"] for entry in client.get("/api/cache/entries").json()["entries"]}
            assert shapes < after
            rows = client.get("/api/models-info").json()["models"]
            assert next(row["revision"] for row in rows if row["id"] == "puppet") == "2"

    def test_models_of_one_gpu_take_turns_and_others_run_beside_them(self, tmp_path, stage):
        stage.hold = True
        models = [puppet(stage, name, on=on) for name, on in (("a", "cuda:0"), ("b", "cuda:0"), ("c", "cpu"))]
        with house(tmp_path, *models) as client:
            ids = [client.upload(fresh_png()) for _ in models]
            for job_id, model in zip(ids, models, strict=True):
                assert client.generate(job_id, model=model.id).status_code == 200
            first, second = stage.next_run(), stage.next_run()
            assert "c" in {first.model.id, second.model.id}
            assert stage.idle()
            for run in (first, second):
                run.end()
            stage.next_run().end()
            assert {client.settled(job_id)["status"] for job_id in ids} == {"completed"}
