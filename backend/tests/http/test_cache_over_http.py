"""The cache as a user of the server meets it: stats, limits, listing, clearing, pinning, both tiers, both backends, and
off."""

import pytest
from in_process import scripted_house
from live_server import files_kept, fresh_png

STATS = {
    "hits", "misses", "hit_rate_percent", "evictions", "evictions_by_count", "evictions_by_size", "expirations",
    "rejected", "coalesced", "seconds_saved", "current_items", "current_memory_mb", "max_items", "max_memory_mb",
    "memory_utilization_percent", "max_memory_seen_mb", "disk",
}  # fmt: skip
DISK_STATS = {
    "hits", "misses", "hit_rate_percent", "evictions", "expirations", "rejected", "damaged", "items", "mb", "max_mb",
    "utilization_percent", "pinned",
}  # fmt: skip


@pytest.fixture
def scripted(tmp_path):
    with scripted_house(tmp_path) as client:
        yield client


def test_stats_tell_what_happened(scripted):
    answer = scripted.get("/api/cache/stats").json()
    assert answer.keys() >= {"status", "cache_enabled", "backend", "stats", "timestamp"}
    assert (answer["status"], answer["cache_enabled"], answer["backend"]) == ("success", True, "lru")
    assert answer["stats"].keys() >= STATS
    assert answer["stats"]["disk"].keys() == DISK_STATS
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
        "key", "size_mb", "timestamp", "age_seconds", "access_count", "expires_at", "expired", "tier", "on_disk",
        "pinned",
    }  # fmt: skip
    keys = {entry["key"] for offset in range(4) for entry in entries(scripted, limit=1, offset=offset)}
    assert len(keys) == 4
    key = keys.pop()
    assert scripted("DELETE", f"/api/cache/entries/{key}").status_code == 200
    assert scripted("DELETE", f"/api/cache/entries/{key}").status_code == 404
    assert scripted.stats()["current_items"] == scripted.stats()["disk"]["items"] == 3


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
    with scripted_house(tmp_path, CACHE_POLICY=policy) as client:
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
        assert stats["disk"]["items"] == 4
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
        with scripted_house(tmp_path, CACHE_MAX_SIZE="0") as client:
            png = fresh_png()
            assert client.make(png)["cached"] is False
            second = client.make(png)
            assert (second["status"], second["cached"]) == ("completed", False)
            assert client.get(f"/api/download/{second['job_id']}/model.glb").status_code == 200
            assert client.conductor.runs == 2
            assert client.stats()["current_items"] == 0


@pytest.fixture(scope="module")
def scripted_for_config(tmp_path_factory):
    with scripted_house(tmp_path_factory.mktemp("config")) as client:
        yield client


def test_an_entry_evicted_by_its_size_does_not_lose_the_job_its_result(tmp_path):
    with scripted_house(tmp_path, CACHE_MAX_MEMORY_MB="0.000001") as client:
        status = client.make(fresh_png())
        assert client.stats()["rejected"] >= 1
        assert len(client.download(status)) == status["file_size"]
        assert client.get(f"/api/download/{status['job_id']}/model.ply").status_code == 200
        assert client.conductor.runs == 1


