"""One test per defect of the first server's cache; each fails on it. (C2 and C9 stand in test_core.)"""

import hashlib
import json
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from live_server import PATIENCE, fresh_png, scripted_server

from cache_manager import LRUCache

MB = 1_000_000


def config(client):
    return client.get("/api/cache/config").json()["config"]


@pytest.mark.parametrize(
    "change",
    [{"dimensions": {"width": 30}}, {"format": "ply"}, {"fit": "stretch", "dimensions": {"width": 30, "height": 30}}],
    ids=str,
)
def test_c1_what_was_asked_for_is_what_comes(scripted, change):
    png = fresh_png()
    plain = scripted.make(png, format="stl", dimensions={"width": 20})
    other = scripted.make(png, **{"format": "stl", **change})
    assert scripted.download(plain) != scripted.download(other)
    assert other["mesh"]["extents_mm"] != plain["mesh"]["extents_mm"] or other["format"] != plain["format"]


def test_c1_another_seed_is_another_shape(scripted):
    png = fresh_png()
    for seed in (1, 2):
        assert scripted.make(png, seed=seed)["cached"] is False
    assert scripted.make(png, seed=1)["cached"] is True
    assert scripted.conductor.runs == 2


def test_c2_results_are_booked_at_their_size(scripted):
    status = scripted.make(fresh_png(), format="stl")
    entries = scripted.get("/api/cache/entries").json()["entries"]
    (file,) = (entry for entry in entries if entry["key"].startswith("file:"))
    assert file["size_mb"] * MB == pytest.approx(status["file_size"], abs=3000)  # and what the report takes
    assert scripted.stats()["current_memory_mb"] == pytest.approx(sum(entry["size_mb"] for entry in entries))


def test_c3_a_deleted_file_is_not_served_as_a_hit(scripted, tmp_path):
    png = fresh_png()
    first = scripted.make(png)
    expected = scripted.download(first)
    (tmp_path / "data" / "results" / hashlib.sha256(expected).hexdigest()).unlink()
    second = scripted.make(png)
    assert scripted.download(second) == scripted.download(first) == expected


def test_c4_no_job_is_answered_with_the_file_of_another(scripted):
    png = fresh_png()
    first = scripted.make(png)
    content = scripted.download(first)
    second = scripted.make(png)
    assert second["cached"] is True
    assert scripted("DELETE", f"/api/jobs/{first['job_id']}").status_code == 200
    assert second["job_id"] in second["download_url"]
    assert scripted.download(second) == content


def test_c5_an_empty_cache_is_enabled(scripted):
    answer = scripted.get("/api/cache/stats").json()
    assert (answer["cache_enabled"], answer["stats"]["current_items"]) == (True, 0)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -1, True, None, [1], {}, "1"], ids=repr)
@pytest.mark.parametrize("name", ["max_size", "max_memory_mb"])
def test_c6_a_limit_is_a_number(studio, name, bad):
    before = config(studio)
    answer = studio.post("/api/cache/config", data=json.dumps({name: bad}))
    assert answer.status_code == 400
    assert name in answer.json()["details"]
    assert config(studio) == before


def test_c7_no_limit_makes_later_requests_hang(scripted):
    for change in ({"max_size": -1}, {"max_size": 0}, {"max_memory_mb": 0}):
        scripted.post("/api/cache/config", json=change)
        assert scripted.make(fresh_png())["status"] == "completed"
    assert scripted.stats()["current_items"] == 0


def test_c8_with_a_key_set_the_cache_is_closed_to_others(tmp_path):
    with scripted_server(tmp_path, ORFEAS_API_KEY="secret") as client:
        for method, path in (
            ("POST", "/api/cache/clear"),
            ("POST", "/api/cache/config"),
            ("GET", "/api/cache/config"),
            ("GET", "/api/cache/stats"),
            ("GET", "/api/cache/entries"),
            ("DELETE", "/api/cache/entries/key"),
            ("PUT", "/api/cache/entries/key/pin"),
            ("DELETE", "/api/cache/entries/key/pin"),
        ):
            assert client(method, path).status_code == 401, path
            assert client(method, path, headers={"X-API-Key": "wrong"}).status_code == 401
        assert client.post("/api/cache/clear", headers={"X-API-Key": "secret"}).status_code == 200


def test_c8_a_page_of_another_site_cannot_clear(scripted):
    scripted.make(fresh_png())
    answer = scripted.post("/api/cache/clear", headers={"Origin": "http://evil.example"})
    assert answer.status_code == 403
    assert scripted.stats()["current_items"] == 2


def test_c9_a_listing_has_pages_also_when_nobody_asks_for_one(scripted):
    scripted.make(fresh_png())
    answer = scripted.get("/api/cache/entries").json()
    assert (len(answer["entries"]), answer["total"]) == (2, 2)
    assert scripted.get("/api/cache/entries", params={"limit": 10**9}).status_code == 400


def test_c10_a_config_is_of_one_moment():
    cache, done = LRUCache(max_size=1, max_memory_mb=1.0), threading.Event()

    def change():
        for n in range(1, 3000):
            cache.update_config(n, float(n))
        done.set()

    def watch():
        torn = []
        while not done.is_set():
            for now in (cache.get_config(), cache.get_stats()):
                count = now["max_size"] if "max_size" in now else now["max_items"]
                if count != now["max_memory_mb"]:
                    torn.append(now)
        return torn

    with ThreadPoolExecutor(3) as pool:
        watching = [pool.submit(watch) for _ in range(2)]
        change()
        assert [watcher.result(PATIENCE) for watcher in watching] == [[], []]
