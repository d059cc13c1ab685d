"""What happens around a run: sharing, the bound, cancelling, failing, forgetting, restarting."""

import hashlib
import signal
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from live_server import BACKEND, PATIENCE, draw, encode, files_kept, fresh_png, running_server, scripted_server

SCRIPT = BACKEND / "tests" / "support" / "serve.py"


def start(client, data, **wish):
    job_id = client.upload(data)
    answer = client.generate(job_id, **wish)
    assert answer.status_code == 200, answer.text
    return job_id


def test_another_format_or_size_makes_no_new_shape(scripted):
    png = fresh_png()
    assert scripted.make(png, format="stl")["cached"] is False
    for wish in ({"format": "glb"}, {"dimensions": {"width": 12}}, {"fit": "stretch"}, {"target_faces": 12}):
        status = scripted.make(png, **wish)
        assert (status["status"], status["cached"]) == ("completed", True)
    assert scripted.conductor.runs == 1


def test_what_the_model_reads_makes_a_new_shape_and_what_it_does_not_read_does_not(scripted):
    png = fresh_png()
    scripted.make(png)
    scripted.make(png, prompt="a prompt that this model does not read")
    assert scripted.conductor.runs == 1
    scripted.make(png, seed=5)
    scripted.make(png, quality=3)
    scripted.make(png, remove_background="true")
    assert scripted.conductor.runs == 4


def test_sixteen_clients_at_once_make_one_run(scripted):
    scripted.conductor.hold = True
    png, barrier = fresh_png(), threading.Barrier(16)

    def client(_):
        barrier.wait()
        return start(scripted, png, format="stl")

    with ThreadPoolExecutor(16) as pool:
        ids = list(pool.map(client, range(16)))
    scripted.conductor.next_run().end()
    finals = [scripted.settled(job_id) for job_id in ids]
    assert {status["status"] for status in finals} == {"completed"}
    assert len({scripted.download(status) for status in finals}) == 1
    assert scripted.conductor.runs == 1
    assert scripted.stats()["coalesced"] == 15


def test_a_failing_run_fails_for_all_its_clients_and_is_not_stored(scripted):
    scripted.conductor.hold = True
    png = fresh_png()
    ids = [start(scripted, png) for _ in range(3)]
    scripted.conductor.next_run().end("raise")
    for job_id in ids:
        status = scripted.settled(job_id)
        assert status["status"] == "failed"
        assert status["error"] == "RuntimeError: the scripted failure"
        assert status["error_type"] == "internal"
        assert status["download_url"] is None
    scripted.conductor.hold = False
    assert scripted.generate(ids[0]).json()["status"] == "generating_3d"
    assert scripted.settled(ids[0])["status"] == "completed"
    assert scripted.conductor.runs == 2


def test_out_of_memory_says_so_and_the_next_job_works(scripted):
    scripted.conductor.hold = True
    job_id = start(scripted, fresh_png())
    scripted.conductor.next_run().end("oom")
    assert scripted.settled(job_id)["error_type"] == "out_of_memory"
    scripted.conductor.hold = False
    assert scripted.make(fresh_png())["status"] == "completed"


def test_cancelling_a_running_job_stops_the_model(scripted):
    scripted.conductor.hold = True
    job_id = start(scripted, fresh_png())
    run = scripted.conductor.next_run()
    assert scripted("DELETE", f"/api/jobs/{job_id}").json()["status"] == "cancelled"
    run.wait_until_cancelled()
    assert scripted.status(job_id)["status"] == "cancelled"
    scripted.conductor.hold = False
    assert scripted.make(fresh_png())["status"] == "completed"


def test_cancelling_one_of_two_leaves_the_other_its_run(scripted):
    scripted.conductor.hold = True
    png = fresh_png()
    first, second = start(scripted, png), start(scripted, png)
    run = scripted.conductor.next_run()
    scripted("DELETE", f"/api/jobs/{first}")
    run.end()
    assert scripted.settled(second)["status"] == "completed"
    assert scripted.status(first)["status"] == "cancelled"


def test_a_cancelled_job_can_be_started_again(scripted):
    scripted.conductor.hold = True
    job_id = start(scripted, fresh_png())
    run = scripted.conductor.next_run()
    scripted("DELETE", f"/api/jobs/{job_id}")
    scripted.conductor.hold = False
    assert scripted.generate(job_id).status_code == 200
    run.wait_until_cancelled()
    assert scripted.settled(job_id)["status"] == "completed"


