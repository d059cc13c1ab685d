"""A server that is killed at any instant: what it had said it finished is there, and the rest goes on.

A forked child makes pictures, tells what was answered, and kills itself at its n-th step: before or after a write, a
rename, an fsync, a transaction, a stage of the model. Then the test opens the folder itself.
"""

import hashlib
import itertools
import json
import os
import random
import signal
import sys

import pytest
from in_process import Stage, house, puppet
from live_server import draw, encode

from store.filesystem import FileSystem
from store.index import Index

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="no process can be forked here")

PICTURES = [encode(draw(mark=40 + number)) for number in range(4)] + [encode(draw(mark=50).convert("RGB"))]
FORMATS = ["stl", "glb", "obj"]
STEPS = 300
"""About as many as the child goes through."""


def digest(data):
    return hashlib.sha256(data).hexdigest()


def life(folder, step, tell):
    """What the child does: `step()` may be its last."""

    def with_steps(kind, name):
        plain = getattr(kind, name)

        def stepping(self, *args):
            step()
            done = plain(self, *args)
            step()
            return done

        setattr(kind, name, stepping)

    for name in ("write", "rename", "link", "sync_folder", "remove"):
        with_steps(FileSystem, name)
    for name in ("sync", "wipe"):
        with_steps(Index, name)
    plain = Index._in_transaction

    def in_transaction(self, action):
        def stepping(db):
            step()
            done = action(db)
            step()  # everything is written, nothing committed
            return done

        done = plain(self, stepping)
        step()
        return done

    Index._in_transaction = in_transaction
    model = puppet(Stage())
    with_steps(model, "generate")
    with house(folder, model) as client:
        for number in itertools.count():
            jobs = [client.upload(PICTURES[(number + more) % len(PICTURES)]) for more in (0, 1)]
            for more, job_id in enumerate(jobs):  # one runs, one waits
                tell("uploaded", job_id, (number + more) % len(PICTURES))
                wish = {"format": FORMATS[(number + more) % 3], "quality": 1 + number % 2}
                assert client.generate(job_id, **wish).status_code == 200
                tell("asked", job_id, (number + more) % len(PICTURES))
            for more, job_id in enumerate(jobs):
                status = client.settled(job_id)
                assert status["status"] == "completed", status
                tell("finished", job_id, (number + more) % len(PICTURES), digest(client.download(status)))
            if number % 3 == 2:
                client("DELETE", f"/api/jobs/{jobs[0]}")
                tell("deleted", jobs[0], None)


def killed_at(folder, last):
    """What the child told before it died at that step."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        steps = itertools.count(1)

        def step():
            if next(steps) == last:
                os.kill(os.getpid(), signal.SIGKILL)

        def tell(*words):
            os.write(writing, (json.dumps(words) + "\n").encode())

        try:
            life(folder, step, tell)
        except BaseException as error:
            tell("broken", repr(error))
        finally:
            os._exit(1)
    os.close(writing)
    with os.fdopen(reading) as lines:
        told = [json.loads(line) for line in lines if line.endswith("\n")]
    _, ended = os.waitpid(child, 0)
    assert os.WIFSIGNALED(ended), told[-1:]
    return told


def check(folder, told, lives=1):
    """Whatever was answered holds."""
    deleted = {words[1] for words in told if words[0] == "deleted"}
    uploaded = {words[1]: words[2] for words in told if words[0] == "uploaded" and words[1] not in deleted}
    asked = {words[1] for words in told if words[0] == "asked"} & uploaded.keys()
    finished = {words[1]: words[3] for words in told if words[0] == "finished" and words[1] not in deleted}
    stage = Stage()
    with house(folder, puppet(stage)) as client:
        gone = {job_id for job_id in uploaded if client.get(f"/api/job-status/{job_id}").status_code == 404}
        # The last thing that it did may have been a deletion that it did not live to tell.
        assert len(gone) <= 1
        for job_id in uploaded.keys() - gone:
            preview = client.get(client.status(job_id)["preview_url"])
            assert preview.content == PICTURES[uploaded[job_id]]
        for job_id, sha256 in finished.items():
            if job_id not in gone:
                status = client.status(job_id)
                assert status["status"] == "completed"
                assert digest(client.download(status)) == sha256
        for job_id in asked - gone:
            status = client.settled(job_id)
            twice = lives > 1 and status["error_type"] == "interrupted"
            assert status["status"] == "completed" or twice, "it waited, or is run once more"
        for job_id in uploaded.keys() - asked - gone:  # it may have been asked for, without a word of it
            if client.status(job_id)["status"] != "uploaded":
                client.settled(job_id)
        runs = len(stage.runs)
        for job_id in finished.keys() - gone:
            status = client.status(job_id)
            again = client.make(PICTURES[uploaded[job_id]], format=status["format"], quality=status["quality"])
            assert again["cached"], "known pictures are warm"
            assert digest(client.download(again)) == finished[job_id]
        assert len(stage.runs) == runs
        assert not list(folder.rglob("*.tmp"))
        named = client.server.files.index.all_named()
        assert {path.name for path in (folder / "results").iterdir()} == named


def kill_and_check(folder, last):
    told = killed_at(folder, last)
    assert told[-1:] == [] or told[-1][0] != "broken", told[-1]
    check(folder, told)


@pytest.mark.parametrize("last", [*range(2, 62, 6), *range(70, STEPS, 23)])
def test_nothing_that_was_finished_is_lost(tmp_path, last):
    kill_and_check(tmp_path / "data", last)


@pytest.mark.slow
@pytest.mark.parametrize("part", range(10))
def test_nothing_that_was_finished_is_lost_at_many_more_points(tmp_path, part):
    points = random.Random(part).sample(range(1, STEPS), 25)
    print(f"killed at {points}", file=sys.stderr)
    for last in points:
        kill_and_check(tmp_path / str(last), last)


def test_a_folder_survives_one_kill_after_the_other(tmp_path):
    told = []
    for last in (35, 50, 65):
        told += killed_at(tmp_path / "data", last)
    check(tmp_path / "data", told, lives=3)
