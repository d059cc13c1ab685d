"""The cache as a user of the server meets it: stats, limits, listing, clearing, both backends, and off."""

import pytest
from live_server import fresh_png, scripted_server

STATS = {
    "hits", "misses", "hit_rate_percent", "evictions", "evictions_by_count", "evictions_by_size", "expirations",
    "rejected", "coalesced", "seconds_saved", "current_items", "current_memory_mb", "max_items", "max_memory_mb",
    "memory_utilization_percent", "max_memory_seen_mb",
}  # fmt: skip


def test_stats_tell_what_happened(scripted):
    answer = scripted.get("/api/cache/stats").json()
    assert answer.keys() >= {"status", "cache_enabled", "backend", "stats", "timestamp"}
    assert (answer["status"], answer["cache_enabled"], answer["backend"]) == ("success", True, "lru")
    assert answer["stats"].keys() >= STATS
    png = fresh_png()
    first = scripted.make(png)
    before = scripted.stats()
    assert (before["current_items"], before["hits"], before["misses"]) == (2, 0, 2)  # the shape and the file
    scripted.make(png)
    after = scripted.stats()
    assert (after["hits"], after["misses"]) == (1, 2)
    assert after["seconds_saved"] > 0
    shape_size = sum(entry["size_mb"] for entry in entries(scripted) if entry["key"].startswith("shape:"))
    assert after["current_memory_mb"] - shape_size == pytest.approx(first["file_size"] / 1e6, abs=0.003)


def entries(client, **page):
    return client.get("/api/cache/entries", params=page).json()["entries"]


def test_entries_are_listed_in_pages_and_deleted_one_by_one(scripted):
    scripted.make(fresh_png())
    scripted.make(fresh_png())
    listing = scripted.get("/api/cache/entries", params={"limit": 3}).json()
    assert listing["total"] == 4
    assert len(listing["entries"]) == 3
    assert listing["entries"][0].keys() >= {
        "key", "size_mb", "timestamp", "age_seconds", "access_count", "expires_at", "expired",
    }  # fmt: skip
    keys = {entry["key"] for offset in range(4) for entry in entries(scripted, limit=1, offset=offset)}
    assert len(keys) == 4
    key = keys.pop()
    assert scripted("DELETE", f"/api/cache/entries/{key}").status_code == 200
    assert scripted("DELETE", f"/api/cache/entries/{key}").status_code == 404
    assert scripted.stats()["current_items"] == 3


def test_clear_drops_everything_and_the_next_request_generates(scripted):
    png = fresh_png()
    scripted.make(png)
    assert scripted.post("/api/cache/clear").json()["cleared"] == 2
    assert scripted.stats()["current_items"] == 0
    assert scripted.make(png)["cached"] is False
    assert scripted.conductor.runs == 2


def test_a_result_begun_before_the_clear_is_delivered_but_not_stored(scripted):
    scripted.conductor.hold = True
    png = fresh_png()
    job_id = scripted.upload(png)
    scripted.generate(job_id)
    run = scripted.conductor.next_run()
    scripted.post("/api/cache/clear")
    run.end()
    assert scripted.settled(job_id)["status"] == "completed"
    assert scripted.stats()["current_items"] == 0
    scripted.conductor.hold = False
    assert scripted.make(png)["cached"] is False


@pytest.mark.parametrize("policy", ["lru", "gdsf", "lfu"])
def test_the_policy_is_chosen_and_shown(tmp_path, policy):
    with scripted_server(tmp_path, CACHE_POLICY=policy) as client:
        assert client.get("/api/cache/config").json()["config"]["policy"] == policy
        assert client.stats()["policy"] == policy
        png = fresh_png()
        assert [client.make(png)["cached"] for _ in range(2)] == [False, True]