def test_a_waiting_job_can_be_cancelled_and_never_runs(scripted):
    scripted.conductor.hold = True
    first = start(scripted, fresh_png())
    run = scripted.conductor.next_run()
    second = start(scripted, fresh_png())
    assert scripted.status(second)["queue_position"] == 1
    scripted("DELETE", f"/api/jobs/{second}")
    run.end()
    assert scripted.settled(first)["status"] == "completed"
    assert scripted.conductor.runs == 1


def test_a_busy_job_is_refused_with_409(scripted):
    scripted.conductor.hold = True
    job_id = start(scripted, fresh_png())
    answer = scripted.generate(job_id, format="glb")
    assert answer.status_code == 409
    assert answer.json()["code"] == "job_busy"
    scripted.conductor.next_run().end()
    assert scripted.settled(job_id)["format"] == "stl"


def test_a_full_queue_answers_503_with_retry_after_and_drains(tmp_path):
    with scripted_server(tmp_path, MAX_QUEUED_JOBS="2") as client:
        client.conductor.hold = True
        running = start(client, fresh_png())
        first = client.conductor.next_run()
        waiting = [start(client, fresh_png()) for _ in range(2)]
        refused = client.upload(fresh_png())
        answer = client.generate(refused)
        assert answer.status_code == 503
        assert int(answer.headers["Retry-After"]) >= 1
        assert client.status(refused)["status"] == "uploaded"
        health = client.get("/api/health").json()
        assert (health["active_jobs"], health["queue_length"]) == (1, 2)
        client.conductor.hold = False
        first.end()
        for job_id in (running, *waiting):
            assert client.settled(job_id)["status"] == "completed"
        assert client.generate(refused).status_code == 200


def test_two_workers_run_two_jobs_at_once(tmp_path):
    with scripted_server(tmp_path, ORFEAS_WORKERS="2") as client:
        client.conductor.hold = True
        ids = [start(client, fresh_png()) for _ in range(2)]
        runs = [client.conductor.next_run() for _ in range(2)]
        for run in runs:
            run.end()
        assert {client.settled(job_id)["status"] for job_id in ids} == {"completed"}


def test_wait_returns_when_the_job_changes(scripted):
    scripted.conductor.hold = True
    job_id = start(scripted, fresh_png())
    run = scripted.conductor.next_run()
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(scripted.status, job_id, 30)
        run.end()
        assert answer.result()["status"] in ("processing", "completed")
    assert scripted.settled(job_id)["status"] == "completed"


def test_eta_comes_from_past_runs(scripted):
    scripted.make(fresh_png())
    scripted.conductor.hold = True
    job_id = start(scripted, fresh_png())
    run = scripted.conductor.next_run()
    assert scripted.status(job_id)["eta_seconds"] is not None
    run.end()


def test_deleting_a_finished_job_takes_its_files_along(scripted, tmp_path):
    status = scripted.make(fresh_png())
    assert len(files_kept(tmp_path / "data")) == 3, "the picture, the shape, the file"
    answer = scripted("DELETE", f"/api/jobs/{status['job_id']}")
    assert answer.json()["status"] == "deleted"
    assert scripted.get(f"/api/job-status/{status['job_id']}").status_code == 404
    assert scripted.get(status["download_url"]).status_code == 404
    assert not files_kept(tmp_path / "data")


def test_a_shape_stays_as_long_as_one_job_refers_to_it(scripted):
    png = fresh_png()
    first, second = scripted.make(png), scripted.make(png)
    scripted("DELETE", f"/api/jobs/{first['job_id']}")
    scripted.post("/api/cache/clear")
    answer = scripted.get(f"/api/download/{second['job_id']}/model.ply")
    assert answer.status_code == 200
    assert scripted.conductor.runs == 1


def test_a_result_deleted_from_disk_is_made_again_from_its_shape(scripted, tmp_path):
    status = scripted.make(fresh_png())
    before = scripted.download(status)
    scripted.post("/api/cache/clear")
    result_file(tmp_path, before).unlink()
    assert scripted.download(status) == before
    assert scripted.conductor.runs == 1
    assert result_file(tmp_path, before).read_bytes() == before, "and kept again"


def result_file(folder, data):
    """Where a result with these bytes lies."""
    return folder / "data" / "results" / hashlib.sha256(data).hexdigest()


def test_the_files_of_many_jobs_of_one_picture_are_there_once(scripted, tmp_path):
    png = fresh_png()
    made = [scripted.make(png) for _ in range(40)]
    assert [status["cached"] for status in made] == [False] + [True] * 39
    assert len(files_kept(tmp_path / "data" / "results")) == 2, "the shape and the file"
    data = scripted.download(made[0])
    for status in made[:-1]:
        assert scripted("DELETE", f"/api/jobs/{status['job_id']}").status_code == 200
    assert scripted.download(made[-1]) == data
    scripted("DELETE", f"/api/jobs/{made[-1]['job_id']}")
    assert files_kept(tmp_path / "data") == []