class TestTiers:
    def test_entries_say_where_they_are(self, scripted):
        scripted.make(fresh_png())
        assert [(row["tier"], row["on_disk"], row["pinned"]) for row in entries(scripted)] == [
            ("memory", True, False)
        ] * 2
        memory, disk = scripted.stats(), scripted.stats()["disk"]
        assert (disk["items"], disk["mb"]) == (memory["current_items"], pytest.approx(memory["current_memory_mb"]))
        assert (disk["max_mb"], disk["pinned"], disk["damaged"]) == (4096, 0, 0)

    def test_what_memory_has_lost_is_a_hit_of_the_disk(self, scripted):
        png = fresh_png()
        first = scripted.make(png)
        assert scripted.post("/api/cache/clear", params={"tier": "memory"}).json()["cleared"] == 2
        assert [(row["tier"], row["on_disk"]) for row in entries(scripted)] == [("disk", True)] * 2
        second = scripted.make(png)
        assert second["cached"]
        assert scripted.download(second) == scripted.download(first)
        stats = scripted.stats()
        assert (stats["hits"], stats["misses"], stats["disk"]["hits"]) == (1, 2, 1)
        assert {row["tier"] for row in entries(scripted) if row["key"].startswith("file:")} == {"memory"}
        assert scripted.conductor.runs == 1

    def test_memory_goes_on_without_the_disk(self, scripted):
        png = fresh_png()
        scripted.make(png)
        assert scripted.post("/api/cache/clear", params={"tier": "disk"}).json()["cleared"] == 2
        assert [(row["tier"], row["on_disk"]) for row in entries(scripted)] == [("memory", False)] * 2
        assert scripted.stats()["disk"]["items"] == 0
        assert scripted.make(png)["cached"]

    def test_all_is_cleared_unless_a_tier_is_named(self, scripted):
        png = fresh_png()
        for runs, params in enumerate([{}, {"tier": "all"}], start=1):
            assert scripted.make(png)["cached"] is False
            assert scripted.post("/api/cache/clear", params=params).json()["cleared"] == 2
            assert entries(scripted) == []
            assert scripted.conductor.runs == runs

    @pytest.mark.parametrize("tier", ["none", "Disk", "memory,disk"])
    def test_a_tier_that_there_is_not(self, scripted_for_config, tier):
        answer = scripted_for_config.post("/api/cache/clear", params={"tier": tier})
        assert (answer.status_code, answer.json()["code"]) == (400, "bad_request")
        assert answer.json()["details"].keys() == {"tier"}

    def test_a_job_keeps_its_result_whatever_is_cleared(self, scripted, tmp_path):
        status = scripted.make(fresh_png())
        before = scripted.download(status)
        scripted.post("/api/cache/clear")
        assert scripted.download(status) == before
        assert scripted.get(f"/api/download/{status['job_id']}/model.glb").status_code == 200
        assert scripted.conductor.runs == 1
        scripted("DELETE", f"/api/jobs/{status['job_id']}")
        assert entries(scripted) == []
        assert files_kept(tmp_path / "data") == []


class TestPins:
    def pin(self, client, key, method="PUT"):
        return client(method, f"/api/cache/entries/{key}/pin")

    def test_an_entry_is_pinned_and_unpinned(self, scripted):
        scripted.make(fresh_png())
        key = entries(scripted)[0]["key"]
        for method, pinned in (("PUT", True), ("PUT", True), ("DELETE", False), ("DELETE", False)):
            answer = self.pin(scripted, key, method)
            assert (answer.status_code, answer.json()) == (200, {"status": "success", "key": key, "pinned": pinned})
            assert {row["key"]: row["pinned"] for row in entries(scripted)}[key] is pinned
            assert scripted.stats()["disk"]["pinned"] == pinned

    @pytest.mark.parametrize("method", ["PUT", "DELETE"])
    def test_what_is_not_there_cannot_be(self, scripted_for_config, method):
        answer = self.pin(scripted_for_config, "file:nothing", method)
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found")

    def test_without_a_disk_there_are_none(self, tmp_path):
        with scripted_house(tmp_path, CACHE_DISK_MB="0") as client:
            client.make(fresh_png())
            assert self.pin(client, entries(client)[0]["key"]).status_code == 404

    def test_what_is_pinned_outlives_what_is_used_more(self, tmp_path):
        with scripted_house(tmp_path, CACHE_DISK_MB="0.004") as client:
            png = fresh_png()
            client.make(png)
            client.post("/api/cache/clear", params={"tier": "memory"})
            for row in entries(client):
                assert self.pin(client, row["key"]).status_code == 200
            for _ in range(4):
                for _ in range(2):
                    client.make(other := fresh_png())
                client.make(other)
            assert client.stats()["disk"]["evictions"] > 0
            client.post("/api/cache/clear", params={"tier": "memory"})
            runs = client.conductor.runs
            assert client.make(png)["cached"]
            assert client.conductor.runs == runs

    def test_a_pin_outlives_the_process(self, tmp_path):
        png = fresh_png()
        with scripted_house(tmp_path) as client:
            client.make(png)
            for row in entries(client):
                self.pin(client, row["key"])
        with scripted_house(tmp_path) as client:
            assert [(row["pinned"], row["expires_at"]) for row in entries(client)] == [(True, None)] * 2
            assert client.make(png)["cached"]
            assert client.conductor.runs == 0


