"""However many ask for a result at once, through both tiers: it is made once, read once; a failure is told to all."""

import hashlib
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from in_process import Stage, house, puppet
from live_server import PATIENCE, fresh_png

from cache_manager import LRUCache
from store.disk import Disk
from store.files import Files
from store.made import Made
from store.results import Results

ASKERS = 64
KEY = f"file:{'1' * 64}"


def made(data=b"mesh"):
    return Made(data, hashlib.sha256(data).hexdigest(), len(data) / 1e6, {"export": 1.0}, 1.0, ("p" * 64,))


@pytest.fixture
def files(tmp_path):
    files = Files(tmp_path, tmp_path / "uploads", tmp_path / "outputs")
    yield files
    files.close()


def both(files):
    return Results(LRUCache(), {}, Disk(files, 100))


def all_at_once(ask):
    """What each of the askers gets: a value, or the error that it was told."""
    ready = threading.Barrier(ASKERS)

    def one(_):
        ready.wait(PATIENCE)
        try:
            return ask()
        except Exception as error:
            return error

    with ThreadPoolExecutor(ASKERS) as pool:
        return list(pool.map(one, range(ASKERS)))


def test_what_nobody_has_is_made_once(files):
    results, runs, go_on = both(files), [], threading.Event()

    def compute():
        runs.append(1)
        assert go_on.wait(PATIENCE)
        return made()

    threading.Timer(0.2, go_on.set).start()  # most of them wait by then; who comes later finds it
    answers = all_at_once(lambda: results.get_or_compute(KEY, compute))
    assert len(runs) == 1
    assert {answer.data for answer in answers} == {b"mesh"}
    stats = results.stats()
    assert (stats["misses"], stats["hits"] + stats["coalesced"]) == (1, ASKERS - 1)
    assert stats["disk"]["items"] == 1


def test_what_the_disk_has_is_read_once(files):
    both(files).get_or_compute(KEY, made)
    results = both(files)

    def never():
        raise AssertionError("it is on the disk")

    for answers in (
        all_at_once(lambda: results.get_or_compute(KEY, never)),
        all_at_once(lambda: results.find(KEY)),
    ):
        assert {answer.data for answer in answers} == {b"mesh"}
    stats = results.stats()
    assert stats["disk"]["hits"] == 1
    assert stats["misses"] == 0


def test_an_error_is_told_to_all_who_wait_and_kept_by_nobody(files):
    results, runs, go_on = both(files), [], threading.Event()

    def fail():
        runs.append(1)
        assert go_on.wait(PATIENCE)
        raise ValueError("no such shape")

    threading.Timer(0.2, go_on.set).start()
    answers = all_at_once(lambda: results.get_or_compute(KEY, fail))
    assert {str(answer) for answer in answers} == {"no such shape"}
    assert results.find(KEY) is None
    assert results.stats()["disk"]["items"] == 0
    assert results.get_or_compute(KEY, made).data == b"mesh"


def test_who_only_looks_does_not_keep_others_from_making(files, monkeypatch):
    """The row is there, its file is not: whoever looked first finds nothing, whoever joined that look makes it."""
    both(files).get_or_compute(KEY, made)
    results = both(files)
    files.blobs.path(made().sha256).unlink()
    looking, go_on, read = threading.Event(), threading.Event(), files.blobs.read

    def slow_read(*args):
        looking.set()
        assert go_on.wait(PATIENCE)
        return read(*args)

    monkeypatch.setattr(files.blobs, "read", slow_read)
    with ThreadPoolExecutor(2) as pool:
        found = pool.submit(results.find, KEY)
        assert looking.wait(PATIENCE)
        asked = pool.submit(results.get_or_compute, KEY, lambda: made(b"anew"))
        while not asked.running():
            pass
        go_on.set()
        assert found.result(PATIENCE) is None
        assert asked.result(PATIENCE).data == b"anew"
    assert results.stats()["disk"]["damaged"] == 1


def test_sixty_four_clients_of_a_picture_that_only_the_disk_knows(tmp_path):
    stage, png = Stage(), fresh_png()
    with house(tmp_path, puppet(stage)) as client:
        first = client.download(client.make(png))
    with house(tmp_path, puppet(stage), MAX_QUEUED_JOBS="100") as client:
        jobs = [client.upload(png) for _ in range(ASKERS)]
        numbers = iter(jobs)
        taking = threading.Lock()

        def ask():
            with taking:
                job_id = next(numbers)
            assert client.generate(job_id).status_code == 200
            return client.settled(job_id)

        answers = all_at_once(ask)
        assert {answer["status"] for answer in answers} == {"completed"}, answers
        assert {answer["cached"] for answer in answers} == {True}
        assert {client.download(answer) for answer in answers} == {first}
        assert client.stats()["disk"]["hits"] == 1
    assert len(stage.runs) == 1
