"""What one server leaves, the next one does: jobs that waited or ran, in the order in which they came."""

import json
import sqlite3

import pytest
from in_process import Stage, house, puppet
from live_server import PATIENCE, fresh_png

from errors import ModelUnavailableError
from work.records import JobStatus


def left_by(folder, number, *, stage=None, **environment):
    """Jobs of a server that was stopped while the first of them ran."""
    stage = stage or Stage(hold=True)
    with house(folder, puppet(stage), **environment) as client:
        ids = [client.upload(fresh_png()) for _ in range(number)]
        for seed, job_id in enumerate(ids):
            assert client.generate(job_id, seed=seed).status_code == 200
        stage.next_run()
    return ids


def as_killed(folder, job_id, **fields):
    """The record as a server leaves it that is killed in the middle of that job's run."""
    db = sqlite3.connect(folder / "index.db")
    with db:
        (record,) = db.execute("SELECT record FROM jobs WHERE id = ?", (job_id,)).fetchone()
        changed = {**json.loads(record), "status": "initializing", "started_at": 1.0, **fields}
        db.execute("UPDATE jobs SET record = ? WHERE id = ?", (json.dumps(changed).encode(), job_id))
    db.close()


def seeds(stage):
    return [run.options.seed for run in stage.runs]


def test_they_are_done_in_the_order_in_which_they_came(tmp_path):
    ids, stage = left_by(tmp_path, 5), Stage()
    with house(tmp_path, puppet(stage)) as client:
        for job_id in ids:
            assert client.settled(job_id)["status"] == "completed"
        assert seeds(stage) == [0, 1, 2, 3, 4]
        assert [job["job_id"] for job in client.get("/api/jobs").json()["jobs"]] == ids[::-1]


def test_a_stop_is_no_interruption(tmp_path):
    """However often a server is stopped in the middle of a job: it ends in the one that is not."""
    (job_id,) = left_by(tmp_path, 1)
    for _ in range(4):
        stage = Stage(hold=True)
        with house(tmp_path, puppet(stage)) as client:
            stage.next_run()
            assert client.status(job_id)["status"] == "processing"
    with house(tmp_path, puppet(Stage())) as client:
        assert client.settled(job_id)["status"] == "completed"


def test_a_killed_server_s_job_is_run_once_more_and_then_is_interrupted(tmp_path):
    first, second = left_by(tmp_path, 2)
    as_killed(tmp_path, first)
    stage = Stage(hold=True)
    with house(tmp_path, puppet(stage)) as client:
        assert stage.next_run().options.seed == 0
        assert client.status(second)["status"] == "queued"
    as_killed(tmp_path, first, interruptions=1)
    stage = Stage()
    with house(tmp_path, puppet(stage)) as client:
        failed = client.settled(first)
        assert (failed["status"], failed["error_type"]) == ("failed", "interrupted")
        assert client.settled(second)["status"] == "completed"
        assert seeds(stage) == [1]
        assert client.generate(first).status_code == 200, "a user may try again"
        assert client.settled(first)["status"] == "completed"


def test_identical_ones_share_a_run_again(tmp_path):
    png, stage = fresh_png(), Stage(hold=True)
    with house(tmp_path, puppet(stage)) as client:
        ids = [client.upload(png) for _ in range(3)]
        for job_id in ids:
            client.generate(job_id)
        stage.next_run()
    stage = Stage()
    with house(tmp_path, puppet(stage)) as client:
        assert {client.settled(job_id)["status"] for job_id in ids} == {"completed"}
        assert len(stage.runs) == 1


def test_what_is_known_by_then_needs_no_run(tmp_path):
    png, stage = fresh_png(), Stage(hold=True)
    with house(tmp_path, puppet(stage)) as client:
        done, left = client.upload(png), client.upload(png)
        client.generate(done)
        stage.next_run().end()
        assert client.settled(done)["status"] == "completed"
    as_killed(tmp_path, left)
    stage = Stage()
    with house(tmp_path, puppet(stage)) as client:
        assert client.settled(left)["status"] == "completed"
        assert client.download(client.status(left)) == client.download(client.status(done))
        assert stage.runs == []