class TestConfig:
    def test_limits_can_be_read_and_changed(self, scripted):
        assert (
            scripted.get("/api/cache/config").json()["config"].items()
            >= {
                "max_size": 1000,
                "max_memory_mb": 512.0,
                "default_ttl_seconds": 86400.0,
            }.items()
        )
        answer = scripted.post("/api/cache/config", json={"max_size": 5, "default_ttl_seconds": None})
        assert answer.status_code == 200
        assert (
            answer.json()["config"].items()
            >= {"max_size": 5, "max_memory_mb": 512.0, "default_ttl_seconds": None}.items()
        )
        assert scripted.stats()["max_items"] == 5

    def test_a_lower_limit_evicts_at_once(self, scripted):
        for _ in range(2):
            scripted.make(fresh_png())
        scripted.post("/api/cache/config", json={"max_size": 1})
        stats = scripted.stats()
        assert (stats["current_items"], stats["evictions"], stats["evictions_by_count"]) == (1, 3, 3)
        scripted.post("/api/cache/config", json={"max_memory_mb": 0})
        assert scripted.stats()["current_items"] == 0

    @pytest.mark.parametrize(
        "change",
        [
            {"max_size": -1},
            {"max_size": "5"},
            {"max_size": True},
            {"max_size": 2.5},
            {"max_size": None},
            {"max_size": [5]},
            {"max_memory_mb": float("nan")},
            {"max_memory_mb": float("inf")},
            {"max_memory_mb": -1},
            {"max_memory_mb": "512"},
            {"default_ttl_seconds": -1},
            {"default_ttl_seconds": False},
            {"default_ttl_seconds": {}},
            {"max_size": 5, "max_memory_mb": "x"},
            {},
            {"colour": "red"},
        ],
    )
    def test_a_bad_change_is_refused_whole(self, scripted_for_config, change):
        import json

        client = scripted_for_config
        before = client.get("/api/cache/config").json()
        answer = client.post("/api/cache/config", data=json.dumps(change))
        assert answer.status_code == 400
        bad = next((name for name, value in change.items() if name != "colour" and value != 5), "body")
        assert bad in answer.json()["details"]
        assert client.get("/api/cache/config").json() == before

    def test_nothing_is_stored_with_no_room_and_everything_still_works(self, tmp_path):
        with scripted_server(tmp_path, CACHE_MAX_SIZE="0") as client:
            png = fresh_png()
            assert client.make(png)["cached"] is False
            second = client.make(png)
            assert (second["status"], second["cached"]) == ("completed", False)
            assert client.get(f"/api/download/{second['job_id']}/model.glb").status_code == 200
            assert client.conductor.runs == 2
            assert client.stats()["current_items"] == 0


@pytest.fixture(scope="module")
def scripted_for_config(tmp_path_factory):
    with scripted_server(tmp_path_factory.mktemp("config")) as client:
        yield client


def test_an_entry_evicted_by_its_size_does_not_lose_the_job_its_result(tmp_path):
    with scripted_server(tmp_path, CACHE_MAX_MEMORY_MB="0.000001") as client:
        status = client.make(fresh_png())
        assert client.stats()["rejected"] >= 1
        assert len(client.download(status)) == status["file_size"]
        assert client.get(f"/api/download/{status['job_id']}/model.ply").status_code == 200
        assert client.conductor.runs == 1


def test_the_dict_backend_serves_the_same(tmp_path):
    with scripted_server(tmp_path, CACHE_BACKEND="dict") as client:
        png = fresh_png()
        first, second = client.make(png), client.make(png)
        assert (first["cached"], second["cached"]) == (False, True)
        assert client.download(first) == client.download(second)
        answer = client.get("/api/cache/stats").json()
        assert answer["backend"] == "dict"
        assert answer["stats"].keys() >= STATS
        assert (answer["stats"]["hits"], answer["stats"]["current_items"]) == (1, 2)
        assert {entry["key"].partition(":")[0] for entry in entries(client)} == {"shape", "file"}
        assert client.post("/api/cache/clear").json()["cleared"] == 2
        assert client.make(png)["cached"] is False


def test_disabled_every_request_generates(tmp_path):
    with scripted_server(tmp_path, DISABLE_RESULT_CACHE="1") as client:
        png = fresh_png()
        for _ in range(2):
            status = client.make(png)
            assert (status["status"], status["cached"]) == ("completed", False)
        assert client.conductor.runs == 2
        assert client.get(f"/api/download/{status['job_id']}/model.obj").status_code == 200
        assert client.conductor.runs == 2
        answer = client.get("/api/cache/stats").json()
        assert (answer["cache_enabled"], answer["stats"]["current_items"]) == (False, 0)