def test_a_result_that_had_to_make_room_is_made_again_with_one_call(scripted, tmp_path):
    status = scripted.make(fresh_png())
    before = scripted.download(status)
    scripted.post("/api/cache/clear")
    for path in (tmp_path / "data" / "results").iterdir():
        path.unlink()
    answer = scripted.get(status["download_url"])
    assert (answer.status_code, answer.json()["code"]) == (409, "result_evicted")
    seen = scripted.status(status["job_id"])
    assert (seen["status"], seen["error_type"], seen["download_url"]) == ("failed", "result_evicted", None)
    assert scripted.get("/api/jobs", params={"status": "failed"}).json()["total"] == 1
    assert scripted.conductor.runs == 1
    assert scripted.generate(status["job_id"]).status_code == 200
    again = scripted.settled(status["job_id"])
    assert (again["status"], scripted.download(again)) == ("completed", before)


def end(client, how):
    """Kill it, or stop it, and wait until it is gone."""
    client.process.send_signal(how)
    client.process.wait(PATIENCE)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM], ids=["killed", "stopped"])
def test_a_restart_keeps_finished_jobs_and_goes_on_with_the_others(tmp_path, how):
    with scripted_server(tmp_path) as client:
        done = client.make(fresh_png())
        data = client.download(done)
        idle = client.upload(fresh_png())
        client.conductor.hold = True
        running = start(client, fresh_png(), seed=1)
        client.conductor.next_run()
        waiting = [start(client, fresh_png(), seed=seed) for seed in (2, 3)]
        end(client, how)
    leftover = tmp_path / "data" / "results" / ".orfeas-0123.tmp"
    leftover.write_bytes(b"half-written")
    orphan = tmp_path / "data" / "uploads" / "00000000-0000-0000-0000-000000000000.png"
    orphan.write_bytes(b"no record names it")
    mine = tmp_path / "data" / "outputs" / running / "mine.txt"
    mine.parent.mkdir()
    mine.write_text("the user's own")
    with scripted_server(tmp_path, held=True) as client:
        assert client.download(done) == data
        assert client.get(f"/api/download/{done['job_id']}/model.glb").status_code == 200
        assert client.get(done["preview_url"]).status_code == 200
        assert client.status(idle)["status"] == "uploaded"
        for seed in (1, 2, 3):
            run = client.conductor.next_run()
            assert run.seed == seed, "in the order in which they came"
            run.end()
        for job_id in (running, *waiting):
            assert client.settled(job_id)["status"] == "completed"
        listed = [job["job_id"] for job in client.get("/api/jobs").json()["jobs"]]
        assert listed == [*waiting[::-1], running, idle, done["job_id"]]
        assert client.conductor.runs == 3
    assert not leftover.exists()
    assert not orphan.exists()
    assert mine.exists()


def test_a_job_in_whose_middle_the_server_was_killed_twice_is_not_run_again(tmp_path):
    """It may be the reason."""
    with scripted_server(tmp_path, held=True) as client:
        job_id = start(client, fresh_png(), seed=1)
        client.conductor.next_run()
        later = start(client, fresh_png(), seed=2)
        end(client, signal.SIGKILL)
    with scripted_server(tmp_path, held=True) as client:
        assert client.conductor.next_run().seed == 1
        end(client, signal.SIGKILL)
    with scripted_server(tmp_path) as client:
        failed = client.settled(job_id)
        assert (failed["status"], failed["error_type"]) == ("failed", "interrupted")
        assert client.settled(later)["status"] == "completed"
        assert client.conductor.runs == 1
        assert client.generate(job_id).status_code == 200
        assert client.settled(job_id)["status"] == "completed"


def test_a_job_is_newest_that_came_last_also_when_the_clock_was_set_back_by_a_day(tmp_path):
    ids, png = [], fresh_png()
    for ahead in ("0", "-86400"):
        with scripted_server(tmp_path, CLOCK_AHEAD=ahead) as client:
            ids += [client.make(fresh_png())["job_id"], client.upload(fresh_png()), client.make(png)["job_id"]]
            assert [job["job_id"] for job in client.get("/api/jobs").json()["jobs"]] == ids[::-1]
            assert client.status(ids[-1])["cached"] is (ahead != "0"), "what is known stays known"