class TestRestart:
    def test_a_known_picture_is_warm(self, tmp_path):
        png = fresh_png()
        with scripted_house(tmp_path) as client:
            first = client.make(png)
            data = client.download(first)
        with scripted_house(tmp_path) as client:
            second = client.make(png)
            assert second["cached"]
            assert client.download(second) == client.download(first) == data
            assert client.make(png, format="glb")["cached"]
            assert client.conductor.runs == 0
            assert client.stats()["disk"]["hits"] >= 1

    def test_without_a_disk_it_is_not_but_its_job_has_what_it_had(self, tmp_path):
        png = fresh_png()
        with scripted_house(tmp_path, CACHE_DISK_MB="0") as client:
            first = client.make(png)
            data = client.download(first)
            assert client.make(png)["cached"], "memory knows it"
            disk = client.stats()["disk"]
            assert (disk["items"], disk["max_mb"]) == (0, 0)
        with scripted_house(tmp_path, CACHE_DISK_MB="0") as client:
            assert client.download(first) == data
            assert client.get(f"/api/download/{first['job_id']}/model.ply").status_code == 200
            assert client.conductor.runs == 0
            assert client.make(png, quality=3)["cached"] is False
            assert client.conductor.runs == 1

    def test_with_the_cache_off_its_job_has_what_it_had(self, tmp_path):
        png = fresh_png()
        with scripted_house(tmp_path, DISABLE_RESULT_CACHE="1") as client:
            first = client.make(png)
            data = client.download(first)
        with scripted_house(tmp_path, DISABLE_RESULT_CACHE="1") as client:
            assert client.download(first) == data
            assert client.get(f"/api/download/{first['job_id']}/model.ply").status_code == 200
            assert client.conductor.runs == 0
            assert client.make(png)["cached"] is False
            assert client.stats()["disk"]["items"] == 0

    def test_a_lifetime_goes_on_in_the_next_process(self, tmp_path):
        png = fresh_png()
        with scripted_house(tmp_path, CACHE_TTL_SECONDS="3600") as client:
            client.make(png)
            before = {row["key"]: row["expires_at"] for row in entries(client)}
        with scripted_house(tmp_path, CACHE_TTL_SECONDS="7200") as client:
            client.make(png)
            after = {row["key"]: row["expires_at"] for row in entries(client)}
            assert after == {key: pytest.approx(at, abs=30) for key, at in before.items()}

    def test_what_was_cleared_is_gone_for_the_next_process_too(self, tmp_path):
        png = fresh_png()
        with scripted_house(tmp_path) as client:
            client.make(png)
            client.post("/api/cache/clear")
        with scripted_house(tmp_path) as client:
            assert entries(client) == []
            assert client.make(png)["cached"] is False

    @pytest.mark.parametrize("how", ["cut short", "changed", "gone"])
    def test_a_damaged_file_is_made_again(self, tmp_path, how):
        png = fresh_png()
        with scripted_house(tmp_path) as client:
            first = client.make(png)
            data = client.download(first)
        for path in (tmp_path / "data" / "results").iterdir():
            if how == "gone":
                path.unlink()
            else:
                whole = path.read_bytes()
                path.write_bytes(whole[:-1] if how == "cut short" else whole[:-1] + bytes([whole[-1] ^ 1]))
        with scripted_house(tmp_path) as client:
            second = client.make(png)
            assert (second["status"], second["cached"]) == ("completed", False)
            assert client.download(second) == client.download(first) == data
            assert client.conductor.runs == 1
            assert client.stats()["disk"]["damaged"] >= 1


def test_the_dict_backend_serves_the_same(tmp_path):
    with scripted_house(tmp_path, CACHE_BACKEND="dict") as client:
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
    with scripted_house(tmp_path, DISABLE_RESULT_CACHE="1") as client:
        png = fresh_png()
        for _ in range(2):
            status = client.make(png)
            assert (status["status"], status["cached"]) == ("completed", False)
        assert client.conductor.runs == 2
        assert client.get(f"/api/download/{status['job_id']}/model.obj").status_code == 200
        assert client.conductor.runs == 2
        answer = client.get("/api/cache/stats").json()
        assert (answer["cache_enabled"], answer["stats"]["current_items"]) == (False, 0)