def test_more_than_may_wait_wait_all_the_same(tmp_path):
    """The bound refuses new jobs, and loses none that were accepted."""
    ids, stage = left_by(tmp_path, 5, MAX_QUEUED_JOBS="8"), Stage()
    with house(tmp_path, puppet(stage), MAX_QUEUED_JOBS="1") as client:
        assert {client.settled(job_id)["status"] for job_id in ids} == {"completed"}


def test_one_that_waits_for_the_model_can_be_cancelled(tmp_path):
    first, second = left_by(tmp_path, 2)
    stage = Stage()
    with house(tmp_path, puppet(stage), load=False) as client:
        assert client.status(first)["status"] == "queued"
        assert client("DELETE", f"/api/jobs/{first}").json()["status"] == "cancelled"
        client.server.load_model()
        assert client.settled(second)["status"] == "completed"
        assert seeds(stage) == [1]


def test_without_a_model_they_say_why_they_are_not_done(tmp_path):
    (job_id,) = left_by(tmp_path, 1)

    def fail(self):
        raise ModelUnavailableError("its weights are gone")

    with house(tmp_path, puppet(Stage(), load=fail), ORFEAS_MODE="full_ai") as client:
        status = client.settled(job_id)
        assert (status["status"], status["error_type"]) == ("failed", "model_not_ready")
        assert "its weights are gone" in status["error"]


def test_a_picture_that_is_gone_meanwhile(tmp_path):
    (job_id,) = left_by(tmp_path, 1)
    (tmp_path / "uploads" / f"{job_id}.png").unlink()
    with house(tmp_path, puppet(Stage())) as client:
        assert client.settled(job_id)["error_type"] == "upload_lost"


def test_masks_views_and_wishes_are_those_that_were_asked_for(tmp_path):
    stage = Stage(hold=True)
    reads = frozenset({"image", "views", "quality", "seed"})
    with house(tmp_path, puppet(stage, reads=reads)) as client:
        job_id = client.upload(fresh_png())
        view = {"job_id": job_id, "view": "back"}
        client.post("/api/upload-image", params=view, files={"image": ("b.png", fresh_png())})
        client.generate(job_id, quality=3, format="glb", dimensions={"width": 12})
        before = stage.next_run()
    stage = Stage()
    with house(tmp_path, puppet(stage, reads=reads)) as client:
        status = client.settled(job_id)
        (run,) = stage.runs
        assert (status["format"], status["dimensions"]["width"], run.options.quality) == ("glb", 12, 3)
        assert run.options.views.keys() == {"back"}
        assert (run.image == before.image).all()


@pytest.mark.parametrize("status", ["uploaded", "completed", "failed", "cancelled"])
def test_what_is_over_is_not_begun(tmp_path, status):
    with house(tmp_path, puppet(Stage())) as client:
        job_id = client.upload(fresh_png())
        service = client.server.service
        job = service.jobs.get(job_id)
        if status == "completed":
            client.generate(job_id)
            client.settled(job_id)
        elif status != "uploaded":
            with service._changed:
                service.jobs.settle(job, JobStatus(status))
    stage = Stage()
    with house(tmp_path, puppet(stage)) as client:
        assert client.server.service.jobs.get(job_id).status == status
        assert client.server.service.queue.lengths() == (0, 0)
        assert stage.runs == []


def test_who_waits_over_the_stop_is_answered(tmp_path):
    """And asks the next server again."""
    (job_id,) = left_by(tmp_path, 1)
    with house(tmp_path, puppet(Stage(hold=True))) as client:
        service = client.server.service
        job = service.jobs.get(job_id)
        service.stop(timeout=PATIENCE)
        service.jobs.wait(job, 3600.0, final=True)
        assert client.status(job_id)["status"] == "queued"