class TestModes:
    def test_full_ai_without_its_model_is_up_and_says_why_it_is_not_ready(self, tmp_path):
        data = tmp_path / "data"
        missing = {"ORFEAS_MODEL": "scripted", "ORFEAS_MODEL_PATH": str(tmp_path / "nothing")}
        with running_server(data, SCRIPT, ORFEAS_MODE="full_ai", **missing) as client:
            assert client.get("/api/health").json()["models_status"] == "not_ready"
            assert client.get("/api/ready").status_code == 503
            assert "port file is missing" in client.get("/api/models-info").json()["reason"]
            answer = client.generate(client.upload(fresh_png()))
            assert answer.status_code == 503
            assert "port file is missing" in answer.json()["error"]

    def test_safe_fallback_uses_the_builtin_model_and_says_so(self, tmp_path):
        missing = {"ORFEAS_MODEL": "scripted", "ORFEAS_MODEL_PATH": str(tmp_path / "nothing")}
        with running_server(tmp_path / "data", SCRIPT, **missing) as client:
            assert client.make(fresh_png(), quality=1)["model"] == "builtin"
            assert "port file is missing" in client.get("/api/health").json()["reason"]

    def test_powerful_3d_is_the_builtin_model(self, tmp_path):
        with running_server(tmp_path / "data", ORFEAS_MODE="powerful_3d", ORFEAS_MODEL="nonsense") as client:
            assert client.get("/api/health").json()["model"] == "builtin"


@pytest.mark.parametrize("how", ["SIGTERM", "SIGINT"])
def test_a_signal_stops_the_server_cleanly_in_the_middle_of_a_run(scripted, how):
    scripted.conductor.hold = True
    job_id = start(scripted, fresh_png())
    run = scripted.conductor.next_run()
    with ThreadPoolExecutor(1) as pool:
        waiter = pool.submit(scripted.status, job_id, 30)
        scripted.process.send_signal(getattr(signal, how))
        run.wait_until_cancelled()
        assert scripted.process.wait(5) == 0
        if waiter.exception() is None:
            assert waiter.result()["status"] in ("initializing", "queued")


def test_an_empty_picture_is_refused_with_422(scripted):
    transparent = encode(draw().point(lambda _: 0))
    for data, wish in ((transparent, {}), (encode(draw().convert("RGB")), {"remove_background": False})):
        answer = scripted.generate(scripted.upload(data), **wish)
        assert answer.status_code == 422
        assert answer.json()["code"] == "empty_image"
    assert scripted.conductor.runs == 0


def test_a_change_between_two_waiting_requests_is_not_missed(scripted):
    scripted.conductor.hold = True
    job_id = start(scripted, fresh_png())
    run = scripted.conductor.next_run()
    seen = scripted.status(job_id)["version"]
    run.end()
    final = scripted.settled(job_id)
    assert final["version"] > seen
    answer = scripted.get(f"/api/job-status/{job_id}", params={"wait": 30, "since": seen})
    assert answer.json()["status"] == "completed"
    assert scripted.get(f"/api/job-status/{job_id}", params={"wait": 1, "since": "x"}).status_code == 400


def test_what_a_hit_saved_what_runs_take_and_jobs_of_one_status_are_told(scripted):
    png = fresh_png()
    first = scripted.make(png, quality=3)
    assert first["seconds_saved"] == 0
    expected = scripted.get("/api/models-info").json()["models"]
    taken = next(row for row in expected if row["loaded"])["expected_seconds"]
    assert set(taken) == {"3"}
    again = scripted.make(png, quality=3)
    assert again["cached"]
    assert 0 <= again["seconds_saved"] <= taken["3"]
    uploaded = scripted.upload(fresh_png())
    listed = scripted.get("/api/jobs", params={"status": "uploaded"}).json()
    assert [job["job_id"] for job in listed["jobs"]] == [uploaded]
    assert listed["total"] == 1
    assert scripted.get("/api/jobs", params={"status": "lost"}).status_code == 400


def test_expected_times_outlive_a_restart(tmp_path):
    with running_server(tmp_path) as client:
        client.make(fresh_png(), quality=1)
    with running_server(tmp_path) as client:
        models = client.get("/api/models-info").json()["models"]
        assert "1" in next(row for row in models if row["id"] == "builtin")["expected_seconds"]


def test_a_download_can_be_given_a_name_but_not_another_extension(scripted):
    status = scripted.make(fresh_png())

    def name(wanted):
        return scripted.get(status["download_url"], params={"name": wanted}).headers["Content-Disposition"]

    assert name("my cup") == 'attachment; filename="my cup.stl"'
    assert "filename*=UTF-8''f%C3%BCr%20dich.stl" in name("für dich")
    assert name('../a";b\r\nX: 1') == 'attachment; filename="_a__b__X_ 1.stl"'
    assert name("...") == f"attachment; filename={status['filename']}"
